"""Context generators: one permutation-invariant encoder per factor, no gradients at use."""

from __future__ import annotations

from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from dmcm.checks import as_counts
from dmcm.contexts import Factors
from dmcm.errors import FactorError, ShapeError
from dmcm.networks.base import Network, activation_named
from dmcm.priors import Prior
from dmcm.samples import Samples
from dmcm.solvers.base import Solver, Values


class SetEncoder(Solver):
    """c_k = ρ_k(mean over samples of φ_k([x, y])): one deep set per factor.

    (Zaheer et al. 2017, arXiv 1703.06114.) Because of the mean, neither the order of the samples nor
    duplicating the whole set matters. The prior is not used.
    """

    kind: ClassVar[str] = "set_encoder"
    factors: Factors = eqx.field(static=True)
    inputs: int = eqx.field(static=True)
    outputs: int = eqx.field(static=True)
    width: int = eqx.field(static=True)
    activation: str = eqx.field(static=True)
    per_sample: dict[str, eqx.nn.MLP]
    per_set: dict[str, eqx.nn.MLP]

    def __init__(
        self,
        factors: Factors,
        inputs: int,
        outputs: int,
        *,
        width: int = 64,
        activation: str = "silu",
        key: PRNGKeyArray,
    ):
        """Draw random weights.

        Args:
            factors: names and context sizes.
            inputs: number of input columns.
            outputs: number of output columns.
            width: units of every hidden layer and of the pooled features.
            activation: a name in `dmcm.networks.ACTIVATIONS`.
            key: random key.

        Raises:
            ConfigError: a size below 1 or an unknown activation.
        """
        inputs, outputs, width = as_counts(inputs=inputs, outputs=outputs, width=width)
        act = activation_named(activation)
        self.factors, self.inputs, self.outputs = factors, inputs, outputs
        self.width, self.activation = width, activation
        keys = iter(jax.random.split(key, 2 * len(factors)))
        self.per_sample = {
            name: eqx.nn.MLP(inputs + outputs, width, width, 2, act, key=next(keys)) for name in factors
        }
        self.per_set = {
            name: eqx.nn.MLP(width, size, width, 2, act, key=next(keys))
            for name, size in factors.sizes.items()
        }

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
        """See `Solver.solve`."""
        pairs = jnp.concatenate([support.x, support.y], axis=-1)
        total = jnp.maximum(jnp.sum(support.weight), 1.0)

        def context(name: str) -> Float[Array, " _"]:
            features = jax.vmap(self.per_sample[name])(pairs)
            pooled = jnp.sum(features * support.weight[:, None], axis=0) / total
            return self.per_set[name](pooled)

        return {name: given[name] if name in given else context(name) for name in self.factors}

    def check_fits(self, network: Network) -> None:
        """See `Solver.check_fits`."""
        if self.factors != network.factors:
            raise FactorError(
                f"the encoder is made for {self.factors}, but the network for {network.factors}."
            )
        if (self.inputs, self.outputs) != (network.inputs, network.outputs):
            raise ShapeError(
                f"the encoder reads {self.inputs} input and {self.outputs} output columns, but the network "
                f"has {network.inputs} and {network.outputs}."
            )

    def spec(self) -> dict[str, Any]:
        """Constructor arguments as JSON values."""
        return {"width": self.width, "activation": self.activation}
