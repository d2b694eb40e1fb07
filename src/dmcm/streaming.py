"""Streaming adaptation: contexts and their covariance after every sample, by recursive Gauss–Newton."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from dmcm.checks import is_count, is_positive
from dmcm.contexts import Contexts
from dmcm.errors import ConfigError, DataError, ShapeError
from dmcm.learner import Learner, check_near, held_contexts
from dmcm.samples import as_numbers
from dmcm.scaling import Scaler


class FilterState(eqx.Module):
    """Current estimate of the moving contexts: a Gaussian.

    Attributes:
        mean: contexts of the moving factors, one after the other, shape (d,).
        root: triangular root R of the information, the inverse covariance RᵀR, shape (d, d). Summing the
            information itself in single precision would lose directions that the data barely determine.
        moving: names of the moving factors.
        model: fingerprint of the learner that the contexts belong to.
    """

    mean: Float[Array, " d"]
    root: Float[Array, "d d"]
    moving: tuple[str, ...] = eqx.field(static=True)
    model: str | None = eqx.field(static=True)

    @property
    def information(self) -> Float[Array, "d d"]:
        """Inverse covariance, shape (d, d)."""
        return self.root.T @ self.root


class ContextFilter:
    """An extended Kalman filter on the contexts of one task, in square-root information form.

    Outputs are assumed independent and Gaussian around the prediction. A sample adds JᵀWJ to the information
    and moves the mean by (its inverse) JᵀW(y − f), with J the outputs' slopes in the contexts at the mean and
    W = 1/noise². If predictions are linear in the moving contexts, as in one factor of a
    `TensorProductNetwork(normalise=False)`, and the noise is the same in all outputs (in standardised units),
    the result equals that of `Learner.adapt` on `samples` samples, in any order. Otherwise each sample is
    linearised at the filter's mean at that time: the further the prior allows contexts to be from its mean,
    the less the first samples can be trusted.

    The prior weighs as much as in `adapt` with `samples` samples, for which the model learned it: its
    information is samples · outputs · Λ · W, with the mean of W over the measured outputs, because which
    contexts are likely does not depend on what a task's sensors measure.

    The filter takes numbers as they arrive, e.g. from a robot, and is compiled inside, so it must not be
    traced by `jax.jit` or `jax.vmap`. For several tasks, make one filter each.

    With `forgetting` below 1, the information of past samples fades by that factor a sample and is replaced
    by the prior's, so that the contexts of a robot that stands still return to the prior.

    Attributes:
        learner: the model whose contexts are tracked.
        weight: 1/noise² of each output in standardised units, shape (outputs,); 0 for one not measured.
        prior: the starting state.
        forgetting: share of the information that is kept from one sample to the next.
        held: contexts that do not move.
    """

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
        """Prepare the filter.

        Args:
            learner: a trained model.
            noise: standard deviation of outputs around good predictions, raw units; one number or one an
                output. Infinite for an output that is not measured: its values are ignored and may be NaN.
            samples: number of samples a task had when the prior was learned.
            forgetting: above 0, at most 1; 0.99 remembers about the last hundred samples.
            only: factors that move, as in `Learner.adapt`.
            given: contexts to hold, as in `Learner.adapt`.

        Raises:
            ConfigError: a setting out of range, or every factor held.
            ShapeError: neither one noise nor one an output.
            DataError: noise that is not numeric.
            FactorError, ContextMismatchError, DataError: as for `only` and `given` in `Learner.adapt`.
        """
        lasting = is_positive(forgetting) and forgetting <= 1
        if not is_count(samples) or not lasting:
            raise ConfigError(
                f"samples={samples!r} must be a whole number of at least 1, forgetting={forgetting!r} above "
                "0 and at most 1."
            )
        scale = np.ones(learner.outputs) if learner.scaler is None else np.asarray(learner.scaler.y_std)
        wide = as_numbers(noise, np.float64, "noise is not an array of numbers")
        if wide.shape not in ((), (learner.outputs,)):
            raise ShapeError(f"noise takes one number or {learner.outputs}, one an output, not {wide.shape}.")
        if not np.all(wide > 0) or np.all(np.isinf(wide)):
            raise ConfigError("noise must be positive, and finite for at least one output.")
        self.learner, self.forgetting, self._model = learner, float(forgetting), learner.fingerprint()
        with np.errstate(over="ignore"):
            self.weight = ((scale / np.broadcast_to(wide, scale.shape)) ** 2).astype(np.float32)
        if not np.all(np.isfinite(self.weight)):
            raise ConfigError("noise is too small compared with the spread of y for single precision.")
        self.held = held_contexts(learner, only, given, ())
        start = {k: v for k, v in learner.prior.start().items() if k not in self.held}
        if not start:
            raise ConfigError("all factors are given, so nothing is left to move; use `only`.")
        curvature, _ = ravel_pytree({k: learner.prior.precision()[k] for k in start})
        mean, _ = ravel_pytree(start)
        measured = float(self.weight[self.weight > 0].mean())
        root = jnp.diag(jnp.sqrt(samples * learner.outputs * measured * curvature))
        # `ravel_pytree` joins a dictionary in the order of its sorted keys.
        self.prior = FilterState(mean, root, tuple(sorted(start)), self._model)
        self._near = [] if learner.scaler is None else self._training_data(learner.scaler)
        # The model is a constant of the compiled step: passing its arrays would take longer than the step.
        self._step = jax.jit(lambda state, x, y: _step(self, state, x, y))
        self._steps = jax.jit(lambda state, x, y: _steps(self, state, x, y))

    def start(self) -> FilterState:
        """The state before any sample: the prior."""
        return self.prior

    def update(self, state: FilterState, x: ArrayLike, y: ArrayLike) -> FilterState:
        """The state after one more sample.

        Args:
            state: the state before.
            x: inputs, shape (inputs,), raw units.
            y: outputs, shape (outputs,), raw units.

        Raises:
            ShapeError: arrays that do not fit the model, or a state of another filter.
            DataError: NaN or infinite values, values that seem to be in another unit than in training, or a
                prediction that is not finite; `state` stays valid.
        """
        return self._after(state, *self._sample(x, y, ()))

    def update_many(self, state: FilterState, x: ArrayLike, y: ArrayLike) -> FilterState:
        """The state after n more samples, taken one by one in order.

        Args:
            state: the state before.
            x: inputs, shape (n, inputs), raw units.
            y: outputs, shape (n, outputs), raw units.

        Raises:
            ShapeError, DataError: as for `update`.
        """
        x = as_numbers(x, np.float32, "x is not an array of numbers")
        return self._after(state, *self._sample(x, y, (len(np.atleast_1d(x)),)))

    def contexts(self, state: FilterState) -> Contexts:
        """The mean as contexts of all factors, including those held.

        Raises:
            ShapeError: a state of another filter.
        """
        self._check(state)
        return Contexts({**self.held, **self.named(state.mean)}, self._model)

    def deviations(self, state: FilterState) -> dict[str, Float[Array, " _"]]:
        """Standard deviation of each number of the moving contexts, shape (size,) a factor.

        Raises:
            ShapeError: a state of another filter.
        """
        self._check(state)
        inverse = jax.scipy.linalg.solve_triangular(state.root, jnp.eye(state.mean.size))
        return self.named(jnp.linalg.norm(inverse, axis=1))

    def named(self, flat: Float[Array, " d"]) -> dict[str, Float[Array, " _"]]:
        """Split the numbers of a state into one vector per moving factor."""
        names = self.prior.moving
        ends = np.cumsum([self.learner.factors[name] for name in names])
        return dict(zip(names, jnp.split(flat, ends[:-1]), strict=True))

    def _training_data(self, scaler: Scaler) -> list[tuple[str, np.ndarray, np.ndarray, np.ndarray]]:
        """Which columns of x and y count, and their means and deviations."""
        found = []
        for name, counts, mean, std in (
            ("inputs", np.ones(self.learner.inputs, bool), scaler.x_mean, scaler.x_std),
            ("outputs", self.weight > 0, scaler.y_mean, scaler.y_std),
        ):
            found.append((name, counts, np.asarray(mean)[counts], np.asarray(std)[counts]))
        return found

    def _sample(self, x: ArrayLike, y: ArrayLike, lead: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        """A checked sample in single precision, with 0 for outputs that are not measured."""
        found = []
        for name, array, size in (("x", x, self.learner.inputs), ("y", y, self.learner.outputs)):
            wide = as_numbers(array, np.float32, f"{name} is not an array of numbers")
            if wide.shape != (*lead, size):
                raise ShapeError(f"{name} has shape {wide.shape}; {(*lead, size)} is needed.")
            found.append(wide)
        found[1] = np.where(self.weight > 0, found[1], np.float32(0))
        if not all(np.all(np.isfinite(wide)) for wide in found):
            raise DataError("a sample has NaN or infinite values; leave it out.")
        for wide, (name, counts, mean, std) in zip(found, self._near, strict=False):
            check_near(name, wide[..., counts], mean, std)
        return found[0], found[1]

    def _check(self, state: FilterState) -> None:
        if not isinstance(state, FilterState):
            raise ShapeError(f"the state must come from `start` or `update`, not {type(state).__name__}.")
        if state.moving != self.prior.moving or state.mean.shape != self.prior.mean.shape:
            raise ShapeError(
                f"the state has {state.mean.size} numbers of {', '.join(state.moving)}, but this filter "
                f"moves {self.prior.mean.size} of {', '.join(self.prior.moving)}: the state is of a filter "
                "that moves other factors."
            )
        if state.model != self._model:
            raise ShapeError("the state is of a filter of another model; begin with `start` of this one.")

    def _after(self, state: FilterState, x: np.ndarray, y: np.ndarray) -> FilterState:
        self._check(state)
        after = (self._step if x.ndim == 1 else self._steps)(state, x, y)
        if not all(np.all(np.isfinite(np.asarray(part))) for part in (after.mean, after.root)):
            raise DataError(
                "the prediction for a sample, or its slopes, are not finite: check that x and y are in the "
                "units the model was trained on. The previous state is still valid."
            )
        return after


def _step(
    own: ContextFilter, state: FilterState, x: Float[Array, " inputs"], y: Float[Array, " outputs"]
) -> FilterState:
    """One sample: fade, then add."""
    learner, prior = own.learner, own.prior
    if learner.scaler is not None:
        x, y = learner.scaler.scale_x(x), learner.scaler.scale_y(y)
    mean, root = state.mean, state.root
    if own.forgetting < 1:
        # Replace the information that fades by the prior's, around the prior's mean.
        fresh = jnp.sqrt(1 - own.forgetting) * prior.root
        root, moved = _least(jnp.sqrt(own.forgetting) * root, fresh, fresh @ (prior.mean - mean))
        mean = mean + moved
    encoded = learner.network.encode(x[None])

    def predict(flat: Float[Array, " d"]) -> Float[Array, " outputs"]:
        return learner.network.decode(encoded, {**own.held, **own.named(flat)})[0]

    root_weight = jnp.sqrt(own.weight)
    slopes = jax.jacfwd(predict)(mean) * root_weight[:, None]
    root, moved = _least(root, slopes, root_weight * (y - predict(mean)))
    mean = mean + moved
    # A model in single precision stays so where JAX runs in double.
    kept = mean.astype(state.mean.dtype), root.astype(state.root.dtype)
    return FilterState(*kept, state.moving, state.model)


def _least(
    root: Float[Array, "d d"], rows: Float[Array, "n d"], right: Float[Array, " n"]
) -> tuple[Float[Array, "d d"], Float[Array, " d"]]:
    """Root of rootᵀ root + rowsᵀ rows, and the z that minimises ‖root z‖² + ‖rows z − right‖²."""
    size = root.shape[0]
    left, known = jnp.concatenate([root, rows]), jnp.concatenate([jnp.zeros(size), right])
    triangle = jnp.linalg.qr(jnp.concatenate([left, known[:, None]], axis=1), mode="r")
    root = triangle[:size, :size]
    return root, jax.scipy.linalg.solve_triangular(root, triangle[:size, size])


def _steps(own: ContextFilter, state: FilterState, x: Array, y: Array) -> FilterState:
    def one(now: FilterState, sample: tuple[Array, Array]) -> tuple[FilterState, None]:
        return _step(own, now, *sample), None

    return jax.lax.scan(one, state, (x, y))[0]
