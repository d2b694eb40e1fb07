"""All grounds of an experiment side by side, so that one model serves robots on any of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dmcm.errors import ConfigError, unknown_name
from dmcm.quadruped.body.robot_table import RobotTable
from dmcm.quadruped.world.terrain import Terrain

MARGIN_M = 1.0
"""Width of ground beyond a period on all sides: a robot that is moved back by a period never sees the
edge."""


class Arena:
    """A row of tiles along y, one per terrain, each with a period of it and a margin.

    A robot that walks a period further is moved back by one, and up or down by the ground's rise: it cannot
    notice, so its ground never ends.

    Attributes:
        terrains: the grounds, in the order of tile numbers.
        period_m: shape (tiles, 2).
        rise_m: shape (tiles,), per period along x.
        corner_m: where each tile's period starts in the world, x and y, shape (tiles, 2).
        friction: shape (tiles,).
    """

    def __init__(self, terrains: Sequence[Terrain]):
        """Lay out the grounds.

        Raises:
            ConfigError: no terrain, one that cannot be built, or two equal ones.
        """
        if not terrains:
            raise ConfigError("an arena needs at least one terrain.")
        self.terrains = tuple(terrain.check() for terrain in terrains)
        labels = [terrain.label for terrain in self.terrains]
        if len(set(labels)) < len(labels):
            twice = next(label for label in labels if labels.count(label) > 1)
            raise ConfigError(f"terrain {twice} is in the arena twice.")
        self.period_m = np.array([terrain.period_m for terrain in self.terrains])
        self.rise_m = np.array([terrain.rise_m for terrain in self.terrains])
        self.friction = np.array([terrain.friction for terrain in self.terrains])
        widths = self.period_m[:, 1] + 2 * MARGIN_M
        starts = np.concatenate([[0.0], np.cumsum(widths)[:-1]])
        self.corner_m = np.stack([np.zeros(len(widths)), starts + MARGIN_M], axis=1)

    def check_tiles(self, tiles: np.ndarray) -> None:
        """Raise `ConfigError` unless all are numbers of tiles."""
        if np.size(tiles) and not 0 <= np.min(tiles) <= np.max(tiles) < len(self.terrains):
            raise ConfigError(f"tiles must be numbers from 0 to {len(self.terrains) - 1}.")

    def tile(self, terrain: Terrain | str) -> int:
        """Number of a terrain's tile.

        Raises:
            ConfigError: it is not in this arena.
        """
        labels = [known.label for known in self.terrains]
        label = terrain if isinstance(terrain, str) else terrain.label
        if label not in labels:
            raise ConfigError(unknown_name("terrain in this arena", label, labels))
        return labels.index(label)

    def height(self, tile: np.ndarray, xy_m: np.ndarray) -> np.ndarray:
        """Ground height below world points.

        Args:
            tile: tile numbers, shape (n,).
            xy_m: shape (n, ..., 2).

        Returns:
            Metres, shape (n, ...).
        """
        heights = np.empty(xy_m.shape[:-1])
        for number in np.unique(tile):
            on = tile == number
            local = xy_m[on] - self.corner_m[number]
            heights[on] = self.terrains[number].height(local[..., 0], local[..., 1])
        return heights

    def height_under(self, tile: np.ndarray, xy_m: np.ndarray, table: RobotTable) -> np.ndarray:
        """Highest ground below robots that stand at world points along the axes.

        Args:
            tile: tile numbers, shape (n,).
            xy_m: shape (n, 2).
            table: the robots' facts.

        Returns:
            Metres, shape (n,).
        """
        x, y = table.hip_position_m
        reach = np.array([[i * x, j * (y + table.hip_offset_m)] for i in (-1, 0, 1) for j in (-1, 0, 1)])
        return self.height(tile, xy_m[:, None] + reach).max(axis=1)

    def wrap(self, tile: np.ndarray, xy_m: np.ndarray) -> np.ndarray:
        """Shifts that move robots back to their tile's period.

        Args:
            tile: tile numbers, shape (n,).
            xy_m: world positions, shape (n, 2).

        Returns:
            Shifts to add to the positions, shape (n, 3), metres.
        """
        periods = np.floor((xy_m - self.corner_m[tile]) / self.period_m[tile])
        shift = -periods * self.period_m[tile]
        return np.concatenate([shift, (-periods[:, 0] * self.rise_m[tile])[:, None]], axis=1)
