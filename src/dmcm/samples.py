"""Samples of tasks as the compiled code sees them: inputs, outputs and a weight per sample."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import equinox as eqx
import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int

from dmcm.errors import DataError, ShapeError

if TYPE_CHECKING:
    AnyArray = Array
else:
    # Checked samples stay in NumPy until they reach compiled code, which only sees JAX arrays:
    # its own conversion costs a third of converting them beforehand.
    AnyArray = Array | np.ndarray


class Samples(eqx.Module):
    """Inputs and outputs of one task, or of many with a leading task axis.

    Attributes:
        x: inputs, shape (..., n, inputs).
        y: outputs, shape (..., n, outputs).
        weight: 1 for a real sample, 0 for padding, shape (..., n).
    """

    x: Float[AnyArray, "*tasks n inputs"]
    y: Float[AnyArray, "*tasks n outputs"]
    weight: Float[AnyArray, "*tasks n"]


class Batch(eqx.Module):
    """Tasks of one outer step.

    Attributes:
        support: samples the contexts are fitted to, leading axis tasks.
        query: samples the outer loss is computed on, leading axis tasks.
        task: an integer a task; equal integers mean the same task drawn twice.
        labels: per factor, an integer a task; equal integers mean equal labels.
        valid: False for tasks that must neither be learned from nor be donors, such as those without a sample
            in support or query set.
        values: true factor values as numbers, shape (tasks, v), if they are known (the oracle reads them).
    """

    support: Samples
    query: Samples
    task: Int[Array, " tasks"]
    labels: dict[str, Int[Array, " tasks"]]
    valid: Bool[Array, " tasks"]
    values: dict[str, Float[Array, "tasks _"]] | None = None


def weighted_mean(
    squares: Float[Array, "*tasks n outputs"], weight: Float[Array, "*tasks n"]
) -> Float[Array, "*tasks"]:
    """Mean over samples and outputs, counting only samples of weight 1; 0 if there are none."""
    total = jnp.sum(jnp.mean(squares, axis=-1) * weight, axis=-1)
    return total / jnp.maximum(jnp.sum(weight, axis=-1), 1.0)


def as_samples(x: ArrayLike, y: ArrayLike, inputs: int, outputs: int) -> Samples:
    """Check and convert one task's (or a batch of tasks') arrays.

    Args:
        x: inputs, shape (..., n, inputs).
        y: outputs, shape (..., n, outputs).
        inputs: number of input columns the model has.
        outputs: number of output columns the model has.

    Raises:
        ShapeError: shapes that do not fit each other or the model.
        DataError: no sample, or NaN or infinite values.
    """
    checked_x = as_inputs(x, inputs)
    checked_y = _as_columns(y, "y", outputs)
    if checked_x.shape[:-1] != checked_y.shape[:-1]:
        raise ShapeError(
            f"x {checked_x.shape} and y {checked_y.shape} must have the same number of samples (and tasks)."
        )
    if checked_x.shape[-2] == 0:
        raise DataError("no samples to adapt to: give at least one row of x and y.")
    weight = cast(AnyArray, np.ones(checked_x.shape[:-1]))
    return Samples(checked_x, checked_y, weight)


def as_inputs(x: ArrayLike, inputs: int) -> Float[AnyArray, "..."]:
    """Check and convert inputs, shape (..., n, inputs); errors as in `as_samples`."""
    return _as_columns(x, "x", inputs)


def as_numbers(array: Any, kind: type[np.floating], what: str) -> np.ndarray:
    """Convert numeric values to floating point; values too large become infinite.

    Args:
        array: the values to convert.
        kind: floating-point type of the result.
        what: start of the error message, such as "x is not an array of numbers".

    Raises:
        DataError: values that are not numbers, masked values, or dates.
    """
    try:
        host = np.asarray(array)
        if isinstance(array, np.ma.MaskedArray) and np.ma.is_masked(array):
            raise TypeError("masked values are missing, so drop their samples or fill them in")
        if host.dtype.kind in "cMm":
            raise TypeError(f"{host.dtype} values are not real numbers")
        with np.errstate(over="ignore"):
            return host.astype(kind)
    except (TypeError, ValueError, OverflowError) as error:
        ragged = "inhomogeneous" in str(error)
        advice = " Pad tasks of unequal length with FactorDataset, or pass them one by one." if ragged else ""
        raise DataError(f"{what}: {error}.{advice}") from error


def _as_columns(array: ArrayLike, name: str, columns: int) -> Float[AnyArray, "..."]:
    if isinstance(array, jax.core.Tracer):
        converted = cast(Array, array)
    else:
        host = as_numbers(array, np.float32, f"{name} is not an array of numbers")
        if not np.all(np.isfinite(host)):
            bad = tuple(int(i) for i in np.argwhere(~np.isfinite(host))[0])
            raise DataError(
                f"{name} has NaN, infinite or too large values, the first at index {bad}. "
                "Drop those samples or fill them in before adapting."
            )
        converted = cast(AnyArray, host)
    if converted.ndim < 2 or converted.shape[-1] != columns:
        hint = f" Did you mean {name}[:, None]?" if converted.ndim == 1 and columns == 1 else ""
        raise ShapeError(
            f"{name} has shape {tuple(converted.shape)}; this model takes (samples, {columns}).{hint}"
        )
    return converted
