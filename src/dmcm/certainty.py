"""How certain fitted contexts are: their scatter over the stretches of time that the samples come from."""

from __future__ import annotations

from collections.abc import Iterable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from dmcm.checks import as_names
from dmcm.contexts import Contexts, check_compatible
from dmcm.errors import DataError, FactorError, ShapeError
from dmcm.fingerprints import fingerprint_of
from dmcm.learner import Learner, standardised
from dmcm.samples import Samples, as_samples

LEAST_BLOCKS = 5
"""With fewer blocks, a spread cannot be estimated."""


def context_deviations(
    learner: Learner,
    contexts: Contexts,
    x: ArrayLike,
    y: ArrayLike,
    block: ArrayLike,
    *,
    only: Iterable[str] | None = None,
) -> dict[str, Float[Array, " _"]]:
    """Standard deviations of contexts that were fitted to one task's samples.

    Errors of neighbouring samples in a recording are correlated, so counting the samples as independent would
    make contexts look far more certain than they are. This function sums each sample's gradient over blocks
    of time and uses the scatter between blocks (the sandwich estimator for clustered data; Liang and Zeger,
    1986, Biometrika 73). The result says how much contexts fitted to other samples of the same task would
    differ, not how wrong the model is about the task.

    Args:
        learner: the model that fitted them.
        contexts: what `Learner.adapt` returned.
        x: inputs that the contexts were fitted to, shape (n, inputs), raw units.
        y: outputs, shape (n, outputs), raw units.
        block: block number of each sample, shape (n,); samples of different blocks should be nearly
            independent.
        only: factors that moved; all by default.

    Returns:
        Per factor that moved, shape (size,).

    Raises:
        ShapeError, DataError: as for `Learner.adapt`, or fewer than `LEAST_BLOCKS` blocks.
        FactorError: a factor the model does not have.
        ContextMismatchError: contexts of another model.
    """
    samples = as_samples(x, y, learner.inputs, learner.outputs)
    check_compatible(contexts, learner.factors, fingerprint_of(learner))
    blocks = np.asarray(block)
    if samples.x.ndim != 2 or blocks.shape != samples.x.shape[:1]:
        raise ShapeError(
            f"one task's samples and a block for each are needed, not x {samples.x.shape} and blocks "
            f"{blocks.shape}."
        )
    named = learner.factors if only is None else as_names(only, "only")
    moving = tuple(dict.fromkeys(named))
    learner.factors.check(moving)
    if not moving:
        raise FactorError(f"only=() moved nothing; name at least one of {', '.join(learner.factors)}.")
    if contexts.batch_shape:
        raise ShapeError(f"contexts of one task are needed, not of batch shape {contexts.batch_shape}.")
    names, number = np.unique(blocks, return_inverse=True)
    if len(names) < LEAST_BLOCKS:
        raise DataError(
            f"the samples span only {len(names)} blocks; at least {LEAST_BLOCKS} are needed to estimate a "
            "spread: give more data, or shorter blocks."
        )
    slopes, errors, precision = (
        np.asarray(part, np.float64) for part in _slopes(learner, contexts.values, samples, moving)
    )
    if not (np.all(np.isfinite(slopes)) and np.all(np.isfinite(errors))):
        raise DataError("the predictions' slopes are not finite: check the units of x and y.")
    # H⁻¹ S H⁻¹ with H the objective's curvature and S the scatter of its slope over blocks. In double
    # precision, because context numbers that the data barely distinguish make H nearly singular.
    sums = np.zeros((len(names), len(precision)))
    np.add.at(sums, number, np.einsum("nod,no->nd", slopes, errors) / errors.size)
    away = sums - sums.mean(axis=0)
    curvature = np.einsum("nod,noe->de", slopes, slopes) / errors.size + np.diag(precision)
    moves = np.linalg.solve(curvature, away.T)
    deviations = np.sqrt(np.sum(moves**2, axis=1) * len(names) / (len(names) - 1))
    order = sorted(moving)
    ends = np.cumsum([learner.factors[name] for name in order])
    return dict(zip(order, jnp.split(jnp.asarray(deviations), ends[:-1]), strict=True))


@eqx.filter_jit
def _slopes(
    learner: Learner, values: dict[str, Array], samples: Samples, moving: tuple[str, ...]
) -> tuple[Float[Array, "n outputs d"], Float[Array, "n outputs"], Float[Array, " d"]]:
    """Slopes of predictions in the contexts that moved, the prediction errors, and the prior's precision."""
    scaled = standardised(learner, samples)
    held = {name: value for name, value in values.items() if name not in moving}
    flat, unravel = ravel_pytree({name: values[name] for name in moving})
    precision, _ = ravel_pytree({name: learner.prior.precision()[name] for name in moving})
    encoded = learner.network.encode(jnp.asarray(scaled.x))

    def predict(moved: Float[Array, " d"]) -> Float[Array, "n outputs"]:
        return learner.network.decode(encoded, {**held, **unravel(moved)})

    return jax.jacfwd(predict)(flat), predict(flat) - scaled.y, precision
