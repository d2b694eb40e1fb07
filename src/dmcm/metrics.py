"""What contexts carry, for any domain: probes, the swap test and the clamp test."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from dmcm.contexts import Contexts, share
from dmcm.errors import ContextMismatchError, DataError, FactorError, ShapeError, unknown_name
from dmcm.learner import Learner
from dmcm.samples import Samples, as_numbers
from dmcm.solvers.base import Values

LEAST_GROUPS = 8
"""Fewest groups of tasks that a probe can be split over. With fewer, one part of the split would be a single
group, in which the probed quantity may not vary."""
_LEAST_TASKS = 20
_WIDTHS = (0.25, 0.5, 1.0, 2.0, 4.0)
_RIDGES = (1e-8, 1e-6, 1e-4, 1e-2, 1.0)

Readout = Callable[[Contexts], Mapping[str, np.ndarray]]
"""Reads each factor's value, shape (tasks,), off predictions under contexts of batch shape (tasks,)."""


def probe_number(
    contexts: ArrayLike, values: ArrayLike, *, groups: ArrayLike | None = None, seed: int = 0
) -> float:
    """R² with which an RBF kernel ridge regression reads a number off context vectors.

    Half of the tasks train it, a quarter selects kernel width and ridge, and R² is measured on the last
    quarter: 1 is perfect, 0 no better than the mean, negative worse than the mean.

    Args:
        contexts: one vector a task, shape (tasks, size).
        values: the number to read, shape (tasks,).
        groups: group number of each task, shape (tasks,); tasks of one group stay on one side of the split.
            If several tasks share an object and its number, such as a robot and its mass, this keeps the
            probe from recognising the object.
        seed: seed of the random split.

    Raises:
        ShapeError: not one value a task.
        DataError: fewer than 20 tasks, numbers that are not finite, or values that are all equal.
    """
    features = _features(contexts)
    target = np.asarray(values, np.float64)
    _check_targets(features, target)
    if not np.all(np.isfinite(target)) or np.ptp(target) == 0:
        raise DataError("a probe needs finite values that differ between tasks.")
    train, check, test = _split(len(features), groups, seed)
    predicted = _best_ridge(
        features, target[:, None], (train, check, test), lambda p, at: _r2(target[at], p[:, 0])
    )
    return _r2(target[test], predicted[:, 0])


def probe_parts(
    parts: Sequence[tuple[int, Contexts, Mapping[str, np.ndarray]]],
) -> dict[str, dict[str, float]]:
    """R² of each true factor from each context by `probe_number`, negative values as 0.

    If a block of combinations is held out, the factors of the remaining tasks depend on each other: a large
    value of one implies a small value of another, and a perfect context would seem to leak. Adding tasks from
    the block in proportion to its share makes the factors independent.

    Args:
        parts: for each split, the number of its tasks to take, their contexts, and the true values of the
            factors, shape (tasks,) each.

    Returns:
        `{context: {factor: R²}}`.

    Raises:
        ShapeError, DataError: as for `probe_number`.
    """
    _, first, truth = parts[0]
    vectors = {name: np.concatenate([np.asarray(c[name])[:n] for n, c, _ in parts]) for name in first.values}
    values = {name: np.concatenate([own[name][:n] for n, _, own in parts]) for name in truth}
    return {
        context: {factor: max(0.0, probe_number(own, true)) for factor, true in values.items()}
        for context, own in vectors.items()
    }


def probe_label(
    contexts: ArrayLike, labels: ArrayLike, *, groups: ArrayLike | None = None, seed: int = 0
) -> float:
    """Share of held-out tasks whose label a kernel ridge classifier reads off context vectors.

    Split and errors as in `probe_number`; compare with `chance_label`.

    Args:
        contexts: one vector a task, shape (tasks, size).
        labels: text or whole numbers, shape (tasks,).
        groups: as in `probe_number`.
        seed: seed of the random split.
    """
    features = _features(contexts)
    names, codes = np.unique(np.asarray(labels), return_inverse=True)
    _check_targets(features, codes)
    parts = _split(len(features), groups, seed)
    predicted = _best_ridge(
        features,
        np.eye(len(names))[codes],
        parts,
        lambda p, at: float(np.mean(np.argmax(p, axis=1) == codes[at])),
    )
    return float(np.mean(np.argmax(predicted, axis=1) == codes[parts[2]]))


