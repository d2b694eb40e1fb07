"""Tensor-product head: features of x weighted by the product of all contexts."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from dmcm.checks import as_counts
from dmcm.contexts import Factors
from dmcm.errors import ConfigError
from dmcm.networks.base import Network, activation_named

_MOST_HEAD_WEIGHTS = 10_000_000
_CONDENSED_JITTER = 1e-5


class TensorProductNetwork(Network):
    """f(x) = Σ h_m(x) W[o, m, i, j, …] u_1[i] u_2[j] … with unit vectors u_k.

    h are the features of a perceptron and a constant; u_k = [c_k, 1 − ‖c_k‖²/4] / (1 + ‖c_k‖²/4) puts the
    context on the unit sphere by stereographic projection: c_k = 0 is the pole, and every direction can be
    reached.

    With `normalise=False`, u_k = [c_k, 1]. Then one context can be scaled up and another down without any
    change in f: data cannot tell a large amplitude vector from a large phase vector, and swapped contexts
    fail. The sphere removes this freedom: up to sign, a product of unit vectors has only one factorisation.
    """

    kind: ClassVar[str] = "tensor_product"
    factors: Factors = eqx.field(static=True)
    inputs: int = eqx.field(static=True)
    outputs: int = eqx.field(static=True)
    activation: str = eqx.field(static=True)
    normalise: bool = eqx.field(static=True)
    trunk: eqx.nn.MLP
    head: Float[Array, "outputs features *sizes"]

    def __init__(
        self,
        factors: Factors,
        inputs: int,
        outputs: int,
        *,
        width: int = 64,
        depth: int = 2,
        activation: str = "tanh",
        normalise: bool = True,
        key: PRNGKeyArray,
    ):
        """Draw random weights.

        Args:
            factors: names and context sizes.
            inputs: number of input columns.
            outputs: number of output columns.
            width: units of each hidden layer, and number of features h.
            depth: number of hidden layers.
            activation: a name in `dmcm.networks.ACTIVATIONS`.
            normalise: put contexts on the unit sphere.
            key: random key.

        Raises:
            ConfigError: a size below 1, an unknown activation, or a head of over ten million weights.
        """
        inputs, outputs, width, depth = as_counts(inputs=inputs, outputs=outputs, width=width, depth=depth)
        sizes = tuple(size + 1 for size in factors.sizes.values())
        weights = outputs * (width + 1) * math.prod(sizes)
        if weights > _MOST_HEAD_WEIGHTS:
            raise ConfigError(
                f"a tensor-product head over {factors} has {weights:,} weights; it grows with the product of "
                "the context sizes. Use smaller contexts, or the 'film' network, which grows with their sum."
            )
        self.factors, self.inputs, self.outputs = factors, inputs, outputs
        self.activation, self.normalise = activation, normalise
        act = activation_named(activation)
        trunk_key, head_key = jax.random.split(key)
        self.trunk = eqx.nn.MLP(inputs, width, width, depth - 1, act, key=trunk_key)
        scale = 2.0 / math.sqrt((width + 1) * (1 if normalise else math.prod(sizes)))
        self.head = scale * jax.random.normal(head_key, (outputs, width + 1, *sizes))

    def encode(self, x: Float[Array, "n inputs"]) -> Any:
        """Weights of the context product for each sample: (n, outputs, d_1 + 1, …, d_K + 1)."""
        # Not as the trunk's final activation, which Equinox leaves out if there is only one layer.
        features = activation_named(self.activation)(jax.vmap(self.trunk)(x))
        features = jnp.concatenate([features, jnp.ones((x.shape[0], 1))], axis=-1)
        return jnp.tensordot(features, self.head, axes=(1, 1))

    def decode(self, encoded: Any, contexts: dict[str, Float[Array, " _"]]) -> Float[Array, "n outputs"]:
        """Contract one factor after another, the last one first."""
        for name in reversed(self.factors.names):
            encoded = encoded @ self._direction(contexts[name])
        return encoded

    def condense(
        self, encoded: Any, y: Float[Array, "n outputs"], root_weight: Float[Array, " n"]
    ) -> tuple[Any, Float[Array, "rows columns"]]:
        """As many rows as the product of all contexts has entries, from the normal equations.

        In single precision, this loses details below about a thousandth of the outputs' scale, so use it for
        noisy data.
        """
        sizes = encoded.shape[2:]
        basis = (encoded * root_weight.reshape(-1, *[1] * (encoded.ndim - 1))).reshape(-1, math.prod(sizes))
        targets = (y * root_weight[:, None]).reshape(-1)
        gram = basis.T @ basis
        jitter = _CONDENSED_JITTER * (jnp.trace(gram) / len(gram) + 1e-12)
        factor = jnp.linalg.cholesky(gram + jitter * jnp.eye(len(gram)))
        condensed = jax.scipy.linalg.solve_triangular(factor, basis.T @ targets, lower=True)
        return factor.T.reshape(-1, 1, *sizes), condensed[:, None]

    def _direction(self, context: Float[Array, " size"]) -> Float[Array, " size+1"]:
        if not self.normalise:
            return jnp.concatenate([context, jnp.ones(1)])
        quarter = jnp.sum(context**2) / 4
        return jnp.concatenate([context, 1 - quarter[None]]) / (1 + quarter)

    def spec(self) -> dict[str, Any]:
        """Constructor arguments as JSON values."""
        return {
            "width": self.head.shape[1] - 1,
            "depth": self.trunk.depth + 1,
            "activation": self.activation,
            "normalise": self.normalise,
        }
