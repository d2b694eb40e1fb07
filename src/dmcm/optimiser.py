"""The outer loop's optimiser: Adam or Muon, clipped, warmed up and slowed down."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import optax
from optax import contrib

from dmcm.fit_config import FitConfig


def outer_optimiser(config: FitConfig) -> optax.GradientTransformation:
    """What turns the outer loss's gradients into updates of a learner.

    Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon) moves a matrix of weights equally far
    along all its directions. Whatever is no matrix goes by Adam at the same rate, the heads of tensor
    products and the prior among it.
    """
    warmup = min(config.warmup, config.steps // 10)
    schedule = optax.warmup_cosine_decay_schedule(
        0.0 if warmup else config.learning_rate,
        config.learning_rate,
        warmup,
        max(config.steps, warmup + 1),
        config.learning_rate * 1e-3,
    )
    kinds = {"adam": optax.adam, "muon": contrib.muon}

    def hasten_prior(updates: Any, _: Any) -> Any:
        faster = jax.tree.map(lambda leaf: leaf * config.prior_rate, updates.prior)
        return eqx.tree_at(lambda tree: tree.prior, updates, faster)

    return optax.chain(
        optax.clip_by_global_norm(config.clip),
        kinds[config.optimiser](schedule),
        optax.stateless(hasten_prior),
    )
