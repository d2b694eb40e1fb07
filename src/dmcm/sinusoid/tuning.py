"""Tuning: every method on the same grid of outer-loop settings, judged on validation tasks."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from dmcm.commands import command_of
from dmcm.fit_config import OPTIMISERS
from dmcm.results import earlier_table, with_earlier
from dmcm.runs import environment
from dmcm.sinusoid import protocol
from dmcm.sinusoid.family import SinusoidSampler
from dmcm.sinusoid.methods import METHODS, Method
from dmcm.storage import write_json
from dmcm.studies import chosen_methods, run_cell

LEARNING_RATES = (1e-3, 3e-3, 6e-3, 1e-2)
"""Peak learning rates to try."""
LOSSES: dict[str, dict[str, float | None]] = {
    "plain": {"outlier_scale": None, "clip": 1.0},
    "robust": {"outlier_scale": 1e-5, "clip": 0.01},
}
"""Outer losses to try: every error in full, or with tasks far above the rest limited."""
JUDGED = ("seen", "unseen_pair")
"""Splits that count towards the score; the range split does not."""


@dataclasses.dataclass(frozen=True)
class TuningConfig:
    """Tune the outer-loop settings of each method on validation tasks."""

    methods: tuple[str, ...] = ("dmcm", "cavia")
    """Names of methods, or `all`."""
    seeds: int = 2
    """Seeds 0, 1, … of initial weights and training batches."""
    steps: int = 10_000
    """Outer steps a seed."""
    out: Path = Path("runs/tuning")
    """Folder with a run folder per method, settings and seed; finished ones are not run again."""
    results: Path | None = None
    """File for the table, e.g. results/tuning.json. Other methods already in it, tuned with the same
    settings, are kept together with the command that made them."""

    def names(self) -> tuple[str, ...]:
        """Methods to tune.

        Raises:
            ConfigError: an unknown method, or settings out of range.
        """
        return chosen_methods(self.methods, METHODS, seeds=self.seeds, steps=self.steps)


def tune(config: TuningConfig, *, progress: bool = True) -> dict[str, Any]:
    """Train and judge each method with each setting; returns the table in the layout of results/tuning.json.

    A setting's score is the geometric mean of the mean few-shot and zero-shot errors on seen tasks and unseen
    pairs, over the seeds; the lowest is best. Test tasks are not used. Can be stopped and started again at
    any time.

    Raises:
        DmcmError: settings out of range, as for `fit`, or a results file that holds something else.
    """
    names = config.names()
    alike = {
        "losses": LOSSES,
        "seeds": config.seeds,
        "training_steps": config.steps,
        "validation_seed": protocol.VALIDATION_SEED,
    }
    earlier = earlier_table(config.results, alike)
    console = Console(stderr=True, quiet=not progress)
    table: dict[str, Any] = {}
    for name in names:
        scores: dict[str, float] = {}
        for setting, method in settings(METHODS[name]):
            found = []
            for seed in range(config.seeds):
                console.print(f"[bold]{name}[/bold], {setting}, seed {seed}")
                cell = run_cell(
                    method,
                    seed,
                    SinusoidSampler(),
                    config.out / name / setting.replace(" ", "-") / f"seed-{seed}",
                    lambda learner: {"measures": protocol.evaluate(learner, seed=protocol.VALIDATION_SEED)},
                    steps=config.steps,
                    about=["tuning"],
                    progress=progress,
                )
                found.append(score(cell["measures"]))
            scores[setting] = math.exp(float(np.mean(np.log(found))))
        table[name] = {"scores": scores, "best": min(scores, key=lambda setting: scores[setting])}
    results = {
        "study": "outer-loop settings by method, on validation tasks",
        "command": command_of("sinusoid tune", config),
        "environment": environment(),
        "score": "geometric mean of mean squared errors: few-shot, zero-shot x seen, unseen pair x seeds",
        **alike,
        "methods": table,
    }
    results = with_earlier(results, earlier, parts=("methods",))
    if config.results is not None:
        write_json(config.results, results)
    return results


def settings(method: Method) -> Iterator[tuple[str, Method]]:
    """A method with every combination of settings, by name."""
    for optimiser, (loss, values), rate in itertools.product(OPTIMISERS, LOSSES.items(), LEARNING_RATES):
        changed = dataclasses.replace(method, optimiser=optimiser, learning_rate=rate, **values)
        yield f"{optimiser} {loss} {rate:g}", changed


def score(measures: Mapping[str, Any]) -> float:
    """Geometric mean of the four mean errors; infinite if one of them is not a number."""
    means = [measures[kind][split]["mean"] for kind in ("few_shot", "zero_shot") for split in JUDGED]
    if any(mean is None for mean in means):
        return math.inf
    return math.exp(float(np.mean(np.log(np.maximum(means, 1e-12)))))
