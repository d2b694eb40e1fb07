"""Safeguarded Gauss–Newton (Levenberg–Marquardt) on the contexts: a tiny dense system a step."""

from __future__ import annotations

from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float

from dmcm.checks import as_counts
from dmcm.networks.base import Network
from dmcm.priors import Prior
from dmcm.samples import Samples
from dmcm.solvers.base import Solver, Values, objective

# A long first step can throw a context to the far side of its sphere, where slopes vanish and nothing
# brings it back. With this damping the first step is short, and after six accepted steps there is practically
# no damping.
_DAMPING_START = 10.0
_DAMPING_LEAST = 1e-8
# Where a settled task refuses step after step; without an end damping would overflow and slopes be NaN.
_DAMPING_MOST = 1e12
_DAMPING_SCALE = 1e-3
# Relative to a context's length; single precision does not resolve a smaller one.
_SLIGHT_STEP = 1e-6
# Damping up to which a step is practically as long as without damping.
_DAMPING_SLIGHT = 1e-2
# Pooling gives every task its own factors; a restart for each would cost as many solves as there are tasks.
_MOST_FLIPPED_ALONE = 4

_State = tuple[Array, Array, Array]
"""Contexts, their objective, damping."""


class LevenbergMarquardt(Solver):
    """Steps (JᵀJ/n + Λ + μ·(Λ + 10⁻³)) δ = −∇ from the prior mean; only those that lower the objective count.

    μ shrinks tenfold after an accepted step and grows tenfold, to at most 10¹², after a refused one
    (Marquardt 1963). The outer gradient flows through the unrolled steps. Taking more steps at use than in
    training costs little and lets slow tasks settle; since the safeguard only lets the objective fall, extra
    steps cause no drift. A single task (`adapt`) takes no more steps once it has settled, i.e. once a step is
    a millionth of its context; in a batch, all tasks take the same number.

    A few samples often allow several contexts, such as a negative amplitude with the opposite phase, and a
    descent ends in whichever valley it meets first. With `restarts`, the solver starts again at use on the
    other side of the prior mean, for all factors together and, if two to four move, for each alone; the
    lowest objective wins. This pays off if data are exact and the prior tells the valleys apart. If noise
    decides between them, contexts of two tasks may come from different valleys and no longer mix; a single
    descent, as in training, is then safer.

    Attributes:
        steps: steps at use, from each start.
        training_steps: steps unrolled in training, from the prior mean alone.
        safeguard: accept only steps that lower the objective; False is plain undamped Gauss–Newton.
        restarts: start again at use; has no effect without the safeguard, which compares objectives.
        condensed: first condense the samples into the few rows that determine the fit, if the network can
            (`TensorProductNetwork`). Steps then cost the same for ten samples or ten thousand, but single
            precision keeps only about three digits of the outputs, so use it for noisy data.
    """

    kind: ClassVar[str] = "levenberg_marquardt"
    steps: int = eqx.field(static=True)
    training_steps: int = eqx.field(static=True)
    safeguard: bool = eqx.field(static=True)
    restarts: bool = eqx.field(static=True)
    condensed: bool = eqx.field(static=True)

    def __init__(
        self,
        steps: int = 16,
        *,
        training_steps: int = 6,
        safeguard: bool = True,
        restarts: bool = False,
        condensed: bool = False,
    ):
        """See the class.

        Raises:
            ConfigError: fewer than one step.
        """
        steps, training_steps = as_counts(steps=steps, training_steps=training_steps)
        self.steps, self.training_steps = steps, training_steps
        self.safeguard, self.restarts, self.condensed = safeguard, restarts, condensed

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
        precision = {k: v for k, v in prior.precision().items() if k in start}
        encoded = network.encode(support.x)
        first, unravel = ravel_pytree(start)
        curvature, _ = ravel_pytree(precision)
        root_weight = jnp.sqrt(support.weight / jnp.maximum(jnp.sum(support.weight), 1.0) / network.outputs)

        rows = network.condense(encoded, support.y, root_weight) if self.condensed else None

        def residual(flat: Float[Array, " d"]) -> Float[Array, " m"]:
            contexts = {**given, **unravel(flat)}
            if rows is not None:
                return (network.decode(rows[0], contexts) - rows[1]).reshape(-1)
            predictions = network.decode(encoded, contexts)
            return ((predictions - support.y) * root_weight[:, None]).reshape(-1)

        def cost(flat: Float[Array, " d"]) -> Float[Array, ""]:
            if rows is not None:
                return 0.5 * jnp.sum(residual(flat) ** 2) + 0.5 * jnp.sum(curvature * (flat - first) ** 2)
            contexts = unravel(flat)
            predictions = network.decode(encoded, {**given, **contexts})
            return objective(predictions, support, contexts, start, precision)

        def step(state: _State) -> tuple[_State, Bool[Array, ""]]:
            flat, lowest, damping = state
            error = residual(flat)
            jacobian = jax.jacfwd(residual)(flat)
            gradient = jacobian.T @ error + curvature * (flat - first)
            if not self.safeguard:
                move = _solve(jacobian, curvature, gradient)
                return (flat - move, lowest, damping), _is_slight(move, flat)
            move = _solve(jacobian, curvature + damping * (curvature + _DAMPING_SCALE), gradient)
            candidate = flat - move
            reached = cost(candidate)
            better = reached < lowest
            # A step shortened by damping does not show how far the minimum is, unless no step goes lower.
            settled = _is_slight(move, flat) & (~better | (damping <= _DAMPING_SLIGHT))
            shrunk = jnp.maximum(damping * 0.1, _DAMPING_LEAST)
            grown = jnp.minimum(jnp.maximum(damping, 1e-4) * 10, _DAMPING_MOST)
            damping = jnp.where(better, shrunk, grown)
            return (jnp.where(better, candidate, flat), jnp.where(better, reached, lowest), damping), settled

        def stepped(state: _State) -> tuple[_State, Bool[Array, ""]]:
            # A model in single precision stays in single precision where JAX runs in double.
            moved, settled = step(state)
            return jax.tree.map(lambda new, old: new.astype(old.dtype), moved, state), settled

        def step_unless_settled(state: _State, settled: Bool[Array, ""]) -> tuple[_State, Bool[Array, ""]]:
            return jax.lax.cond(settled, lambda: (state, settled), lambda: stepped(state))

        def descend(begin: Float[Array, " d"]) -> tuple[Float[Array, " d"], Float[Array, ""]]:
            state = (begin, cost(begin), jnp.asarray(_DAMPING_START, begin.dtype))
            if training:
                (flat, lowest, _), _ = jax.lax.scan(
                    lambda now, _: (stepped(now)[0], None), state, None, length=self.training_steps
                )
            else:
                ((flat, lowest, _), _), _ = jax.lax.scan(
                    lambda now, _: (step_unless_settled(*now), None),
                    (state, jnp.asarray(False)),
                    None,
                    length=self.steps,
                )
            return flat, lowest

        flat, lowest = descend(first)
        if self.restarts and self.safeguard and not training:
            # One after another; in a batch, all would take as many steps as the slowest.
            others, reached = jax.lax.map(descend, _mirrored(flat, first, start))
            best = jnp.nanargmin(reached)
            better = reached[best] < lowest
            flat, lowest = jnp.where(better, others[best], flat), jnp.where(better, reached[best], lowest)
        # No step can lower an objective that overflowed; the start must not be returned as a solution.
        flat = jnp.where(jnp.isfinite(lowest), flat, jnp.nan)
        return {**given, **unravel(flat)}

    def spec(self) -> dict[str, Any]:
        """Constructor arguments as JSON values."""
        return {
            "steps": self.steps,
            "training_steps": self.training_steps,
            "safeguard": self.safeguard,
            "restarts": self.restarts,
            "condensed": self.condensed,
        }


