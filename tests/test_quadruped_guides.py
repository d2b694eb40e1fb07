"""What policies are given besides what they sense: vectors, the past, and where both enter the networks."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dmcm.errors import ShapeError
from dmcm.quadruped.body.properties import RobotProperties
from dmcm.quadruped.body.robot_table import load_robot
from dmcm.quadruped.walking.environment import WalkConfig, WalkEnvironment
from dmcm.quadruped.walking.guides import FRAME, FRAMES, STRIDE, History, Vectors, history_columns
from dmcm.quadruped.walking.observations import OBSERVATION, part
from dmcm.quadruped.walking.policy import Policy, load_policy, save_policy
from dmcm.quadruped.world.arena import Arena
from dmcm.quadruped.world.terrain import Terrain
from helpers import same_bits

GO1 = load_robot("go1")
SIZE = sum(OBSERVATION.values())


def walkers(count, guide=None, **config):
    return WalkEnvironment(
        GO1,
        Arena([Terrain()]),
        [RobotProperties()] * count,
        [0] * count,
        WalkConfig(**config),
        guide=guide,
        threads=1,
    )


def observed(rng, count):
    return rng.normal(size=(count, SIZE)).astype(np.float32)


def remembered(past):
    """The frames of a list of observations of one robot, oldest first, from their definition."""
    names = [np.arange(SIZE)[part(name)] for name in FRAME]
    columns = np.concatenate(names)
    past = [past[0]] * (FRAMES * STRIDE) + past
    return np.concatenate([past[-1 - STRIDE * k][columns] for k in reversed(range(FRAMES))])


def test_the_past_is_every_third_of_the_last_observations():
    rng, history, seen = np.random.default_rng(0), History(2), [[], []]
    for step in range(70):
        now = observed(rng, 2)
        if step == 40:
            history.forget(np.array([1]))
            seen[1] = []
        for robot in range(2):
            seen[robot].append(now[robot])
        found = history.read(now)
        assert found.shape == (2, history.size)
        for robot in range(2):
            np.testing.assert_array_equal(found[robot], remembered(seen[robot]))


def test_the_past_of_some_robots_leaves_that_of_others_alone():
    rng, history, seen = np.random.default_rng(1), History(3), [[], [], []]
    for step in range(20):
        ids = np.flatnonzero(rng.random(3) < 0.6) if step else np.arange(3)
        now = observed(rng, len(ids))
        found = history.read(now, ids)
        for row, robot in enumerate(ids):
            seen[robot].append(now[row])
            np.testing.assert_array_equal(found[row], remembered(seen[robot]))


def test_the_columns_of_the_past_are_those_of_the_observation():
    now = np.arange(SIZE, dtype=np.float32)[None]
    np.testing.assert_array_equal(History(1).read(now)[0], history_columns())


def test_vectors_hold_in_every_episode():
    values = np.random.default_rng(2).normal(size=(3, 4))
    environment = walkers(3, Vectors(values), episode_s=0.04)
    first, _ = environment.reset(seed=0)
    assert environment.single_observation_space.shape == (SIZE + 4,)
    for _ in range(5):
        observation, _, _, cut, info = environment.step(np.zeros((3, 12)))
        np.testing.assert_array_equal(observation[:, SIZE:], values.astype(np.float32))
        if cut.any():
            np.testing.assert_array_equal(info["final_obs"][:, SIZE:], values.astype(np.float32))
    assert first.shape == (3, SIZE + 4)


def test_a_guide_changes_nothing_of_what_is_sensed():
    plain, guided = walkers(2), walkers(2, Vectors(np.ones((2, 5))))
    seen = [environment.reset(seed=3)[0] for environment in (plain, guided)]
    for _ in range(4):
        np.testing.assert_array_equal(seen[0], seen[1][:, :SIZE])
        seen = [environment.step(np.full((2, 12), 0.1))[0] for environment in (plain, guided)]


def test_an_episode_that_starts_anew_has_no_past():
    environment = walkers(2, History(2), episode_s=0.1)
    environment.reset(seed=0)
    for _ in range(5):
        observation, _, _, cut, info = environment.step(np.full((2, 12), 0.5))
    assert cut.all()
    fresh = observation[:, SIZE:].reshape(2, FRAMES, -1)
    np.testing.assert_array_equal(fresh, np.repeat(fresh[:, -1:], FRAMES, axis=1))
    old = info["final_obs"][:, SIZE:].reshape(2, FRAMES, -1)
    assert not np.array_equal(old[:, -1], old[:, -2])


@pytest.mark.parametrize("values", [np.zeros(3), np.zeros((2, 3, 1)), np.full((2, 3), np.nan)])
def test_vectors_must_be_rows_of_finite_numbers(values):
    with pytest.raises(ShapeError, match="one row"):
        Vectors(values)


def encoded(**options):
    return Policy(
        10, 3, 2, **{"widths": (16, 8), "past": 6, "summary": 2, "key": jax.random.key(0), **options}
    )


def test_an_encoder_sums_up_the_past_for_the_actor_alone():
    policy = encoded()
    rng = np.random.default_rng(0)
    seen, truth = rng.normal(size=(5, 10)).astype(np.float32), rng.normal(size=(5, 3)).astype(np.float32)
    other = seen.copy()
    other[:, 4:] += 1.0
    assert not np.allclose(policy.mean(jnp.asarray(seen)), policy.mean(jnp.asarray(other)))
    np.testing.assert_array_equal(
        policy.value(jnp.asarray(seen), jnp.asarray(truth)),
        policy.value(jnp.asarray(other), jnp.asarray(truth)),
    )
    # By hand: two layers of the encoder, three of the actor.
    assert policy.encoder is not None
    row = np.clip(seen[0] / np.sqrt(1 + 1e-4), -8, 8)
    summary = policy.encoder(jnp.asarray(row[4:]))
    by_hand = policy.actor(jnp.concatenate([row[:4], summary]))
    np.testing.assert_allclose(policy.mean(jnp.asarray(seen))[0], by_hand, rtol=1e-5, atol=1e-7)


def test_a_policy_with_an_encoder_survives_its_file(tmp_path):
    policy = eqx.tree_at(lambda p: p.log_deviation, encoded(), jnp.asarray([-1.0, 0.5]))
    save_policy(tmp_path / "policy.safetensors", policy, {})
    assert same_bits(load_policy(tmp_path / "policy.safetensors")[0], policy)
