"""Gaits whose settings follow what a policy is given."""

import dataclasses

import equinox as eqx
import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmcm.errors import ConfigError, ShapeError
from dmcm.quadruped.body.properties import nominal
from dmcm.quadruped.body.robot_table import load_robot
from dmcm.quadruped.conditioned import gait_fit
from dmcm.quadruped.conditioned.draws import Draw, draw_cells, given_in
from dmcm.quadruped.conditioned.gait_fit import ENOUGH, fit_gait
from dmcm.quadruped.conditioned.gait_trials import TRIED, GaitTrials
from dmcm.quadruped.conditioned.widening import widen
from dmcm.quadruped.walking.environment import WalkConfig, WalkEnvironment
from dmcm.quadruped.walking.evaluation import evaluate_walking
from dmcm.quadruped.walking.gait import SETTINGS, Gait
from dmcm.quadruped.walking.guides import Vectors
from dmcm.quadruped.walking.policy import POLICY, load_policy, load_walker, save_policy
from dmcm.quadruped.walking.suite import OVER_GROUND
from dmcm.quadruped.walking.told_gait import BOUNDS, HIGHEST, LOWEST, GaitReader, scaled_settings
from dmcm.quadruped.world.arena import Arena
from dmcm.quadruped.world.terrain import Terrain

GO1 = load_robot("go1")
PHASES = np.linspace(0, 1, 40, endpoint=False)


def feet(command=(0.5, 0.1, 0.3), **settings):
    """Feet over a cycle, shape (phases, 4, 3), with some settings that are not the usual ones."""
    gait = np.tile(dataclasses.replace(Gait(), **settings).settings, (len(PHASES), 1))
    return Gait().foot_targets(np.tile(command, (len(PHASES), 1)), PHASES, GO1, gait)


def test_each_setting_does_what_it_says():
    usual = feet()
    np.testing.assert_array_equal(usual, Gait().foot_targets(np.tile((0.5, 0.1, 0.3), (40, 1)), PHASES, GO1))
    np.testing.assert_allclose(np.ptp(feet(swing_height_m=0.18)[..., 2], axis=0), 0.18, atol=1e-6)
    np.testing.assert_allclose(
        feet(stance_height_m=0.27) - usual, [0, 0, 0.02] * np.ones((40, 4, 1)), atol=1e-12
    )
    np.testing.assert_allclose(feet(shift_m=-0.03) - usual, [-0.03, 0, 0] * np.ones((40, 4, 1)), atol=1e-12)
    # A step forward is as much longer as the share says; turning and sideways stay.
    straight, faster = (feet((0.5, 0, 0), forward_share=share) for share in (1.0, 1.5))
    np.testing.assert_allclose(faster[..., 0], 1.5 * straight[..., 0], atol=1e-12)
    aside = (0.0, 0.2, 0.4)
    np.testing.assert_allclose(feet(aside, forward_share=1.5), feet(aside), atol=1e-12)


def test_robots_walk_by_gaits_of_their_own():
    settings = np.stack([LOWEST, HIGHEST])
    both = Gait().joint_targets(np.full((2, 3), 0.2), np.full(2, 0.3), GO1, settings)
    for row, one in zip(both, settings, strict=True):
        alone = dataclasses.replace(Gait(), **dict(zip(SETTINGS, one.tolist(), strict=True)))
        np.testing.assert_allclose(
            row, alone.joint_targets(np.full((1, 3), 0.2), np.full(1, 0.3), GO1)[0], atol=1e-12
        )


def test_settings_that_are_no_gait_are_refused():
    for name in ("swing_height_m", "forward_share"):
        with pytest.raises(ConfigError, match=rf"gait\.{name}=-1\.0 must be a finite number above 0"):
            dataclasses.replace(Gait(), **{name: -1.0}).check()
    with pytest.raises(ConfigError, match="shift_m=nan must be a finite number"):
        dataclasses.replace(Gait(), shift_m=float("nan")).check()


