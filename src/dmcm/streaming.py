"""Streaming adaptation: contexts of one task that follow its samples one by one, with their uncertainty."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int

from dmcm.contexts import Contexts
from dmcm.errors import ConfigError, DataError, FactorError, ShapeError
from dmcm.fingerprints import fingerprint_of
from dmcm.learner import Learner, held_contexts, standardised
from dmcm.networks.base import check_sizes
from dmcm.samples import Samples, as_samples
from dmcm.solvers.base import Values


class FilterState(eqx.Module):
    """What a `ContextFilter` knows: a Gaussian of all moving contexts, joined in the order of the factors.

    Attributes:
        mean: shape (d,), in units of the contexts.
        information: inverse of the covariance, shape (d, d), in units of 1/context².
        count: number of samples seen.
    """

    mean: Float[Array, " d"]
    information: Float[Array, "d d"]
    count: Int[Array, ""]


class ContextFilter(eqx.Module):
    """Recursive Gauss–Newton on the contexts: an extended Kalman filter in information form.

    A sample (x, y) turns the information P and the mean m of the contexts into

        P ← P + JᵀWJ,  m ← m + P⁻¹ Jᵀ W (y − f(x; m)),  J = ∂f/∂c at m,  W = diag(1/σ_j²).

    Each sample is linearised once, where the mean was when it came. Where predictions are linear in what
    moves, the result is what `Learner.adapt` finds of the same samples at once; elsewhere it is close to that.

    The batch objective is a mean over n samples and D outputs, plus ½ Σ Λ (c − m)². Times n·D/σ² it is the
    negative logarithm of a posterior whose prior has the precision n·D·Λ/σ², so that is the prior here, with
    `samples` for n and for 1/σ² the mean of 1/σ_j² over the measured outputs, σ_j in standardised units.
    Outputs that are not measured take no part in it and D stays: what contexts are likely does not depend on
    what a task's sensors can see.

    Forgetting mixes the prior back in before each sample (stabilised forgetting, Kulhavý and Zarrop 1993, "On
    a general concept of forgetting", Int. J. Control 58(4)):

        P ← λP + (1 − λ)P₀,  with the mean m of  Pm ← λPm + (1 − λ)P₀m₀.

    Information in directions that the data leave alone then fades to that of the prior, by λ a sample, where
    plain forgetting would lose it without end.

    Methods run compiled and check what they are given, so they cannot be called within `jax.jit` or `jax.vmap`.

    Attributes:
        learner: predicts, and knows the prior.
        noise: standard deviation of outputs around predictions, shape (outputs,), units of y; inf: not measured.
        forgetting: λ, shape ().
        held: contexts that do not move, by factor.
        prior_information: diagonal of P₀ of the moving contexts, shape (d,).
        model: fingerprint of the learner.
    """

    learner: Learner
    noise: Float[Array, " outputs"]
    forgetting: Float[Array, ""]
    held: dict[str, Float[Array, " _"]]
    prior_information: Float[Array, " d"]
    model: str | None = eqx.field(static=True)

    def __init__(
        self,
        learner: Learner,
        *,
        noise: ArrayLike,
        samples: int,
        forgetting: float = 1.0,
        only: Iterable[str] | None = None,
        given: Contexts | Mapping[str, ArrayLike] | None = None,
    ):
        """Set a filter up for tasks of one kind; `start` then begins a task.

        Args:
            learner: a trained model. Its solver is not used.
            noise: standard deviation of outputs around predictions in units of y, one number or shape
                (outputs,); inf for outputs that are not measured.
            samples: number of samples a batch would have, by which its prior is weighed: that of training.
            forgetting: λ in (0, 1]. 1 never forgets; else about 1/(1 − λ) samples count.
            only: as in `Learner.adapt`.
            given: as in `Learner.adapt`.

        Raises:
            ConfigError: noise that is not positive or measures nothing, `samples` or `forgetting` out of range.
            ShapeError: noise of another size.
            FactorError: an unknown factor in `only` or `given`, or none that moves.
            ContextMismatchError: `given` of another model or size.
            DataError: a given vector that is not made of finite numbers.
        """
        check_sizes(samples=samples)
        if not 0 < forgetting <= 1:
            raise ConfigError(f"forgetting={forgetting}: give a number above 0 and at most 1, such as 0.99.")
        self.learner, self.model = learner, fingerprint_of(learner)
        self.held = held_contexts(learner, only, given, batch_shape=())
        if not self.moving:
            raise FactorError("all factors are given, none is left to move: name one in `only`.")
        self.noise = jnp.asarray(_noise(noise, learner.outputs), jnp.float32)
        self.forgetting = jnp.asarray(forgetting, jnp.float32)
        weight = np.asarray(self._root_weight(), np.float64) ** 2
        measured = weight[np.isfinite(np.asarray(self.noise))]
        precision = np.asarray(self._joined(learner.prior.precision()), np.float64)
        information = (samples * learner.outputs * measured.mean() * precision).astype(np.float32)
        if not np.all((information > 0) & np.isfinite(information)):
            raise ConfigError(
                "with this noise the prior overflows single precision; check the noise's units against those "
                "of y."
            )
        self.prior_information = jnp.asarray(information)

    @property
    def moving(self) -> dict[str, int]:
        """Sizes of the contexts that move, in the order they have in a state."""
        return {name: size for name, size in self.learner.factors.sizes.items() if name not in self.held}

    def start(self) -> FilterState:
        """The state before any sample: the prior."""
        mean = self._joined(self.learner.prior.start())
        return FilterState(mean, jnp.diag(self.prior_information), jnp.asarray(0, jnp.int32))

    def update(self, state: FilterState, x: ArrayLike, y: ArrayLike) -> FilterState:
        """Take one sample in.

        Args:
            state: from `start` or the sample before; it stays as it was.
            x: inputs, shape (inputs,), raw units.
            y: outputs, shape (outputs,), raw units; those that are not measured may be anything, also NaN.

        Raises:
            ShapeError: arrays that do not fit the model, or a state of a filter that moves other factors.
            DataError: NaN or infinite values, or a sample from which no finite state follows.
        """
        sample = self._checked(state, x, y, axes=1)
        advanced, finite = _update(self, state, sample)
        _refuse_unless(finite)
        return advanced

    def update_many(self, state: FilterState, x: ArrayLike, y: ArrayLike) -> FilterState:
        """Take samples in, first to last, as `update` would one by one.

        Args:
            state: as in `update`.
            x: inputs, shape (n, inputs), raw units.
            y: outputs, shape (n, outputs), raw units, as in `update`.

        Raises:
            ShapeError, DataError: as `update`; no sample.
        """
        samples = self._checked(state, x, y, axes=2)
        advanced, finite = _update_many(self, state, samples)
        _refuse_unless(finite)
        return advanced

    def contexts(self, state: FilterState) -> Contexts:
        """Contexts of all factors, each of shape (size,): means of those that move, and those that are held.

        Raises:
            ShapeError: a state of a filter that moves other factors.
        """
        self._check_state(state)
        values = {**self.held, **self._split(state.mean)}
        return Contexts({name: values[name] for name in self.learner.factors}, self.model)

    def deviations(self, state: FilterState) -> dict[str, Float[Array, " _"]]:
        """Standard deviation of each context that moves, by factor, whatever the others are (marginal).

        Raises:
            ShapeError: a state of a filter that moves other factors.
        """
        self._check_state(state)
        return self._split(_deviations(state.information))

    def _joined(self, values: Values) -> Float[Array, " d"]:
        return jnp.concatenate([values[name] for name in self.moving])

    def _split(self, joined: Float[Array, " d"]) -> Values:
        ends = np.cumsum(list(self.moving.values()))[:-1]
        return dict(zip(self.moving, jnp.split(joined, ends), strict=True))

    def _root_weight(self) -> Float[Array, " outputs"]:
        """1/σ_j in standardised units; 0 for outputs that are not measured."""
        scaler = self.learner.scaler
        return (1.0 if scaler is None else scaler.y_std) / self.noise

    def _check_state(self, state: FilterState) -> None:
        size = self.prior_information.shape[0]
        if state.mean.shape != (size,) or state.information.shape != (size, size):
            raise ShapeError(
                f"the state is one of {state.mean.shape[0]} numbers, this filter moves {size} "
                f"({', '.join(self.moving)}). Begin with this filter's own start()."
            )

    def _checked(self, state: FilterState, x: ArrayLike, y: ArrayLike, axes: int) -> Samples:
        """Samples in raw units with values that are not measured set to zero."""
        self._check_state(state)
        try:
            inputs, outputs = np.asarray(x), np.asarray(y)
        except ValueError as error:
            raise DataError(f"x or y is not an array of numbers: {error}.") from error
        for name, array, columns in (
            ("x", inputs, self.learner.inputs),
            ("y", outputs, self.learner.outputs),
        ):
            if array.ndim != axes or array.shape[-1] != columns:
                wanted, other = (
                    (f"({columns},)", "update_many") if axes == 1 else (f"(n, {columns})", "update")
                )
                raise ShapeError(
                    f"{name} has shape {array.shape}, {wanted} is needed here; for the other kind there is "
                    f"{other}."
                )
        outputs = np.where(np.isfinite(np.asarray(self.noise)), outputs, 0)
        if axes == 1:
            inputs, outputs = inputs[None], outputs[None]
        return as_samples(inputs, outputs, self.learner.inputs, self.learner.outputs)

    def _advance(
        self, state: FilterState, encoded: Any, y: Float[Array, "1 outputs"]
    ) -> tuple[FilterState, Bool[Array, ""]]:
        """One sample, encoded and standardised, and whether the state it leads to is finite."""
        prior, pull = self.prior_information, 1 - self.forgetting
        information = self.forgetting * state.information + pull * jnp.diag(prior)
        away = state.mean - self._joined(self.learner.prior.start())
        mean = state.mean - pull * _solve(information, prior * away)
        root_weight = self._root_weight()

        def predicted(joined: Float[Array, " d"]) -> Float[Array, " outputs"]:
            contexts = {**self.held, **self._split(joined)}
            return self.learner.network.decode(encoded, contexts)[0] * root_weight

        jacobian = jax.jacfwd(predicted)(mean)
        information = information + jacobian.T @ jacobian
        information = (information + information.T) / 2
        mean = mean + _solve(information, jacobian.T @ (y[0] * root_weight - predicted(mean)))
        finite = jnp.all(jnp.isfinite(mean)) & jnp.all(jnp.isfinite(information))
        return FilterState(mean, information, state.count + 1), finite


def _noise(noise: ArrayLike, outputs: int) -> np.ndarray:
    """Checked noise, shape (outputs,), units of y."""
    try:
        checked = np.asarray(noise, np.float64)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"noise is not made of numbers: {error}.") from error
    if checked.shape not in ((), (outputs,)):
        raise ShapeError(f"noise has shape {checked.shape}; give one number, or one per output ({outputs},).")
    if not np.all(checked > 0) or not np.any(np.isfinite(checked)):
        raise ConfigError(
            "noise must be positive, and finite for at least one output; inf says that an output is not measured."
        )
    return np.broadcast_to(checked, (outputs,))


def _solve(information: Float[Array, "d d"], right: Float[Array, " d"]) -> Float[Array, " d"]:
    return jax.scipy.linalg.cho_solve(jax.scipy.linalg.cho_factor(information, lower=True), right)


def _refuse_unless(finite: Bool[Array, "*n"]) -> None:
    """Raise for the first sample that led to a state that is not finite."""
    fine = np.atleast_1d(np.asarray(finite))
    if not fine.all():
        raise DataError(
            f"sample {int(np.argmin(fine))} leads to a state that is not finite: the prediction for it, or its "
            "distance from y, overflows. Check its units against those trained on; the state before is still good."
        )


@eqx.filter_jit
def _update(filter_: ContextFilter, state: FilterState, sample: Samples) -> tuple[FilterState, Array]:
    own = standardised(filter_.learner, sample)
    return filter_._advance(state, filter_.learner.network.encode(own.x), own.y)


@eqx.filter_jit
def _update_many(filter_: ContextFilter, state: FilterState, samples: Samples) -> tuple[FilterState, Array]:
    own = standardised(filter_.learner, samples)
    rows = jax.tree.map(lambda leaf: leaf[:, None], (filter_.learner.network.encode(own.x), own.y))
    return jax.lax.scan(lambda before, row: filter_._advance(before, *row), state, rows)


@eqx.filter_jit
def _deviations(information: Float[Array, "d d"]) -> Float[Array, " d"]:
    lower = jnp.linalg.cholesky(information)
    half = jax.scipy.linalg.solve_triangular(lower, jnp.eye(information.shape[0]), lower=True)
    return jnp.sqrt(jnp.sum(half**2, axis=0))
