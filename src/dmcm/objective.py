"""The outer objective: query losses with own, recombined and missing contexts, and a dependence penalty."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from dmcm.learner import Learner, standardised
from dmcm.samples import Batch, Samples, weighted_mean


def choose_donors(
    labels: Int[Array, " tasks"],
    task: Int[Array, " tasks"],
    valid: Bool[Array, " tasks"],
    key: PRNGKeyArray,
) -> tuple[Int[Array, " tasks"], Bool[Array, " tasks"]]:
    """For each task, another valid task with the same label, drawn uniformly.

    Returns:
        index: the donor, or the task itself if there is none, shape (tasks,).
        found: whether there is a donor, shape (tasks,).
    """
    count = labels.shape[0]
    same_label, same_task = labels[:, None] == labels[None, :], task[:, None] == task[None, :]
    allowed = same_label & ~same_task & valid[None, :]
    score = jnp.where(allowed, jax.random.uniform(key, (count, count)), -1.0)
    found = jnp.any(allowed, axis=1)
    return jnp.where(found, jnp.argmax(score, axis=1), jnp.arange(count)), found


def outer_loss(
    learner: Learner,
    batch: Batch,
    key: PRNGKeyArray,
    *,
    recombination: float,
    dependence: float,
    omission: float = 0.0,
    outlier_scale: float | None = None,
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    """Query loss with own contexts + w · recombined ones + v · one left out, + dependence penalty.

    Every task adapts alone on its support set. For the recombined loss, each factor's context comes from
    its own, independently drawn donor. A task counts in this loss if at least one factor found a donor; a
    batch without any donor gives zero. For the loss with one context left out, each task uses its own
    contexts except for one factor, drawn at random, whose context is the prior mean.

    Args:
        learner: the model being trained.
        batch: raw-unit tasks.
        key: draws the donors.
        recombination: weight w.
        dependence: weight of the penalty on dependence between the factors' contexts.
        omission: weight v.
        outlier_scale: mean squared errors of single tasks beyond this (standardised units²) count by their
            root instead of in full; None counts all in full.

    Returns:
        The loss, and its parts "own", "recombined", "omitted" (plain mean squared errors, standardised
        outputs) and "dependence".
    """

    def counted_only(samples: Samples) -> Samples:
        # Zeros, because even a loss that is not counted passes NaN to the gradient.
        valid = batch.valid[:, None]
        x, y = (jnp.where(valid[..., None], leaf, 0.0) for leaf in (samples.x, samples.y))
        return standardised(learner, Samples(x, y, jnp.where(valid, samples.weight, 0.0)))

    support, query = counted_only(batch.support), counted_only(batch.query)

    def solve(samples, truth):
        return learner.solver.solve(learner.network, learner.prior, samples, {}, training=True, truth=truth)

    contexts = jax.vmap(solve)(support, batch.values)
    encoded = jax.vmap(learner.network.encode)(query.x)

    def query_loss(values: dict[str, Array], counted: Bool[Array, " tasks"]) -> tuple[Array, Array]:
        """The loss to minimise, and the plain mean squared error."""
        predictions = jax.vmap(learner.network.decode)(encoded, values)
        errors = weighted_mean((predictions - query.y) ** 2, query.weight)

        def mean(each: Float[Array, " tasks"]) -> Float[Array, ""]:
            return jnp.sum(jnp.where(counted, each, 0.0)) / jnp.maximum(jnp.sum(counted), 1)

        return mean(_softened(errors, outlier_scale)), mean(errors)

    total, own = query_loss(contexts, batch.valid)
    recombined = omitted = penalty = jnp.zeros(())
    if recombination > 0:
        mixed, any_found = {}, jnp.zeros_like(batch.valid)
        for name, factor_key in zip(
            learner.factors, jax.random.split(key, len(learner.factors)), strict=True
        ):
            donor, found = choose_donors(batch.labels[name], batch.task, batch.valid, factor_key)
            mixed[name] = contexts[name][donor]
            any_found = any_found | found
        loss, recombined = query_loss(mixed, batch.valid & any_found)
        total = total + recombination * loss
    if omission > 0:
        # A separate key, so that the donors are the same with and without this loss.
        factor = jax.random.randint(jax.random.fold_in(key, 1), batch.valid.shape, 0, len(contexts))
        means = learner.prior.start()
        partial = {
            name: jnp.where((factor == i)[:, None], means[name], contexts[name])
            for i, name in enumerate(learner.factors)
        }
        loss, omitted = query_loss(partial, batch.valid)
        total = total + omission * loss
    if dependence > 0:
        penalty = dependence_between(contexts, batch.valid)
        total = total + dependence * penalty
    return total, {"own": own, "recombined": recombined, "omitted": omitted, "dependence": penalty}


def _softened(errors: Float[Array, " tasks"], scale: float | None) -> Float[Array, " tasks"]:
    """Pseudo-Huber of the root error: e below the scale, 2·√(scale·e) far above it.

    One task in a hundred, with a donor that barely reveals its factor, can have an error a thousand times the
    median; counted in full, it would drown out all the others.
    """
    return errors if scale is None else 2 * scale * (jnp.sqrt(1 + errors / scale) - 1)


def dependence_between(
    contexts: dict[str, Float[Array, "tasks _"]], valid: Bool[Array, " tasks"]
) -> Float[Array, ""]:
    """Mean normalised HSIC over all pairs of factors: 0 for independent contexts, 1 for equal ones.

    Gaussian kernels whose width is the mean squared distance in the batch (Gretton et al. 2005; normalised
    like the centred kernel alignment of Cortes et al. 2012). No gradient flows through the width.
    """
    weight = valid.astype(jnp.float32)
    count = jnp.maximum(jnp.sum(weight), 1.0)

    def centred_kernel(values: Float[Array, "tasks _"]) -> Float[Array, "tasks tasks"]:
        gaps = jnp.sum((values[:, None] - values[None, :]) ** 2, axis=-1)
        pair = weight[:, None] * weight[None, :]
        width = jax.lax.stop_gradient(jnp.sum(gaps * pair) / count**2) + 1e-12
        kernel = jnp.exp(-gaps / width) * pair
        rows = jnp.sum(kernel, axis=1, keepdims=True) / count
        centred = kernel - rows - rows.T + jnp.sum(kernel) / count**2
        return centred * pair

    kernels = [centred_kernel(value) for value in contexts.values()]
    pairs = list(itertools.combinations(kernels, 2))
    if not pairs:
        return jnp.zeros(())
    alignments = [jnp.sum(a * b) / jnp.sqrt(jnp.sum(a * a) * jnp.sum(b * b) + 1e-12) for a, b in pairs]
    return jnp.mean(jnp.stack(alignments))