def reader_of(told, seed=0, size=0.3):
    """A reader that chooses another gait for each vector."""
    slope = size * np.random.default_rng(seed).normal(size=(len(SETTINGS), told)).astype(np.float32)
    return eqx.tree_at(lambda reader: reader.slope, GaitReader(told), slope)


@given(seed=st.integers(0, 1_000), size=st.sampled_from([1.0, 1e3, 1e30]))
def test_chosen_gaits_lie_within_their_bounds(seed, size):
    vectors = size * np.random.default_rng(seed).normal(size=(5, 3))
    chosen = reader_of(3, seed)(vectors)
    assert np.all((chosen >= LOWEST - 1e-9) & (chosen <= HIGHEST + 1e-9))
    assert list(BOUNDS) == list(SETTINGS)
    np.testing.assert_allclose(np.abs(scaled_settings(np.stack([LOWEST, HIGHEST]))), 1.0)


def test_a_reader_starts_with_the_usual_gait():
    np.testing.assert_allclose(GaitReader(3)(np.ones((2, 3))), [Gait().settings] * 2, atol=1e-6)
    np.testing.assert_allclose(GaitReader(0)(np.zeros((2, 0))), [Gait().settings] * 2, atol=1e-6)


def walks(gait, told):
    environment = WalkEnvironment(
        GO1,
        Arena([Terrain()]),
        [nominal(GO1)] * len(told),
        [0] * len(told),
        WalkConfig(),
        guide=Vectors(told),
        gait=gait,
        threads=1,
    )
    environment.reset(seed=0)
    return environment


def test_an_environment_walks_by_the_gait_that_is_chosen():
    told = np.random.default_rng(1).normal(size=(3, 2))
    reader = reader_of(2)
    by_reader, by_hand, usual = walks(reader, told), walks(reader(told), told), walks(None, told)
    np.testing.assert_allclose(by_reader.joint_targets(), by_hand.joint_targets(), atol=1e-6)
    assert np.abs(by_reader.joint_targets() - usual.joint_targets()).max() > 0.02
    with pytest.raises(ShapeError, match=r"3 robots need as many gaits of 4 settings.*\(2, 4\)"):
        walks(np.tile(Gait().settings, (2, 1)), told)


def test_a_longer_stride_walks_further():
    policy, robots = load_policy(POLICY)[0], [nominal(GO1)] * 6
    far = [
        evaluate_walking(
            policy,
            GO1,
            robots,
            [Terrain()] * 6,
            seconds=3.0,
            commands=OVER_GROUND,
            gait=np.tile(gait.settings, (6, 1)),
            threads=1,
        ).path_m.mean()
        for gait in (Gait(), dataclasses.replace(Gait(), forward_share=1.5))
    ]
    assert far[1] > 1.03 * far[0]


def test_policies_keep_their_gait(tmp_path):
    rng = np.random.default_rng(0)
    vectors = {"robot": rng.normal(size=(40, 6)), "terrain": rng.normal(size=(40, 4))}
    policy = widen(load_policy(POLICY)[0], "dmcm_gait", vectors, None, reader_of(10))
    save_policy(tmp_path / "policy.safetensors", policy, {"training": {}})
    read, about = load_policy(tmp_path / "policy.safetensors")
    assert about["training"] == {}
    for one, other in zip(jax.tree.leaves(policy), jax.tree.leaves(read), strict=True):
        np.testing.assert_array_equal(one, other)
    with pytest.raises(ConfigError, match="needs inputs that a robot's sensors do not provide"):
        load_walker(tmp_path / "policy.safetensors", "go1", GO1)


# --- learning it ---