def _is_slight(move: Float[Array, " d"], flat: Float[Array, " d"]) -> Bool[Array, ""]:
    return jnp.linalg.norm(move) <= _SLIGHT_STEP * jnp.linalg.norm(flat)


def _mirrored(flat: Float[Array, " d"], mean: Float[Array, " d"], start: Values) -> Float[Array, "starts d"]:
    """Contexts reflected at the prior mean: of all factors together and, if there are few, of each alone."""
    owner = jnp.concatenate([jnp.full(value.shape, i) for i, value in enumerate(start.values())])
    flips = [jnp.ones_like(owner, bool)]
    if 1 < len(start) <= _MOST_FLIPPED_ALONE:
        flips += [owner == i for i in range(len(start))]
    return jnp.where(jnp.stack(flips), 2 * mean - flat, flat)


def _solve(
    jacobian: Float[Array, "m d"], diagonal: Float[Array, " d"], right: Float[Array, " d"]
) -> Float[Array, " d"]:
    """Solve (JᵀJ + D) z = b through R of [J; √D], which exists even where JᵀJ + D is singular in float32.

    Differentiated as a linear system; the factorisation itself is never differentiated.
    """
    stacked = jnp.concatenate([jacobian, jnp.diag(jnp.sqrt(diagonal))])
    upper = jax.lax.stop_gradient(jnp.linalg.qr(jax.lax.stop_gradient(stacked), mode="r"))

    def factored(_: Any, vector: Float[Array, " d"]) -> Float[Array, " d"]:
        half = jax.scipy.linalg.solve_triangular(upper, vector, trans="T")
        return jax.scipy.linalg.solve_triangular(upper, half)

    def product(vector: Float[Array, " d"]) -> Float[Array, " d"]:
        return jacobian.T @ (jacobian @ vector) + diagonal * vector

    return jax.lax.custom_linear_solve(product, right, factored, symmetric=True)
