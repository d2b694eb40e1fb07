"""Learner: adapt contexts to a few samples, predict with contexts from anywhere."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sized

import equinox as eqx
import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from dmcm.checks import as_names
from dmcm.contexts import Contexts, Factors, check_compatible, check_sizes, same_model
from dmcm.errors import ConfigError, ContextMismatchError, DataError, FactorError, ShapeError
from dmcm.fingerprints import fingerprint_of
from dmcm.networks.base import Network
from dmcm.pooling import solve_pooled
from dmcm.priors import Prior
from dmcm.samples import Samples, as_inputs, as_numbers, as_samples
from dmcm.scaling import Scaler
from dmcm.solvers.base import Solver, Values

_FARTHEST = 1e6
"""Distance from the training mean, in standard deviations, beyond which single precision cannot resolve
inner-loop steps."""


class Learner(eqx.Module):
    """A network, an inner loop and a prior: everything `adapt` and `predict` need.

    A frozen pytree: `fit` returns a new one. All methods take and return raw units.

    Attributes:
        network: f_θ(x; c_1..c_K) on standardised data.
        solver: the inner loop that finds contexts.
        prior: learned prior of the contexts.
        scaler: standardisation, set by `fit` from training data; None means raw units are used as they are.
        factors: names and context sizes.
    """

    network: Network
    solver: Solver
    prior: Prior
    scaler: Scaler | None
    factors: Factors = eqx.field(static=True)

    def __init__(
        self,
        network: Network,
        solver: Solver,
        factors: Factors,
        *,
        prior: Prior | None = None,
        scaler: Scaler | None = None,
    ):
        """Put the parts together.

        Raises:
            FactorError: network, solver or prior is made for other factors.
            ShapeError: solver or scaler is made for other numbers of columns, or the network's outputs have
                another shape than it says.
            ConfigError: a network or solver of one's own without a name for its kind.
        """
        for part in (network, solver):
            if not isinstance(getattr(part, "kind", None), str):
                raise ConfigError(
                    f"{type(part).__name__} has no name for its kind, by which files tell models apart: add "
                    'kind: ClassVar[str] = "…" to the class.'
                )
        if network.factors != factors:
            raise FactorError(
                f"the network is conditioned on {network.factors}, but the learner is given {factors}; "
                "build both from the same Factors."
            )
        solver.check_fits(network)
        if prior is not None and (sizes := {k: v.size for k, v in prior.mean.items()}) != factors.sizes:
            raise FactorError(f"the prior is for {sizes}, but the learner's factors are {factors.sizes}.")
        if scaler is not None and (scaler.x_mean.shape, scaler.y_mean.shape) != (
            (network.inputs,),
            (network.outputs,),
        ):
            raise ShapeError(
                f"the scaler has {scaler.x_mean.size} input and {scaler.y_mean.size} output columns, but the "
                f"network has {network.inputs} and {network.outputs}."
            )
        self.network, self.solver, self.factors = network, solver, factors
        self.prior = Prior(factors) if prior is None else prior
        self.scaler = scaler
        _check_outputs(network, self.prior)

    @property
    def inputs(self) -> int:
        """Number of input columns."""
        return self.network.inputs

    @property
    def outputs(self) -> int:
        """Number of output columns."""
        return self.network.outputs

    def adapt(
        self,
        x: ArrayLike,
        y: ArrayLike,
        *,
        only: Iterable[str] | None = None,
        given: Contexts | Mapping[str, ArrayLike] | None = None,
    ) -> Contexts:
        """Fit the contexts of one task to its samples.

        May be called under `jax.vmap` and within `jax.jit`. To compile it on its own, use
        `equinox.filter_jit(learner.adapt)`.

        Args:
            x: inputs, shape (n, inputs), raw units.
            y: outputs, shape (n, outputs), raw units.
            only: factors to adapt; all others are held at `given`, or at the prior mean.
                Default: all but `given`.
            given: contexts to hold. Vectors of factors named in `only` are ignored.

        Returns:
            Contexts of all factors, each of shape (size,).

        Raises:
            ShapeError: arrays that do not fit the model; for several tasks use `adapt_many`.
            DataError: no sample, NaN or infinite values, data that seem to be in another unit than in
                training, or an inner loop that did not end in finite numbers.
            FactorError: an unknown factor in `only` or `given`.
            ContextMismatchError: `given` of another model or size.
        """
        samples = as_samples(x, y, self.inputs, self.outputs)
        if samples.x.ndim != 2:
            raise ShapeError(
                f"adapt takes one task, x (n, {self.inputs}); use adapt_many for {samples.x.shape}."
            )
        _check_units(self, samples)
        held = held_contexts(self, only, given, batch_shape=())
        return Contexts(_checked(self, _adapt(self, samples, held)), fingerprint_of(self))

    def adapt_many(
        self,
        x: ArrayLike,
        y: ArrayLike,
        *,
        only: Iterable[str] | None = None,
        given: Contexts | Mapping[str, ArrayLike] | None = None,
    ) -> Contexts:
        """Fit the contexts of several tasks, each on its own.

        Args:
            x: inputs, shape (tasks, n, inputs), raw units.
            y: outputs, shape (tasks, n, outputs), raw units.
            only: as in `adapt`.
            given: as in `adapt`; vectors of shape (size,) serve all tasks, (tasks, size) one each.

        Returns:
            Contexts of batch shape (tasks,).

        Raises:
            ShapeError, DataError, FactorError, ContextMismatchError: as for `adapt`.
        """
        samples = as_samples(x, y, self.inputs, self.outputs)
        if samples.x.ndim != 3:
            raise ShapeError(f"adapt_many takes x (tasks, n, {self.inputs}), not {samples.x.shape}.")
        return self.adapt_samples(samples, only=only, given=given)

    def adapt_samples(
        self,
        samples: Samples,
        *,
        only: Iterable[str] | None = None,
        given: Contexts | Mapping[str, ArrayLike] | None = None,
        truth: dict[str, Float[Array, "tasks _"]] | None = None,
    ) -> Contexts:
        """Like `adapt_many`, on checked samples that may be padded (weight 0), as datasets hold them.

        Args:
            samples: raw units, leading axis tasks.
            only: as in `adapt`.
            given: as in `adapt_many`.
            truth: true factor values, for the oracle alone.

        Raises:
            ShapeError, DataError, FactorError, ContextMismatchError: as for `adapt`.
        """
        shapes = {leaf.shape[:2] for leaf in (samples.x, samples.y, samples.weight)}
        if len(shapes) > 1 or (samples.x.ndim, samples.y.ndim, samples.weight.ndim) != (3, 3, 2):
            raise ShapeError(
                f"adapt_samples takes x (tasks, n, {self.inputs}), y (tasks, n, {self.outputs}) and weight "
                f"(tasks, n), not {samples.x.shape}, {samples.y.shape} and {samples.weight.shape}; use adapt "
                "for one task."
            )
        if samples.x.shape[1] == 0:
            raise DataError("no samples to adapt to: give at least one row of x and y a task.")
        columns = (samples.x.shape[-1], samples.y.shape[-1])
        if columns != (self.inputs, self.outputs):
            raise ShapeError(
                f"the samples have {columns[0]} input and {columns[1]} output columns, but the learner takes "
                f"{self.inputs} and {self.outputs}."
            )
        _check_units(self, samples)
        held = held_contexts(self, only, given, batch_shape=(samples.x.shape[0],))
        return Contexts(_checked(self, _adapt_many(self, samples, held, truth)), fingerprint_of(self))

    def adapt_pooled(
        self,
        tasks: Iterable[tuple[ArrayLike, ArrayLike]],
        *,
        shared: str | Iterable[str],
        given: Contexts | Mapping[str, ArrayLike] | None = None,
    ) -> Contexts:
        """One vector for a label that several tasks share, from all their samples at once.

        Factors that are not shared get a private vector per task, which is fitted as well and then dropped.

        Args:
            tasks: pairs x (n_i, inputs), y (n_i, outputs); numbers of samples may differ.
            shared: the factor(s) whose label is the same in all tasks.
            given: contexts to hold, the same for all tasks.

        Returns:
            Contexts of the shared factors only; add the others with `share`.

        Raises:
            DataError: no task, or as for `adapt`.
            ShapeError, FactorError, ContextMismatchError: as for `adapt`.
        """
        names = as_names(shared, "shared")
        self.factors.check(names)
        if not names:
            raise FactorError(f"name the factor the tasks share; valid: {', '.join(self.factors)}.")
        pairs = list(tasks)
        if not pairs:
            raise DataError("no tasks to pool: give at least one pair (x, y).")
        if any(not isinstance(pair, Sized) or len(pair) != 2 for pair in pairs):
            raise ShapeError("adapt_pooled takes a list of pairs, [(x1, y1), (x2, y2), …].")
        parts = [as_samples(x, y, self.inputs, self.outputs) for x, y in pairs]
        if any(part.x.ndim != 2 for part in parts):
            raise ShapeError(f"adapt_pooled takes pairs x (n, {self.inputs}), y (n, {self.outputs}).")
        for part in parts:
            _check_units(self, part)
        longest = max(part.x.shape[0] for part in parts)

        def padded(part: Samples) -> Samples:
            missing = longest - part.x.shape[0]
            # Repeat the last row instead of zeros: far from the data, zeros may overflow once standardised.
            x, y = (jnp.pad(leaf, ((0, missing), (0, 0)), mode="edge") for leaf in (part.x, part.y))
            return Samples(x, y, jnp.pad(part.weight, (0, missing)))

        supports = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(padded(part) for part in parts))
        held = {} if given is None else held_contexts(self, None, given, batch_shape=())
        held = {name: value for name, value in held.items() if name not in names}
        return Contexts(_checked(self, _adapt_pooled(self, supports, held, names)), fingerprint_of(self))

    def predict(self, contexts: Contexts, x: ArrayLike) -> Float[Array, "..."]:
        """Outputs for inputs under given contexts.

        Args:
            contexts: one vector per factor, from `adapt`, `share` or a `ContextBank`.
            x: inputs, shape (n, inputs), raw units; with batched contexts also (tasks, n, inputs).

        Returns:
            Outputs in raw units, shape (n, outputs), or (tasks, n, outputs) for batched contexts.

        Raises:
            ShapeError, DataError: inputs that do not fit or seem to be in another unit than in training, or
                inputs or contexts that are not finite.
            FactorError: a factor without a context.
            ContextMismatchError: contexts of another model or size.
        """
        check_compatible(contexts, self.factors, fingerprint_of(self))
        if bad := _not_finite(contexts.values):
            raise DataError(f"the context of '{bad[0]}' has NaN or infinite values.")
        inputs = as_inputs(x, self.inputs)
        if self.scaler is not None:
            check_near("inputs", inputs, self.scaler.x_mean, self.scaler.x_std)
        batch = contexts.batch_shape
        if len(batch) > 1 or inputs.ndim - 2 > len(batch) or (inputs.ndim == 3 and inputs.shape[:1] != batch):
            raise ShapeError(
                f"x {tuple(inputs.shape)} does not fit contexts of batch shape {batch}: "
                "give (n, inputs), or (tasks, n, inputs) with as many tasks as contexts."
            )
        return _predict(self, contexts.values, inputs)

    def prior_contexts(self) -> Contexts:
        """Contexts at the prior mean: what the model assumes without any data."""
        return Contexts(dict(self.prior.start()), fingerprint_of(self))

    def fingerprint(self) -> str | None:
        """Hash of structure and parameters, the same after saving and loading; None while JAX traces."""
        return fingerprint_of(self)


def _check_outputs(network: Network, prior: Prior) -> None:
    """Refuse a network whose outputs NumPy's rules would silently broadcast; skipped under tracing."""
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves((network, prior))):
        return
    rows = jax.ShapeDtypeStruct((2, network.inputs), jnp.float32)
    found = jax.eval_shape(lambda x, own: network.decode(network.encode(x), own), rows, prior.mean)
    shape = getattr(found, "shape", type(found).__name__)
    if shape != (2, network.outputs):
        raise ShapeError(
            f"{type(network).__name__} gives outputs of shape {shape} for 2 inputs; {(2, network.outputs)}, "
            "(n, outputs), is needed: check its decode."
        )


