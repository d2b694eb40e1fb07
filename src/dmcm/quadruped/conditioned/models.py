"""The frozen dynamics models that make the vectors."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from dmcm.errors import StorageError
from dmcm.learner import Learner
from dmcm.models import load_learner
from dmcm.quadruped.data.windows import Windows
from dmcm.quadruped.dynamics.base import base_errors
from dmcm.quadruped.dynamics.cells import LEAST_SAMPLES
from dmcm.quadruped.dynamics.evaluation import adapt_cells


@dataclasses.dataclass(frozen=True)
class Model:
    """A base network and what explains its errors."""

    base: Learner
    learner: Learner

    def vectors(self, windows: Windows, which: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """Vectors of cells from the first part of their recordings.

        Args:
            windows: all cells' samples.
            which: numbers of cells, shape (n,); all by default.

        Returns:
            Per factor one row a cell, shape (n, size): the prior mean for recordings of little but falls.
        """
        which = np.arange(len(windows.count)) if which is None else which
        count = windows.count[which, 0]
        told = np.flatnonzero(count >= LEAST_SAMPLES)
        unknown = self.learner.prior_contexts()
        found = {name: np.tile(np.asarray(value), (len(count), 1)) for name, value in unknown.values.items()}
        if len(told):
            wrong = base_errors(windows, self.base)
            contexts = adapt_cells(self.learner, windows, wrong, which[told])
            for name, value in contexts.values.items():
                found[name][told] = value
        return found


def dynamics_model(folder: Path, method: str, seed: int) -> Model:
    """A model of a comparison.

    Args:
        folder: of `dmcm quadruped dynamics`.
        method: name of the learner.
        seed: of the learner and its base network.

    Raises:
        StorageError: a model that is missing or damaged.
    """
    return Model(*(load_learner(_trained(folder, name, seed)) for name in ("base", method)))


def _trained(folder: Path, method: str, seed: int) -> Path:
    path = folder / method / f"seed-{seed}" / "model.safetensors"
    if not path.exists():
        raise StorageError(
            f"there is no model {path}. Train it: dmcm quadruped dynamics --seeds {seed + 1} --out {folder}"
        )
    return path
