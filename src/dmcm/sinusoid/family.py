"""The sinusoid family y = A·sin(x − φ) with a block of the factor plane held out of training."""

from __future__ import annotations

import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from dmcm.samples import Batch, Samples
from dmcm.scaling import Scaler

AMPLITUDE = (0.1, 5.0)
"""Training range of A."""
PHASE = (0.0, math.pi)
"""Training range of φ, rad."""
INPUT = (-5.0, 5.0)
"""Range of x."""
BLOCK = (2.5, math.pi / 2)
"""No training task has both A and φ above these."""
SHOTS = 10
"""Support points a task, and query points in training."""


class SinusoidSampler(eqx.Module):
    """Batches on a random grid of amplitudes × phases, so that every task has donors.

    Attributes:
        amplitudes: grid rows.
        phases: grid columns.
        shots: support points and query points a task.
    """

    amplitudes: int = eqx.field(static=True, default=6)
    phases: int = eqx.field(static=True, default=6)
    shots: int = eqx.field(static=True, default=SHOTS)

    def scaler(self) -> Scaler:
        """Scale in closed form: uniform x; root mean square of y for phases uniform over the circle."""
        low, high = AMPLITUDE
        square = (high**3 - low**3) / (3 * (high - low)) / 2
        return Scaler(
            jnp.zeros(1),
            jnp.full((1,), INPUT[1] / math.sqrt(3)),
            jnp.zeros(1),
            jnp.full((1,), math.sqrt(square)),
        )

    def sample(self, key: PRNGKeyArray) -> Batch:
        """One grid of tasks; those inside the held-out block are marked invalid."""
        a_key, p_key, x_key = jax.random.split(key, 3)
        rows, columns = self.amplitudes, self.phases
        amplitude = jax.random.uniform(a_key, (rows,), minval=AMPLITUDE[0], maxval=AMPLITUDE[1])
        phase = jax.random.uniform(p_key, (columns,), minval=PHASE[0], maxval=PHASE[1])
        row, column = (
            g.reshape(-1) for g in jnp.meshgrid(jnp.arange(rows), jnp.arange(columns), indexing="ij")
        )
        tasks = rows * columns
        x = jax.random.uniform(x_key, (tasks, 2 * self.shots, 1), minval=INPUT[0], maxval=INPUT[1])
        y = amplitude[row][:, None, None] * jnp.sin(x - phase[column][:, None, None])
        weight = jnp.ones((tasks, self.shots))
        return Batch(
            support=Samples(x[:, : self.shots], y[:, : self.shots], weight),
            query=Samples(x[:, self.shots :], y[:, self.shots :], weight),
            task=jnp.arange(tasks),
            labels={"amplitude": row, "phase": column},
            valid=~((amplitude[row] > BLOCK[0]) & (phase[column] > BLOCK[1])),
            values={"amplitude": amplitude[row][:, None], "phase": phase[column][:, None]},
        )
