"""Hold out a variety × year pair, combine its contexts from the other pairs, compare with the truth."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro
from rich.progress import Progress

from dmcm.contexts import Contexts, Factors, share
from dmcm.data import FactorDataset
from dmcm.errors import ConfigError, DmcmError
from dmcm.fit_config import FitConfig
from dmcm.growth.controls import between_plots, controls
from dmcm.growth.table import FACTORS, load
from dmcm.learner import Learner
from dmcm.networks import TensorProductNetwork
from dmcm.priors import Prior
from dmcm.runs import environment
from dmcm.solvers import LevenbergMarquardt
from dmcm.storage import check_writable, write_json
from dmcm.summaries import summarise_numbers
from dmcm.training import fit

STEPS = 1_000
"""Outer steps; the error on left-out plots of training pairs hardly falls after that."""
SIZES = (1, 2)
"""Context sizes per factor. A tensor-product head can fit d + 1 labels of a factor independently of each
other, so with three years only size 1 ties them together; size 2 shows what happens without that tie."""
SHOTS = 4
"""Own samples of a plot for few-shot adaptation: every second one, starting with the first."""
_WIDTH = 32
_FLOOR = 1e-4

Score = dict[str, float]
"""Root mean square error, "log" in the natural logarithm of the weight and "grams" in g."""


def train_learner(train: FactorDataset, *, size: int, seed: int, steps: int = STEPS) -> Learner:
    """A learner with a context of one size for variety and for year."""
    factors = Factors(**dict.fromkeys(FACTORS, size))
    network = TensorProductNetwork(factors, 1, 1, width=_WIDTH, key=jax.random.key(seed))
    learner = Learner(network, LevenbergMarquardt(), factors, prior=Prior(factors, floor=_FLOOR))
    return fit(learner, train, FitConfig(steps=steps, seed=seed), progress=False).learner


def swap(learner: Learner, train: FactorDataset, variety: str, year: int) -> Contexts:
    """Contexts of a pair without its data.

    The variety's vector is pooled from all plots of that variety in other years, the year's from all plots of
    other varieties in that year.
    """

    def pooled(factor: str, label: Any) -> Contexts:
        plots = train.where(**{factor: label})
        return learner.adapt_pooled([plots.task(i) for i in range(len(plots))], shared=factor)

    return share(variety=pooled("variety", variety), year=pooled("year", year))


def few_shot(learner: Learner, plots: FactorDataset) -> Contexts:
    """Contexts of each plot from `SHOTS` of its own samples."""
    chosen = slice(0, 2 * SHOTS, 2)
    return learner.adapt_many(plots.x[:, chosen], plots.y[:, chosen])


def score(predicted: np.ndarray, plots: FactorDataset, *, unseen: bool = False) -> Score:
    """Errors of predicted log weights over all samples.

    Args:
        predicted: shape (plots, n).
        plots: the truth.
        unseen: leave out the samples that `few_shot` adapts to.
    """
    counted = plots.weight > 0
    if unseen:
        counted = counted.copy()
        counted[:, : 2 * SHOTS : 2] = False
    guess, truth = predicted[counted].astype(np.float64), plots.y[..., 0][counted].astype(np.float64)
    return {
        "log": float(np.sqrt(np.mean((guess - truth) ** 2))),
        "grams": float(np.sqrt(np.mean((np.exp(guess) - np.exp(truth)) ** 2))),
    }


def without_learner(data: FactorDataset, variety: str, year: int) -> dict[str, dict[str, Score]]:
    """Scores of the controls on a held-out pair.

    Returns:
        "zero_shot": those of `controls`, all samples; "few_shot": "shifted_mean", the grand mean shifted by
        the mean difference of a plot's own few samples, and "additive", on the samples few-shot adaptation
        has not seen; "between_plots": the mean of the other plots of the pair itself.
    """
    train, held = data.without(variety=variety, year=year), data.where(variety=variety, year=year)
    day = held.x[..., 0].astype(np.float64)
    predicted = {name: curve(day) for name, curve in controls(train, variety, year).items()}
    own = slice(0, 2 * SHOTS, 2)
    shift = np.mean(held.y[:, own, 0] - predicted["grand_mean"][:, own], axis=1, keepdims=True)
    rest = between_plots(held)
    return {
        "zero_shot": {name: score(curve, held) for name, curve in predicted.items()},
        "few_shot": {
            "shifted_mean": score(predicted["grand_mean"] + shift, held, unseen=True),
            "additive": score(predicted["additive"], held, unseen=True),
        },
        "between_plots": {"all": score(rest, held), "unseen": score(rest, held, unseen=True)},
    }


def with_learner(
    data: FactorDataset, variety: str, year: int, *, size: int, seed: int, steps: int = STEPS
) -> dict[str, Score]:
    """Scores of one trained learner on a held-out pair.

    Returns:
        "swap": shared contexts, all samples; "swap_unseen" and "few_shot": shared and own contexts, on the
        samples few-shot adaptation has not seen.
    """
    train, held = data.without(variety=variety, year=year), data.where(variety=variety, year=year)
    learner = train_learner(train, size=size, seed=seed, steps=steps)
    shared = np.asarray(learner.predict(swap(learner, train, variety, year), held.x.reshape(-1, 1)))
    shared = shared.reshape(held.x.shape)[..., 0]
    own = np.asarray(learner.predict(few_shot(learner, held), held.x))[..., 0]
    return {
        "swap": score(shared, held),
        "swap_unseen": score(shared, held, unseen=True),
        "few_shot": score(own, held, unseen=True),
    }


def run(out: Path, *, seeds: int = 3, steps: int = STEPS, progress: bool = True) -> dict[str, Any]:
    """The whole experiment, with every pair held out once; takes a few minutes.

    Args:
        out: JSON file of the results.
        seeds: learners trained per pair and context size, with seeds 0, 1, …
        steps: outer steps of each.
        progress: show a progress bar.

    Returns:
        What was written.

    Raises:
        ConfigError: no seed or step.
        StorageError: the file cannot be written.
    """
    if seeds < 1:
        raise ConfigError(f"seeds={seeds}: train at least one learner per pair.")
    config = FitConfig(steps=steps)
    config.check()
    check_writable(out)
    data = load(shots=SHOTS)
    pairs: dict[str, Any] = {}
    with Progress(disable=not progress) as bar:
        task = bar.add_task("soybean: pairs held out", total=len(data.combinations()) * len(SIZES) * seeds)
        for variety, year in data.combinations():
            pairs[f"{variety} {year}"] = without_learner(data, variety, year)
            for size in SIZES:
                scores = []
                for seed in range(seeds):
                    scores.append(with_learner(data, variety, year, size=size, seed=seed, steps=steps))
                    bar.advance(task)
                pairs[f"{variety} {year}"][f"context_size_{size}"] = _over_seeds(scores)
    results = {
        "study": "soybean growth: contexts of variety and year put together for a held-out pair",
        "command": f"python -m dmcm.growth.experiment --out {shlex.quote(str(out))} "
        f"--seeds {seeds} --steps {steps}",
        "environment": environment(),
        "measure": "root mean square error over the samples of the held-out pair",
        "units": {"log": "natural logarithm of leaf weight per plant", "grams": "g leaf weight per plant"},
        "settings": {
            "network": {"kind": "tensor_product", "width": _WIDTH},
            "solver": LevenbergMarquardt().spec(),
            "prior_floor": _FLOOR,
            "shots": SHOTS,
            "steps": steps,
            "learning_rate": config.learning_rate,
            "recombination": config.recombination,
        },
        "seeds": seeds,
        "pairs": pairs,
        "mean_over_pairs": _mean([*pairs.values()]),
        "pairs_where_swap_is_closer": {f"context_size_{size}": _wins(pairs, size) for size in SIZES},
    }
    write_json(out, results)
    return results


def _over_seeds(values: Sequence[Any]) -> Any:
    """Merge nested scores of several seeds: mean, 95 % interval (None for one seed) and each seed's score."""
    if isinstance(values[0], dict):
        return {key: _over_seeds([value[key] for value in values]) for key in values[0]}
    return summarise_numbers(values)


def _mean(values: Sequence[Any]) -> Any:
    """Mean of nested scores of several pairs; seed by seed where there are seeds."""
    if not isinstance(values[0], dict):
        return float(np.mean(values))
    if "per_seed" in values[0]:
        return _over_seeds(np.mean([value["per_seed"] for value in values], axis=0).tolist())
    return {key: _mean([value[key] for value in values]) for key in values[0]}


def _wins(pairs: dict[str, Any], size: int) -> dict[str, int]:
    """Number of pairs in which the swap, mean over seeds, has a smaller log error than each control."""
    return {
        name: sum(
            pair[f"context_size_{size}"]["swap"]["log"]["mean"] < pair["zero_shot"][name]["log"]
            for pair in pairs.values()
        )
        for name in next(iter(pairs.values()))["zero_shot"]
    }


if __name__ == "__main__":
    try:
        tyro.cli(run)
    except DmcmError as error:
        sys.exit(f"error: {error}")
