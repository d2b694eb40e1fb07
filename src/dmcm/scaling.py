"""Standardisation inside the model, so that users pass raw units."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


class Scaler(eqx.Module):
    """Mean and standard deviation of inputs and outputs, from training data; never trained.

    Attributes:
        x_mean: shape (inputs,), units of x.
        x_std: shape (inputs,), units of x.
        y_mean: shape (outputs,), units of y.
        y_std: shape (outputs,), units of y.
    """

    x_mean: Float[Array, " inputs"]
    x_std: Float[Array, " inputs"]
    y_mean: Float[Array, " outputs"]
    y_std: Float[Array, " outputs"]

    @classmethod
    def identity(cls, inputs: int, outputs: int) -> Scaler:
        """A scaler that changes nothing."""
        return cls(jnp.zeros(inputs), jnp.ones(inputs), jnp.zeros(outputs), jnp.ones(outputs))

    @classmethod
    def from_samples(cls, x: np.ndarray, y: np.ndarray) -> Scaler:
        """Measure on samples x (n, inputs), y (n, outputs); a constant column keeps scale 1."""

        def moments(array: np.ndarray) -> tuple[Array, Array]:
            wide = np.asarray(array, dtype=np.float64)
            mean, std = wide.mean(axis=0), wide.std(axis=0)
            varies = std > 1e-7 * np.maximum(1e-30, np.abs(mean))
            std = np.where(varies & (std > 0), std, 1.0)
            return jnp.asarray(mean, jnp.float32), jnp.asarray(std, jnp.float32)

        return cls(*moments(x), *moments(y))

    def scale_x(self, x: Float[Array, "*n inputs"]) -> Float[Array, "*n inputs"]:
        """Standardise raw inputs."""
        frozen = jax.lax.stop_gradient(self)
        return (x - frozen.x_mean) / frozen.x_std

    def scale_y(self, y: Float[Array, "*n outputs"]) -> Float[Array, "*n outputs"]:
        """Standardise raw outputs."""
        frozen = jax.lax.stop_gradient(self)
        return (y - frozen.y_mean) / frozen.y_std

    def unscale_y(self, y: Float[Array, "*n outputs"]) -> Float[Array, "*n outputs"]:
        """Convert standardised outputs back to raw units."""
        frozen = jax.lax.stop_gradient(self)
        return y * frozen.y_std + frozen.y_mean
