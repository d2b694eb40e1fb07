"""The base network, which knows neither robot nor ground, and what it gets wrong."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dmcm.learner import Learner
from dmcm.models import load_learner
from dmcm.quadruped.data.windows import Windows
from dmcm.quadruped.dynamics.cells import Cells
from dmcm.quadruped.dynamics.methods import BASE
from dmcm.quadruped.dynamics.sampler import CellSampler
from dmcm.studies import run_cell


def train_base(
    cells: Cells, folder: Path, *, steps: int, seed: int, about: Sequence[Any] = (), progress: bool = True
) -> Learner:
    """The network that knows neither robot nor ground, from a finished run or newly trained.

    Args:
        cells: it learns from their seen pairs.
        folder: its run folder.
        steps: outer steps.
        seed: for initial weights and of training batches.
        about: JSON values that identify the cells; a finished run with other values is refused.
        progress: show a progress bar.

    Raises:
        DmcmError: as `run_cell`.
    """
    sampler = CellSampler(cells, cells.windows.y, cells.of("seen_pair"))
    run_cell(
        BASE, seed, sampler, folder, lambda _: {}, steps=steps, precision=1.0, about=about, progress=progress
    )
    return load_learner(folder / "model.safetensors")


def base_errors(windows: Windows, base: Learner) -> np.ndarray:
    """What the base network gets wrong, shape (cells, 2, samples, outputs); 0 where there is no sample."""
    flat = windows.x.reshape(-1, windows.x.shape[-1])
    contexts = base.prior_contexts()
    parts = [
        np.asarray(base.predict(contexts, part)) for part in np.array_split(flat, max(1, len(flat) // 65_536))
    ]
    wrong = windows.y - np.concatenate(parts).reshape(windows.y.shape)
    return np.where(windows.real[..., None], wrong, 0).astype(np.float32)
