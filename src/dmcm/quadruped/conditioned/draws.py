"""Cells drawn for training, and what a policy is given in each."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from dmcm.quadruped.dynamics.cells import ROBOT, TERRAIN


@dataclasses.dataclass(frozen=True, eq=False)
class Draw:
    """n drawn cells, and the cells whose vectors stand for their robots and grounds."""

    rows: np.ndarray
    """Row of each in the list of cells, shape (n,)."""
    donors: Mapping[str, np.ndarray]
    """Rows of cells with the same robot, and of cells with the same ground, by factor, shape (n,) each."""


def draw_cells(robot: np.ndarray, terrain: np.ndarray, count: int, rng: np.random.Generator) -> Draw:
    """Draw cells and donors, both with equal chances.

    Args:
        robot: number of the robot of each cell in the list, shape (cells,).
        terrain: number of its ground, shape (cells,).
        count: how many to draw.
        rng: for all draws.
    """
    rows = rng.integers(0, len(robot), count)
    donors = {
        factor: np.array([rng.choice(np.flatnonzero(labels == labels[row])) for row in rows])
        for factor, labels in ((ROBOT, robot), (TERRAIN, terrain))
    }
    return Draw(rows, donors)


def given_in(
    draw: Draw,
    kinds: Sequence[str],
    vectors: Mapping[str, np.ndarray],
    noise: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """What a policy is given in drawn cells, shape (n, size); no columns without kinds.

    A robot's vector and a ground's come from their donors, so that policies learn from mixed vectors; any
    other is the cell's own.

    Args:
        draw: the cells.
        kinds: of vectors, in order.
        vectors: per kind one row per cell in the list, shape (cells, size).
        noise: standard deviation of the noise added to each number, as a share of its spread over cells.
        rng: for the noise.
    """
    parts = [np.zeros((len(draw.rows), 0))]
    for kind in kinds:
        values = vectors[kind]
        found = values[draw.donors.get(kind, draw.rows)]
        parts.append(found + noise * values.std(axis=0) * rng.normal(size=found.shape))
    return np.concatenate(parts, axis=1)