def held_contexts(
    learner: Learner,
    only: Iterable[str] | None,
    given: Contexts | Mapping[str, ArrayLike] | None,
    batch_shape: tuple[int, ...],
) -> dict[str, Float[Array, "..."]]:
    """Contexts to hold, broadcast to the batch shape; factors without one are to be adapted.

    Args:
        learner: the learner whose factors they are.
        only: as in `Learner.adapt`.
        given: as in `Learner.adapt`.
        batch_shape: leading shape of all vectors, before their size.

    Raises:
        FactorError: an unknown factor in `only` or `given`, or `only` names none.
        ContextMismatchError: `given` of another model, size or batch shape.
        DataError: a given vector that is not made of finite numbers.
    """
    values: dict[str, Array] = {}
    if given is not None:
        if isinstance(given, Contexts):
            same_model((given.model, fingerprint_of(learner)))
            values = dict(given.values)
        elif isinstance(given, Mapping):
            values = {name: _vector(name, value) for name, value in given.items()}
        else:
            raise ContextMismatchError(
                f"given takes Contexts or {{factor: vector}}, not {type(given).__name__}."
            )
        learner.factors.check(values)
        check_sizes(values, learner.factors)
    if only is not None:
        moving = as_names(only, "only")
        learner.factors.check(moving)
        if not moving:
            raise FactorError(
                f"only=() would move nothing; name at least one of {', '.join(learner.factors)}."
            )
        start = learner.prior.start()
        values = {name: values.get(name, start[name]) for name in learner.factors if name not in moving}
    if bad := _not_finite(values):
        raise DataError(f"the given context of '{bad[0]}' has NaN or infinite values.")
    for name, value in values.items():
        if value.shape[:-1] not in ((), batch_shape):
            raise ContextMismatchError(
                f"the given context of '{name}' has shape {tuple(value.shape)}; "
                f"it needs {(learner.factors[name],)} or {(*batch_shape, learner.factors[name])}."
            )
    return {name: jnp.broadcast_to(v, (*batch_shape, v.shape[-1])) for name, v in values.items()}


