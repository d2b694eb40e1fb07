"""The comparison on pendulums: every method × every seed, trained in the same way."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from dmcm.commands import command_of
from dmcm.pendulum import protocol
from dmcm.pendulum.family import BLOCK, RANGES, SHOTS, PendulumSampler
from dmcm.pendulum.methods import METHODS, PRECISION
from dmcm.results import earlier_table, with_earlier
from dmcm.runs import environment
from dmcm.storage import write_json
from dmcm.studies import chosen_methods, run_cell
from dmcm.summaries import summarise_cells


@dataclasses.dataclass(frozen=True)
class PendulumConfig:
    """Compare methods on driven pendulums."""

    methods: tuple[str, ...] = ("all",)
    """Names of methods, or `all`."""
    seeds: int = 3
    """Seeds 0, 1, … of initial weights and training batches."""
    steps: int = 15_000
    """Outer steps a seed, the same for all methods."""
    out: Path = Path("runs/pendulum")
    """Folder with a run folder per method and seed; finished ones are not run again."""
    results: Path | None = None
    """File for the table, e.g. results/pendulum.json."""
    test_seed: int = protocol.TEST_SEED
    """Seed of the test tasks; use another one (7) while tuning."""

    def names(self) -> tuple[str, ...]:
        """Methods to run.

        Raises:
            ConfigError: an unknown method, or settings out of range.
        """
        return chosen_methods(self.methods, METHODS, seeds=self.seeds, steps=self.steps)


def run_pendulum(config: PendulumConfig, *, progress: bool = True) -> dict[str, Any]:
    """Train and measure; returns the table in the layout of results/pendulum.json.

    Can be stopped and started again at any time.

    Raises:
        DmcmError: settings out of range, or as for `fit`.
    """
    names = config.names()
    setting = {
        "study": "driven pendulums: three factors, no product",
        "protocol": {
            "family": "angle'' = -d angle' - k sin(angle) + F cos(2 t), angle(0) = -1.5, at rest",
            "train": {name: list(limits) for name, limits in RANGES.items()},
            "held_out": " and ".join(f"{name} > {limit}" for name, limit in BLOCK.items()),
            "shots": SHOTS,
            "test_tasks_a_split": protocol.TASKS,
            "test_seed": config.test_seed,
            "training_steps": config.steps,
            "prior_precision": PRECISION,
            "seeds": config.seeds,
        },
    }
    earlier = earlier_table(config.results, setting)
    console = Console(stderr=True, quiet=not progress)
    methods: dict[str, Any] = {}
    for name in names:
        method, cells = METHODS[name], []
        for seed in range(config.seeds):
            console.print(f"[bold]{name}[/bold], seed {seed}")
            cell = run_cell(
                method,
                seed,
                PendulumSampler(),
                config.out / name / f"seed-{seed}",
                lambda learner: {"measures": protocol.evaluate(learner, seed=config.test_seed)},
                steps=config.steps,
                precision=PRECISION,
                about=["pendulum", config.test_seed],
                progress=progress,
            )
            cells.append(cell)
        methods[name] = {
            "title": method.title,
            "settings": dataclasses.asdict(method),
            "weights": cells[0]["weights"],
            "training_seconds": float(np.median([cell["training_seconds"] for cell in cells])),
            **summarise_cells([cell["measures"] for cell in cells]),
        }
    results = {
        **setting,
        "command": command_of("pendulum compare", config),
        "environment": environment(),
        "methods": methods,
    }
    results = with_earlier(results, earlier, parts=("methods",))
    if config.results is not None:
        write_json(config.results, results)
    return results
