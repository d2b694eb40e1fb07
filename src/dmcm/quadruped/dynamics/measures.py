"""One trained dynamics model, measured on all test cells with vectors of every origin."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from dmcm.contexts import Contexts
from dmcm.learner import Learner
from dmcm.metrics import LEAST_GROUPS, chance_label, probe_label, probe_number
from dmcm.quadruped.data.collection import Collection
from dmcm.quadruped.data.grid import SPLITS
from dmcm.quadruped.data.recording import delayed
from dmcm.quadruped.data.windows import (
    OUTCOMES,
    OUTPUTS,
    SECOND,
    STEP_OUTPUTS,
    WindowConfig,
    cut,
    output,
    states,
)
from dmcm.quadruped.dynamics.base import base_errors
from dmcm.quadruped.dynamics.cells import ROBOT, TERRAIN, TRUE_ROBOT, Cells
from dmcm.quadruped.dynamics.donors import robot_donors, strangers, terrain_donors
from dmcm.quadruped.dynamics.evaluation import (
    FARTHEST,
    HORIZONS_S,
    ROLLED,
    STARTS,
    adapt_cells,
    rollout_errors,
    second_half_errors,
)
from dmcm.quadruped.dynamics.log_fit import NearFit, near_fit
from dmcm.quadruped.dynamics.measured import filled, only_outputs
from dmcm.quadruped.dynamics.model import DynamicsModel
from dmcm.quadruped.world.simulation import CONTROL_PERIOD_S
from dmcm.solvers.set_encoder import SetEncoder

SECONDS = (1.0, 2.0, 5.0, 10.0, 20.0)
"""Lengths of data to adapt to, what samples look ahead to included."""
LOST = 10.0
"""Largest error of a cell's roll-outs that counts, in standard deviations of what is rolled out."""
ROLLED_OUT: Mapping[str, float] = {"a_cell": STARTS, "farthest": FARTHEST, "lost": LOST}
"""What errors of roll-outs depend on beside models and data."""
_APART = ("unseen_pair",)

_Origin = Callable[[np.ndarray], Contexts]
"""Gives contexts for numbers of cells."""
_Data = tuple[Collection, Cells, np.ndarray]
"""Recordings, their samples, and what the base network gets wrong there."""


