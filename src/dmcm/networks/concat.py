"""Concatenation: contexts join the inputs of a perceptron, as in CAVIA."""

from __future__ import annotations

from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from dmcm.checks import as_counts
from dmcm.contexts import Factors
from dmcm.networks.base import Network, activation_named


class ConcatNetwork(Network):
    """Perceptron on [x, c_1, …, c_K] (Zintgraf et al. 2019, arXiv 1810.03642, with K = 1)."""

    kind: ClassVar[str] = "concat"
    factors: Factors = eqx.field(static=True)
    inputs: int = eqx.field(static=True)
    outputs: int = eqx.field(static=True)
    activation: str = eqx.field(static=True)
    perceptron: eqx.nn.MLP

    def __init__(
        self,
        factors: Factors,
        inputs: int,
        outputs: int,
        *,
        width: int = 40,
        depth: int = 2,
        activation: str = "tanh",
        key: PRNGKeyArray,
    ):
        """Draw random weights.

        Args:
            factors: names and context sizes.
            inputs: number of input columns.
            outputs: number of output columns.
            width: units of each hidden layer.
            depth: number of hidden layers.
            activation: a name in `dmcm.networks.ACTIVATIONS`.
            key: random key.

        Raises:
            ConfigError: a size below 1 or an unknown activation.
        """
        inputs, outputs, width, depth = as_counts(inputs=inputs, outputs=outputs, width=width, depth=depth)
        self.factors, self.inputs, self.outputs, self.activation = (
            factors,
            inputs,
            outputs,
            activation,
        )
        self.perceptron = eqx.nn.MLP(
            inputs + factors.total, outputs, width, depth, activation_named(activation), key=key
        )

    def encode(self, x: Float[Array, "n inputs"]) -> Any:
        """Inputs as they are: the first layer already mixes them with contexts."""
        return x

    def decode(self, encoded: Any, contexts: dict[str, Float[Array, " _"]]) -> Float[Array, "n outputs"]:
        """Perceptron on inputs and contexts, the same for each sample."""
        joined = jnp.concatenate([contexts[name] for name in self.factors])
        return jax.vmap(lambda row: self.perceptron(jnp.concatenate([row, joined])))(encoded)

    def spec(self) -> dict[str, Any]:
        """Constructor arguments as JSON values."""
        return {
            "width": self.perceptron.width_size,
            "depth": self.perceptron.depth,
            "activation": self.activation,
        }
