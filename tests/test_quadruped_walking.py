"""Learning to walk: advantages and updates against closed forms, files, the curriculum, interrupted runs."""

import dataclasses
import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dmcm.errors import CheckpointError, ConfigError, DataError, DivergenceError, StorageError
from dmcm.quadruped.body import robot_table as robot_tables
from dmcm.quadruped.body.robot_table import load_robot
from dmcm.quadruped.conditioned.shipped import MATCHED_POLICY, TOLD_POLICY
from dmcm.quadruped.data.shards import CollectConfig
from dmcm.quadruped.walking import loop
from dmcm.quadruped.walking import training as walking
from dmcm.quadruped.walking.commands import CommandRanges
from dmcm.quadruped.walking.environment import WalkConfig
from dmcm.quadruped.walking.policy import (
    Policy,
    RunningScale,
    check_trained_for,
    load_policy,
    mean_action,
    save_policy,
)
from dmcm.quadruped.walking.ppo import Ends, PpoConfig, Rollout, Trainee, advantages, collect, improve
from dmcm.quadruped.walking.suite import WalkingSuite, run_suite
from dmcm.quadruped.walking.training import LADDERS, Curriculum, WalkTraining, train_walking
from dmcm.quadruped.world.terrain import OOD_TERRAINS, Terrain
from dmcm.runs import RunFolder
from dmcm.storage import save_arrays
from helpers import same_bits

GO1 = load_robot("go1")
TINY = PpoConfig(horizon=4, minibatches=2, epochs=1)
BANDIT = PpoConfig(horizon=4, minibatches=2, epochs=4, discount=0.9, entropy=0.0)
TRAINING = WalkTraining(iterations=4, robots=8, phase=2, ppo=TINY, threads=1)


def small_policy(observations=3, privileged=2, actions=2, **options):
    return Policy(
        observations, privileged, actions, **{"widths": (16, 8), "key": jax.random.key(0), **options}
    )


def test_running_scales_in_pieces_are_those_of_all_at_once():
    x = np.random.default_rng(0).normal(3.0, [0.5, 2.0, 10.0], (500, 3)).astype(np.float32)
    scale = RunningScale(3)
    for piece in np.split(x, [7, 8, 200]):
        scale = scale.seen(jnp.asarray(piece))
    assert float(scale.count) == pytest.approx(500, rel=1e-6)
    np.testing.assert_allclose(scale.mean, x.mean(axis=0), rtol=1e-4)
    np.testing.assert_allclose(scale.variance, x.var(axis=0), rtol=1e-3)
    standard = np.asarray(scale(jnp.asarray(x)))
    np.testing.assert_allclose(standard.mean(axis=0), 0, atol=1e-3)
    np.testing.assert_allclose(standard.std(axis=0), 1, atol=1e-3)
    assert np.abs(scale(jnp.asarray(x + 1e4))).max() == 8


def test_log_density_is_that_of_independent_gaussians():
    deviation = np.array([0.3, 2.0])
    policy = eqx.tree_at(lambda p: p.log_deviation, small_policy(), jnp.log(jnp.asarray(deviation)))
    rng = np.random.default_rng(1)
    mean, action = rng.normal(size=(2, 5, 2))
    densities = np.exp(-((action - mean) ** 2) / (2 * deviation**2)) / np.sqrt(2 * np.pi * deviation**2)
    found = policy.log_density(jnp.asarray(mean), jnp.asarray(action))
    np.testing.assert_allclose(found, np.log(densities).sum(axis=1), rtol=1e-5)


def test_a_new_policy_does_next_to_nothing_and_varies_as_told():
    policy = small_policy(deviation=0.7)
    observation = jnp.asarray(np.random.default_rng(0).normal(size=(10, 3)))
    assert np.abs(policy.mean(observation)).max() < 0.02
    np.testing.assert_allclose(np.exp(policy.log_deviation), 0.7, rtol=1e-6)


