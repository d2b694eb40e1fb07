"""The comparison of dynamics models: every method with equal data, steps and context size, several seeds."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from dmcm.commands import command_of
from dmcm.errors import DataError
from dmcm.learner import Learner
from dmcm.models import load_learner
from dmcm.quadruped.data.collection import read_collection
from dmcm.quadruped.data.grid import SPLITS
from dmcm.quadruped.data.windows import WindowConfig, cut
from dmcm.quadruped.dynamics.base import base_errors, train_base
from dmcm.quadruped.dynamics.cells import describe_cells
from dmcm.quadruped.dynamics.evaluation import GROUPS, adapt_milliseconds
from dmcm.quadruped.dynamics.measures import ROLLED_OUT, Measures
from dmcm.quadruped.dynamics.methods import METHODS
from dmcm.quadruped.dynamics.model import BASE_OF
from dmcm.quadruped.dynamics.sampler import CellSampler
from dmcm.quadruped.dynamics.table import summarise, unitless
from dmcm.results import earlier_table, with_earlier
from dmcm.runs import environment
from dmcm.storage import write_json
from dmcm.studies import chosen_methods, run_cell

MAIN = "dmcm"
"""The method whose vectors are analysed."""


@dataclasses.dataclass(frozen=True)
class DynamicsConfig:
    """What to compare, on which data."""

    data: Path = Path("runs/quadruped-data")
    """Output folder of `dmcm quadruped collect`."""
    methods: tuple[str, ...] = ("all",)
    """Names of methods; `all` for every one."""
    seeds: int = 3
    """Number of seeds (0, 1, …) of weights and batches."""
    steps: int = 2_400
    """Outer steps per method and seed; the base network takes three times as many."""
    windows: WindowConfig = dataclasses.field(default_factory=WindowConfig)
    """How recordings are cut into samples."""
    out: Path = Path("runs/quadruped-dynamics")
    """Folder with a run folder per method and seed; those already finished are not run again."""
    results: Path | None = None
    """File for the table, e.g. results/dynamics.json. Rows that it already has and that are not measured now
    are kept with the command that made them; a table of other data, seeds or steps is refused."""


def run_dynamics(config: DynamicsConfig, *, progress: bool = True) -> dict[str, Any]:
    """Train, measure and compare; returns the table in the layout of results/dynamics.json.

    Can be stopped and started again at any time.

    Raises:
        DmcmError: settings out of range, or data that cannot be used.
    """
    names = chosen_methods(config.methods, METHODS, seeds=config.seeds, steps=config.steps)
    collection = read_collection(config.data)
    cells = describe_cells(collection, cut(collection.data, config.windows))
    if len(cells.of("seen_pair")) < 20:
        raise DataError(
            f"{config.data}: only {len(cells.of('seen_pair'))} cells have enough samples without a fall "
            "to learn from. Collect more or longer, or with a policy that falls less."
        )
    about = ["dynamics", collection.digest, dataclasses.asdict(config.windows)]
    setting = {
        "cells": {split: len(cells.of(split)) for split in SPLITS},
        "seeds": config.seeds,
        "steps": config.steps,
        "windows": dataclasses.asdict(config.windows),
        "rollouts": ROLLED_OUT,
        "data": collection.config,
    }
    earlier, console = earlier_table(config.results, setting), Console(stderr=True, quiet=not progress)
    measured: list[dict[str, Any]] = []
    for seed in range(config.seeds):
        console.print(f"[bold]base network[/bold], seed {seed}")
        folder = config.out / "base" / f"seed-{seed}"
        base = train_base(cells, folder, steps=3 * config.steps, seed=seed, about=about, progress=progress)
        wrong = base_errors(cells.windows, base)
        sampler = CellSampler(cells, wrong, cells.of("seen_pair"), base=base)
        seen: dict[str, Any] = {
            "none": Measures(collection, cells, wrong, base, None, config.windows).errors()
        }
        for name in names:
            console.print(f"[bold]{name}[/bold], seed {seed}")
            folder = config.out / name / f"seed-{seed}"

            def measure(
                learner: Learner,
                wrong: np.ndarray = wrong,
                base: Learner = base,
                detailed: bool = name == MAIN,
            ) -> dict[str, Any]:
                found = Measures(collection, cells, wrong, base, learner, config.windows).everything(detailed)
                return {BASE_OF: base.fingerprint(), **found}

            cell = run_cell(
                METHODS[name],
                seed,
                sampler,
                folder,
                measure,
                steps=config.steps,
                precision=1.0,
                about=[*about, base.fingerprint(), ROLLED_OUT],
                progress=progress,
            )
            seen[name] = cell
        measured.append(seen)
    table = summarise(names, measured, MAIN)
    if MAIN in names:
        learner = load_learner(config.out / MAIN / "seed-0" / "model.safetensors")
        cell = cells.of("seen_pair")[0]
        table["adapt_ms"] = adapt_milliseconds(learner.adapt, *cells.windows.half(cell, 0))
    table |= {
        "groups": {group: [unitless(name) for name in outputs] for group, outputs in GROUPS.items()},
        "left_out": int(np.sum(~cells.sound)),
        **setting,
        "command": command_of("quadruped dynamics", config),
        "environment": environment(),
    }
    table = with_earlier(table, earlier, parts=("methods", "seconds", "probes", "adapt_ms"))
    if config.results is not None:
        write_json(config.results, table)
    return table