def _check_units(learner: Learner, samples: Samples) -> None:
    """Refuse data too far from training's for inner-loop steps to have any effect; skipped under tracing."""
    scaler, weight = learner.scaler, samples.weight
    if scaler is None or isinstance(weight, jax.core.Tracer):
        return
    # Padding does not count.
    real = np.asarray(weight) > 0
    check_near("inputs", samples.x, scaler.x_mean, scaler.x_std, real)
    check_near("outputs", samples.y, scaler.y_mean, scaler.y_std, real)


def check_near(
    name: str, values: ArrayLike, mean: ArrayLike, std: ArrayLike, real: np.ndarray | None = None
) -> None:
    """Refuse values more than `_FARTHEST` deviations from a mean, padding aside; skipped under tracing."""
    if any(isinstance(leaf, jax.core.Tracer) for leaf in (values, mean, std)):
        return
    wide = np.asarray(values, np.float64)
    away = np.abs((wide if real is None else wide[real]) - np.asarray(mean)) / np.asarray(std)
    if away.size and away.max() > _FARTHEST:
        raise DataError(
            f"{name} lie up to {away.max():.1e} standard deviations from their training mean: are they in "
            "another unit?"
        )


def _checked(learner: Learner, values: dict[str, Float[Array, "..."]]) -> dict[str, Float[Array, "..."]]:
    """Refuse contexts that are not finite; skipped under tracing."""
    if bad := _not_finite(values):
        raise DataError(
            f"adaptation did not end in finite numbers for '{bad[0]}': the inner loop exploded. Check that "
            "the data are in the units of training, or use the safeguarded solver LevenbergMarquardt."
        )
    return {name: values[name] for name in learner.factors if name in values}


