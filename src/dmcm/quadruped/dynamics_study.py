"""The comparison of dynamics models: every method on equal data, steps and context size, several seeds."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from dmcm.contexts import Contexts
from dmcm.errors import DataError
from dmcm.learner import Learner
from dmcm.metrics import chance_label, probe_label, probe_number
from dmcm.quadruped.collection import Collection, read_collection
from dmcm.quadruped.donors import robot_donors, terrain_donors
from dmcm.quadruped.dynamics import (
    METHODS,
    ROBOT,
    TERRAIN,
    TRUE_ROBOT,
    Cells,
    CellSampler,
    base_errors,
    describe_cells,
    train_base,
)
from dmcm.quadruped.dynamics_evaluation import (
    GROUPS,
    ROLLOUTS,
    adapt_cells,
    rollout_errors,
    second_half_errors,
)
from dmcm.quadruped.grid import SPLITS
from dmcm.quadruped.windows import OUTPUTS, WindowConfig, cut, output
from dmcm.runs import environment
from dmcm.storage import write_json
from dmcm.studies import chosen_methods, run_cell, summarise_numbers

SECONDS = (1.0, 2.0, 5.0, 10.0, 20.0)
"""Lengths of data to adapt to."""
AVERAGED = 6
"""Training cells whose vectors stand in for one that is left out."""
LEAST_GAIN = 0.05
"""Outputs in which the oracle gains less than this share get no share of its gain: it would be noise."""


@dataclasses.dataclass(frozen=True)
class DynamicsConfig:
    """What is compared, on which data."""

    data: Path = Path("runs/quadruped-data")
    """Folder that `dmcm quadruped collect` filled."""
    methods: tuple[str, ...] = ("all",)
    """Names of methods; `all` for every one."""
    seeds: int = 3
    """Seeds 0, 1, … of weights and batches."""
    steps: int = 2_000
    """Outer steps a method and seed; the base network takes four times as many."""
    windows: WindowConfig = dataclasses.field(default_factory=WindowConfig)
    """How recordings are cut into samples."""
    out: Path = Path("runs/quadruped-dynamics")
    """Folder with a run folder per method and seed; those already finished are not run again."""
    results: Path | None = None
    """File for the table, e.g. results/dynamics.json."""


def run_dynamics(config: DynamicsConfig, *, progress: bool = True) -> dict[str, Any]:
    """Train, measure and compare; returns the table in the layout of results/dynamics.json.

    Can be stopped and started again at any time.

    Raises:
        DmcmError: settings out of range, or data that cannot be used.
    """
    names = chosen_methods(config.methods, METHODS, seeds=config.seeds, steps=config.steps)
    console = Console(stderr=True, quiet=not progress)
    collection = read_collection(config.data)
    cells = describe_cells(collection, cut(collection, config.windows))
    if len(cells.of("seen_pair")) < 20:
        raise DataError(
            f"{config.data}: only {len(cells.of('seen_pair'))} cells have enough samples without a fall "
            "to learn from. Collect more or longer, or with a policy that falls less."
        )
    measured: list[dict[str, Any]] = []
    for seed in range(config.seeds):
        console.print(f"[bold]base network[/bold], seed {seed}")
        folder = config.out / "base" / f"seed-{seed}"
        base = train_base(cells, folder, steps=4 * config.steps, seed=seed, progress=progress)
        wrong = base_errors(cells, base)
        sampler = CellSampler(cells, wrong, cells.of("seen_pair"))
        seen: dict[str, Any] = {"none": _Measuring(collection, cells, wrong, base, None, config).errors()}
        for name in names:
            console.print(f"[bold]{name}[/bold], seed {seed}")
            folder = config.out / name / f"seed-{seed}"

            def measure(learner: Learner, wrong: np.ndarray = wrong, base: Learner = base) -> dict[str, Any]:
                return _Measuring(collection, cells, wrong, base, learner, config).everything()

            cell = run_cell(
                METHODS[name],
                seed,
                sampler,
                folder,
                measure,
                steps=config.steps,
                precision=1.0,
                about=["dynamics", str(config.data), dataclasses.asdict(config.windows)],
                progress=progress,
            )
            seen[name] = cell
        measured.append(seen)
    table = _summarise(names, measured)
    table |= {
        "groups": {group: list(outputs) for group, outputs in GROUPS.items()},
        "cells": {split: len(cells.of(split)) for split in SPLITS},
        "left_out": int(np.sum(~cells.sound)),
        "seeds": config.seeds,
        "steps": config.steps,
        "data": collection.config,
        "command": (
            f"dmcm quadruped dynamics --data {config.data} --methods {' '.join(config.methods)} "
            f"--seeds {config.seeds} --steps {config.steps} --out {config.out}"
            + (f" --results {config.results}" if config.results else "")
        ),
        "environment": environment(),
    }
    if config.results is not None:
        write_json(config.results, table)
    return table


class _Measuring:
    """One trained model on all test cells."""

    def __init__(
        self,
        collection: Collection,
        cells: Cells,
        wrong: np.ndarray,
        base: Learner,
        learner: Learner | None,
        config: DynamicsConfig,
    ):
        self.collection, self.cells, self.wrong = collection, cells, wrong
        self.base, self.learner, self.config = base, learner, config
        self.spread = _spread(collection, cells)

    def everything(self) -> dict[str, Any]:
        """Errors with vectors of every origin; and for two vectors what each carries."""
        assert self.learner is not None
        everyone = np.flatnonzero(self.cells.sound)
        contexts = adapt_cells(self.learner, self.cells, self.wrong, everyone)
        row = np.full(len(self.cells.sound), -1)
        row[everyone] = np.arange(len(everyone))
        found: dict[str, Any] = {"in_place": self.errors(lambda which: _rows(contexts, row[which]))}
        if set(self.learner.factors) == {"cell"}:
            for name, donors in (
                ("robot_donor", self._robot_donors),
                ("terrain_donor", self._terrain_donors),
            ):
                found[name] = self.errors(lambda which, donors=donors: _rows(contexts, row[donors(which)]))
        if set(self.learner.factors) != {ROBOT, TERRAIN} or not self.learner.solver.needs_data():
            return found
        found["recombined"] = self.errors(
            lambda which: _mixed(contexts, row[self._robot_donors(which)], row[self._terrain_donors(which)])
        )
        # A vector that is left out is averaged over: the mean prediction with those of some training cells.
        some = np.random.default_rng(0).choice(row[self.cells.of("seen_pair")], AVERAGED, replace=False)
        found["robot_only"] = self.errors(
            lambda which: [
                _mixed(contexts, row[self._robot_donors(which)], np.full(len(which), r)) for r in some
            ],
            rollouts=False,
        )
        found["terrain_only"] = self.errors(
            lambda which: [
                _mixed(contexts, np.full(len(which), r), row[self._terrain_donors(which)]) for r in some
            ],
            rollouts=False,
        )
        found["seconds"] = {}
        for seconds in SECONDS:
            short = adapt_cells(self.learner, self.cells, self.wrong, everyone, seconds=seconds)
            found["seconds"][f"{seconds:g}"] = self.errors(
                lambda which, short=short: _mixed(
                    short, row[self._robot_donors(which)], row[self._terrain_donors(which)]
                ),
                rollouts=False,
            )
        found["probes"] = self._probes(contexts, everyone)
        return found

    def errors(self, contexts: Any = None, *, rollouts: bool = True) -> dict[str, dict[str, float]]:
        """Normalised root mean squared error per split and output.

        Args:
            contexts: gives contexts, or a list of them to average over, for numbers of cells; None is the
                base network alone.
            rollouts: also roll joints out; not with a list.
        """
        table: dict[str, dict[str, float]] = {}
        for split in SPLITS:
            which = self._targets(split)
            if not len(which):
                continue
            own: Any = contexts(which) if contexts is not None else None
            several = own if isinstance(own, list) else [own] if own is not None else []
            squared = second_half_errors(self.learner, several, self.cells, self.wrong, which).mean(axis=0)
            table[split] = {
                name: float(np.sqrt(np.mean(squared[output(name)] / self.spread["outputs"][output(name)])))
                for name in OUTPUTS
            }
            if rollouts:
                rolled = rollout_errors(
                    self.base,
                    self.learner,
                    several[0] if several else None,
                    self.collection,
                    self.cells,
                    which,
                    self.config.windows.history,
                )
                # A roll-out that left the finite numbers has failed altogether, not infinitely.
                rolled = np.minimum(rolled, self.spread["joints"])
                for name, value in zip(ROLLOUTS, rolled.mean(axis=0), strict=True):
                    table[split][name] = float(np.sqrt(value / self.spread["joints"]))
        return table

    def _targets(self, split: str) -> np.ndarray:
        """Sound cells that have donors for both factors, so that all ways are compared on the same cells."""
        which = self.cells.of(split)
        return which[(self._robot_donors(which) >= 0) & (self._terrain_donors(which) >= 0)]

    def _robot_donors(self, which: np.ndarray) -> np.ndarray:
        return robot_donors(self.cells, which)

    def _terrain_donors(self, which: np.ndarray) -> np.ndarray:
        # One generator a cell: a cell's donor does not depend on which others are asked for.
        return np.array(
            [
                terrain_donors(self.cells, which[i : i + 1], np.random.default_rng(which[i]))[0]
                for i in range(len(which))
            ],
            int,
        )

    def _probes(self, contexts: Contexts, everyone: np.ndarray) -> dict[str, dict[str, float]]:
        """What a kernel probe reads off each vector of robots and grounds of training.

        R² of numbers, accuracy of the kind of ground; on robots the probe was not trained on, for each
        robot has many cells and would be recognised.
        """
        cells, grid = self.cells, self.collection.grid
        inside = np.isin(cells.split[everyone], ("seen_pair", "unseen_pair"))
        which = everyone[inside]
        kinds = np.array([terrain.kind for terrain in grid.terrains])[cells.terrain[which]]
        robots = cells.robot[which]
        table: dict[str, dict[str, float]] = {}
        for factor in (ROBOT, TERRAIN):
            vectors = np.asarray(contexts[factor])[inside]
            table[factor] = {
                name: max(0.0, probe_number(vectors, cells.truth[ROBOT][which, i], groups=robots))
                for i, name in enumerate(TRUE_ROBOT)
            }
            table[factor]["terrain_kind"] = probe_label(vectors, kinds, groups=robots)
        table["chance"] = {"terrain_kind": chance_label(kinds, groups=robots)}
        return table


def _spread(collection: Collection, cells: Cells) -> dict[str, Any]:
    """Variance of outputs and joint angles over the second halves of the seen pairs."""
    which = cells.of("seen_pair")
    real = np.arange(cells.windows.y.shape[2]) < cells.windows.count[which, 1][:, None]
    y = cells.windows.y[which, 1][real]
    half = collection.data.shape[1] // 2
    angles = collection["joint_angles_rad"][which, half:]
    return {"outputs": y.var(axis=0, dtype=np.float64), "joints": float(angles.var(axis=(0, 1)).mean())}


def _rows(contexts: Contexts, rows: np.ndarray) -> Contexts:
    return Contexts({name: value[rows] for name, value in contexts.values.items()}, contexts.model)


def _mixed(contexts: Contexts, robot: np.ndarray, terrain: np.ndarray) -> Contexts:
    """Robot vectors from one list of rows, ground vectors from another."""
    return Contexts({ROBOT: contexts[ROBOT][robot], TERRAIN: contexts[TERRAIN][terrain]}, contexts.model)


def _summarise(names: tuple[str, ...], measured: list[dict[str, Any]]) -> dict[str, Any]:
    """Means over seeds, intervals, and shares of the oracle's gain."""
    ways: dict[str, Any] = {"none": [seed["none"] for seed in measured]}
    for name in names:
        for way in measured[0][name]:
            if way in (
                "in_place",
                "recombined",
                "robot_only",
                "terrain_only",
                "robot_donor",
                "terrain_donor",
            ):
                label = _LABELS.get((name, way), f"{name}_{way}")
                ways[label] = [seed[name][way] for seed in measured]
    oracle = ways.get("oracle")
    table: dict[str, Any] = {"methods": {w: _with_shares(v, ways["none"], oracle) for w, v in ways.items()}}
    if "dmcm" in names:
        table["seconds"] = {
            s: _with_shares([seed["dmcm"]["seconds"][s] for seed in measured], ways["none"], oracle)
            for s in measured[0]["dmcm"]["seconds"]
        }
        table["probes"] = _mean_tree([seed["dmcm"]["probes"] for seed in measured])
    return table


