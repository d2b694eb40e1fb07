"""Pooled adaptation: one label's context from several tasks with that label."""

from __future__ import annotations

from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dmcm.contexts import Factors
from dmcm.networks.base import Network
from dmcm.priors import Prior
from dmcm.samples import Samples
from dmcm.solvers.base import Solver, Values
from dmcm.solvers.gradient_descent import GradientDescent
from dmcm.solvers.set_encoder import SetEncoder


class PooledNetwork(Network):
    """Several tasks as one: shared factors keep one vector, every other factor gets one per task.

    The input holds the tasks stacked along its first axis, all with the same number of (padded) samples.
    """

    kind: ClassVar[str] = "pooled"
    factors: Factors = eqx.field(static=True)
    inputs: int = eqx.field(static=True)
    outputs: int = eqx.field(static=True)
    tasks: int = eqx.field(static=True)
    network: Network

    def __init__(self, network: Network, origin: dict[str, str], tasks: int):
        """Wrap a model's network.

        Args:
            network: the model's network.
            origin: the model's factor for each factor of the pool; a factor shared by all tasks is called
                `name.all`, those of single tasks `name.0`, `name.1`, …
            tasks: number of tasks.
        """
        sizes = network.factors.sizes
        self.factors = Factors(**{new: sizes[old] for new, old in origin.items()})
        self.inputs, self.outputs = network.inputs, network.outputs
        self.network, self.tasks = network, tasks

    def encode(self, x: Float[Array, "n inputs"]) -> Any:
        """Encode each task's block of samples."""
        return jax.vmap(self.network.encode)(x.reshape(self.tasks, -1, x.shape[-1]))

    def decode(self, encoded: Any, contexts: dict[str, Float[Array, " _"]]) -> Float[Array, "n outputs"]:
        """Decode each block with the shared vectors and its own private ones."""
        common, private = {}, {}
        for name in self.network.factors:
            if f"{name}.all" in contexts:
                common[name] = contexts[f"{name}.all"]
            else:
                private[name] = jnp.stack([contexts[f"{name}.{task}"] for task in range(self.tasks)])
        blocks = jax.vmap(lambda part, own: self.network.decode(part, {**common, **own}))(encoded, private)
        return blocks.reshape(-1, self.outputs)

    def spec(self) -> dict[str, Any]:
        """Empty: the network exists for one adaptation and is never stored."""
        return {}


def solve_pooled(
    network: Network,
    prior: Prior,
    solver: Solver,
    supports: Samples,
    given: Values,
    shared: tuple[str, ...],
) -> Values:
    """Contexts of the shared factors from all tasks at once.

    Iterative solvers minimise the sum of the tasks' objectives, with data terms weighted by their numbers of
    samples, private vectors per task for factors that are not shared, and the shared prior counted once. A
    set encoder averages its per-task contexts.

    Args:
        network: the model's network.
        prior: the model's prior.
        solver: the model's solver.
        supports: standardised samples with a leading task axis.
        given: contexts to hold, the same for all tasks.
        shared: factors whose label all tasks share.
    """
    if isinstance(solver, SetEncoder):
        each = jax.vmap(lambda s: solver.solve(network, prior, s, given))(supports)
        return {name: jnp.mean(each[name], axis=0) for name in shared}
    tasks = supports.x.shape[0]
    origin: dict[str, str] = {}
    for name in network.factors:
        common = name in shared or name in given
        own = ["all"] if common else range(tasks)
        origin.update({f"{name}.{suffix}": name for suffix in own})
    pool = PooledNetwork(network, origin, tasks)
    # The data term is a mean over all tasks' samples, so all terms are those of the sum divided by the number
    # of tasks.
    log_tasks = jnp.log(tasks)
    pooled_prior = eqx.tree_at(
        lambda p: (p.mean, p.log_precision),
        Prior(pool.factors, floor=prior.floor / tasks, learn_mean=prior.learn_mean),
        (
            {new: prior.mean[old] for new, old in origin.items()},
            {new: prior.log_precision[old] - log_tasks for new, old in origin.items()},
        ),
    )
    if isinstance(solver, GradientDescent):
        # A private vector sees its task's slope times the task's share of all samples; larger steps make up
        # for that.
        counts = jnp.sum(supports.weight, axis=-1)
        longer = jnp.log(jnp.sum(counts) / jnp.maximum(counts, 1.0))
        rates = {}
        for new, old in origin.items():
            rate, suffix = solver.log_rate[old], new.rpartition(".")[2]
            rates[new] = rate if suffix == "all" else rate + longer[int(suffix)].astype(rate.dtype)
        solver = eqx.tree_at(lambda s: s.log_rate, solver, rates)
    joined = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), supports)
    found = solver.solve(pool, pooled_prior, joined, {f"{name}.all": v for name, v in given.items()})
    return {name: found[f"{name}.all"] for name in shared}
