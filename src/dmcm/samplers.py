"""Where training batches come from: anything with `sample`, and the sampler of a dataset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from dmcm.samples import Batch, Samples
from dmcm.scaling import Scaler


@runtime_checkable
class Sampler(Protocol):
    """Source of batches for `fit`: a frozen pytree whose `sample` JAX can trace."""

    def sample(self, key: PRNGKeyArray) -> Batch:
        """One batch of tasks."""
        ...

    def scaler(self) -> Scaler:
        """Standardisation measured on the training data."""
        ...


def with_donors(
    anchors: Int[Array, " anchors"], labels: Mapping[str, Int[Array, " tasks"]], keys: Sequence[PRNGKeyArray]
) -> Int[Array, " batch"]:
    """Tasks, and for each one a random other task per factor that shares its label.

    Args:
        anchors: positions of tasks.
        labels: per factor, an integer a task.
        keys: one a factor.

    Returns:
        Anchors, then their donors factor by factor; an anchor without a donor is its own donor.
    """
    drawn = [anchors]
    for codes, key in zip(labels.values(), keys, strict=True):
        others = anchors[:, None] != jnp.arange(codes.shape[0])[None, :]
        allowed = (codes[anchors][:, None] == codes[None, :]) & others
        score = jnp.where(allowed, jax.random.uniform(key, allowed.shape), -1.0)
        drawn.append(jnp.where(jnp.any(allowed, axis=1), jnp.argmax(score, axis=1), anchors))
    return jnp.concatenate(drawn)


class DatasetSampler(eqx.Module):
    """Batches from a `FactorDataset`: random tasks with a donor per factor, samples split anew.

    Attributes:
        support: all samples, leading axis tasks.
        query: fixed queries, or None to split `support` in every draw.
        labels: per factor, shape (tasks,).
        values: per factor, labels as numbers, shape (tasks, 1); None unless all labels are numbers.
        moments: standardisation of the whole dataset.
        shots: support samples a task.
        anchors: tasks drawn before their donors.
    """

    support: Samples
    query: Samples | None
    labels: dict[str, Int[Array, " tasks"]]
    values: dict[str, Float[Array, "tasks _"]] | None
    moments: Scaler
    shots: int = eqx.field(static=True)
    anchors: int = eqx.field(static=True)

    def scaler(self) -> Scaler:
        """Standardisation measured on all samples."""
        return self.moments

    def sample(self, key: PRNGKeyArray) -> Batch:
        """One batch; see the class."""
        task_key, split_key = jax.random.split(key)
        index = self._draw_tasks(task_key)
        pick = lambda tree: jax.tree.map(lambda leaf: leaf[index], tree)  # noqa: E731
        if self.query is not None:
            support, query = self._draw_support(pick(self.support), split_key), pick(self.query)
        else:
            support, query = self._split(pick(self.support), split_key)
        return Batch(
            support=support,
            query=query,
            task=index,
            labels=pick(self.labels),
            valid=jnp.ones(index.shape, bool),
            values=pick(self.values),
        )

    def _draw_tasks(self, key: PRNGKeyArray) -> Int[Array, " batch"]:
        count = self.support.x.shape[0]
        if count <= self.anchors * (1 + len(self.labels)):
            return jnp.arange(count)
        anchor_key, *donor_keys = jax.random.split(key, 1 + len(self.labels))
        anchors = jax.random.choice(anchor_key, count, (self.anchors,), replace=False)
        return with_donors(anchors, self.labels, donor_keys)

    def _ordered(self, samples: Samples, key: PRNGKeyArray) -> Samples:
        """Each task's samples in random order, padding last."""
        score = jax.random.uniform(key, samples.weight.shape) + 2.0 * (samples.weight == 0)
        order = jnp.argsort(score, axis=1)
        take = lambda leaf: jnp.take_along_axis(  # noqa: E731
            leaf, order.reshape(order.shape + (1,) * (leaf.ndim - 2)), axis=1
        )
        return jax.tree.map(take, samples)

    def _draw_support(self, samples: Samples, key: PRNGKeyArray) -> Samples:
        return jax.tree.map(lambda leaf: leaf[:, : self.shots], self._ordered(samples, key))

    def _split(self, samples: Samples, key: PRNGKeyArray) -> tuple[Samples, Samples]:
        ordered = self._ordered(samples, key)
        return (
            jax.tree.map(lambda leaf: leaf[:, : self.shots], ordered),
            jax.tree.map(lambda leaf: leaf[:, self.shots :], ordered),
        )
