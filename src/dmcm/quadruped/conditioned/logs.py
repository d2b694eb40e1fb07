"""Logs: twenty seconds of robots on grounds, cut into samples to adapt to."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dmcm.quadruped.body.properties import RobotProperties
from dmcm.quadruped.body.robot_table import RobotTable
from dmcm.quadruped.data.recording import record
from dmcm.quadruped.data.shards import CollectConfig
from dmcm.quadruped.data.windows import WindowConfig, Windows, cut
from dmcm.quadruped.walking.environment import WalkConfig
from dmcm.quadruped.walking.policy import Policy
from dmcm.quadruped.world.arena import Arena
from dmcm.quadruped.world.physics import PhysicsMaker
from dmcm.quadruped.world.simulation import Simulation
from dmcm.quadruped.world.terrain import Terrain

SECONDS = 20.0
"""Length of a log."""


def log_recording(
    policy: Policy,
    table: RobotTable,
    robots: Sequence[RobotProperties],
    terrains: Sequence[Terrain],
    *,
    seed: Sequence[int],
    seconds: float = SECONDS,
    physics: PhysicsMaker = Simulation,
    threads: int = 0,
) -> np.ndarray:
    """Let robots walk as in the training data.

    Args:
        policy: the one that collected the training data.
        table: the robot's facts.
        robots: n bodies.
        terrains: n grounds.
        seed: for commands, starts and exploration.
        seconds: length.
        physics: creates the physics engine.
        threads: physics threads; 0 means one per core.

    Returns:
        Shape (n, steps, columns), see `data.recording.COLUMNS`.
    """
    usual, grounds = CollectConfig(), list(dict.fromkeys(terrains))
    return record(
        policy,
        table,
        robots,
        Arena(grounds),
        [grounds.index(terrain) for terrain in terrains],
        WalkConfig(episode_s=seconds + 1, commands=usual.commands),
        seconds=seconds,
        exploration=usual.exploration,
        seed=seed,
        physics=physics,
        threads=threads,
    )


def log_samples(
    policy: Policy,
    table: RobotTable,
    robots: Sequence[RobotProperties],
    terrains: Sequence[Terrain],
    *,
    seed: Sequence[int],
    threads: int = 0,
) -> Windows:
    """As `log_recording`, cut into samples."""
    data = log_recording(policy, table, robots, terrains, seed=seed, threads=threads)
    return cut(data, WindowConfig(), parts=1)