def _not_finite(values: Mapping[str, Array]) -> list[str]:
    """Factors whose contexts have NaN or infinite values; traced ones are skipped."""
    known = {name: value for name, value in values.items() if not isinstance(value, jax.core.Tracer)}
    return [name for name, value in known.items() if not np.all(np.isfinite(np.asarray(value)))]


def _vector(name: str, value: ArrayLike) -> Float[Array, "..."]:
    """A context given as plain numbers."""
    if isinstance(value, jax.core.Tracer):
        return value
    return jnp.asarray(
        as_numbers(value, np.float32, f"the given context of '{name}' is not a vector of numbers")
    )


def standardised(learner: Learner, samples: Samples) -> Samples:
    """Samples in the model's own units."""
    if learner.scaler is None:
        return samples
    return Samples(learner.scaler.scale_x(samples.x), learner.scaler.scale_y(samples.y), samples.weight)


@eqx.filter_jit
def _adapt(learner: Learner, samples: Samples, held: Values) -> Values:
    return learner.solver.solve(learner.network, learner.prior, standardised(learner, samples), held)


@eqx.filter_jit
def _adapt_many(
    learner: Learner, samples: Samples, held: dict[str, Array], truth: dict[str, Array] | None
) -> dict[str, Array]:
    def one(support: Samples, given: Values, values: Values | None) -> Values:
        return learner.solver.solve(learner.network, learner.prior, support, given, truth=values)

    return jax.vmap(one)(standardised(learner, samples), held, truth)


@eqx.filter_jit
def _adapt_pooled(learner: Learner, supports: Samples, held: Values, shared: tuple[str, ...]) -> Values:
    return solve_pooled(
        learner.network,
        learner.prior,
        learner.solver,
        standardised(learner, supports),
        held,
        shared,
    )


@eqx.filter_jit
def _predict(learner: Learner, values: dict[str, Array], x: Float[Array, "..."]) -> Float[Array, "..."]:
    network, scaler = learner.network, learner.scaler
    inputs = x if scaler is None else scaler.scale_x(x)
    batched = next(iter(values.values())).ndim == 2
    if not batched:
        outputs = network(inputs, values)
    elif inputs.ndim == 2:
        encoded = network.encode(inputs)
        outputs = jax.vmap(lambda own: network.decode(encoded, own))(values)
    else:
        outputs = jax.vmap(network)(inputs, values)
    return outputs if scaler is None else scaler.unscale_y(outputs)
