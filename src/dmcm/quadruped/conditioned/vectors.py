"""Vectors of all cells of a collection, made by frozen dynamics models and stored in a bank."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from dmcm.bank import ContextBank
from dmcm.contexts import Contexts
from dmcm.learner import Learner
from dmcm.quadruped.data.collection import Collection
from dmcm.quadruped.data.grid import Grid
from dmcm.quadruped.dynamics.cells import Cells
from dmcm.quadruped.dynamics.log_fit import cell_vectors
from dmcm.quadruped.dynamics.model import DynamicsModel


def cell_name(grid: Grid, cell: int | np.integer) -> str:
    """Name of a cell's entries in a bank: `robot-012.stairs_up-0.08`."""
    found = grid.cells[cell]
    return f"robot-{found.robot:03d}.{grid.terrains[found.terrain].label}"


def fill_bank(
    bank: ContextBank, model: DynamicsModel, collection: Collection, cells: Cells, which: np.ndarray
) -> None:
    """Adapt to the first half of each cell's recording and store the vectors that the bank lacks.

    Args:
        bank: where to store them.
        model: makes the vectors.
        collection: the recordings.
        cells: their samples.
        which: numbers of cells, shape (n,).

    Raises:
        StorageError: a file cannot be written.
    """
    learner, grid = model.learner, collection.grid
    source = f"first half of a recording of data {collection.digest[:12]}"
    entries = bank.entries() if bank.path.is_dir() else []
    there = {
        (entry.factor, entry.name)
        for entry in entries
        if (entry.model, entry.source) == (learner.fingerprint(), source)
    }
    missing = [c for c in which if not all((f, cell_name(grid, c)) in there for f in learner.factors)]
    if not missing:
        return
    vectors = cell_vectors(model, cells.windows, np.array(missing))
    for row, cell in enumerate(missing):
        values = {name: jnp.asarray(value[row]) for name, value in vectors.items()}
        one = Contexts(values, learner.fingerprint())
        name = cell_name(grid, cell)
        count = int(cells.windows.count[cell, 0])
        bank.save(name, one, learner, source=source, samples=count, overwrite=True)


def read_bank(bank: ContextBank, learner: Learner, grid: Grid, which: np.ndarray) -> dict[str, np.ndarray]:
    """Vectors of cells, one row each, shape (n, size) per factor.

    Raises:
        BankError: an entry that is missing, damaged, or of another model.
        FactorError: a factor that the bank lacks.
    """
    names = [cell_name(grid, cell) for cell in which]
    return {factor: np.asarray(bank.load_many(factor, names, learner)[factor]) for factor in learner.factors}
