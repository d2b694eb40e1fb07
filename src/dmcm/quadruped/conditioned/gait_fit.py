"""Which gait suits what a policy is given, learned from walks with random gaits."""

from __future__ import annotations

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from dmcm.errors import ConfigError
from dmcm.quadruped.conditioned.gait_trials import GaitTrials
from dmcm.quadruped.walking.gait import SETTINGS, Gait
from dmcm.quadruped.walking.told_gait import GaitReader, scaled_settings

ENOUGH = 0.9
"""Smallest fraction of the commanded distance that counts as success here. More than in the suite, because
robots outside training cover less than those that the gait is learned from."""
HASTE_COST = 0.2
"""Success that is worth walking twice as far as commanded. Without a cost, gaits are much faster than
commanded wherever that is safe."""
CHANGE_COST = 0.01
"""Success that is worth moving a setting from its usual value by half of its range. The actor was trained
with the usual gait: what changes without need helps training robots at most."""
TEMPERATURE = 2.0
"""Log-odds of success are divided by this: nearly certain successes then still differ, and the gait keeps
away from failures that robots outside training would meet."""
_MODELS, _WIDTH, _STEPS, _BATCH, _DECAY, _RATE = 3, 32, 2_500, 512, 1e-2, 4e-3
_ROWS, _CANDIDATES, _BEST = 256, 4_096, 40
_READER_STEPS, _READER_RATE = 600, 1e-2
_RARE = 0.01


class _Outcome(eqx.Module):
    """Predicts log-odds of success and excess distance from a gait and what is given."""

    network: eqx.nn.MLP

    def __init__(self, reads: int, key: PRNGKeyArray):
        self.network = eqx.nn.MLP(reads, 2, _WIDTH, 2, jax.nn.silu, key=key)

    def __call__(self, settings: Float[Array, "n 4"], given: Float[Array, "n told"]) -> Float[Array, "n 2"]:
        return jax.vmap(self.network)(jnp.concatenate([settings, given], axis=1))


class _Choice(NamedTuple):
    """A reader's slope and offset for standardised vectors."""

    slope: Float[Array, "4 told"]
    offset: Float[Array, " 4"]

    def settings(self, given: Float[Array, "n told"]) -> Float[Array, "n 4"]:
        return jnp.tanh(given @ self.slope.T + self.offset)


def fit_gait(
    trials: GaitTrials,
    given: Float[np.ndarray, "n told"],
    read: Bool[np.ndarray, " told"] | None = None,
    *,
    seed: int = 0,
) -> GaitReader:
    """The reader whose gaits are predicted to succeed most, with small costs of haste and change.

    A few small networks learn the outcome of the trials. The reader starts as the linear fit to the best of
    many random gaits for some of the trials, and is then improved for all of them.

    Args:
        trials: walks with random gaits.
        given: what the policy would be given in each, shape (n, told).
        read: whether each of its columns has a say in the gait, shape (told,); all have by default, and if
            none has, there is one gait for all.
        seed: for weights and batches.

    Raises:
        ConfigError: fewer than 100 trials.
    """
    if len(given) < 100:
        raise ConfigError(f"{len(given)} trials are too few to learn a gait from: at least 100 are needed.")
    columns = np.arange(given.shape[1]) if read is None else np.flatnonzero(read)
    chosen_by = given[:, columns]
    low, high = np.quantile(chosen_by, [_RARE, 1 - _RARE], axis=0)
    believed = np.clip(chosen_by, low, high)
    mean, spread = believed.mean(axis=0), believed.std(axis=0) + 1e-6
    scaled = jnp.asarray((believed - mean) / spread, jnp.float32)
    tried = jnp.asarray(scaled_settings(trials.settings), jnp.float32)
    excess = np.clip(trials.progress - 1.0, 0.0, 1.0)
    fine = trials.succeeded & (trials.progress >= ENOUGH)
    wanted = jnp.asarray(np.stack([fine, excess], axis=1), jnp.float32)
    key = jax.random.key(seed)
    models = [_outcomes(tried, scaled, wanted, jax.random.fold_in(key, i)) for i in range(_MODELS)]
    choice = _improved(models, scaled, _first(models, scaled, jax.random.fold_in(key, _MODELS)))
    slope = np.asarray(choice.slope) / spread
    whole = GaitReader(given.shape[1])
    return eqx.tree_at(
        lambda reader: (reader.low, reader.high, reader.slope, reader.offset),
        whole,
        (
            whole.low.at[columns].set(low),
            whole.high.at[columns].set(high),
            whole.slope.at[:, columns].set(slope),
            jnp.asarray(np.asarray(choice.offset) - slope @ mean, jnp.float32),
        ),
    )