def rollout_of(reward, value, done):
    """A rollout of which only rewards, values and ends matter."""
    shape = np.shape(reward)
    empty = jnp.zeros((*shape, 1))
    arrays = (jnp.asarray(a, jnp.float32) for a in (reward, value))
    reward, value = arrays
    return Rollout(empty, empty, empty, empty, jnp.zeros(shape), value, reward, jnp.asarray(done))


@pytest.fixture
def lived():
    """Rewards, values, ends and the values after them of 4 robots in 9 steps."""
    rng = np.random.default_rng(2)
    return rng.normal(size=(9, 4)), rng.normal(size=(9, 4)), rng.random((9, 4)) < 0.25, rng.normal(size=4)


@pytest.mark.parametrize(("discount", "trace"), [(0.9, 0.8), (0.99, 0.95), (0.7, 0.0)])
def test_advantages_are_the_double_sum_of_surprises(lived, discount, trace):
    reward, value, done, last = lived
    config = PpoConfig(discount=discount, trace=trace)
    expected = np.zeros((9, 4))
    for t, robot in itertools.product(range(9), range(4)):
        for k in range(t, 9):
            following = last[robot] if k == 8 else value[k + 1, robot]
            surprise = reward[k, robot] + (0 if done[k, robot] else discount * following) - value[k, robot]
            expected[t, robot] += (discount * trace) ** (k - t) * surprise
            if done[k, robot]:
                break
    found = advantages(rollout_of(reward, value, done), jnp.asarray(last, jnp.float32), config)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_with_a_whole_trace_advantages_are_returns_less_values(lived):
    reward, value, done, last = lived
    returns = np.zeros((10, 4))
    returns[9] = last
    for t in reversed(range(9)):
        returns[t] = reward[t] + 0.9 * np.where(done[t], 0, returns[t + 1])
    config = PpoConfig(discount=0.9, trace=1.0)
    found = advantages(rollout_of(reward, value, done), jnp.asarray(last, jnp.float32), config)
    np.testing.assert_allclose(found, returns[:9] - value, atol=1e-5)


class Bandit:
    """64 robots; the reward is minus the squared distance of an action from a target, an episode one step."""

    count = 64

    def __init__(self, target, cut=False):
        self.target, self.cut = np.array(target), cut

    def observation(self):
        return np.zeros((self.count, 3), np.float32)

    def privileged(self):
        return np.zeros((self.count, 2), np.float32)

    def step(self, actions):
        reward = -((actions - self.target) ** 2).sum(axis=1).astype(np.float32)
        ended, never = np.ones(self.count, bool), np.zeros(self.count, bool)
        info = {"final_obs": self.observation(), "final_privileged": self.privileged(), "progress": reward}
        fell, cut = (never, ended) if self.cut else (ended, never)
        return self.observation(), reward, fell, cut, info


def test_updates_lead_to_the_actions_that_are_worth_most():
    config, target = BANDIT, [0.8, -0.5]
    bandit, trainee = Bandit(target), Trainee(small_policy(deviation=0.5), config)
    before = np.asarray(trainee.policy.mean(jnp.asarray(bandit.observation())))[0]
    observation, values = bandit.observation(), []
    for key in jax.random.split(jax.random.key(1), 60):
        acting, learning = jax.random.split(key)
        rollout, observation, last, ended = collect(trainee.policy, bandit, observation, config, acting)
        assert ended.fell.all()
        assert not ended.cut.any()
        trainee, measures = improve(trainee, rollout, last, config, learning)
        values.append(float(np.mean(rollout.reward)))
    after = np.asarray(trainee.policy.mean(jnp.asarray(bandit.observation())))[0]
    assert np.abs(before - target).max() > 0.4
    np.testing.assert_allclose(after, target, atol=0.1)
    assert measures["deviation"] < 0.4
    assert values[-1] > 0.3 * values[0]
    # The critic has learned what the last actions were worth on average.
    worth = trainee.policy.value(jnp.asarray(bandit.observation()), jnp.asarray(bandit.privileged()))
    np.testing.assert_allclose(worth, np.mean(values[-5:]), atol=0.1)


