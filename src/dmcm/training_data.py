"""Whether data can train a learner: columns, labels and batches are checked before anything is compiled."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from dmcm.data import FactorDataset
from dmcm.errors import ConfigError, DataError, ShapeError
from dmcm.fit_config import FitConfig
from dmcm.learner import Learner
from dmcm.samplers import Sampler
from dmcm.samples import Batch


def check_same_columns(data: FactorDataset, validation: FactorDataset) -> None:
    """Raise if columns of one name stand at different places."""
    for kind in ("input", "output"):
        here, there = (getattr(part, f"{kind}_names") for part in (data, validation))
        if here != there and set(here) & set(there):
            raise ShapeError(
                f"the {kind} columns of the validation data are {', '.join(there)}, those of the training "
                f"data {', '.join(here)}: give both the same columns in the same order."
            )


def check_fits(learner: Learner, sampler: Sampler, config: FitConfig) -> None:
    """Raise unless a sampler can be compiled and its batches have the learner's columns and factors."""
    if not (hasattr(sampler, "sample") and hasattr(sampler, "scaler")):
        raise DataError(
            f"cannot train on {type(sampler).__name__}: give a FactorDataset, or a sampler with sample(key) "
            "and scaler()."
        )
    leaves, structure = jax.tree.flatten(sampler)
    try:
        hash((structure, *(leaf for leaf in leaves if not isinstance(leaf, (jax.Array, np.ndarray)))))
    except TypeError as error:
        raise DataError(
            f"the sampler {type(sampler).__name__} is not a frozen pytree, which compiled training needs "
            f"({error}): make it an equinox.Module."
        ) from error
    batch = jax.eval_shape(sampler.sample, jax.random.key(0))
    if not isinstance(batch, Batch):
        raise DataError(
            f"{type(sampler).__name__}.sample must return a dmcm.samples.Batch, not {type(batch).__name__}."
        )
    for samples in (batch.support, batch.query):
        inputs, outputs = samples.x.shape[-1], samples.y.shape[-1]
        if (inputs, outputs) != (learner.inputs, learner.outputs):
            raise ShapeError(
                f"the data have {inputs} input and {outputs} output columns, but the learner takes "
                f"{learner.inputs} and {learner.outputs}."
            )
    _check_batch(batch)
    missing = [name for name in learner.factors if name not in batch.labels]
    if config.dependence > 0 and len(learner.factors) < 2:
        raise ConfigError(
            f"dependence={config.dependence} keeps factors apart, but there is only one: set it to 0."
        )
    if missing and config.recombination > 0:
        raise ConfigError(
            f"the data have no label for {', '.join(missing)}; they have {', '.join(batch.labels)}. "
            "Without labels, only recombination=0 is possible."
        )


def _check_batch(batch: Batch) -> None:
    """Raise unless a batch's arrays, of which only shapes and types are known, fit each other."""
    tasks = batch.task.shape[:1]
    for name, samples in (("support", batch.support), ("query", batch.query)):
        shapes = (samples.x.shape[:-1], samples.y.shape[:-1], samples.weight.shape)
        if len(set(shapes)) > 1 or len(shapes[0]) != 2 or shapes[0][:1] != tasks:
            raise ShapeError(
                f"the {name} samples of a batch have x {samples.x.shape}, y {samples.y.shape} and weight "
                f"{samples.weight.shape} for task {batch.task.shape}; x (tasks, n, inputs), y (tasks, n, "
                "outputs), weight (tasks, n) and task (tasks,) are needed."
            )
    integers = {"task": batch.task, **{f"labels of {name}": part for name, part in batch.labels.items()}}
    for name, array, kind, called in (
        *((name, array, jnp.integer, "integers") for name, array in integers.items()),
        ("valid", batch.valid, jnp.bool_, "booleans"),
    ):
        if array.shape != tasks or not jnp.issubdtype(array.dtype, kind):
            raise ShapeError(
                f"the {name} of a batch must be {called} of shape {tasks}, one a task, not {array.dtype} "
                f"{array.shape}."
            )