def _outcomes(
    tried: Float[Array, "n 4"],
    given: Float[Array, "n told"],
    wanted: Float[Array, "n 2"],
    key: PRNGKeyArray,
) -> _Outcome:
    """A network trained on the trials."""
    start, key = jax.random.split(key)
    model = _Outcome(len(SETTINGS) + given.shape[1], start)
    optimiser = optax.adamw(optax.cosine_decay_schedule(_RATE, _STEPS), weight_decay=_DECAY)

    def loss(model: _Outcome, rows: Array) -> Array:
        said = model(tried[rows], given[rows])
        return optax.sigmoid_binary_cross_entropy(said, wanted[rows]).mean()

    @eqx.filter_jit
    def train(model: _Outcome, key: PRNGKeyArray) -> _Outcome:
        arrays: Any
        arrays, static = eqx.partition(model, eqx.is_array)

        def step(carry: tuple[Any, optax.OptState], key: PRNGKeyArray) -> tuple[tuple, None]:
            arrays, state = carry
            rows = jax.random.randint(key, (_BATCH,), 0, len(tried))
            slope = eqx.filter_grad(loss)(eqx.combine(arrays, static), rows)
            change, state = optimiser.update(slope, state, arrays)
            return (eqx.apply_updates(arrays, change), state), None

        carry = (arrays, optimiser.init(arrays))
        (arrays, _), _ = jax.lax.scan(step, carry, jax.random.split(key, _STEPS))
        return eqx.combine(arrays, static)

    return train(model, key)


def _cost(
    models: list[_Outcome], settings: Float[Array, "n 4"], given: Float[Array, "n told"]
) -> Float[Array, " n"]:
    """What gaits are predicted to lack in success, and cost in haste and change."""
    said = jnp.mean(jnp.stack([model(settings, given) for model in models]), axis=0)
    change = jnp.sum((settings - scaled_settings(Gait().settings)) ** 2, axis=1)
    haste = jax.nn.sigmoid(said[:, 1])
    return HASTE_COST * haste + CHANGE_COST * change - jax.nn.sigmoid(said[:, 0] / TEMPERATURE)


@eqx.filter_jit
def _first(models: list[_Outcome], given: Float[Array, "n told"], key: PRNGKeyArray) -> _Choice:
    """The linear fit to the best of random gaits.

    From the usual gait alone, a better one beyond worse ones would not be found.
    """
    drawing, choosing = jax.random.split(key)
    gaits = jax.random.uniform(drawing, (_CANDIDATES, len(SETTINGS)), minval=-1.0, maxval=1.0)
    rows = given[jax.random.randint(choosing, (_ROWS,), 0, len(given))]

    def best(row: Float[Array, " told"]) -> Float[Array, " 4"]:
        costs = _cost(models, gaits, jnp.broadcast_to(row, (_CANDIDATES, row.size)))
        return gaits[jax.lax.top_k(-costs, _BEST)[1]].mean(axis=0)

    wanted = jnp.arctanh(0.95 * jax.lax.map(best, rows))
    fitted = jnp.linalg.lstsq(jnp.concatenate([rows, jnp.ones((_ROWS, 1))], axis=1), wanted)[0]
    return _Choice(fitted[:-1].T, fitted[-1])


@eqx.filter_jit
def _improved(models: list[_Outcome], given: Float[Array, "n told"], choice: _Choice) -> _Choice:
    """The choice of gaits with the best predicted outcome near a first one."""
    optimiser = optax.adam(_READER_RATE)

    def step(carry: tuple[_Choice, optax.OptState], _: None) -> tuple[tuple, None]:
        choice, state = carry
        slope = jax.grad(lambda choice: _cost(models, choice.settings(given), given).mean())(choice)
        change, state = optimiser.update(slope, state)
        return (optax.apply_updates(choice, change), state), None

    (choice, _), _ = jax.lax.scan(step, (choice, optimiser.init(choice)), None, _READER_STEPS)
    return choice
