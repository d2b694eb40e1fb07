"""What every context-conditioned network offers: encode inputs once, decode with contexts."""

# No `from __future__ import annotations`: Equinox does not recognise AbstractVar as text.

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dmcm.contexts import Factors
from dmcm.errors import ConfigError, unknown_name

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "tanh": jnp.tanh,
    "silu": jax.nn.silu,
    "relu": jax.nn.relu,
    "gelu": jax.nn.gelu,
    "sin": jnp.sin,
}


def activation_named(name: str) -> Callable[[Array], Array]:
    """Look up an activation.

    Raises:
        ConfigError: no activation of that name.
    """
    if name not in ACTIVATIONS:
        raise ConfigError(unknown_name("activation", name, ACTIVATIONS))
    return ACTIVATIONS[name]


class Network(eqx.Module):
    """f_θ(x; c_1..c_K) on standardised inputs and outputs.

    `encode` holds everything that does not depend on contexts, so an inner loop computes it once.

    Attributes:
        factors: names and context sizes the network is conditioned on.
        inputs: number of input columns.
        outputs: number of output columns.
    """

    kind: ClassVar[str]
    factors: eqx.AbstractVar[Factors]
    inputs: eqx.AbstractVar[int]
    outputs: eqx.AbstractVar[int]

    @abstractmethod
    def encode(self, x: Float[Array, "n inputs"]) -> Any:
        """Everything that depends only on x; leaves have leading axis n."""

    @abstractmethod
    def decode(self, encoded: Any, contexts: dict[str, Float[Array, " _"]]) -> Float[Array, "n outputs"]:
        """Outputs from encoded inputs and one context vector per factor."""

    def condense(
        self, encoded: Any, y: Float[Array, "n outputs"], root_weight: Float[Array, " n"]
    ) -> tuple[Any, Float[Array, "rows columns"]] | None:
        """Fewer samples with the same least-squares problem, if outputs are linear in a product of contexts.

        Args:
            encoded: what `encode` returned.
            y: outputs to fit.
            root_weight: square root of each sample's weight.

        Returns:
            Encoded rows and targets, such that ‖decode(rows, c) − targets‖² is the weighted sum of squares up
            to a constant; None if the network cannot provide them.
        """
        return None

    @abstractmethod
    def spec(self) -> dict[str, Any]:
        """Constructor arguments as JSON values, without factors, inputs, outputs and key."""

    def __call__(
        self, x: Float[Array, "n inputs"], contexts: dict[str, Float[Array, " _"]]
    ) -> Float[Array, "n outputs"]:
        """Outputs for inputs and one context vector per factor."""
        return self.decode(self.encode(x), contexts)