_LABELS = {
    ("single", "in_place"): "single",
    ("single", "robot_donor"): "single_from_robot",
    ("single", "terrain_donor"): "single_from_terrain",
    ("history", "in_place"): "history",
    ("history", "robot_donor"): "history_from_robot",
    ("history", "terrain_donor"): "history_from_terrain",
    ("dmcm", "in_place"): "dmcm",
    ("dmcm", "recombined"): "dmcm_recombined",
    ("dmcm", "robot_only"): "dmcm_robot_only",
    ("dmcm", "terrain_only"): "dmcm_terrain_only",
    ("encoders", "in_place"): "encoders_in_place",
    ("encoders", "recombined"): "encoders",
    ("oracle", "in_place"): "oracle",
}


def _with_shares(
    runs: list[dict[str, dict[str, float]]],
    none: list[dict[str, dict[str, float]]],
    oracle: list[dict[str, dict[str, float]]] | None,
) -> dict[str, Any]:
    table: dict[str, Any] = {}
    for split, outputs in runs[0].items():
        table[split] = {}
        for name in outputs:
            errors = [run[split][name] for run in runs]
            summary = summarise_numbers(errors)
            cell: dict[str, Any] = {"nrmse": summary["mean"], "ci95": summary["ci95"], "gain_share": None}
            if oracle is not None:
                without = np.array([run[split][name] for run in none])
                best = np.array([run[split][name] for run in oracle])
                cell["oracle_gain"] = float(np.mean(1 - best / without))
                if cell["oracle_gain"] >= LEAST_GAIN:
                    cell["gain_share"] = float(np.mean((without - errors) / (without - best)))
            table[split][name] = cell
    return table


def _mean_tree(trees: list[Mapping[str, Any]]) -> dict[str, Any]:
    return {
        key: _mean_tree([tree[key] for tree in trees])
        if isinstance(trees[0][key], Mapping)
        else float(np.mean([tree[key] for tree in trees]))
        for key in trees[0]
    }
