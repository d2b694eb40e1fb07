"""Collections, cut into shards that can be simulated anywhere and in any order."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dmcm.errors import ConfigError
from dmcm.quadruped.body.robot_table import load_robot
from dmcm.quadruped.data.grid import Cell, Grid, GridConfig, make_grid
from dmcm.quadruped.data.recording import record
from dmcm.quadruped.walking.commands import CommandRanges
from dmcm.quadruped.walking.environment import WalkConfig
from dmcm.quadruped.walking.policy import POLICY, Policy, load_walker
from dmcm.quadruped.world.arena import Arena

SHARD_CELLS = 64
"""Cells simulated together and kept in one file."""


@dataclasses.dataclass(frozen=True)
class CollectConfig:
    """What to collect."""

    robot: str = "go1"
    """Name of a robot, or path of its table."""
    grid: GridConfig = dataclasses.field(default_factory=GridConfig)
    """Robots, grounds and pairs."""
    seconds: float = 40.0
    """Length of each cell's recording: the first half to adapt to, the second to predict."""
    exploration: float = 0.25
    """Standard deviation of the noise added to the policy's actions; in units of actions, not angles."""
    commands: CommandRanges = dataclasses.field(
        default_factory=lambda: CommandRanges(
            forward_m_s=(0.0, 0.9), left_m_s=(-0.2, 0.2), heading_rad=(-0.2, 0.2), keep_heading=1.0
        )
    )
    """Ranges of commands; the same on all grounds, so that a command does not give the ground away."""
    policy: Path = POLICY
    """The policy used in all cells: a different one per cell would confound robot and ground."""
    seed: int = 0
    """Seed for commands, starts and exploration; `grid.seed` draws robots and pairs."""

    def check(self) -> CollectConfig:
        """Return self, or raise `ConfigError` for settings out of range."""
        self.grid.check()
        self.commands.check()
        if not 4.0 <= self.seconds <= 600:
            raise ConfigError(f"seconds={self.seconds} must lie between 4 and 600.")
        if not 0 <= self.exploration < np.inf:
            raise ConfigError(f"exploration={self.exploration} must be a finite number, not negative.")
        if self.seed < 0 or self.grid.seed < 0:
            raise ConfigError(f"seed={self.seed} and grid.seed={self.grid.seed} must not be negative.")
        return self


def shard_cells(config: CollectConfig) -> list[tuple[Cell, ...]]:
    """The cells of each shard; they depend on the configuration alone."""
    cells = make_grid(config.grid).cells
    return [cells[start : start + SHARD_CELLS] for start in range(0, len(cells), SHARD_CELLS)]


def collect_shard(config: CollectConfig, number: int, *, threads: int = 0) -> np.ndarray:
    """Simulate a shard's cells, shape (cells, steps, columns); equal machines give equal bits.

    Raises:
        DmcmError: a robot, policy or setting that cannot be used.
    """
    policy, _ = load_walker(config.policy, config.robot, load_robot(config.robot))
    grid, cells = make_grid(config.grid), shard_cells(config)[number]
    return record_cells(config, policy, grid, cells, number, threads=threads)


def record_cells(
    config: CollectConfig,
    policy: Policy,
    grid: Grid,
    cells: Sequence[Cell],
    number: int = 0,
    *,
    threads: int = 0,
) -> np.ndarray:
    """Simulate cells of a grid in one batch, shape (cells, steps, columns).

    Args:
        config: settings; its own grid and policy are not used.
        policy: walks all robots.
        grid: robots and grounds.
        cells: which robot is on which ground.
        number: of the batch; each has its own random numbers.
        threads: physics threads; 0 means one per core.
    """
    return record(
        policy,
        load_robot(config.robot),
        [grid.robots[cell.robot] for cell in cells],
        Arena(grid.terrains),
        [cell.terrain for cell in cells],
        # Long enough that episodes end only by falls.
        WalkConfig(episode_s=config.seconds + 1, commands=config.commands),
        seconds=config.seconds,
        exploration=config.exploration,
        seed=(config.seed, number),
        threads=threads,
    )
