"""A gait that follows what a policy is given, for example the vector of the ground."""

from __future__ import annotations

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dmcm.quadruped.walking.gait import SETTINGS, Gait

BOUNDS = {
    "swing_height_m": (0.10, 0.20),
    "stance_height_m": (0.28, 0.30),
    "shift_m": (-0.015, 0.01),
    "forward_share": (0.8, 1.6),
}
"""Range from which each setting of `gait.SETTINGS` is chosen. Feet placed further from where they are in
training make training robots faster, and robots outside training fall."""
LOWEST, HIGHEST = np.array([BOUNDS[name] for name in SETTINGS]).T
MIDDLE, HALF = (LOWEST + HIGHEST) / 2, (HIGHEST - LOWEST) / 2


class GaitReader(eqx.Module):
    """Chooses a gait's settings by what a policy is given: a linear function, bent into `BOUNDS`.

    Attributes:
        low: least value of each number given that is believed; smaller ones count as this, shape (told,).
        high: largest value of each number given that is believed, shape (told,).
        slope: of the settings by each number given, shape (4, told).
        offset: of the settings, shape (4,).
    """

    low: Float[Array, " told"]
    high: Float[Array, " told"]
    slope: Float[Array, "4 told"]
    offset: Float[Array, " 4"]

    def __init__(self, told: int):
        """Start with the usual gait for any input.

        Args:
            told: how many numbers are given.
        """
        self.low, self.high = jnp.full(told, -jnp.inf), jnp.full(told, jnp.inf)
        self.slope = jnp.zeros((len(SETTINGS), told))
        self.offset = jnp.arctanh(jnp.asarray(scaled_settings(Gait().settings), jnp.float32))

    def __call__(self, vectors: np.ndarray) -> np.ndarray:
        """Settings of each robot's gait in the order of `gait.SETTINGS`, shape (n, 4)."""
        believed = np.clip(vectors, np.asarray(self.low), np.asarray(self.high))
        bent = np.tanh(believed @ np.asarray(self.slope).T + np.asarray(self.offset))
        return MIDDLE + HALF * bent


def scaled_settings(settings: np.ndarray) -> np.ndarray:
    """Settings from -1 at the lower to 1 at the upper end of `BOUNDS`, of the same shape (..., 4)."""
    return (settings - MIDDLE) / HALF
