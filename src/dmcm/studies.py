"""Studies: methods as values, and cells (a method and a seed) trained once and remembered."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import numpy as np

from dmcm.baselines import parameter_factors
from dmcm.contexts import Factors
from dmcm.errors import ConfigError, unknown_name
from dmcm.fit_config import FitConfig
from dmcm.learner import Learner
from dmcm.models import build_network, build_solver
from dmcm.priors import Prior
from dmcm.samplers import Sampler
from dmcm.storage import read_json, write_json
from dmcm.training import fit

_STUDENT_95 = {
    2: 12.706,
    3: 4.303,
    4: 3.182,
    5: 2.776,
    6: 2.571,
    7: 2.447,
    8: 2.365,
    9: 2.306,
    10: 2.262,
}
_NORMAL_95 = 1.959964


@dataclasses.dataclass(frozen=True)
class Method:
    """How one method is built and trained.

    Attributes:
        title: what it is, in a line of a table.
        network: kind and settings of the network.
        solver: kind and settings of the inner loop.
        factors: context sizes; empty for the weights of the network itself (MAML, ANIL).
        recombination: weight of the recombined loss.
        dependence: weight of the dependence penalty.
        omission: weight of the loss with one context left out.
        optimiser: as in `FitConfig`; tuned on validation tasks, as are the next three.
        learning_rate: as in `FitConfig`.
        outlier_scale: as in `FitConfig`.
        clip: as in `FitConfig`.
    """

    title: str
    network: Mapping[str, Any]
    solver: Mapping[str, Any]
    factors: Mapping[str, int]
    recombination: float = 4.0
    dependence: float = 0.0
    optimiser: str = "adam"
    learning_rate: float = 6e-3
    outlier_scale: float | None = 1e-5
    clip: float = 0.01
    omission: float = 0.0


def chosen_methods(
    asked: Sequence[str], methods: Mapping[str, Method], *, seeds: int, steps: int
) -> tuple[str, ...]:
    """Names of the methods a study runs; `all` stands for every one.

    Raises:
        ConfigError: an unknown method, or less than one seed or step.
    """
    if seeds < 1 or steps < 1:
        raise ConfigError(f"seeds={seeds} and steps={steps} must be at least 1.")
    for name in asked:
        if name not in methods and name != "all":
            raise ConfigError(unknown_name("method", name, methods))
    return tuple(methods) if "all" in asked else tuple(asked)


def build(
    method: Method, seed: int, *, inputs: int = 1, outputs: int = 1, precision: float = 1e-3
) -> Learner:
    """An untrained learner of a method with random weights from a seed.

    Args:
        method: what to build.
        seed: of the weights.
        inputs: number of input columns.
        outputs: number of output columns.
        precision: the contexts' prior precision to start from. The harder the data, the more it
            helps: with a weak prior, contexts fit the support points before there are features.

    Raises:
        ConfigError: a network or solver that does not exist, or settings it does not have.
    """
    network_key, solver_key = jax.random.split(jax.random.key(seed))
    if method.factors:
        factors = Factors(**method.factors)
    else:
        factors = parameter_factors(
            inputs,
            outputs,
            width=method.network["width"],
            last_layer_only=method.network.get("last_layer_only", False),
        )
    sizes = {"factors": factors, "inputs": inputs, "outputs": outputs}
    network = build_network(key=network_key, **sizes, **method.network)
    solver = build_solver(key=solver_key, **sizes, **method.solver)
    # A shift of network weights starts at the weights themselves and is not pulled back to them.
    floor, precision = (1e-6, precision) if method.factors else (1e-12, 1e-12)
    learn_mean = method.solver["kind"] in ("none", "set_encoder")
    prior = Prior(factors, floor=floor, precision=precision, learn_mean=learn_mean)
    return Learner(network, solver, factors, prior=prior)


def fit_config(method: Method, seed: int, steps: int) -> FitConfig:
    """Settings of the outer loop of a method."""
    return FitConfig(
        steps=steps,
        optimiser=method.optimiser,
        learning_rate=method.learning_rate,
        prior_rate=10.0,
        recombination=method.recombination,
        dependence=method.dependence,
        omission=method.omission,
        outlier_scale=method.outlier_scale,
        clip=method.clip,
        seed=seed,
        chunk=1_000,
    )


def run_cell(
    method: Method,
    seed: int,
    sampler: Sampler,
    folder: Path,
    measure: Callable[[Learner], dict[str, Any]],
    *,
    steps: int,
    precision: float = 1e-3,
    about: Sequence[Any] = (),
    progress: bool = True,
) -> dict[str, Any]:
    """One method and seed: read the finished cell, or train, measure and remember it in `folder`.

    Can be stopped at any time; the next call resumes the training.

    Args:
        method: what to train.
        seed: of initial weights and of training batches.
        sampler: training batches.
        folder: run folder of the cell; `cell.json` in it holds what was measured.
        measure: JSON values to keep of a trained learner.
        steps: outer steps.
        precision: as in `build`.
        about: JSON values that data and measures depend on; others make the cell measured anew.
        progress: show a progress bar.

    Raises:
        DmcmError: as `build` and `fit`.
    """
    training = [dataclasses.asdict(method), steps, seed, precision]
    training_mark, mark = _hash(training), _hash([training, *about])
    file = folder / "cell.json"
    earlier = read_json(file) if file.exists() else {}
    if earlier.get("mark") == mark:
        return earlier
    batch = jax.eval_shape(sampler.sample, jax.random.key(0))
    columns = {"inputs": batch.support.x.shape[-1], "outputs": batch.support.y.shape[-1]}
    config = fit_config(method, seed, steps)
    result = fit(
        build(method, seed, precision=precision, **columns),
        sampler,
        config,
        run_dir=folder,
        resume=True,
        progress=progress,
    )
    weights = jax.tree.leaves(eqx.filter(result.learner, eqx.is_inexact_array))
    cell = {
        "mark": mark,
        "training_mark": training_mark,
        "seed": seed,
        # Measured anew, a finished training is only loaded; its time stays the one it took.
        "training_seconds": earlier["training_seconds"]
        if earlier.get("training_mark") == training_mark
        else result.seconds,
        "weights": sum(leaf.size for leaf in weights),
        **measure(result.learner),
    }
    write_json(file, cell)
    return read_json(file)


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def summarise_errors(errors: np.ndarray) -> dict[str, float]:
    """Mean, median and largest of the errors of tasks, shape (tasks,)."""
    return {
        "mean": float(np.mean(errors)),
        "median": float(np.median(errors)),
        "max": float(np.max(errors)),
    }


def summarise_numbers(values: Sequence[float | None]) -> dict[str, Any]:
    """Mean of one number a seed, with a 95 % interval.

    Returns:
        "mean"; "ci95", the half-width of Student's t interval (None for one seed); "per_seed".
    """
    numbers = np.asarray([np.nan if value is None else value for value in values], np.float64)
    count = len(numbers)
    half = None
    if count > 1:
        half = float(student_95(count) * numbers.std(ddof=1) / math.sqrt(count))
    return {"mean": float(numbers.mean()), "ci95": half, "per_seed": numbers.tolist()}


def student_95(count: int) -> float:
    """Two-sided 95 % quantile of Student's t for the mean of some numbers, two at least.

    For more than ten by its expansion about the normal quantile (Abramowitz and Stegun 1964, 26.7.5), right
    to a thousandth.
    """
    if count in _STUDENT_95:
        return _STUDENT_95[count]
    z, freedom = _NORMAL_95, count - 1
    return (
        z
        + (z**3 + z) / (4 * freedom)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * freedom**3)
    )


def wilson(successes: int | float, trials: int | float) -> float:
    """How far from a share its 95 % interval by Wilson (1927) reaches, on the side where it reaches further.

    It is not centred on the share, least of all near 0 and 1: of 64 successes in 64 it says 0.94 to 1.
    """
    z, share = _NORMAL_95, successes / trials
    shrink = 1 + z**2 / trials
    half = z / shrink * math.sqrt(share * (1 - share) / trials + z**2 / (4 * trials**2))
    return half + abs((share + z**2 / (2 * trials)) / shrink - share)


def wilson_of_groups(shares: np.ndarray, trials: int) -> float:
    """As `wilson`, where trials come in groups that tend to end alike, as the episodes of one robot do.

    As many trials count as independent ones would give the same spread (Kish 1965, the design effect), from
    the number of groups to that of all trials, which strata of other shares make worth more.

    Args:
        shares: of successes in each group, shape (strata, groups); groups are drawn at random within each
            stratum, and all are of one size.
        trials: of all groups.
    """
    share, groups = float(shares.mean()), shares.size
    alone = share * (1 - share)
    # Groups that all end alike say nothing of how trials within them would differ.
    counted = float(groups)
    if shares.shape[1] > 1 and alone > 0:
        own = shares.mean(axis=1)
        within, between = float(np.mean(own * (1 - own))), _variance_of_mean(shares)
        most = trials * alone / within if within > 0 else float(trials)
        counted = float(np.clip(alone / between, groups, most)) if between > 0 else most
    return wilson(share * counted, counted)


def half_width_of_groups(values: np.ndarray) -> float:
    """Half-width of Student's t interval for the mean of numbers drawn at random within strata.

    Args:
        values: shape (strata, n); 0 comes out for n = 1.
    """
    strata, n = values.shape
    if n < 2:
        return 0.0
    return student_95(strata * (n - 1) + 1) * math.sqrt(_variance_of_mean(values))


def _variance_of_mean(values: np.ndarray) -> float:
    """Of the mean over fixed strata, values (strata, n) (Cochran 1977, Sampling Techniques, 5.4)."""
    strata, n = values.shape
    return float(values.var(axis=1, ddof=1).sum()) / (n * strata**2)


def summarise_seeds(values: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Mean over seeds with a 95 % interval, from what `summarise_errors` gave for each seed.

    Returns:
        What `summarise_numbers` gives of the seeds' means; "median" of the seeds' medians; and "way", the
        most frequent, if there are ways.
    """
    medians = [np.nan if value["median"] is None else value["median"] for value in values]
    summary = summarise_numbers([value["mean"] for value in values])
    summary["median"] = float(np.median(medians))
    ways = [value["way"] for value in values if "way" in value]
    if ways:
        summary["way"] = max(sorted(set(ways)), key=ways.count)
    return summary


def summarise_cells(cells: Sequence[Any]) -> Any:
    """Seeds' nested tables into one: `summarise_seeds` of errors, `summarise_numbers` of single numbers."""
    first = cells[0]
    if not isinstance(first, Mapping):
        return summarise_numbers(cells)
    if "mean" in first and "median" in first:
        return summarise_seeds(cells)
    return {key: summarise_cells([cell[key] for cell in cells]) for key in first}
