"""The compiled outer loop of `fit` on its own, so that compiling and logging stay out of a measured time."""

from __future__ import annotations

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp

from dmcm.fit_config import FitConfig
from dmcm.learner import Learner
from dmcm.optimiser import outer_optimiser
from dmcm.samplers import Sampler
from dmcm.training import _compile_chunk, _State


def chunk_runner(learner: Learner, sampler: Sampler, config: FitConfig) -> Callable[[], None]:
    """A call that does `config.chunk` outer steps, from where the last one ended; the first compiles."""
    learner = eqx.tree_at(
        lambda tree: tree.scaler, learner, sampler.scaler(), is_leaf=lambda leaf: leaf is None
    )
    optimiser = outer_optimiser(config)
    trained, static = eqx.partition(learner, eqx.is_inexact_array)
    state = _State(trained, optimiser.init(trained), trained, jnp.asarray(jnp.inf), jnp.asarray(0))
    # As in `fit`: weakly typed leaves would compile the second call again.
    state = jax.tree.map(lambda leaf: jnp.asarray(leaf, leaf.dtype), state)
    chunk = _compile_chunk(static, optimiser, config)
    base, done = jax.random.key(config.seed), 0

    def run() -> None:
        nonlocal state, done
        state, _ = jax.block_until_ready(chunk(state, sampler, base, jnp.asarray(done), config.chunk))
        done += config.chunk

    return run
