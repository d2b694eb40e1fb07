"""Which robots are recorded on which grounds: a sparse, connected grid for training, and held-out cells."""

from __future__ import annotations

import dataclasses

import numpy as np

from dmcm.errors import ConfigError
from dmcm.quadruped.body.properties import RobotProperties, draw_ood_robots, draw_robots
from dmcm.quadruped.world.terrain import OOD_TERRAINS, TRAINING_TERRAINS, Terrain

SPLITS = ("seen_pair", "unseen_pair", "ood_robot", "ood_terrain", "ood_both")
"""Pairs seen in training; pairs whose robot and ground were each seen in training, but never together;
robots, grounds, or both from outside training."""
HOME_TILE = 0
"""Flat ground. Every robot has data there, including those from outside training; the reference robot has
data on every ground."""

_ON_OOD_GROUNDS = 12
"""Number of training robots that are also recorded on the grounds from outside training."""


@dataclasses.dataclass(frozen=True)
class Cell:
    """One robot on one ground."""

    robot: int
    """Number in `Grid.robots`."""
    terrain: int
    """Number in `Grid.terrains`."""
    split: str
    """One of `SPLITS`."""


@dataclasses.dataclass(frozen=True)
class GridConfig:
    """Size and sparseness of the grid."""

    robots: int = 96
    """Number of training robots."""
    ood_robots: int = 12
    """Number of robots from outside the training ranges."""
    coverage: float = 0.6
    """Fraction of all pairs of training robots and grounds that training sees."""
    unseen_pairs: int = 250
    """How many of the remaining pairs are collected for testing; all if there are fewer."""
    seed: int = 0
    """Seed for drawing robots and pairs."""

    def check(self) -> GridConfig:
        """Return self, or raise `ConfigError` for settings out of range."""
        if self.robots < 2 or self.ood_robots < 0:
            raise ConfigError(
                f"robots={self.robots} must be at least 2, ood_robots={self.ood_robots} at least 0."
            )
        if self.unseen_pairs < 0:
            raise ConfigError(f"unseen_pairs={self.unseen_pairs} must not be negative.")
        if not 0 < self.coverage <= 1:
            raise ConfigError(f"coverage={self.coverage} must lie in (0, 1].")
        return self


@dataclasses.dataclass(frozen=True)
class Grid:
    """Robots, grounds, and the cells that are collected."""

    robots: tuple[RobotProperties, ...]
    """Training ones first."""
    terrains: tuple[Terrain, ...]
    """Training ones first."""
    cells: tuple[Cell, ...]
    """All cells in order."""


def make_grid(config: GridConfig) -> Grid:
    """Draw robots and pairs.

    Every training robot is recorded on flat ground and every training ground shares a robot with the rest, so
    the seen pairs are connected. Robots from outside training are recorded on all training grounds. Grounds
    from outside training get a dozen training robots and all robots from outside.
    """
    config = config.check()
    rng = np.random.default_rng([config.seed, 0])
    robots = draw_robots(rng, config.robots) + draw_ood_robots(rng, config.ood_robots)
    grounds = len(TRAINING_TERRAINS)
    seen = rng.random((config.robots, grounds)) < config.coverage
    seen[:, HOME_TILE] = True
    seen[0] = True
    kept = seen.copy()
    kept.flat[rng.permutation(np.flatnonzero(~seen))[: config.unseen_pairs]] = True
    cells = [
        Cell(robot, terrain, "seen_pair" if seen[robot, terrain] else "unseen_pair")
        for robot, terrain in np.argwhere(kept).tolist()
    ]
    outside = range(config.robots, len(robots))
    cells += [Cell(robot, terrain, "ood_robot") for robot in outside for terrain in range(grounds)]
    harder = range(grounds, grounds + len(OOD_TERRAINS))
    known = range(0, config.robots, max(1, config.robots // _ON_OOD_GROUNDS))[:_ON_OOD_GROUNDS]
    cells += [Cell(robot, terrain, "ood_terrain") for robot in known for terrain in harder]
    cells += [Cell(robot, terrain, "ood_both") for robot in outside for terrain in harder]
    return Grid(tuple(robots), TRAINING_TERRAINS + OOD_TERRAINS, tuple(cells))
