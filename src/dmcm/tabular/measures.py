"""Errors of a model on labelled tasks: few-shot, swapped, and on a held-out combination."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from dmcm.contexts import Contexts, share
from dmcm.data import FactorDataset
from dmcm.learner import Learner
from dmcm.samples import Samples
from dmcm.summaries import summarise_errors
from dmcm.tabular.runs import TableSplit

POOLED_MOST = 48
"""Most tasks pooled into one label's context; if there are more, this many evenly spaced ones are used."""
_SPLITS = 5
_DONOR_DRAWS = 8


def measure_table(learner: Learner, split: TableSplit) -> dict[str, Any]:
    """Errors of a trained model on its tasks, as JSON values.

    All errors are mean squares in units of the outputs' variance in training: 0 is perfect, 1 as bad as
    the mean of all samples.

    Returns:
        "few_shot" and "swap" on the training tasks; "held_out" if there are held-out tasks.
    """
    measured: dict[str, Any] = {
        "few_shot": few_shot_errors(learner, split.train),
        "swap": swap_errors(learner, split.train),
    }
    if split.held_out is not None:
        measured["held_out"] = held_out_errors(learner, split.train, split.held_out)
    return measured


def few_shot_errors(learner: Learner, data: FactorDataset, *, seed: int = 0) -> dict[str, Any]:
    """Error of each task on samples it was not adapted to, mean over five random support sets.

    Returns:
        "mean", "median" and "max" over tasks, and "tasks", the error of each.
    """
    rng = np.random.default_rng(seed)
    rounds = []
    for _ in range(_SPLITS):
        support, rest = draw_support(data, rng)
        contexts = learner.adapt_samples(support)
        rounds.append(_errors(learner, contexts, rest))
    return _by_task(data, np.mean(rounds, axis=0))


def swap_errors(learner: Learner, data: FactorDataset, *, seed: int = 0) -> dict[str, Any]:
    """Error of each task under contexts of other tasks with the same labels, mean over random donors.

    Each factor's context comes from its own donor, adapted to all of that donor's samples. Tasks that lack
    a donor for some factor are left out and counted.

    Returns:
        As `few_shot_errors`, plus "without_donor", the number of tasks left out; the figures are missing if
        no task has donors.
    """
    rng = np.random.default_rng(seed)
    contexts = learner.adapt_samples(data.samples())
    donors = {}
    for name in learner.factors:
        codes = data.labels[name]
        donors[name] = [np.setdiff1d(np.flatnonzero(codes == code), [i]) for i, code in enumerate(codes)]
    complete = np.asarray([all(len(donors[name][i]) for name in donors) for i in range(len(data))])
    lonely = int(np.sum(~complete))
    if not complete.any():
        return {"without_donor": lonely}
    chosen = np.flatnonzero(complete)
    part = data.subset(chosen.tolist())
    rounds = []
    for _ in range(_DONOR_DRAWS):
        mixed = {
            name: contexts.at(np.asarray([rng.choice(donors[name][i]) for i in chosen])) for name in donors
        }
        rounds.append(_errors(learner, share(**mixed), part.samples()))
    return {**_by_task(part, np.mean(rounds, axis=0)), "without_donor": lonely}