def chance_label(labels: ArrayLike, *, groups: ArrayLike | None = None, seed: int = 0) -> float:
    """Accuracy of always guessing the most frequent training label on `probe_label`'s held-out tasks."""
    names, codes = np.unique(np.asarray(labels), return_inverse=True)
    _check_targets(codes, codes)
    train, _, test = _split(len(codes), groups, seed)
    most = np.argmax(np.bincount(codes[train], minlength=len(names)))
    return float(np.mean(codes[test] == most))


def swap_test(
    contexts: Contexts,
    donors: ArrayLike,
    read: Readout,
    truth: Mapping[str, np.ndarray],
    *,
    differences: Mapping[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] | None = None,
) -> dict[str, dict[str, dict[str, float]]]:
    """Replace one factor's context by another task's: what should follow, and does the rest stay?

    For each swapped factor and each readout: how far the readout is from its expected value, which is
    the donor's true value for the swapped factor, and the readout before the swap for all others. The
    distance is divided by the standard deviation of the true values: 0 is perfect, 1 as bad as a constant.

    Args:
        contexts: contexts of batch shape (tasks,).
        donors: for each task, position of the task whose context it takes, shape (tasks,).
        read: reads each factor's value off predictions under contexts.
        truth: true values of each factor, shape (tasks,); factors without them are not swapped.
        differences: per factor, the function to use if a difference is not a − b, as for angles.

    Returns:
        `{swapped: {readout: {"rms": …, "median": …}}}`, the median of absolute deviations.

    Raises:
        ShapeError: `donors`, `truth` or a readout does not have one value a task.
        FactorError: `truth` names a factor without a context, or one that is not read.
        DataError: true values that are all the same.
    """
    order = np.asarray(donors)
    _check_tasks(contexts, order, truth)
    for name, values in truth.items():
        if np.std(values) == 0:
            raise DataError(
                f"all tasks have the same true '{name}', so the effect of swapping it cannot be measured."
            )
    before = _reading(read, contexts, truth)
    table: dict[str, dict[str, dict[str, float]]] = {}
    for swapped in truth:
        sources = {name: contexts.at(order) if name == swapped else contexts for name in contexts.values}
        after = _reading(read, share(**sources), truth)
        table[swapped] = {}
        for name, values in truth.items():
            expected = np.asarray(values)[order] if name == swapped else before[name]
            difference = (differences or {}).get(name, np.subtract)
            gap = np.abs(difference(after[name], expected)) / np.std(values)
            table[swapped][name] = {
                "rms": float(np.sqrt(np.mean(gap**2))),
                "median": float(np.median(gap)),
            }
    return table


