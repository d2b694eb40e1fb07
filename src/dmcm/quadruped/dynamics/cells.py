"""One robot on one ground is a cell: its samples, and the truth about it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from dmcm.quadruped.body.properties import TRAINING_RANGES, RobotProperties
from dmcm.quadruped.data.collection import Collection
from dmcm.quadruped.data.windows import Windows
from dmcm.quadruped.world.terrain import KINDS, Terrain

ROBOT, TERRAIN = "robot", "terrain"
"""Names of the factors."""
LEAST_SAMPLES = 20
"""Cells with fewer samples in either half are left out: their robot did little but fall."""

TRUE_ROBOT = tuple(TRAINING_RANGES)
"""Properties that differ between robots, as given to the oracle."""
TRUE_TERRAIN = (*KINDS, "size", "friction")
"""What the oracle is given about a ground."""


@dataclasses.dataclass(frozen=True, eq=False)
class Cells:
    """All cells' samples and the truth about them.

    Attributes:
        windows: the samples.
        robot: number of each cell's robot, shape (cells,).
        terrain: number of each cell's ground, shape (cells,).
        split: name of each cell's split, shape (cells,).
        truth: standardised properties of the robot and features of the ground, per factor (cells, size).
        sound: cells with enough samples in both halves, shape (cells,).
    """

    windows: Windows
    robot: np.ndarray
    terrain: np.ndarray
    split: np.ndarray
    truth: dict[str, np.ndarray]
    sound: np.ndarray

    def of(self, split: str) -> np.ndarray:
        """Numbers of a split's sound cells."""
        return np.flatnonzero((self.split == split) & self.sound)


def robot_truth(robots: Sequence[RobotProperties]) -> np.ndarray:
    """What the oracle is given about robots, shape (n, size): training ranges become −1 to 1."""
    low, high = np.array([TRAINING_RANGES[name] for name in TRUE_ROBOT]).T
    properties = np.array([[getattr(robot, name) for name in TRUE_ROBOT] for robot in robots])
    return (2 * (properties - low) / (high - low) - 1).astype(np.float32)


def terrain_truth(terrains: Sequence[Terrain]) -> np.ndarray:
    """What the oracle is given about grounds, shape (n, size): their kind as 0 or 1, size and friction."""
    rows = [
        [*(float(t.kind == kind) for kind in KINDS), 10 * t.size, 4 * (t.friction - 0.8)] for t in terrains
    ]
    return np.array(rows, np.float32)


def describe_cells(collection: Collection, windows: Windows) -> Cells:
    """Put samples and truth together."""
    grid = collection.grid
    robot = np.array([cell.robot for cell in grid.cells])
    terrain = np.array([cell.terrain for cell in grid.cells])
    return Cells(
        windows,
        robot,
        terrain,
        np.array([cell.split for cell in grid.cells]),
        {
            ROBOT: robot_truth(grid.robots)[robot],
            TERRAIN: terrain_truth(grid.terrains)[terrain],
        },
        windows.count.min(axis=1) >= LEAST_SAMPLES,
    )