class Measures:
    """One trained model on all test cells."""

    def __init__(
        self,
        collection: Collection,
        cells: Cells,
        wrong: np.ndarray,
        base: Learner,
        learner: Learner | None,
        windows: WindowConfig,
    ):
        """Keep what is measured.

        Args:
            collection: the recordings.
            cells: their samples.
            wrong: what the base network gets wrong there.
            base: the base network.
            learner: of its errors; None for the base network alone.
            windows: how the samples were cut.
        """
        self.collection, self.cells, self.wrong = collection, cells, wrong
        self.base, self.learner, self.windows = base, learner, windows
        self.spread = _spread(collection, cells)
        everyone = np.arange(len(cells.sound))
        self.robot_donor, self.terrain_donor = robot_donors(cells, everyone), terrain_donors(cells, everyone)
        self.strangers = strangers(cells, everyone)

    def everything(self, detailed: bool) -> dict[str, Any]:
        """Errors with vectors of every origin; in detail also with one left out or wrong, and probes."""
        assert self.learner is not None
        # An encoder knows samples with all outputs only.
        adapts = not isinstance(self.learner.solver, SetEncoder)
        everyone = np.flatnonzero(self.cells.sound)
        contexts = self._adapt(everyone)
        row = np.full(len(self.cells.sound), -1)
        row[everyone] = np.arange(len(everyone))
        found: dict[str, Any] = {"in_place": self.errors(lambda which: _rows(contexts, row[which]))}
        own = np.arange(len(row))
        if set(self.learner.factors) == {"cell"}:
            for name, donors in (
                ("robot_donor", self.robot_donor),
                ("terrain_donor", self.terrain_donor),
            ):
                found[name] = self.errors(lambda which, donors=donors: _rows(contexts, row[donors[which]]))
            if adapts:
                near = self.near
                found["in_place_near"] = self.near_errors(near, own)
                found["robot_donor_near"] = self.near_errors(near, self.robot_donor)
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
        if adapts:
            near, grounds = self.near, contexts[TERRAIN]
            # Vectors that were found together belong together; a donor's ground keeps that of all outputs.
            found["in_place_near"] = self.near_errors(near, own)
            found["recombined_near"] = self.near_errors(
                near, robot, lambda which: grounds[row[terrain[which]]]
            )
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
        self,
        contexts: _Origin | None = None,
        *,
        rollouts: bool = True,
        outcomes: bool = True,
        splits: tuple[str, ...] = SPLITS,
        data: _Data | None = None,
    ) -> dict[str, dict[str, float]]:
        """Normalised root mean squared error per split and output.

        Args:
            contexts: gives contexts for numbers of cells; None is the base network alone.
            rollouts: also roll states out.
            outcomes: also measure outcomes of the coming second.
            splits: which to measure.
            data: of the same cells, to measure on; by default as they were recorded.
        """
        collection, cells, wrong = data or (self.collection, self.cells, self.wrong)
        table: dict[str, dict[str, float]] = {}
        for split in splits:
            which = self._targets(split)
            if not len(which):
                continue
            own = None if contexts is None else contexts(which)
            squared = second_half_errors(self.learner, own, cells, wrong, which).mean(axis=0)
            table[split] = {
                name: float(np.sqrt(np.mean(squared[output(name)] / self.spread["outputs"][output(name)])))
                for name in OUTPUTS
                if outcomes or name not in OUTCOMES
            }
            if rollouts:
                rolled = rollout_errors(self.base, self.learner, own, collection, cells, which)
                for part, errors in rolled.items():
                    # One roll-out that leaves the finite numbers must not make the mean of all infinite.
                    errors = np.minimum(errors, LOST**2 * self.spread[part])
                    for horizon, error in zip(HORIZONS_S, errors.mean(axis=0), strict=True):
                        table[split][f"{part}_rollout_{horizon:g}s"] = float(
                            np.sqrt(error / self.spread[part])
                        )
        return table

    @functools.cached_property
    def near(self) -> NearFit:
        """Vectors of next steps alone, of all cells' first halves; needs a learner."""
        assert self.learner is not None
        model, data = DynamicsModel(self.base, self.learner, self.windows), self.collection.data
        return near_fit(model, data[:, : data.shape[1] // 2])

    def near_errors(
        self, fit: NearFit, donors: np.ndarray, terrain: Callable[[np.ndarray], Array] | None = None
    ) -> dict[str, dict[str, float]]:
        """As `errors`, of what follows from next steps, with vectors made of next steps alone.

        Joint targets of a robot that acts late, by its donor's log, are moved to when they act.

        Args:
            fit: of all cells.
            donors: whose vectors each cell takes, -1 for none, shape (cells,).
            terrain: gives vectors of the grounds, shape (n, size), for numbers of cells, shape (n,), in place
                of the donors'.
        """
        assert self.learner is not None
        data, made_by = self.collection.data, self.learner.fingerprint()
        late = np.where(donors >= 0, fit.delay_steps[donors], 0)
        moved = data.copy()
        for steps in np.unique(late[late > 0]).tolist():
            moved[late == steps] = delayed(data[late == steps], steps)
        cells = dataclasses.replace(self.cells, windows=cut(moved, self.windows))
        collection = dataclasses.replace(self.collection, data=moved)
        wrong = base_errors(cells.windows, self.base)

        def of(which: np.ndarray) -> Contexts:
            values = {name: jnp.asarray(value[donors[which]]) for name, value in fit.vectors.items()}
            if terrain is not None:
                values[TERRAIN] = terrain(which)
            return Contexts(values, made_by)

        return self.errors(of, outcomes=False, data=(collection, cells, wrong))

    def _targets(self, split: str) -> np.ndarray:
        """Sound cells that have donors for both factors, so that all ways are compared on the same cells."""
        which = self.cells.of(split)
        return which[(self.robot_donor[which] >= 0) & (self.terrain_donor[which] >= 0)]

    def _adapt(self, which: np.ndarray, *, seconds: float = np.inf) -> Contexts:
        """Contexts of cells, of next steps alone where no outcome is complete within the seconds."""
        assert self.learner is not None
        cells, learner, wrong, ahead = self.cells, self.learner, self.wrong, SECOND
        if seconds <= (SECOND + self.windows.history) * CONTROL_PERIOD_S:
            learner, wrong = only_outputs(learner, STEP_OUTPUTS), filled(learner, wrong, STEP_OUTPUTS)
            ahead = 1
        found = adapt_cells(
            learner, cells.windows, wrong, which, truth=cells.truth, seconds=seconds, ahead=ahead
        )
        return Contexts(found.values, self.learner.fingerprint())

    def _probes(self, contexts: Contexts, everyone: np.ndarray) -> dict[str, dict[str, float]]:
        """What a kernel probe reads off each vector of robots and grounds of training.

        R² of numbers, accuracy of the kind of ground; on robots the probe was not trained on, for each
        robot has many cells and would be recognised. Empty where there are too few robots for that.
        """
        cells, grid = self.cells, self.collection.grid
        inside = np.isin(cells.split[everyone], ("seen_pair", "unseen_pair"))
        which = everyone[inside]
        if len(np.unique(cells.robot[which])) < LEAST_GROUPS:
            return {}
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