def test_one_update_makes_better_actions_likelier():
    policy, bandit = small_policy(), Bandit([2.0, 2.0])
    rollout, _, last, _ = collect(policy, bandit, bandit.observation(), BANDIT, jax.random.key(3))
    trainee, _ = improve(Trainee(policy, BANDIT), rollout, last, BANDIT, jax.random.key(4))
    observation, action, before = (
        jnp.reshape(part, (256, -1)) for part in (rollout.observation, rollout.action, rollout.log_density)
    )
    after = trainee.policy.log_density(trainee.policy.mean(observation), action)
    gained = np.asarray(advantages(rollout, last, BANDIT)).ravel()
    assert np.corrcoef(np.asarray(after) - np.asarray(before)[:, 0], gained)[0, 1] > 0.5


def test_a_rollout_keeps_what_the_policy_said():
    policy, bandit = small_policy(), Bandit([0.0, 0.0])
    rollout, observation, last, _ = collect(policy, bandit, bandit.observation(), BANDIT, jax.random.key(0))
    assert rollout.action.shape == (4, 64, 2)
    assert observation.shape == (64, 3)
    flat = [jnp.reshape(part, (256, -1)) for part in rollout]
    np.testing.assert_allclose(policy.mean(flat[0]), flat[3], atol=1e-6)
    np.testing.assert_allclose(policy.log_density(flat[3], flat[2]), flat[4][:, 0], rtol=1e-5)
    np.testing.assert_allclose(policy.value(flat[0], flat[1]), flat[5][:, 0], atol=1e-6)
    np.testing.assert_allclose(last, flat[5][:64, 0], atol=1e-6)
    assert np.std(flat[2] - flat[3]) == pytest.approx(0.5, rel=0.1)
    assert len(np.unique(np.asarray(rollout.action))) == 512


def test_where_time_runs_out_the_value_of_the_state_is_added():
    policy = small_policy()
    fallen, cut = Bandit([0.3, 0.3]), Bandit([0.3, 0.3], cut=True)
    rollouts = [collect(policy, b, b.observation(), BANDIT, jax.random.key(0)) for b in (fallen, cut)]
    value = policy.value(jnp.asarray(cut.observation()), jnp.asarray(cut.privileged()))
    difference = np.asarray(rollouts[1][0].reward - rollouts[0][0].reward)
    np.testing.assert_allclose(difference, np.tile(0.9 * np.asarray(value), (4, 1)), atol=1e-5)
    assert np.abs(difference).min() > 1e-3
    assert rollouts[1][3].cut.all()
    np.testing.assert_array_equal(
        rollouts[0][3].progress, rollouts[0][0].reward[-1]
    )  # that of the last episode
    assert not rollouts[1][3].fell.any()


def test_an_update_that_is_not_finite_is_an_error():
    policy, bandit = small_policy(), Bandit([np.nan, 0.0])
    rollout, _, last, _ = collect(policy, bandit, bandit.observation(), BANDIT, jax.random.key(0))
    with pytest.raises(DivergenceError, match="learning_rate"):
        improve(Trainee(policy, BANDIT), rollout, last, BANDIT, jax.random.key(1))


def test_a_policy_comes_back_from_its_file_bit_for_bit(tmp_path):
    policy = small_policy(key=jax.random.key(5))
    seen = policy.observation_scale.seen(jnp.asarray(np.random.default_rng(0).normal(size=(9, 3))))
    policy = eqx.tree_at(lambda p: p.observation_scale, policy, seen)
    save_policy(tmp_path / "policy.safetensors", policy, {"training": {"seed": 5}})
    found, about = load_policy(tmp_path / "policy.safetensors")
    assert same_bits(found, policy)
    assert about["training"] == {"seed": 5}
    observation = np.ones((2, 3), np.float32)
    assert same_bits(mean_action(found, observation), mean_action(policy, observation))


