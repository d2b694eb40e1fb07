"""Dynamics models that know robot from ground: their data, the methods compared, how a seed is trained.

A base network first predicts what any robot on any ground does; contexts then explain what it gets wrong,
each output in units of the base network's error. So no context is spent on what is common to all, and
outputs of little noise count for much.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from dmcm.learner import Learner
from dmcm.models import load_learner
from dmcm.quadruped.collection import Collection
from dmcm.quadruped.properties import TRAINING_RANGES
from dmcm.quadruped.terrain import KINDS
from dmcm.quadruped.windows import STATE_SIZE, Windows, disturb
from dmcm.samplers import with_donors
from dmcm.samples import Batch, Samples
from dmcm.scaling import Scaler
from dmcm.studies import Method, run_cell

ROBOT, TERRAIN = "robot", "terrain"
SIZES: Mapping[str, int] = {ROBOT: 6, TERRAIN: 4}
"""Numbers in each context; a single context has as many as both together."""
SHOTS, QUERIES = 48, 32
"""Support and query samples a cell in training."""
ANCHORS = 6
"""Cells a batch, each with a donor for the robot and one for the ground."""
NOISE = 0.1
"""Noise on the past states of query samples, in standard deviations. Roll-outs feed a model its own errors; a
model that has met some leads back from them (Sanchez-Gonzalez et al. 2020, arXiv 2002.09405)."""
LEAST_SAMPLES = 20
"""Cells with fewer samples in either half are left out: their robot did little but fall."""

TRUE_ROBOT = tuple(TRAINING_RANGES)
"""Properties that differ between robots, as the oracle is told."""
TRUE_TERRAIN = (*KINDS, "size", "friction")
"""What the oracle is told of a ground."""

_TENSOR: dict[str, Any] = {"kind": "tensor_product", "width": 128, "activation": "silu"}
_LM: dict[str, Any] = {
    "kind": "levenberg_marquardt",
    "steps": 16,
    "training_steps": 4,
    "condensed": True,
}
_ENCODER: dict[str, Any] = {"kind": "set_encoder", "width": 96}
_ONE = {"cell": sum(SIZES.values())}
_NOISY: dict[str, Any] = {"outlier_scale": None, "clip": 1.0, "learning_rate": 3e-3}
"""Data with noise: every error counts in full."""
_MIXED: dict[str, Any] = {"recombination": 4.0, "omission": 1.0}
"""Vectors are to be mixed, and either to be left out."""

METHODS: Mapping[str, Method] = {
    "dmcm": Method("DMCM: tensor product, LM, recombined", _TENSOR, _LM, SIZES, **_MIXED, **_NOISY),
    "single": Method("single context, same network and solver", _TENSOR, _LM, _ONE, 0.0, **_NOISY),
    "history": Method("encoder of all samples, one vector", _TENSOR, _ENCODER, _ONE, 0.0, **_NOISY),
    "encoders": Method("encoder per factor, recombined", _TENSOR, _ENCODER, SIZES, **_MIXED, **_NOISY),
    "oracle": Method(
        "oracle: true properties and ground",
        {"kind": "concat", "width": 256, "activation": "silu"},
        {"kind": "oracle", "scales": {ROBOT: 1.0, TERRAIN: 1.0}},
        {ROBOT: len(TRUE_ROBOT), TERRAIN: len(TRUE_TERRAIN)},
        0.0,
        **(_NOISY | {"learning_rate": 1e-3}),
    ),
}
"""Methods that learn what the base network gets wrong. "none" is the base network alone."""
BASE = Method(
    "one model for all",
    {"kind": "concat", "width": 256, "activation": "silu"},
    {"kind": "none"},
    {"all": 1},
    0.0,
    **(_NOISY | {"learning_rate": 1e-3}),
)
"""The base network."""


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


def describe_cells(collection: Collection, windows: Windows) -> Cells:
    """Put samples and truth together."""
    grid = collection.grid
    robot = np.array([cell.robot for cell in grid.cells])
    terrain = np.array([cell.terrain for cell in grid.cells])
    low, high = np.array([TRAINING_RANGES[name] for name in TRUE_ROBOT]).T
    properties = np.array([[getattr(r, name) for name in TRUE_ROBOT] for r in grid.robots])
    ground = np.array(
        [
            [*(float(t.kind == kind) for kind in KINDS), 10 * t.size, 4 * (t.friction - 0.8)]
            for t in grid.terrains
        ]
    )
    return Cells(
        windows,
        robot,
        terrain,
        np.array([cell.split for cell in grid.cells]),
        {
            ROBOT: (2 * (properties - low) / (high - low) - 1)[robot].astype(np.float32),
            TERRAIN: ground[terrain].astype(np.float32),
        },
        windows.count.min(axis=1) >= LEAST_SAMPLES,
    )


class CellSampler(eqx.Module):
    """Batches for `fit`: random cells, each with a donor per factor, samples of either half.

    Queries have noise; what they ask for leads back to the true next state.

    Attributes:
        x: inputs, shape (cells, 2, samples, inputs).
        y: outputs, shape (cells, 2, samples, outputs).
        count: samples of each half, shape (cells, 2).
        labels: per factor, a number a cell.
        truth: per factor, true values, shape (cells, size).
        moments: standardisation.
        history: control steps of the past in each input.
        base: the network whose errors are to be learned, or None.
    """

    x: Float[Array, "cells halves samples inputs"]
    y: Float[Array, "cells halves samples outputs"]
    count: Int[Array, "cells halves"]
    labels: dict[str, Int[Array, " cells"]]
    truth: dict[str, Float[Array, "cells _"]]
    moments: Scaler
    history: int = eqx.field(static=True)
    base: Learner | None

    def __init__(self, cells: Cells, y: np.ndarray, only: np.ndarray, *, base: Learner | None = None):
        """Keep training cells.

        Args:
            cells: all cells.
            y: outputs to learn, shape (cells, 2, samples, outputs).
            only: numbers of the cells to learn from.
            base: the network that y are the errors of; None if they are outputs.
        """
        windows = cells.windows
        self.x, self.y = jnp.asarray(windows.x[only]), jnp.asarray(y[only])
        self.count = jnp.asarray(windows.count[only])
        self.labels = {ROBOT: jnp.asarray(cells.robot[only]), TERRAIN: jnp.asarray(cells.terrain[only])}
        self.truth = {name: jnp.asarray(values[only]) for name, values in cells.truth.items()}
        real = windows.real[only]
        self.moments = Scaler.from_samples(windows.x[only][real], y[only][real])
        self.history, self.base = windows.history, base

    def scaler(self) -> Scaler:
        """Standardisation measured on all samples."""
        return self.moments

    def sample(self, key: PRNGKeyArray) -> Batch:
        """One batch; see the class."""
        anchor_key, support_key, query_key, noise_key, *donor_keys = jax.random.split(
            key, 4 + len(self.labels)
        )
        cells = self.x.shape[0]
        anchors = jax.random.choice(anchor_key, cells, (min(ANCHORS, cells),), replace=False)
        index = with_donors(anchors, self.labels, donor_keys)
        return Batch(
            support=self._draw(index, 0, SHOTS, support_key),
            query=self._disturbed(self._draw(index, 1, QUERIES, query_key), noise_key),
            task=index,
            labels={name: codes[index] for name, codes in self.labels.items()},
            valid=jnp.ones(index.shape, bool),
            values={name: values[index] for name, values in self.truth.items()},
        )

    def _draw(self, index: Array, half: int, samples: int, key: PRNGKeyArray) -> Samples:
        share = jax.random.uniform(key, (index.shape[0], samples))
        at = jnp.floor(share * self.count[index, half][:, None]).astype(int)
        rows = index[:, None]
        return Samples(self.x[rows, half, at], self.y[rows, half, at], jnp.ones(at.shape))

    def _disturbed(self, samples: Samples, key: PRNGKeyArray) -> Samples:
        state = (self.history, STATE_SIZE)
        spread = self.moments.x_std[: math.prod(state)].reshape(state)
        noise = NOISE * spread * jax.random.normal(key, (*samples.weight.shape, *state))
        x, y = disturb(samples.x, samples.y, noise)
        if self.base is not None:
            nothing = self.base.prior_contexts()
            before, after = (
                self.base.predict(nothing, inputs.reshape(-1, inputs.shape[-1])) for inputs in (samples.x, x)
            )
            y = y + (before - after).reshape(y.shape)
        return Samples(x, y, samples.weight)


def train_base(cells: Cells, folder: Path, *, steps: int, seed: int, progress: bool = True) -> Learner:
    """The network that knows neither robot nor ground, from a finished run or trained.

    Raises:
        DmcmError: as `run_cell`.
    """
    sampler = CellSampler(cells, cells.windows.y, cells.of("seen_pair"))
    run_cell(BASE, seed, sampler, folder, lambda _: {}, steps=steps, precision=1.0, progress=progress)
    return load_learner(folder / "model.safetensors")


def base_errors(cells: Cells, base: Learner) -> np.ndarray:
    """What the base network gets wrong, shape (cells, 2, samples, outputs); 0 where there is no sample."""
    windows = cells.windows
    flat = windows.x.reshape(-1, windows.x.shape[-1])
    contexts = base.prior_contexts()
    parts = [
        np.asarray(base.predict(contexts, part)) for part in np.array_split(flat, max(1, len(flat) // 65_536))
    ]
    wrong = windows.y - np.concatenate(parts).reshape(windows.y.shape)
    return np.where(windows.real[..., None], wrong, 0).astype(np.float32)
