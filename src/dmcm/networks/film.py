"""Feature-wise modulation: each factor gates the hidden units, and the gates multiply."""

from __future__ import annotations

from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from dmcm.checks import as_counts
from dmcm.contexts import Factors
from dmcm.networks.base import Network, activation_named


class FilmNetwork(Network):
    """Perceptron whose layer l computes act(z ⊙ Π_k (1 + γ_lk(c_k)) + Σ_k β_lk(c_k)).

    z is the layer's affine map; γ and β are linear in the context (FiLM, Perez et al. 2018,
    arXiv 1709.07871, with one pair of maps a factor). With zero contexts, this is a plain perceptron.
    """

    kind: ClassVar[str] = "film"
    factors: Factors = eqx.field(static=True)
    inputs: int = eqx.field(static=True)
    outputs: int = eqx.field(static=True)
    width: int = eqx.field(static=True)
    activation: str = eqx.field(static=True)
    layers: tuple[eqx.nn.Linear, ...]
    head: eqx.nn.Linear
    gates: dict[str, Float[Array, "depth width _"]]
    shifts: dict[str, Float[Array, "depth width _"]]

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
        """Draw random weights; arguments and errors as for `ConcatNetwork`."""
        inputs, outputs, width, depth = as_counts(inputs=inputs, outputs=outputs, width=width, depth=depth)
        self.factors, self.inputs, self.outputs = factors, inputs, outputs
        self.width, self.activation = width, activation
        activation_named(activation)
        layer_key, head_key, gate_key, shift_key = jax.random.split(key, 4)
        sizes = [inputs] + [width] * depth
        self.layers = tuple(
            eqx.nn.Linear(sizes[i], sizes[i + 1], key=k)
            for i, k in enumerate(jax.random.split(layer_key, depth))
        )
        self.head = eqx.nn.Linear(width, outputs, key=head_key)

        def maps(key: PRNGKeyArray) -> dict[str, Array]:
            keys = jax.random.split(key, len(factors))
            return {
                name: jax.random.normal(k, (depth, width, size)) / jnp.sqrt(size)
                for k, (name, size) in zip(keys, factors.sizes.items(), strict=True)
            }

        self.gates, self.shifts = maps(gate_key), maps(shift_key)

    def encode(self, x: Float[Array, "n inputs"]) -> Any:
        """First layer before its gates: (n, width)."""
        return jax.vmap(self.layers[0])(x)

    def decode(self, encoded: Any, contexts: dict[str, Float[Array, " _"]]) -> Float[Array, "n outputs"]:
        """Gated layers, then a linear head."""
        gate = jnp.ones((len(self.layers), self.width))
        shift = jnp.zeros_like(gate)
        for name in self.factors:
            gate = gate * (1 + self.gates[name] @ contexts[name])
            shift = shift + self.shifts[name] @ contexts[name]
        act = activation_named(self.activation)
        hidden = act(encoded * gate[0] + shift[0])
        for layer, g, s in zip(self.layers[1:], gate[1:], shift[1:], strict=True):
            hidden = act(jax.vmap(layer)(hidden) * g + s)
        return jax.vmap(self.head)(hidden)

    def spec(self) -> dict[str, Any]:
        """Constructor arguments as JSON values."""
        return {"width": self.width, "depth": len(self.layers), "activation": self.activation}
