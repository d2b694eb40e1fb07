"""Baselines behind the learner's interface, so that every method is trained and measured by the same code.

A single-context model (CAVIA) is a learner with one factor, a single set encoder likewise. MAML and ANIL
are learners whose one context is a shift of network weights. The oracle reads the true factor values.
"""

from __future__ import annotations

import itertools
from typing import Any, ClassVar

import equinox as eqx
import jax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PRNGKeyArray

from dmcm.checks import as_counts
from dmcm.contexts import Factors
from dmcm.errors import ConfigError, DataError
from dmcm.networks.base import Network, activation_named
from dmcm.priors import Prior
from dmcm.samples import Samples
from dmcm.solvers.base import Solver, Values


class ParameterNetwork(Network):
    """Perceptron with weights θ + c; adapting c by gradient descent is MAML.

    (Finn et al. 2017, arXiv 1703.03400.) With `last_layer_only` c shifts the last layer alone: ANIL
    (Raghu et al. 2020, arXiv 1909.09157).
    """

    kind: ClassVar[str] = "parameters"
    factors: Factors = eqx.field(static=True)
    inputs: int = eqx.field(static=True)
    outputs: int = eqx.field(static=True)
    activation: str = eqx.field(static=True)
    last_layer_only: bool = eqx.field(static=True)
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
        last_layer_only: bool = False,
        key: PRNGKeyArray,
    ):
        """Draw random weights; `factors` must be what `parameter_factors` gives for the same sizes.

        Raises:
            ConfigError: a size below 1, an unknown activation, or factors of another size.
        """
        inputs, outputs, width, depth = as_counts(inputs=inputs, outputs=outputs, width=width, depth=depth)
        self.factors, self.inputs, self.outputs = factors, inputs, outputs
        self.activation, self.last_layer_only = activation, last_layer_only
        self.perceptron = eqx.nn.MLP(inputs, outputs, width, depth, activation_named(activation), key=key)
        count = ravel_pytree(self._adapted())[0].size
        if len(factors) != 1 or factors.total != count:
            raise ConfigError(f"this network adapts {count} weights as one factor, not {factors}.")

    def _adapted(self) -> Any:
        part = self.perceptron.layers[-1] if self.last_layer_only else self.perceptron
        return eqx.filter(part, eqx.is_inexact_array)

    def encode(self, x: Float[Array, "n inputs"]) -> Any:
        """Inputs as they are, or the last hidden features if only the last layer moves."""
        if not self.last_layer_only:
            return x

        def features(row: Array) -> Array:
            for layer in self.perceptron.layers[:-1]:
                row = self.perceptron.activation(layer(row))
            return row

        return jax.vmap(features)(x)

    def decode(self, encoded: Any, contexts: dict[str, Float[Array, " _"]]) -> Float[Array, "n outputs"]:
        """Run the perceptron, or its last layer, with shifted weights."""
        flat, unravel = ravel_pytree(self._adapted())
        moved = unravel(flat + contexts[self.factors.names[0]])
        part = self.perceptron.layers[-1] if self.last_layer_only else self.perceptron
        shifted = eqx.combine(moved, part)
        return jax.vmap(shifted)(encoded)

    def spec(self) -> dict[str, Any]:
        """Constructor arguments as JSON values."""
        return {
            "width": self.perceptron.width_size,
            "depth": self.perceptron.depth,
            "activation": self.activation,
            "last_layer_only": self.last_layer_only,
        }


def parameter_factors(
    inputs: int, outputs: int, *, width: int = 40, depth: int = 2, last_layer_only: bool = False
) -> Factors:
    """The one factor of a `ParameterNetwork`, with one number for each weight that adapts."""
    sizes = [inputs] + [width] * depth + [outputs]
    layers = [(a + 1) * b for a, b in itertools.pairwise(sizes)]
    return Factors(parameters=layers[-1] if last_layer_only else sum(layers))


class NoAdaptation(Solver):
    """Contexts stay at the learned prior mean: what one model for all tasks can do."""

    kind: ClassVar[str] = "none"

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
        return {**prior.start(), **given}

    def spec(self) -> dict[str, Any]:
        """No settings."""
        return {}


class Oracle(Solver):
    """Contexts are the true factor values, divided by fixed scales: the bound set by the network alone.

    Attributes:
        scales: per factor, the divisor of its values.
    """

    kind: ClassVar[str] = "oracle"
    scales: tuple[tuple[str, float], ...] = eqx.field(static=True)

    def __init__(self, scales: dict[str, float] | tuple[tuple[str, float], ...] = ()):
        """See the class; factors without a scale are not scaled.

        Raises:
            ConfigError: a scale that is not positive.
        """
        pairs = tuple(sorted((str(k), float(v)) for k, v in dict(scales).items()))
        if any(not value > 0 for _, value in pairs):
            raise ConfigError(f"oracle scales must be positive: {dict(pairs)}.")
        self.scales = pairs

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
        """See `Solver.solve`.

        Raises:
            DataError: the true values are not known.
        """
        if truth is None or any(name not in truth for name in network.factors):
            raise DataError(
                f"the oracle needs the true value of each factor ({', '.join(network.factors)}). Pass "
                "contexts made of true values to `predict`, or train and evaluate on data that carries them."
            )
        for name, size in network.factors.sizes.items():
            if truth[name].shape[-1] != size:
                raise DataError(
                    f"the true value of '{name}' has {truth[name].shape[-1]} numbers, its context has "
                    f"{size}; give the oracle's factors the sizes of the true values."
                )
        scales = dict(self.scales)
        return {k: given[k] if k in given else truth[k] / scales.get(k, 1.0) for k in network.factors}

    def needs_data(self) -> bool:
        """It reads no samples."""
        return False

    def spec(self) -> dict[str, Any]:
        """Constructor arguments as JSON values."""
        return {"scales": dict(self.scales)}