def held_out_errors(
    learner: Learner, train: FactorDataset, held_out: FactorDataset, *, seed: int = 0
) -> dict[str, Any]:
    """Errors on held-out tasks: swapped without any of their samples, few-shot, and of two mean curves.

    Returns:
        "zero_shot": contexts pooled from the training tasks with the same label, factor by factor.
        "few_shot": adapted to own samples, as `few_shot_errors`.
        "mean_curve": the mean of all training tasks' fitted curves.
        "label_curve": the same over training tasks that share at least one label with the task.
        "pooled": number of tasks each factor's context was pooled from, by label.
        Each figure covers the held-out tasks for which the training tasks allow it; it is missing if there
        are none.
    """
    curves = learner.adapt_samples(train.samples())
    found: dict[str, dict[int, float]] = {"zero_shot": {}, "mean_curve": {}, "label_curve": {}}
    pooled: dict[str, Contexts | None] = {}
    counts: dict[str, dict[str, int]] = {name: {} for name in learner.factors}
    for i in range(len(held_out)):
        x, y = held_out.task(i)
        mix = {}
        shares = np.zeros(len(train), bool)
        for name in learner.factors:
            # Match by the label itself: separately built data sets number their labels differently.
            label, known = held_out.label(name, i), train.levels[name]
            code = known.index(label) if label in known else -1
            carriers = np.flatnonzero(train.labels[name] == code)
            shares[carriers] = True
            key = f"{name}={label}"
            if key not in pooled:
                pooled[key] = (
                    pool_label(learner, train.subset(carriers.tolist()), name) if len(carriers) else None
                )
                counts[name][str(label)] = min(len(carriers), POOLED_MOST)
            mix[name] = pooled[key]
        everyone = np.asarray(learner.predict(curves, x))
        guesses: dict[str, np.ndarray | None] = {
            "zero_shot": (
                np.asarray(learner.predict(share(**mix), x))
                if all(context is not None for context in mix.values())
                else None
            ),
            "mean_curve": everyone.mean(axis=0),
            "label_curve": everyone[shares].mean(axis=0) if shares.any() else None,
        }
        for name, guess in guesses.items():
            if guess is not None:
                found[name][i] = float(np.mean(_scaled(learner, guess - y) ** 2))
    errors: dict[str, Any] = {
        name: _by_task(held_out.subset(list(values)), np.asarray(list(values.values())))
        for name, values in found.items()
        if values
    }
    errors["few_shot"] = few_shot_errors(learner, held_out, seed=seed)
    return {**errors, "pooled": counts}


def pool_label(learner: Learner, carriers: FactorDataset, factor: str) -> Contexts:
    """One factor's context from all tasks with its label (at most `POOLED_MOST` of them)."""
    chosen = pooled_positions(len(carriers))
    return learner.adapt_pooled([carriers.task(i) for i in chosen], shared=factor)


def pooled_positions(carriers: int) -> list[int]:
    """Positions of a label's tasks to pool: all, or `POOLED_MOST` evenly spaced ones."""
    chosen = np.linspace(0, carriers - 1, min(carriers, POOLED_MOST)).round().astype(int)
    return np.unique(chosen).tolist()


def draw_support(data: FactorDataset, rng: np.random.Generator) -> tuple[Samples, Samples]:
    """Random support samples of every task, and the rest of its samples (or its fixed queries)."""
    score = rng.uniform(size=data.weight.shape) + 2.0 * (data.weight == 0)
    rank = np.argsort(np.argsort(score, axis=1), axis=1)
    support = (rank < data.shots).astype(np.float32) * data.weight
    x, y = jnp.asarray(data.x), jnp.asarray(data.y)
    given = Samples(x, y, jnp.asarray(support))
    return given, Samples(x, y, jnp.asarray(data.weight - support)) if data.query is None else data.query


def _errors(learner: Learner, contexts: Contexts, samples: Samples) -> np.ndarray:
    """Mean square error of each task in units of the outputs' variance, shape (tasks,)."""
    predicted = np.asarray(learner.predict(contexts, samples.x), np.float64)
    squares = np.mean(_scaled(learner, predicted - np.asarray(samples.y)) ** 2, axis=-1)
    weight = np.asarray(samples.weight, np.float64)
    return np.sum(squares * weight, axis=1) / np.sum(weight, axis=1)


def _scaled(learner: Learner, gaps: np.ndarray) -> np.ndarray:
    return gaps if learner.scaler is None else gaps / np.asarray(learner.scaler.y_std, np.float64)


def _by_task(data: FactorDataset, errors: np.ndarray) -> dict[str, Any]:
    return {
        **summarise_errors(errors),
        "tasks": dict(zip(data.task_names, errors.tolist(), strict=True)),
    }