def test_donors_are_of_the_same_robot_and_of_the_same_ground():
    robot, terrain = np.repeat(np.arange(4), 3), np.tile(np.arange(3), 4)
    draw = draw_cells(robot, terrain, 200, np.random.default_rng(0))
    np.testing.assert_array_equal(robot[draw.donors["robot"]], robot[draw.rows])
    np.testing.assert_array_equal(terrain[draw.donors["terrain"]], terrain[draw.rows])
    vectors = {"robot": robot[:, None] * 1.0, "cell": np.arange(12.0)[:, None]}
    found = given_in(draw, ("robot", "cell"), vectors, 0.0, np.random.default_rng(0))
    np.testing.assert_array_equal(found, np.stack([robot[draw.rows], draw.rows], axis=1))
    assert given_in(draw, (), vectors, 0.0, np.random.default_rng(0)).shape == (200, 0)


def trials(ground, count=3_000, need=lambda ground: 0.12 + 0.06 * ground):
    """Walks that succeed with feet lifted as high as the ground needs, give or take 2 cm, at any speed."""
    low, high = np.array([TRIED[name] for name in SETTINGS]).T
    settings = np.random.default_rng(0).uniform(low, high, (count, len(SETTINGS)))
    succeeded = np.abs(settings[:, 0] - need(ground)) < 0.02
    return GaitTrials(Draw(np.arange(count), {}), settings, succeeded, settings[:, 3] + 0.1)


def test_a_gait_is_found_that_the_ground_needs():
    rng = np.random.default_rng(1)
    ground = rng.integers(0, 2, 3_000)
    seen = np.stack([5 + 2 * ground + 0.1 * rng.normal(size=3_000), rng.normal(size=3_000)], axis=1)
    reader = fit_gait(trials(ground), seen)
    chosen = reader(np.array([[5.0, 0.0], [7.0, 0.0], [900.0, 0.0]]))
    np.testing.assert_allclose(chosen[:, 0], [0.12, 0.18, 0.18], atol=0.015)
    # Haste is in vain here, and it costs.
    assert np.all(chosen[:, 3] < 1.05)
    assert np.all(chosen[:, 3] + 0.1 > ENOUGH)


def test_columns_that_are_not_read_change_nothing(monkeypatch):
    for name, value in (("_STEPS", 20), ("_READER_STEPS", 5)):
        monkeypatch.setattr(gait_fit, name, value)
    ground = np.random.default_rng(1).integers(0, 2, 300)
    seen = np.random.default_rng(0).normal(size=(300, 3))
    reader = fit_gait(trials(ground, 300), seen, np.array([False, True, False]))
    alone = fit_gait(trials(ground, 300), seen[:, 1:2])
    np.testing.assert_array_equal(reader(seen), alone(seen[:, 1:2]))
    np.testing.assert_array_equal(reader(seen * [9.0, 1.0, -9.0]), reader(seen))
    fixed = fit_gait(trials(ground, 300), seen, np.zeros(3, bool))
    assert len(np.unique(fixed(seen), axis=0)) == 1


def test_without_what_matters_the_more_frequent_ground_decides():
    ground = (np.random.default_rng(2).random(3_000) < 0.8).astype(int)
    fixed = fit_gait(trials(ground), np.zeros((3_000, 0)))(np.zeros((1, 0)))
    np.testing.assert_allclose(fixed[0, 0], 0.18, atol=0.02)


def test_the_same_trials_give_the_same_bits(monkeypatch):
    for name, value in (("_STEPS", 20), ("_READER_STEPS", 5)):
        monkeypatch.setattr(gait_fit, name, value)
    ground = np.zeros(200, int)
    seen = np.random.default_rng(0).normal(size=(200, 2))
    one, other = (fit_gait(trials(ground, 200), seen, seed=3) for _ in range(2))
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(a, b)
    assert np.any(np.asarray(fit_gait(trials(ground, 200), seen, seed=4).slope) != np.asarray(one.slope))


def test_no_gait_is_chosen_that_was_not_tried():
    assert list(TRIED) == list(SETTINGS)
    for name, (low, high) in BOUNDS.items():
        assert TRIED[name][0] <= low < high <= TRIED[name][1]


def test_a_handful_of_trials_is_refused():
    with pytest.raises(ConfigError, match="60 trials are too few to learn a gait from: at least 100"):
        fit_gait(trials(np.zeros(60, int), 60), np.zeros((60, 0)))
