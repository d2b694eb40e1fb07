"""Gradient descent on the contexts, with fixed or learned step sizes."""

from __future__ import annotations

from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dmcm.checks import as_counts, is_positive
from dmcm.contexts import Factors
from dmcm.errors import ConfigError, FactorError
from dmcm.networks.base import Network
from dmcm.priors import Prior
from dmcm.samples import Samples
from dmcm.solvers.base import Solver, Values, objective

# Number of steps to unroll; the second derivatives of a loop need more memory.
_UNROLLED = 5


class GradientDescent(Solver):
    """CAVIA's inner loop (Zintgraf et al. 2019, arXiv 1810.03642) on the objective of the LM solver.

    Learned step sizes are one positive number per step and context dimension (as in Meta-SGD, Li et al. 2017,
    arXiv 1707.09835). At use, steps beyond those trained use the sizes of the last trained step.

    Attributes:
        log_rate: per factor, natural logarithm of the step sizes, shape (training_steps, size).
        steps: steps at use.
        learned: whether the outer loop trains the step sizes.
    """

    kind: ClassVar[str] = "gradient_descent"
    log_rate: dict[str, Float[Array, "training_steps _"]]
    steps: int = eqx.field(static=True)
    learned: bool = eqx.field(static=True)
    rate: float = eqx.field(static=True)

    def __init__(
        self,
        factors: Factors,
        steps: int = 5,
        *,
        training_steps: int | None = None,
        rate: float = 1.0,
        learned: bool = True,
    ):
        """Start all step sizes at `rate`.

        Raises:
            ConfigError: fewer than one step, or a rate that is not positive and finite.
        """
        trained = steps if training_steps is None else training_steps
        steps, trained = as_counts(steps=steps, training_steps=trained)
        if not is_positive(rate):
            raise ConfigError(f"inner step size {rate} must be positive and finite; 0.1 to 1 is usual.")
        self.log_rate = {k: jnp.full((trained, size), jnp.log(rate)) for k, size in factors.sizes.items()}
        self.steps, self.learned, self.rate = steps, learned, rate

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
        start = {k: v for k, v in prior.start().items() if k not in given}
        if not start:
            return dict(given)
        precision = prior.precision()
        encoded = network.encode(support.x)
        log_rate = self.log_rate if self.learned else jax.lax.stop_gradient(self.log_rate)
        trained = next(iter(log_rate.values())).shape[0]
        count = trained if training else self.steps
        use = jnp.minimum(jnp.arange(count), trained - 1)

        def cost(contexts: Values) -> Float[Array, ""]:
            predictions = network.decode(encoded, {**given, **contexts})
            return objective(predictions, support, contexts, start, precision)

        def step(contexts: Values, index: Array) -> tuple[Values, None]:
            slopes = jax.grad(cost)(contexts)
            return {k: v - jnp.exp(log_rate[k][index]) * slopes[k] for k, v in contexts.items()}, None

        contexts, _ = jax.lax.scan(step, start, use, unroll=min(count, _UNROLLED))
        return {**given, **contexts}

    def check_fits(self, network: Network) -> None:
        """See `Solver.check_fits`: step sizes are per factor and context dimension."""
        sizes = {name: rates.shape[-1] for name, rates in self.log_rate.items()}
        if sizes != network.factors.sizes:
            raise FactorError(f"the step sizes are for {sizes}, but the network has {network.factors.sizes}.")

    def spec(self) -> dict[str, Any]:
        """Constructor arguments as JSON values."""
        trained = next(iter(self.log_rate.values())).shape[0]
        return {
            "steps": self.steps,
            "training_steps": trained,
            "rate": self.rate,
            "learned": self.learned,
        }
