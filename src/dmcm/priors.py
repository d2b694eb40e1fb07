"""Learned Gaussian prior of the context vectors: where they start and how far data may move them."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dmcm.checks import is_positive
from dmcm.contexts import Factors
from dmcm.errors import ConfigError


class Prior(eqx.Module):
    """Mean m_k and diagonal precision Λ_k of each factor's context.

    The precision is `floor + exp(log_precision)`. The floor keeps directions that the data leave
    undetermined from drifting with the number of inner steps.

    Attributes:
        mean: per factor, shape (size,).
        log_precision: per factor, shape (size,); precision in units of 1/context².
        floor: smallest precision.
        learn_mean: whether the outer loop moves the mean away from zero.
    """

    mean: dict[str, Float[Array, " _"]]
    log_precision: dict[str, Float[Array, " _"]]
    floor: float = eqx.field(static=True)
    learn_mean: bool = eqx.field(static=True)

    def __init__(
        self,
        factors: Factors,
        *,
        precision: float = 1e-2,
        floor: float = 1e-6,
        learn_mean: bool = True,
    ):
        """Start at mean zero with the same precision everywhere.

        Raises:
            ConfigError: a precision or floor that is not positive and finite.
        """
        if not (is_positive(precision) and is_positive(floor)):
            raise ConfigError(f"prior precision {precision} and floor {floor} must be positive and finite.")
        self.mean = {name: jnp.zeros(size) for name, size in factors.sizes.items()}
        self.log_precision = {
            name: jnp.full((size,), jnp.log(precision)) for name, size in factors.sizes.items()
        }
        self.floor = floor
        self.learn_mean = learn_mean

    def start(self) -> dict[str, Float[Array, " _"]]:
        """Prior mean per factor, where every inner loop starts."""
        return self.mean if self.learn_mean else jax.lax.stop_gradient(self.mean)

    def precision(self) -> dict[str, Float[Array, " _"]]:
        """Diagonal of Λ_k per factor."""
        return {name: self.floor + jnp.exp(value) for name, value in self.log_precision.items()}
