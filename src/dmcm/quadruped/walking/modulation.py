"""How vectors that a policy is given change what it does."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray


class Modulation(eqx.Module):
    """Scales and shifts a hidden layer (FiLM, Perez et al. 2018, arXiv 1709.07871), initially without effect.

    Vectors are first clipped to their range in training, beyond which their meaning is unknown.

    Attributes:
        low: lower bound of each number in training.
        high: upper bound of each.
        gain: standardised vectors to relative changes of the hidden layer.
        shift: standardised vectors to what is added to it.
    """

    low: Float[Array, " told"]
    high: Float[Array, " told"]
    gain: eqx.nn.Linear
    shift: eqx.nn.Linear

    def __init__(self, told: int, width: int, *, key: PRNGKeyArray):
        """Start without effect and without bounds.

        Args:
            told: size of the vectors.
            width: of the hidden layer.
            key: required by the layers; the weights start at zero.
        """
        self.low, self.high = jnp.full(told, -jnp.inf), jnp.full(told, jnp.inf)
        layer = eqx.nn.Linear(told, width, use_bias=False, key=key)
        self.gain = self.shift = eqx.tree_at(lambda own: own.weight, layer, jnp.zeros((width, told)))

    @property
    def told(self) -> int:
        """Size of the vectors."""
        return self.low.shape[0]

    def cut(self, vectors: Float[Array, "*n told"]) -> Float[Array, "*n told"]:
        """Vectors clipped to the bounds, which get no gradients."""
        return jnp.clip(vectors, jax.lax.stop_gradient(self.low), jax.lax.stop_gradient(self.high))

    def __call__(
        self, hidden: Float[Array, " width"], vectors: Float[Array, " told"]
    ) -> Float[Array, " width"]:
        """The hidden layer, changed by standardised vectors."""
        return hidden * (1.0 + self.gain(vectors)) + self.shift(vectors)