def _reading(read: Readout, contexts: Contexts, truth: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The readout of each task, checked: an extra axis would be broadcast over all tasks."""
    found, checked = read(contexts), {}
    for name in truth:
        if name not in found:
            raise FactorError(f"truth has values of '{name}': {unknown_name('readout', name, found)}")
        what = f"the readout of '{name}' is not an array of numbers"
        checked[name] = as_numbers(found[name], np.float64, what)
        if checked[name].shape != contexts.batch_shape:
            raise ShapeError(
                f"the readout of '{name}' has shape {checked[name].shape}, the tasks "
                f"{contexts.batch_shape}: read one number a task."
            )
    return checked


def clamp_test(
    learner: Learner,
    samples: Samples,
    errors: Callable[[Contexts], np.ndarray],
    *,
    truth: Values | None = None,
) -> dict[str, float | dict[str, float]]:
    """Which factors the model relies on: mean error with one factor's context at the prior mean.

    Args:
        learner: the model.
        samples: support points, leading axis tasks.
        errors: gives the error of each task under contexts, shape (tasks,).
        truth: true factor values, for the oracle alone.

    Returns:
        "free", the error with adapted contexts, and per factor "replaced", where the prior mean
        replaces its adapted context, and "held", where it is held at the prior mean from the start,
        so that the others adapt without it and may compensate for it.

    Raises:
        FactorError: a factor called "free".
    """
    if "free" in learner.factors:
        raise FactorError("the clamp test has its own row 'free': give the factor of that name another one.")
    free = learner.adapt_samples(samples, truth=truth)
    prior = learner.prior_contexts()
    tasks = samples.x.shape[0]
    table: dict[str, float | dict[str, float]] = {"free": float(np.mean(errors(free)))}
    for name in learner.factors:
        start = jnp.broadcast_to(prior[name], (tasks, learner.factors[name]))
        replaced = Contexts({**free.values, name: start}, free.model)
        held = learner.adapt_samples(samples, given={name: start}, truth=truth)
        table[name] = {
            "replaced": float(np.mean(errors(replaced))),
            "held": float(np.mean(errors(held))),
        }
    return table


def _features(contexts: Any) -> np.ndarray:
    what = "a probe takes one array of contexts, such as contexts['robot']"
    features = as_numbers(contexts, np.float64, what)
    if features.ndim != 2:
        raise ShapeError(f"a probe takes contexts (tasks, size), not {features.shape}.")
    if not np.all(np.isfinite(features)):
        raise DataError("a probe needs contexts of finite numbers.")
    return features


def _check_targets(features: np.ndarray, target: np.ndarray) -> None:
    if target.shape != features.shape[:1]:
        raise ShapeError(f"a probe takes one value a task: {features.shape[:1]}, not {target.shape}.")
    if len(features) < _LEAST_TASKS:
        raise DataError(f"a probe needs at least {_LEAST_TASKS} tasks, not {len(features)}.")


def _check_tasks(contexts: Contexts, donors: np.ndarray, truth: Mapping[str, np.ndarray]) -> None:
    if len(contexts.batch_shape) != 1:
        raise ContextMismatchError("the swap test takes contexts of several tasks; see dmcm.stack.")
    if unswapped := [name for name in truth if name not in contexts.values]:
        raise FactorError(f"truth has values of '{unswapped[0]}', but there is no context to swap.")
    for what, array in (("donors", donors), *((f"truth of '{name}'", own) for name, own in truth.items())):
        if np.shape(array) != contexts.batch_shape:
            raise ShapeError(f"{what} has shape {np.shape(array)}, but the tasks {contexts.batch_shape}.")


def _split(tasks: int, groups: ArrayLike | None, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positions of the training, validation and test part: a half, a quarter, a quarter of the groups."""
    owner = np.arange(tasks) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    if owner.shape != (tasks,):
        raise ShapeError(f"groups has shape {owner.shape} for {tasks} tasks: give one number a task.")
    count = int(owner.max()) + 1
    if count < LEAST_GROUPS:
        raise DataError(f"a probe needs at least {LEAST_GROUPS} groups of tasks to split, not {count}.")
    order = np.random.default_rng(seed).permutation(count)
    train, check, test = (
        part if groups is None else np.flatnonzero(np.isin(owner, part))
        for part in np.split(order, [count // 2, count * 3 // 4])
    )
    return train, check, test


def _best_ridge(
    features: np.ndarray,
    targets: np.ndarray,
    parts: tuple[np.ndarray, np.ndarray, np.ndarray],
    score: Callable[[np.ndarray, np.ndarray], float],
) -> np.ndarray:
    """Predictions for the test part, with the width and ridge that score best on the validation part.

    `score` gets predictions and the positions of their tasks.
    """
    train, check, test = parts
    spread = features[train].std(axis=0)
    scaled = (features - features[train].mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    squares = np.sum(scaled**2, axis=1)
    gaps = np.maximum(squares[:, None] + squares[None, train] - 2 * scaled @ scaled[train].T, 0.0)
    typical = np.median(gaps[train][gaps[train] > 0]) if np.any(gaps[train] > 0) else 1.0
    mean = targets[train].mean(axis=0)
    # The mean alone is a candidate too, so that contexts that carry nothing are not overfitted.
    chosen = np.broadcast_to(mean, (len(test), targets.shape[1]))
    best = score(np.broadcast_to(mean, (len(check), targets.shape[1])), check)
    for width in _WIDTHS:
        kernel = np.exp(-gaps / (2 * typical * width**2))
        values, vectors = np.linalg.eigh(kernel[train])
        rotated = vectors.T @ (targets[train] - mean)
        for ridge in _RIDGES:
            dual = vectors @ (rotated / (np.maximum(values, 0.0) + ridge * len(train))[:, None])
            reached = score(kernel[check] @ dual + mean, check)
            if reached > best:
                best, chosen = reached, kernel[test] @ dual + mean
    return chosen


def _r2(truth: np.ndarray, predicted: np.ndarray) -> float:
    spread = np.sum((truth - np.mean(truth)) ** 2)
    return float(1 - np.sum((truth - predicted) ** 2) / spread) if spread > 0 else 0.0
