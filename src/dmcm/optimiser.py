"""The outer loop's optimiser: Adam or Muon with gradient clipping, warm-up and decay."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import optax
from optax import contrib

from dmcm.fit_config import FitConfig


def outer_optimiser(config: FitConfig) -> optax.GradientTransformation:
    """The transformation from the outer loss's gradients to updates of a learner.

    Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon) moves the weight matrix of a layer
    equally far along all its directions. Everything else uses Adam at the same rate: biases, heads of tensor
    products, the prior, step sizes of the inner loop.
    """
    warmup = min(config.warmup, config.steps // 10)
    schedule = optax.warmup_cosine_decay_schedule(
        0.0 if warmup else config.learning_rate,
        config.learning_rate,
        warmup,
        max(config.steps, warmup + 1),
        config.learning_rate * 1e-3,
    )

    def hasten_prior(updates: Any, _: Any) -> Any:
        faster = jax.tree.map(lambda leaf: leaf * config.prior_rate, updates.prior)
        return eqx.tree_at(lambda tree: tree.prior, updates, faster)

    return optax.chain(
        optax.clip_by_global_norm(config.clip),
        contrib.muon(schedule, muon_weight_dimension_numbers=_layers)
        if config.optimiser == "muon"
        else optax.adam(schedule),
        optax.stateless(hasten_prior),
    )


def _layers(learner: Any) -> Any:
    """Marks the leaves that are layer weights, in the form Muon expects; None for the others."""

    def one(path: tuple[Any, ...], leaf: Any) -> contrib.MuonDimensionNumbers | None:
        is_layer = getattr(path[-1], "name", None) == "weight" and leaf.ndim == 2
        return contrib.MuonDimensionNumbers() if is_layer else None

    return jax.tree_util.tree_map_with_path(one, learner)
