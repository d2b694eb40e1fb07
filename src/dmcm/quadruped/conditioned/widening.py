"""A policy that reads more than the one it starts from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dmcm.quadruped.body.properties import RobotProperties
from dmcm.quadruped.body.robot_table import RobotTable
from dmcm.quadruped.conditioned.methods import METHODS
from dmcm.quadruped.walking.guides import history_columns
from dmcm.quadruped.walking.known_gains import GainReader
from dmcm.quadruped.walking.modulation import Modulation
from dmcm.quadruped.walking.observations import OBSERVATION
from dmcm.quadruped.walking.policy import Policy
from dmcm.quadruped.walking.told_gait import GaitReader

SUMMARY = 10
"""Size of the history encoder's summary of the past: that of both vectors together."""
RARE = 0.01
"""Share of the training vectors beyond each of the bounds to which a policy clips vectors."""


def widen(
    policy: Policy,
    method: str,
    vectors: Mapping[str, np.ndarray],
    gains: GainReader | None = None,
    gait: GaitReader | None = None,
) -> Policy:
    """A policy that reads more and at first acts the same.

    Args:
        policy: reads `OBSERVATION`, and the vectors of the method's actor if it has one.
        method: name in `METHODS`.
        vectors: what it will be given, one row per cell, shape (n, size) per kind; they set the scale.
        gains: estimates gains from the vectors.
        gait: chooses the gait by the vectors.
    """
    told, own = METHODS[method], sum(OBSERVATION.values())
    seen, scale = policy.observation_scale, policy.critic_scale
    heard = 0 if policy.modulation is None else policy.modulation.told
    known = METHODS[told.actor].vectors if told.actor else ()
    rows = [vectors[kind] for kind in told.vectors if kind not in known]
    values = np.concatenate(rows, axis=1) if rows else np.zeros((1, 0))
    mean, variance = jnp.asarray(values.mean(axis=0)), jnp.asarray(values.var(axis=0))
    if told.history:
        columns = history_columns()
        mean, variance = seen.mean[columns], seen.variance[columns]
    past, read = (len(mean), 0) if told.history else (0, len(mean))
    as_inputs = told.exact and not told.actor
    inputs = SUMMARY if told.history else read if as_inputs else 0
    wide = Policy(
        own + len(mean) + heard,
        scale.mean.size - own - heard,
        policy.log_deviation.size,
        widths=(policy.actor.width_size, policy.critic.width_size),
        past=past,
        summary=SUMMARY if past else 0,
        told=0 if as_inputs else read + heard,
        gains=gains,
        gait=gait,
        key=jax.random.key(0),
    )

    def insert(old: Float[Array, "*rows columns"], new: Float[Array, "*rows added"]) -> Array:
        return jnp.concatenate([old[..., :own], new, old[..., own:]], axis=-1)

    def silent(mlp: eqx.nn.MLP, count: int) -> eqx.nn.MLP:
        weight = mlp.layers[0].weight
        return eqx.tree_at(lambda m: m.layers[0].weight, mlp, insert(weight, jnp.zeros((len(weight), count))))

    parts = {
        "actor": silent(policy.actor, inputs),
        "critic": silent(policy.critic, read),
        "log_deviation": policy.log_deviation,
        "observation_scale": eqx.tree_at(
            lambda s: (s.mean, s.variance), seen, (insert(seen.mean, mean), insert(seen.variance, variance))
        ),
        "critic_scale": eqx.tree_at(
            lambda s: (s.mean, s.variance),
            scale,
            (insert(scale.mean, mean[:read]), insert(scale.variance, variance[:read])),
        ),
    }
    if wide.modulation is not None:
        parts["modulation"] = _hears(wide.modulation, policy.modulation, values)
    names = tuple(parts)
    return eqx.tree_at(lambda p: tuple(getattr(p, n) for n in names), wide, tuple(parts.values()))


def _hears(wide: Modulation, before: Modulation | None, values: np.ndarray) -> Modulation:
    """Ignore new vectors, clipped to their range in training, and read those after them as before."""
    low, high = (jnp.asarray(np.quantile(values, share, axis=0)) for share in (RARE, 1 - RARE))
    weights = (wide.gain.weight, wide.shift.weight)
    if before is not None:
        low, high = jnp.concatenate([low, before.low]), jnp.concatenate([high, before.high])
        heard = (before.gain.weight, before.shift.weight)
        weights = tuple(
            new.at[:, values.shape[1] :].set(old) for new, old in zip(weights, heard, strict=True)
        )
    return eqx.tree_at(lambda m: (m.low, m.high, m.gain.weight, m.shift.weight), wide, (low, high, *weights))


def read_gains(
    method: str, vectors: Mapping[str, np.ndarray], robots: Sequence[RobotProperties], table: RobotTable
) -> GainReader | None:
    """The reader of gains for a method's vectors; None for a method that does not match targets.

    Args:
        method: name in `METHODS`.
        vectors: what it is given for cells, shape (n, size) per kind.
        robots: of these cells, n of them.
        table: the robot's facts.
    """
    told = METHODS[method]
    if told.actor is None or not told.vectors:
        return None
    # Vectors after the first do not describe the robot and say nothing about its gains.
    first, *others = (vectors[kind] for kind in told.vectors)
    values = np.concatenate([first, *(np.zeros_like(other) for other in others)], axis=1)
    published = (table.p_gain_nm_per_rad, table.d_gain_nms_per_rad)
    shares = np.array([(r.p_gain_nm_per_rad, r.d_gain_nms_per_rad) for r in robots]) / published
    return GainReader(values.shape[1], logarithmic=not told.exact).fitted(values, shares)
