"""Where vectors for a cell come from when nothing may come from the cell itself."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from dmcm.quadruped.data.grid import HOME_TILE
from dmcm.quadruped.dynamics.cells import Cells

_ROBOT_POOL = {
    "seen_pair": ("seen_pair",),
    "unseen_pair": ("seen_pair",),
    "ood_robot": ("ood_robot",),
    "ood_terrain": ("seen_pair",),
    "ood_both": ("ood_robot",),
}
_TERRAIN_POOL = {
    "seen_pair": ("seen_pair",),
    "unseen_pair": ("seen_pair",),
    "ood_robot": ("seen_pair",),
    "ood_terrain": ("ood_terrain",),
    "ood_both": ("ood_terrain",),
}


def robot_donors(cells: Cells, targets: np.ndarray) -> np.ndarray:
    """For each cell, one of the same robot on another ground: flat or the first available; −1 for none.

    Donors are training cells, or for robots from outside training their cells on the training grounds.

    Args:
        cells: all cells.
        targets: numbers of the cells to be predicted, shape (n,).

    Returns:
        Numbers of the donors, shape (n,).
    """
    donors = np.full(len(targets), -1)
    for i, target in enumerate(targets):
        found = _found(cells, target, _ROBOT_POOL, cells.robot, cells.terrain)
        flat = found[cells.terrain[found] == HOME_TILE]
        donors[i] = flat[0] if len(flat) else found[0] if len(found) else -1
    return donors


def terrain_donors(cells: Cells, targets: np.ndarray) -> np.ndarray:
    """For each cell, one on the same ground with another robot, from training; −1 for none.

    Args:
        cells: all cells.
        targets: numbers of the cells to be predicted, shape (n,).

    Returns:
        Numbers of the donors, shape (n,).
    """
    donors = np.full(len(targets), -1)
    for i, target in enumerate(targets):
        found = _found(cells, target, _TERRAIN_POOL, cells.terrain, cells.robot)
        donors[i] = _one_of(found, [int(target), 1])
    return donors


def strangers(cells: Cells, targets: np.ndarray) -> np.ndarray:
    """For each cell, a seen pair of another robot and another ground, with wrong vectors; −1 for none.

    Args:
        cells: all cells.
        targets: numbers of the cells to be predicted, shape (n,).

    Returns:
        Numbers of the strangers, shape (n,).
    """
    drawn, seen = np.full(len(targets), -1), cells.of("seen_pair")
    for i, target in enumerate(targets):
        other = (cells.robot[seen] != cells.robot[target]) & (cells.terrain[seen] != cells.terrain[target])
        drawn[i] = _one_of(seen[other], [int(target), 2])
    return drawn


def _one_of(found: np.ndarray, draw: list[int]) -> int:
    """A random one, or −1; with a generator per target and purpose, so that calls are independent."""
    return int(np.random.default_rng(draw).choice(found)) if len(found) else -1


def _found(
    cells: Cells,
    target: int | np.integer,
    pool: Mapping[str, tuple[str, ...]],
    shared: np.ndarray,
    differs: np.ndarray,
) -> np.ndarray:
    """Sound cells of the pool that share one factor with the target, and not the other."""
    allowed = cells.sound & np.isin(cells.split, pool[str(cells.split[target])])
    return np.flatnonzero(allowed & (shared == shared[target]) & (differs != differs[target]))