def test_a_damaged_or_foreign_file_is_no_policy(tmp_path):
    path = tmp_path / "policy.safetensors"
    save_policy(path, small_policy(), {})
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    with pytest.raises(StorageError, match="damaged"):
        load_policy(path)
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(StorageError, match="damaged"):
        load_policy(path)
    save_arrays(path, {"a": np.zeros(2)}, {"kind": "bank"})
    with pytest.raises(StorageError, match="holds 'bank', not a quadruped policy"):
        load_policy(path)
    with pytest.raises(StorageError, match="no file"):
        load_policy(tmp_path / "missing.safetensors")


def test_settings_out_of_range_are_refused(tmp_path):
    for training in (
        dataclasses.replace(TRAINING, robots=0),
        dataclasses.replace(TRAINING, iterations=0),
        dataclasses.replace(TRAINING, ppo=dataclasses.replace(TINY, epochs=0)),
    ):
        with pytest.raises(ConfigError, match="at least 1"):
            train_walking(training, tmp_path / "run", progress=False)
    uneven = dataclasses.replace(TRAINING, ppo=dataclasses.replace(TINY, minibatches=3))
    with pytest.raises(ConfigError, match=r"8 robots × 4 steps.*3 equal"):
        train_walking(uneven, tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


LADDER = (
    (Terrain("stairs_up", 0.02), Terrain("stairs_up", 0.04), Terrain("stairs_up", 0.06)),
    (Terrain("rough", 0.02, 0.2), Terrain("rough", 0.04, 0.2)),
)


def ends(fell, cut, progress):
    """Which robots' episodes ended, and how."""
    return Ends(np.array(fell, bool), np.array(cut, bool), np.array(progress, float))


def test_robots_go_up_their_ladder_and_down_again_and_never_off_it():
    curriculum, rng = Curriculum(LADDER, GO1, 4), np.random.default_rng(0)
    assert np.array_equal(curriculum.tiles, [0, 3, 0, 3])
    moved, tiles = curriculum.ended(ends([0, 1, 0, 0], [1, 0, 1, 0], [0.9, 0.9, 0.7, 0.9]), rng)
    assert np.array_equal(moved, [0, 2])
    assert np.array_equal(tiles, [1, 1])
    assert np.array_equal(curriculum.tiles, [1, 3, 1, 3])
    assert curriculum.arena.terrains[1] == LADDER[0][1]
    # A fall counts, however far the robot came, and whether or not another episode ran out of time.
    moved, _ = curriculum.ended(ends([1, 0, 1, 0], [0, 1, 1, 1], [0.9, 1.0, 1.0, 1.0]), rng)
    assert np.array_equal(moved, [0, 1, 2, 3])
    assert np.array_equal(curriculum.tiles, [0, 4, 0, 4])
    assert len(curriculum.ended(ends([0] * 4, [0] * 4, [1.0] * 4), rng)[0]) == 0


def test_who_walks_only_some_of_the_way_stays_and_who_hardly_walks_steps_down():
    curriculum, rng = Curriculum(LADDER, GO1, 4), np.random.default_rng(0)
    curriculum.rung[:] = 1
    moved, _ = curriculum.ended(ends([0] * 4, [1] * 4, [0.45, 0.1, -0.5, 0.45]), rng)
    assert np.array_equal(moved, [1, 2])
    assert np.array_equal(curriculum.rung, [1, 0, 0, 1])
    assert len(curriculum.ended(ends([0, 1, 1, 0], [0, 1, 0, 0], [0.0] * 4), rng)[0]) == 0
    assert np.array_equal(curriculum.rung, [1, 0, 0, 1])


def test_who_has_reached_the_top_is_sent_anywhere_on_the_ladder():
    curriculum, rng = Curriculum(LADDER, GO1, 400), np.random.default_rng(0)
    curriculum.rung[:] = np.array([3, 2])[curriculum.ladder] - 1
    curriculum.ended(ends([0] * 400, [1] * 400, [1.0] * 400), rng)
    for ladder, length in enumerate((3, 2)):
        counts = np.bincount(curriculum.rung[curriculum.ladder == ladder], minlength=length)
        assert len(counts) == length
        np.testing.assert_allclose(counts, 200 / length, rtol=0.25)


def test_the_curriculum_shows_nothing_that_is_kept_out_of_training():
    grounds = Curriculum(LADDERS, GO1, 1).arena.terrains
    assert not {*grounds} & {*OOD_TERRAINS}
    assert {ground.kind for ground in grounds} == {
        "flat", "rough", "slope_up", "slope_down", "stairs_up", "stairs_down", "waves"
    }  # fmt: skip
    for out in OOD_TERRAINS:
        of_its_kind = [ground for ground in grounds if ground.kind == out.kind]
        if out.kind == "flat":
            assert min(ground.friction for ground in of_its_kind) > out.friction
        else:
            assert max([ground.size for ground in of_its_kind], default=0) < out.size


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """A whole run: its policy and its folder."""
    out = tmp_path_factory.mktemp("walking") / "run"
    return train_walking(TRAINING, out, progress=False), out


def interrupt_after(monkeypatch, count):
    """Let that many updates pass, then stop the run as Ctrl-C would."""
    calls = []

    def stopping(*args):
        calls.append(0)
        if len(calls) > count:
            raise KeyboardInterrupt
        return improve(*args)

    monkeypatch.setattr(loop, "improve", stopping)


@pytest.mark.parametrize("after", [1, 3])
def test_an_interrupted_run_ends_in_the_bits_of_a_whole_one(uninterrupted, tmp_path, monkeypatch, after):
    policy, whole = uninterrupted
    with monkeypatch.context() as patched:
        interrupt_after(patched, after)
        with pytest.raises(KeyboardInterrupt):
            train_walking(TRAINING, tmp_path / "run", progress=False)
    assert not (tmp_path / "run" / "policy.safetensors").exists()
    resumed = train_walking(TRAINING, tmp_path / "run", resume=True, progress=False)
    assert same_bits(resumed, policy)
    kept = [load_policy(folder / "policy.safetensors") for folder in (whole, tmp_path / "run")]
    assert same_bits(kept[0][0], kept[1][0])
    assert kept[0][1] == kept[1][1]
    history = RunFolder(tmp_path / "run").history()
    assert [line["step"] for line in history] == [1, 2, 3, 4]
    assert history == RunFolder(whole).history()


def test_a_run_is_repeatable_and_depends_on_its_seed(uninterrupted, tmp_path):
    policy, _ = uninterrupted
    threads = dataclasses.replace(TRAINING, threads=2)
    assert same_bits(train_walking(threads, tmp_path / "same", progress=False), policy)
    other = train_walking(dataclasses.replace(TRAINING, seed=1), tmp_path / "other", progress=False)
    assert not same_bits(other, policy)


def test_training_changes_the_policy_and_counts_what_it_saw(uninterrupted):
    policy, out = uninterrupted
    assert float(policy.observation_scale.count) == pytest.approx(4 * 4 * 8)
    assert float(policy.critic_scale.count) == pytest.approx(4 * 4 * 8)
    loaded, about = load_policy(out / "policy.safetensors")
    assert same_bits(loaded, policy)
    assert about["training"]["robots"] == 8
    first = walking._first_policy(TRAINING, load_robot("go1"), jax.random.key(TRAINING.seed))
    assert not np.array_equal(first.actor.layers[0].weight, policy.actor.layers[0].weight)


def test_a_folder_with_another_run_is_refused(uninterrupted, tmp_path):
    _, out = uninterrupted
    with pytest.raises(CheckpointError, match="resume"):
        train_walking(TRAINING, out, progress=False)
    with pytest.raises(CheckpointError, match="seed is 0 there and 9 here"):
        train_walking(dataclasses.replace(TRAINING, seed=9), out, resume=True, progress=False)


def test_a_run_is_not_resumed_with_another_table_of_the_same_name(tmp_path):
    table = tmp_path / "mine.toml"
    text = (robot_tables._TABLES / "go1.toml").read_text()
    table.write_text(text)
    training = dataclasses.replace(TRAINING, iterations=1, phase=1, robot=str(table))
    train_walking(training, tmp_path / "run", progress=False)
    table.write_text(text.replace("home_height_m = 0.32", "home_height_m = 0.33"))
    with pytest.raises(CheckpointError, match="robot_table"):
        train_walking(training, tmp_path / "run", resume=True, progress=False)


def test_a_finished_run_resumes_to_itself(uninterrupted):
    policy, out = uninterrupted
    assert same_bits(train_walking(TRAINING, out, resume=True, progress=False), policy)
    assert same_bits(load_policy(out / "policy.safetensors")[0], policy)


def test_training_goes_on_from_another_policy_on_rough_ground(uninterrupted, tmp_path):
    policy, out = uninterrupted
    start = out / "policy.safetensors"
    config = dataclasses.replace(TRAINING, rough_ground=True, start=start, iterations=1)
    further = train_walking(config, tmp_path / "run", progress=False)
    assert float(further.observation_scale.count) == pytest.approx(5 * 4 * 8)
    assert not same_bits(further, policy)
    _, about = load_policy(tmp_path / "run" / "policy.safetensors")
    assert about["training"]["start"] == str(start)


def test_an_unknown_robot_is_refused_before_the_run_begins(tmp_path):
    with pytest.raises(DataError, match="go3"):
        train_walking(dataclasses.replace(TRAINING, robot="go3"), tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_a_robot_is_the_same_by_any_path_of_its_table(tmp_path):
    table, about = load_robot("go1"), {"training": {"robot": "tables/b1.toml"}}
    for robot in ("b1.toml", "./b1.toml", str(tmp_path / "b1.toml"), "b1"):
        check_trained_for(tmp_path / "policy", about, robot, table)
    with pytest.raises(ConfigError, match=r"trained with the robot tables/b1\.toml, not b2\.toml"):
        check_trained_for(tmp_path / "policy", about, "b2.toml", table)


@pytest.mark.parametrize(
    "odd",
    [
        {"forward_m_s": (1.0, -1.0)},
        {"left_m_s": (0.0, np.inf)},
        {"heading_rad": (np.nan, 0.1)},
        {"duration_s": 0.0},
        {"keep_heading": 1.5},
    ],
)
def test_commands_that_nothing_can_be_drawn_from_are_refused(odd):
    with pytest.raises(ConfigError, match="commands"):
        WalkConfig(commands=dataclasses.replace(CommandRanges(), **odd)).check()
    with pytest.raises(ConfigError, match="commands"):
        CollectConfig(commands=dataclasses.replace(CommandRanges(), **odd)).check()


def test_a_policy_walks_its_own_robot_for_long_enough(uninterrupted, tmp_path):
    _, out = uninterrupted
    start = out / "policy.safetensors"
    with pytest.raises(ConfigError, match="trained with the robot go1, not a1: use --robot go1"):
        run_suite(WalkingSuite(robot="a1", policy=start))
    with pytest.raises(ConfigError, match="trained with the robot go1, not a1"):
        train_walking(dataclasses.replace(TRAINING, robot="a1", start=start), tmp_path / "a1", progress=False)
    for told in (MATCHED_POLICY, TOLD_POLICY):
        with pytest.raises(ConfigError, match="needs inputs that a robot's sensors do not provide"):
            run_suite(WalkingSuite(policy=told))
    for odd in ({"seconds": 0.0}, {"seconds": np.inf}, {"seed": -1}, {"episodes": 0}):
        with pytest.raises(ConfigError, match="must be at least"):
            run_suite(WalkingSuite(**odd))


def test_walking_does_not_begin_with_a_policy_that_is_told_something(tmp_path):
    told = Policy(58, 28, 12, told=6, key=jax.random.key(0))
    save_policy(tmp_path / "told.safetensors", told, {})
    config = dataclasses.replace(TRAINING, start=tmp_path / "told.safetensors")
    with pytest.raises(ConfigError, match="Start from a policy of train-walking"):
        train_walking(config, tmp_path / "run", progress=False)
