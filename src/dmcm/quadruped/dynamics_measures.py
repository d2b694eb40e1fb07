"""One trained dynamics model, measured on all test cells with vectors of every origin."""

from __future__ import annotations

from typing import Any

import numpy as np

from dmcm.contexts import Contexts
from dmcm.learner import Learner
from dmcm.metrics import chance_label, probe_label, probe_number
from dmcm.quadruped.collection import Collection
from dmcm.quadruped.donors import robot_donors, terrain_donors
from dmcm.quadruped.dynamics import ROBOT, TERRAIN, TRUE_ROBOT, Cells
from dmcm.quadruped.dynamics_evaluation import ROLLOUTS, adapt_cells, rollout_errors, second_half_errors
from dmcm.quadruped.grid import SPLITS
from dmcm.quadruped.windows import OUTPUTS, output

SECONDS = (1.0, 2.0, 5.0, 10.0, 20.0)
"""Lengths of data to adapt to."""
AVERAGED = 13
"""Grounds, or robots, whose vectors stand in for one that is left out; there are 13 grounds of training."""
_APART = ("unseen_pair",)


class Measures:
    """One trained model on all test cells."""

    def __init__(
        self,
        collection: Collection,
        cells: Cells,
        wrong: np.ndarray,
        base: Learner,
        learner: Learner | None,
        history: int,
    ):
        self.collection, self.cells, self.wrong = collection, cells, wrong
        self.base, self.learner, self.history = base, learner, history
        self.spread = _spread(collection, cells)
        everyone = np.arange(len(cells.sound))
        self.robot_donor, self.terrain_donor = robot_donors(cells, everyone), terrain_donors(cells, everyone)

    def everything(self, detailed: bool) -> dict[str, Any]:
        """Errors with vectors of every origin; in detail also with one left out, by seconds, and probes."""
        assert self.learner is not None
        everyone = np.flatnonzero(self.cells.sound)
        contexts = adapt_cells(self.learner, self.cells, self.wrong, everyone)
        row = np.full(len(self.cells.sound), -1)
        row[everyone] = np.arange(len(everyone))
        found: dict[str, Any] = {"in_place": self.errors(lambda which: _rows(contexts, row[which]))}
        if set(self.learner.factors) == {"cell"}:
            for name, donors in (
                ("robot_donor", self.robot_donor),
                ("terrain_donor", self.terrain_donor),
            ):
                found[name] = self.errors(lambda which, donors=donors: _rows(contexts, row[donors[which]]))
        if set(self.learner.factors) != {ROBOT, TERRAIN} or not self.learner.solver.needs_data():
            return found
        found["recombined"] = self.errors(
            lambda which: _mixed(contexts, row[self.robot_donor[which]], row[self.terrain_donor[which]])
        )
        if not detailed:
            return found
        # A vector that is left out is averaged over: the mean prediction with those of training cells.
        grounds, robots = (row[self._one_each(codes)] for codes in (self.cells.terrain, self.cells.robot))
        found["robot_only"] = self.errors(
            lambda which: [
                _mixed(contexts, row[self.robot_donor[which]], np.full(len(which), ground))
                for ground in grounds
            ],
            rollouts=False,
            splits=_APART,
        )
        found["terrain_only"] = self.errors(
            lambda which: [
                _mixed(contexts, np.full(len(which), robot), row[self.terrain_donor[which]])
                for robot in robots
            ],
            rollouts=False,
            splits=_APART,
        )
        found["seconds"] = {}
        for seconds in SECONDS:
            short = adapt_cells(self.learner, self.cells, self.wrong, everyone, seconds=seconds)
            found["seconds"][f"{seconds:g}"] = self.errors(
                lambda which, short=short: _mixed(
                    short, row[self.robot_donor[which]], row[self.terrain_donor[which]]
                ),
                rollouts=False,
                splits=_APART,
            )
        found["probes"] = self._probes(contexts, everyone)
        return found

    def errors(
        self, contexts: Any = None, *, rollouts: bool = True, splits: tuple[str, ...] = SPLITS
    ) -> dict[str, dict[str, float]]:
        """Normalised root mean squared error per split and output.

        Args:
            contexts: gives contexts, or a list of them to average over, for numbers of cells; None is the
                base network alone.
            rollouts: also roll joints out; not with a list.
            splits: which to measure.
        """
        table: dict[str, dict[str, float]] = {}
        for split in splits:
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
                    self.history,
                )
                # A roll-out that left the finite numbers has failed altogether, not infinitely.
                rolled = np.minimum(rolled, self.spread["joints"])
                for name, value in zip(ROLLOUTS, rolled.mean(axis=0), strict=True):
                    table[split][name] = float(np.sqrt(value / self.spread["joints"]))
        return table

    def _one_each(self, codes: np.ndarray) -> np.ndarray:
        """A seen pair of each ground, or of as many robots: numbers of cells."""
        rng, seen = np.random.default_rng(0), self.cells.of("seen_pair")
        kinds = rng.permutation(np.unique(codes[seen]))[:AVERAGED]
        return np.array([rng.choice(seen[codes[seen] == kind]) for kind in kinds])

    def _targets(self, split: str) -> np.ndarray:
        """Sound cells that have donors for both factors, so that all ways are compared on the same cells."""
        which = self.cells.of(split)
        return which[(self.robot_donor[which] >= 0) & (self.terrain_donor[which] >= 0)]

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
    y = cells.windows.y[which, 1][cells.windows.real[which, 1]]
    half = collection.data.shape[1] // 2
    angles = collection["joint_angles_rad"][which, half:]
    return {"outputs": y.var(axis=0, dtype=np.float64), "joints": float(angles.var(axis=(0, 1)).mean())}


def _rows(contexts: Contexts, rows: np.ndarray) -> Contexts:
    return Contexts({name: value[rows] for name, value in contexts.values.items()}, contexts.model)


def _mixed(contexts: Contexts, robot: np.ndarray, terrain: np.ndarray) -> Contexts:
    """Robot vectors from one list of rows, ground vectors from another."""
    return Contexts({ROBOT: contexts[ROBOT][robot], TERRAIN: contexts[TERRAIN][terrain]}, contexts.model)
