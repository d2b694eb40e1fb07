"""Vectors of grounds from simulation, for robots that were never logged there."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import jax.numpy as jnp

from dmcm.contexts import Contexts
from dmcm.errors import DataError
from dmcm.quadruped.body.properties import nominal
from dmcm.quadruped.body.robot_table import RobotTable
from dmcm.quadruped.conditioned.logs import log_samples
from dmcm.quadruped.dynamics.cells import LEAST_SAMPLES, TERRAIN
from dmcm.quadruped.dynamics.log_fit import cell_vectors
from dmcm.quadruped.dynamics.model import DynamicsModel
from dmcm.quadruped.walking.policy import Policy
from dmcm.quadruped.world.terrain import Terrain


@dataclasses.dataclass(frozen=True, eq=False)
class GroundFit:
    """A ground's vector."""

    ground: Terrain
    """Which."""
    contexts: Contexts
    """Its vector, the factor `terrain` alone."""
    samples: int
    """Samples that it was fitted to."""


def simulated_log(robot: str, ground: Terrain) -> str:
    """What a bank says about a ground's vector that comes from simulation.

    Args:
        robot: name of its table.
        ground: which.
    """
    return f"simulated log of the nominal {robot} on {ground.label}"


def fit_grounds(
    model: DynamicsModel, policy: Policy, table: RobotTable, grounds: Sequence[Terrain], *, seed: int = 0
) -> list[GroundFit]:
    """Simulate the nominal robot for 20 s on each ground, and adapt to it.

    Args:
        model: makes the vectors.
        policy: the one that collected the training data.
        table: the robot's facts.
        grounds: at least one.
        seed: for commands and starts.

    Raises:
        DataError: grounds on which the nominal robot keeps falling.
        ConfigError: no ground, or two that are the same.
    """
    robots = [nominal(table)] * len(grounds)
    windows = log_samples(policy, table, robots, grounds, seed=(seed, 14))
    counts = windows.count[:, 0].tolist()
    if falls := [g.label for g, count in zip(grounds, counts, strict=True) if count < LEAST_SAMPLES]:
        raise DataError(
            f"the nominal robot cannot walk on {', '.join(falls)}, which therefore cannot have a vector. "
            "Leave that out, or choose easier ground."
        )
    vectors, made_by = cell_vectors(model, windows)[TERRAIN], model.learner.fingerprint()
    return [
        GroundFit(ground, Contexts({TERRAIN: jnp.asarray(row)}, made_by), count)
        for ground, row, count in zip(grounds, vectors, counts, strict=True)
    ]
