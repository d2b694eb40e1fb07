"""One trained dynamics model, measured on all test cells with vectors of every origin."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from dmcm.contexts import Contexts
from dmcm.learner import Learner
from dmcm.metrics import chance_label, probe_label, probe_number
from dmcm.quadruped.data.collection import Collection
from dmcm.quadruped.data.grid import SPLITS
from dmcm.quadruped.data.windows import OUTPUTS, output, states
from dmcm.quadruped.dynamics.cells import ROBOT, TERRAIN, TRUE_ROBOT, Cells
from dmcm.quadruped.dynamics.donors import robot_donors, strangers, terrain_donors
from dmcm.quadruped.dynamics.evaluation import (
    HORIZONS_S,
    ROLLED,
    adapt_cells,
    rollout_errors,
    second_half_errors,
)

SECONDS = (1.0, 2.0, 5.0, 10.0, 20.0)
"""Lengths of data to adapt to."""
_APART = ("unseen_pair",)

_Origin = Callable[[np.ndarray], Contexts]
"""Gives contexts for numbers of cells."""


class Measures:
    """One trained model on all test cells."""

    def __init__(
        self,
        collection: Collection,
        cells: Cells,
        wrong: np.ndarray,
        base: Learner,
        learner: Learner | None,
    ):
        self.collection, self.cells, self.wrong = collection, cells, wrong
        self.base, self.learner = base, learner
        self.spread = _spread(collection, cells)
        everyone = np.arange(len(cells.sound))
        self.robot_donor, self.terrain_donor = robot_donors(cells, everyone), terrain_donors(cells, everyone)
        self.strangers = strangers(cells, everyone)

    def everything(self, detailed: bool) -> dict[str, Any]:
        """Errors with vectors of every origin; in detail also with one left out or wrong, and probes."""
        assert self.learner is not None
        everyone = np.flatnonzero(self.cells.sound)
        contexts = self._adapt(everyone)
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
        unknown = self.learner.prior_contexts()

        def mixed(vectors: Contexts, robot: np.ndarray | None, terrain: np.ndarray | None) -> _Origin:
            """Each factor's vector from its donors; the prior mean for a factor without."""
            donors = {ROBOT: robot, TERRAIN: terrain}

            def of(which: np.ndarray) -> Contexts:
                values = {
                    name: jnp.tile(unknown[name], (len(which), 1))
                    if donor is None
                    else vectors[name][row[donor[which]]]
                    for name, donor in donors.items()
                }
                return Contexts(values, vectors.model)

            return of

        robot, terrain = self.robot_donor, self.terrain_donor
        found["recombined"] = self.errors(mixed(contexts, robot, terrain))
        if not detailed:
            return found
        found["robot_only"] = self.errors(mixed(contexts, robot, None))
        found["terrain_only"] = self.errors(mixed(contexts, None, terrain))
        found["wrong_robot"] = self.errors(mixed(contexts, self.strangers, terrain))
        found["wrong_terrain"] = self.errors(mixed(contexts, robot, self.strangers))
        found["seconds"] = {}
        for seconds in SECONDS:
            short = self._adapt(everyone, seconds=seconds)
            found["seconds"][f"{seconds:g}"] = self.errors(
                mixed(short, robot, terrain), rollouts=False, splits=_APART
            )
        found["probes"] = self._probes(contexts, everyone)
        return found

    def errors(
        self, contexts: _Origin | None = None, *, rollouts: bool = True, splits: tuple[str, ...] = SPLITS
    ) -> dict[str, dict[str, float]]:
        """Normalised root mean squared error per split and output.

        Args:
            contexts: gives contexts for numbers of cells; None is the base network alone.
            rollouts: also roll states out.
            splits: which to measure.
        """
        table: dict[str, dict[str, float]] = {}
        for split in splits:
            which = self._targets(split)
            if not len(which):
                continue
            own = None if contexts is None else contexts(which)
            squared = second_half_errors(self.learner, own, self.cells, self.wrong, which).mean(axis=0)
            table[split] = {
                name: float(np.sqrt(np.mean(squared[output(name)] / self.spread["outputs"][output(name)])))
                for name in OUTPUTS
            }
            if rollouts:
                rolled = rollout_errors(self.base, self.learner, own, self.collection, self.cells, which)
                for part, errors in rolled.items():
                    # A roll-out that left the finite numbers has failed altogether, not infinitely.
                    errors = np.minimum(errors, self.spread[part])
                    for horizon, error in zip(HORIZONS_S, errors.mean(axis=0), strict=True):
                        table[split][f"{part}_rollout_{horizon:g}s"] = float(
                            np.sqrt(error / self.spread[part])
                        )
        return table

    def _targets(self, split: str) -> np.ndarray:
        """Sound cells that have donors for both factors, so that all ways are compared on the same cells."""
        which = self.cells.of(split)
        return which[(self.robot_donor[which] >= 0) & (self.terrain_donor[which] >= 0)]

    def _adapt(self, which: np.ndarray, *, seconds: float = np.inf) -> Contexts:
        assert self.learner is not None
        cells = self.cells
        return adapt_cells(self.learner, cells.windows, self.wrong, which, truth=cells.truth, seconds=seconds)

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
    """Variance of outputs, and of each part of the state, over the second halves of the seen pairs."""
    which = cells.of("seen_pair")
    y = cells.windows.y[which, 1][cells.windows.real[which, 1]]
    half = collection.data.shape[1] // 2
    variance = states(collection.data[which, half:]).var(axis=(0, 1), dtype=np.float64)
    parts = {name: float(variance[columns].mean()) for name, columns in ROLLED.items()}
    return {"outputs": y.var(axis=0, dtype=np.float64), **parts}


def _rows(contexts: Contexts, rows: np.ndarray) -> Contexts:
    return Contexts({name: value[rows] for name, value in contexts.values.items()}, contexts.model)
