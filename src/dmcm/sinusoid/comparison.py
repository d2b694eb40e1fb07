"""The comparison: every method × every seed, trained in the same way, measured on the frozen protocol."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import equinox as eqx
import numpy as np
from rich.console import Console

from dmcm import studies
from dmcm.commands import command_of
from dmcm.learner import Learner
from dmcm.results import earlier_table, with_earlier
from dmcm.runs import environment
from dmcm.sinusoid import protocol
from dmcm.sinusoid.family import SinusoidSampler
from dmcm.sinusoid.measures import TASKS, all_measures
from dmcm.sinusoid.methods import METHODS, TOTAL_SIZE, Method, method_named
from dmcm.solvers import GradientDescent, LevenbergMarquardt
from dmcm.storage import write_json
from dmcm.summaries import summarise_cells


@dataclasses.dataclass(frozen=True)
class ComparisonConfig:
    """Compare methods on the frozen sinusoid protocol."""

    methods: tuple[str, ...] = ("dmcm", "cavia")
    """Names of methods, or `all`."""
    seeds: int = 5
    """Seeds 0, 1, … of initial weights and training batches."""
    steps: int = 30_000
    """Outer steps a seed, the same for all methods."""
    optimiser: str = "muon"
    """Optimiser of the outer loop of all methods: muon or adam."""
    out: Path = Path("runs/comparison")
    """Folder with a run folder per method and seed; finished ones are not run again."""
    results: Path | None = None
    """File for the table, e.g. results/sinusoid.json. Other methods already in it, measured by the same
    protocol, are kept together with the command that made them."""
    test_seed: int = protocol.TEST_SEED
    """Seed of the test tasks; use another one (7) while tuning."""
    details: bool = False
    """Also measure other numbers of inner steps, and examine the contexts: probes, swap and clamp test, error
    by number of points."""

    def names(self) -> tuple[str, ...]:
        """Methods to run.

        Raises:
            ConfigError: an unknown method or optimiser, or settings out of range.
        """
        names = studies.chosen_methods(self.methods, METHODS, seeds=self.seeds, steps=self.steps)
        for name in names:
            method_named(name, self.optimiser)
        return names


def compare(config: ComparisonConfig, *, progress: bool = True) -> dict[str, Any]:
    """Train and measure; returns the table in the layout of results/sinusoid.json.

    Can be stopped and started again at any time: finished seeds are read, and a half-trained one is resumed.

    Raises:
        DmcmError: as for `fit`, unknown methods, or a results file that holds something else.
    """
    names, setting = config.names(), {"protocol": describe_protocol(config)}
    earlier = earlier_table(config.results, setting)
    console = Console(stderr=True, quiet=not progress)
    methods: dict[str, Any] = {}
    for name in names:
        cells = []
        for seed in range(config.seeds):
            console.print(f"[bold]{name}[/bold], seed {seed}")
            cells.append(run_cell(name, seed, config, progress=progress))
        methods[name] = summarise(method_named(name, config.optimiser), cells)
    table = {
        **setting,
        "command": command_of("sinusoid compare", config),
        "environment": environment(),
        "methods": methods,
    }
    table = with_earlier(table, earlier, parts=("methods",))
    if config.results is not None:
        write_json(config.results, table)
    return table


def run_cell(name: str, seed: int, config: ComparisonConfig, *, progress: bool = True) -> dict[str, Any]:
    """One method and seed: train if not yet done, then measure."""

    def measure(learner: Learner) -> dict[str, Any]:
        measures = {"measures": protocol.evaluate(learner, seed=config.test_seed)}
        if config.details:
            measures["inner_steps"] = inner_step_curve(learner, config.test_seed)
            measures["contexts"] = all_measures(learner, seed=config.test_seed)
        return measures

    folder = config.out / name / f"seed-{seed}"
    return studies.run_cell(
        method_named(name, config.optimiser),
        seed,
        SinusoidSampler(),
        folder,
        measure,
        steps=config.steps,
        about=["sinusoid", config.test_seed, config.details],
        progress=progress,
    )


def inner_step_curve(learner: Learner, test_seed: int) -> dict[str, Any]:
    """The measures with multiples of the inner steps at use; empty for solvers without steps.

    Uses fewer tasks than the table, because the solver's time grows with the steps.
    """
    solver = learner.solver
    if not isinstance(solver, (LevenbergMarquardt, GradientDescent)):
        return {}
    curve = {}
    for factor in (0.5, 1, 2, 4):
        steps = max(1, math.floor(solver.steps * factor))
        changed = eqx.tree_at(lambda tree: tree.solver, learner, with_steps(solver, steps))
        curve[str(steps)] = protocol.evaluate(changed, seed=test_seed, tasks=TASKS)
    return curve


def with_steps(solver: LevenbergMarquardt | GradientDescent, steps: int) -> Any:
    """The same solver with another number of steps at use."""
    changed = object.__new__(type(solver))
    for field in dataclasses.fields(solver):
        object.__setattr__(
            changed, field.name, steps if field.name == "steps" else getattr(solver, field.name)
        )
    return changed


def summarise(method: Method, cells: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean over seeds with a 95 % interval, medians, and each seed's figures."""
    return {
        "title": method.title,
        "settings": dataclasses.asdict(method),
        "seeds": len(cells),
        "weights": cells[0]["weights"],
        "training_seconds": float(np.median([cell["training_seconds"] for cell in cells])),
        **summarise_cells([cell["measures"] for cell in cells]),
        **{
            part: summarise_cells([cell[part] for cell in cells])
            for part in ("inner_steps", "contexts")
            if part in cells[0]
        },
    }


def describe_protocol(config: ComparisonConfig) -> dict[str, Any]:
    """The protocol's settings, for the results file."""
    return {
        "family": "y = A sin(x - phi)",
        "train": {
            "A": [0.1, 5.0],
            "phi": [0.0, math.pi],
            "x": [-5.0, 5.0],
            "shots": 10,
            "queries": 10,
        },
        "held_out": "A > 2.5 and phi > pi/2",
        "range": "A in (5, 7] or phi in (pi, 1.25 pi]",
        "test_tasks_a_split": protocol.TASKS,
        "tasks_a_split_of_details": TASKS,
        "grid_points": protocol.GRID,
        "test_seed": config.test_seed,
        "training_steps": config.steps,
        "seeds": config.seeds,
        "optimiser": config.optimiser,
        "total_context_size": TOTAL_SIZE,
        "ci95": "half-width of Student's t interval over seeds",
    }
