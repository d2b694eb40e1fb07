"""Interface of every inner loop: contexts from a support set."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from dmcm.networks.base import Network
from dmcm.priors import Prior
from dmcm.samples import Samples, weighted_mean

Values = dict[str, Float[Array, " _"]]
"""Context vectors by factor, of one task."""


class Solver(eqx.Module):
    """Finds the contexts of one task. Pure: vmap over tasks, differentiate through it."""

    kind: ClassVar[str]

    @abstractmethod
    def solve(
        self,
        network: Network,
        prior: Prior,
        support: Samples,
        given: Values,
        *,
        training: bool = False,
        truth: Values | None = None,
    ) -> Values:
        """Contexts of all factors of the network.

        Args:
            network: the conditioned network, with fixed weights.
            prior: where contexts start and how far they may move.
            support: standardised samples of one task.
            given: contexts to hold as they are; all other factors are found.
            training: whether this is a step of the outer loop.
            truth: true factor values, which only the oracle may read.
        """

    @abstractmethod
    def spec(self) -> dict[str, Any]:
        """Constructor arguments as JSON values."""

    def check_fits(self, network: Network) -> None:
        """Raise unless this solver is made for the network's factors and columns; most solvers fit any.

        Raises:
            FactorError: it is made for other factors.
            ShapeError: it is made for other numbers of columns.
        """

    def needs_data(self) -> bool:
        """Whether contexts come from samples; the oracle's do not."""
        return True


def objective(
    predictions: Float[Array, "n outputs"],
    support: Samples,
    contexts: Values,
    start: Values,
    precision: Values,
) -> Float[Array, ""]:
    """½·mean‖y − f‖² + ½ Σ_k (c_k − m_k)ᵀ Λ_k (c_k − m_k), over the factors in `contexts`."""
    data = 0.5 * weighted_mean((predictions - support.y) ** 2, support.weight)
    pull = sum(jnp.sum(precision[k] * (contexts[k] - start[k]) ** 2) for k in contexts)
    return data + 0.5 * pull
