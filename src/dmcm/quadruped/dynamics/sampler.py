"""Training batches of cells."""

from __future__ import annotations

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from dmcm.learner import Learner
from dmcm.quadruped.data.windows import STATE_SIZE, disturb
from dmcm.quadruped.dynamics.cells import ROBOT, TERRAIN, Cells
from dmcm.samplers import with_donors
from dmcm.samples import Batch, Samples
from dmcm.scaling import Scaler

SHOTS, QUERIES = 48, 32
"""Support and query samples per cell in training."""
ANCHORS = 6
"""Cells per batch, each with a donor for the robot and one for the ground."""
NOISE = 0.1
"""Noise on the past states of query samples, in standard deviations. Roll-outs feed a model its own errors; a
model trained with some recovers from them (Sanchez-Gonzalez et al. 2020, arXiv 2002.09405)."""


class CellSampler(eqx.Module):
    """Batches for `fit`: random cells, each with a donor per factor, samples of either half.

    Queries have noise; their targets lead back to the true next state.

    Attributes:
        x: inputs, shape (cells, 2, samples, inputs).
        y: outputs, shape (cells, 2, samples, outputs).
        count: samples of each half, shape (cells, 2).
        labels: per factor, one number per cell.
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
            base: the network whose errors y are; None if y are outputs.
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
