"""The walking environment: Gymnasium's contract, sensors, rewards, commands; and how walks are measured."""

import dataclasses

import gymnasium
import jax
import mujoco
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

from dmcm.errors import ConfigError, ShapeError
from dmcm.quadruped.body.properties import PROPERTY_NAMES, RobotProperties
from dmcm.quadruped.body.robot_table import load_robot
from dmcm.quadruped.conditioned.evaluation import summarise_walk
from dmcm.quadruped.walking.commands import CommandRanges, Commands, speed_along
from dmcm.quadruped.walking.environment import ACTION_LIMIT, WalkConfig, WalkEnvironment
from dmcm.quadruped.walking.evaluation import evaluate_walking
from dmcm.quadruped.walking.gait import Gait
from dmcm.quadruped.walking.observations import OBSERVATION, PRIVILEGED, REALISTIC_NOISE, NoiseScales, part
from dmcm.quadruped.walking.policy import Policy
from dmcm.quadruped.walking.rewards import RewardWeights, reward
from dmcm.quadruped.world.arena import Arena
from dmcm.quadruped.world.simulation import CONTROL_PERIOD_S, Simulation
from dmcm.quadruped.world.terrain import Terrain

GO1 = load_robot("go1")
GROUNDS = (Terrain(), Terrain("slope_up", 0.12), Terrain("rough", 0.03, 0.2))
STILL = CommandRanges((0.0, 0.0), (0.0, 0.0), (0.0, 0.0), (0.0, 0.0))
SENSED = ("gyro_rad_s", "gravity_direction", "joint_offsets_rad", "joint_speeds_rad_s")


def environment(count=3, seed=0, **config):
    """Robots with different loads, spread over three grounds."""
    robots = [RobotProperties(payload_kg=i / 2) for i in range(count)]
    tiles = np.arange(count) % len(GROUNDS)
    return WalkEnvironment(GO1, Arena(GROUNDS), robots, tiles, WalkConfig(**config), threads=1, seed=seed)


def actions(steps, count=3, seed=5):
    """Random actions, shape (steps, count, 12)."""
    return np.random.default_rng(seed).normal(0, 0.5, (steps, count, 12))


def episode(walks, steps=10, seed=3):
    """Observations from a reset on, shape (steps + 1, n, size)."""
    first, _ = walks.reset(seed=seed)
    return np.stack([first, *(walks.step(a)[0] for a in actions(steps, walks.num_envs))])


def overturn(walks, robot):
    """Put a robot on its back, above the ground."""
    walks.simulation.qpos[robot, 2] += 0.3
    walks.simulation.qpos[robot, 3:7] = [0, 1, 0, 0]


def test_spaces_hold_what_comes_and_goes():
    walks = environment()
    assert isinstance(walks, gymnasium.vector.VectorEnv)
    assert walks.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    size = sum(OBSERVATION.values())
    assert walks.single_observation_space.shape == (size,)
    assert walks.observation_space.shape == (3, size)
    assert walks.action_space.shape == (3, 12)
    walks.action_space.seed(0)
    observation, info = walks.reset(seed=0)
    assert walks.observation_space.contains(observation)
    assert info == {}
    for _ in range(5):
        observation, rewards, fell, cut, _ = walks.step(walks.action_space.sample())
        assert walks.observation_space.contains(observation)
        assert (rewards.shape, rewards.dtype) == ((3,), np.float32)
        assert (fell.dtype, cut.dtype) == (bool, bool)
        assert np.all(np.isfinite(observation))


def test_the_parts_of_an_observation_are_the_state_of_the_robot():
    walks = environment()
    observation = episode(walks)[-1]
    simulation = walks.simulation
    expected = {
        "gyro_rad_s": simulation.qvel[:, 3:6],
        "command": walks.commands.velocity,
        "joint_offsets_rad": simulation.qpos[:, 7:] - GO1.home_pose_rad,
        "joint_speeds_rad_s": simulation.qvel[:, 6:],
        "previous_action": actions(10)[-1],
        "gait_phase": np.stack([np.sin(2 * np.pi * walks.phase), np.cos(2 * np.pi * walks.phase)], axis=1),
    }
    for name, values in expected.items():
        np.testing.assert_allclose(observation[:, part(name)], values, atol=1e-5)
    for robot, quaternion in enumerate(simulation.qpos[:, 3:7]):
        matrix = np.zeros(9)
        mujoco.mju_quat2Mat(matrix, quaternion)
        down = -matrix.reshape(3, 3)[2]
        np.testing.assert_allclose(observation[robot, part("gravity_direction")], down, atol=1e-5)
    assert set(np.unique(observation[:, part("foot_contact")])) <= {0.0, 1.0}
    assert part("foot_contact").stop == observation.shape[1]


def test_contact_is_sensed_standing_and_not_in_the_air():
    walks = environment(commands=STILL)
    walks.reset(seed=0)
    walks.simulation.qpos[:, 2] -= 0.01  # placed, the feet hang a little above the ground
    walks.simulation.batch.forward()
    assert np.all(walks.observe()[0, part("foot_contact")] == 1)
    walks.simulation.qpos[:, 2] += 1.0
    observation, *_ = walks.step(np.zeros((3, 12)))
    assert np.all(observation[:, part("foot_contact")] == 0)


def test_the_truth_is_apart_from_what_is_sensed():
    assert not {*PROPERTY_NAMES, *PRIVILEGED} & OBSERVATION.keys()
    walks = environment()
    episode(walks, 3)
    sensed, truth = walks.observe(), walks.privileged()
    assert truth.shape == (3, sum(PRIVILEGED.values()))
    start = sum(PRIVILEGED[name] for name in list(PRIVILEGED)[: list(PRIVILEGED).index("properties")])
    payload = start + PROPERTY_NAMES.index("payload_kg")
    np.testing.assert_allclose(truth[:, payload], [0, 0.5, 1])
    np.testing.assert_allclose(truth[:, -1], 0.8)
    for values in walks.simulation.properties.values():
        values += 7.0
    assert np.array_equal(walks.observe(), sensed)
    assert not np.array_equal(walks.privileged(), truth)


def test_ground_heights_of_the_truth_are_those_around_the_robot():
    walks = environment()
    walks.reset(seed=0)
    heights = walks.privileged()[:, 4:13].reshape(3, 3, 3)  # robot, along x, along y
    np.testing.assert_allclose(heights[0], 0, atol=1e-6)
    np.testing.assert_allclose(heights[1], 0.12 * np.array([-0.25, 0, 0.25])[:, None] * np.ones(3), atol=1e-6)
    x, y = walks.simulation.qpos[2, :2] - walks.simulation.arena.corner_m[2]
    away = np.array([-0.25, 0.0, 0.25])
    xs, ys = np.meshgrid(x + away, y + away, indexing="ij")
    ground = GROUNDS[2].height(xs, ys)
    np.testing.assert_allclose(heights[2], ground - ground[1, 1], atol=1e-6)


def test_the_same_seed_gives_the_same_bits_and_another_one_others():
    config = {"noise": REALISTIC_NOISE, "push_m_s": 0.5, "sensor_delay_steps": 1}
    one, same, other = (episode(environment(**config), seed=seed) for seed in (3, 3, 4))
    assert one.tobytes() == same.tobytes()
    assert not np.array_equal(one, other)
    walks = environment(**config)
    assert episode(walks).tobytes() == episode(walks).tobytes() == one.tobytes()


def test_a_seed_at_the_start_counts_until_a_reset_gives_another():
    one, same, other = (environment(seed=seed).reset()[0] for seed in (1, 1, 2))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


def test_time_runs_out_in_the_step_that_starts_the_next_episode():
    short, long = environment(episode_s=5 * CONTROL_PERIOD_S), environment()
    assert short.step_limit == 5
    short.reset(seed=3)
    long.reset(seed=3)
    for step, action in enumerate(actions(5), start=1):
        observation, rewards, fell, cut, info = short.step(action)
        uncut, same_rewards, *_ = long.step(action)
        assert np.array_equal(rewards, same_rewards)
        assert not fell.any()
        assert np.array_equal(cut, [step == 5] * 3)
        assert ("final_obs" in info) == (step == 5)
    assert np.array_equal(info["final_obs"], uncut)
    assert np.array_equal(info["_final_obs"], [True] * 3)
    assert np.array_equal(info["final_privileged"], long.privileged())
    assert np.all(observation[:, part("previous_action")] == 0)
    assert np.all(observation[:, part("joint_offsets_rad")] == 0)
    assert np.all(short.step_count == 0)
    assert np.all(short.simulation.moved_m == 0)


def test_a_robot_that_falls_starts_anew_alone():
    walks, undisturbed = environment(), environment()
    for each in (walks, undisturbed):
        each.reset(seed=3)
    overturn(walks, 1)
    observation, _, fell, cut, info = walks.step(actions(1)[0])
    expected, *_ = undisturbed.step(actions(1)[0])
    assert np.array_equal(fell, [False, True, False])
    assert not cut.any()
    assert info["final_obs"][1, part("gravity_direction")][2] > 0.5
    np.testing.assert_allclose(observation[1, part("gravity_direction")], [0, 0, -1], atol=1e-6)
    assert np.array_equal(walks.step_count, [1, 0, 1])
    assert np.array_equal(observation[[0, 2]], expected[[0, 2]])
    assert np.array_equal(info["_final_obs"], fell)


def test_a_trunk_on_the_ground_is_a_fall():
    walks = environment()
    walks.reset(seed=3)
    walks.simulation.qpos[2, 2] -= 0.22
    walks.simulation.qpos[2, 7:] = [0.0, 1.6, -2.8] * 4
    _, _, fell, cut, _ = walks.step(np.zeros((3, 12)))
    assert np.array_equal(fell, [False, False, True])
    assert not cut.any()


def test_progress_is_the_share_of_the_commanded_way_that_was_made():
    walks = environment(commands=CommandRanges(duration_s=0.1))
    walks.reset(seed=3)
    made, told = np.zeros(3), np.zeros(3)
    for step, action in enumerate(actions(20)):
        if step == 10:
            overturn(walks, 1)
        command = walks.commands.velocity[:, :2].copy()
        _, _, fell, _, info = walks.step(action)
        velocity = walks.simulation.trunk_velocity_m_s[:, :2]
        made += np.einsum("ij,ij->i", velocity, command) / np.hypot(*command.T)
        told += np.hypot(*command.T)
        assert np.array_equal(np.flatnonzero(fell), [1] if step == 10 else [])
        np.testing.assert_allclose(info["progress"][~fell], (made / told)[~fell], rtol=1e-9)
        made[fell] = told[fell] = 0.0


def test_a_simulation_that_comes_apart_is_cut_and_no_fall(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # MuJoCo logs there
    walks = environment()
    walks.reset(seed=3)
    walks.simulation.qvel[0] = np.nan
    observation, rewards, fell, cut, info = walks.step(np.zeros((3, 12)))
    assert not fell.any()
    assert np.array_equal(cut, [True, False, False])
    assert np.array_equal(info["diverged"], cut)
    assert np.all(np.isfinite(observation))
    assert np.all(np.isfinite(info["final_obs"]))
    assert np.all(np.isfinite(rewards))
    assert np.array_equal(walks.step_count, [0, 1, 1])
    _, _, _, cut, info = walks.step(np.zeros((3, 12)))
    assert not cut.any()
    assert not info["diverged"].any()


def test_noise_touches_the_sensors_alone_and_is_as_large_as_it_says():
    quiet, loud = environment(8), environment(8, noise=REALISTIC_NOISE)
    clean, noisy = (walks.reset(seed=2)[0] for walks in (quiet, loud))
    sensed = np.zeros(clean.shape[1], bool)
    for name in SENSED:
        sensed[part(name)] = True
    assert np.array_equal(noisy[:, ~sensed], clean[:, ~sensed])
    assert np.all(noisy[:, sensed] != clean[:, sensed])
    errors = np.concatenate([loud.observe() - quiet.observe() for _ in range(200)])
    scales = (
        REALISTIC_NOISE.gyro_rad_s,
        REALISTIC_NOISE.gravity,
        REALISTIC_NOISE.joint_rad,
        REALISTIC_NOISE.joint_speed_rad_s,
    )
    for name, scale in zip(SENSED, scales, strict=True):
        found = errors[:, part(name)]
        assert found.std() == pytest.approx(scale, rel=0.05)
        assert abs(found.mean()) < 5 * scale / np.sqrt(found.size)
    assert np.all(errors[:, ~sensed] == 0)


@pytest.mark.parametrize("delay", [1, 3])
def test_sensors_are_late_by_their_delay_and_commands_are_not(delay):
    prompt, late = episode(environment(), 12), episode(environment(sensor_delay_steps=delay), 12)
    delayed = np.zeros(prompt.shape[2], bool)
    for name in (*SENSED, "foot_contact"):
        delayed[part(name)] = True
    assert np.array_equal(late[delay:][..., delayed], prompt[:-delay][..., delayed])
    assert np.array_equal(late[..., ~delayed], prompt[..., ~delayed])
    # Until there is a past, the first reading stands for it.
    for step in range(delay):
        assert np.array_equal(late[step][..., delayed], prompt[0][..., delayed])


def test_late_sensors_do_not_remember_an_episode_before():
    walks = environment(sensor_delay_steps=2)
    episode(walks, 5)
    overturn(walks, 1)
    observation, _, fell, *_ = walks.step(np.zeros((3, 12)))
    assert fell[1]
    for _ in range(2):
        assert observation[1, part("gravity_direction")][2] < -0.9
        observation, *_ = walks.step(np.zeros((3, 12)))


def test_pushes_change_the_horizontal_speed_now_and_then():
    walks = environment(8, push_m_s=0.5, seed=1)
    walks.reset(seed=1)
    pushes, still = [], np.zeros((8, 12))
    step = walks.simulation.step

    def watched(targets):
        pushes.append(walks.simulation.qvel[:, :3] - before[:, :3])
        step(targets)

    walks.simulation.step = watched
    for _ in range(150):
        before = walks.simulation.qvel.copy()
        walks.step(still)
    pushes = np.array(pushes)
    pushed = np.any(pushes != 0, axis=2)
    assert pushed.sum() == pytest.approx(150 * 8 * CONTROL_PERIOD_S / 4, rel=0.8)
    assert np.all(pushes[..., 2] == 0)
    assert 0.2 < pushes[pushed][:, :2].std() < 1.0


def test_actions_are_added_to_the_gait_and_cut():
    walks = environment()
    walks.reset(seed=0)
    gait = walks.joint_targets()
    walks.action = np.full((3, 12), 0.1)
    np.testing.assert_allclose(walks.joint_targets() - gait, 0.1 * walks.config.action_scale_rad, atol=1e-12)
    walks.step(np.full((3, 12), 100.0))
    np.testing.assert_array_equal(walks.action, ACTION_LIMIT)
    limits = GO1.joint_limits_rad
    assert np.all((walks.joint_targets() >= limits[:, 0]) & (walks.joint_targets() <= limits[:, 1]))


def test_an_action_that_is_cut_does_what_the_cut_one_does():
    one, other = environment(), environment()
    one.reset(seed=0)
    other.reset(seed=0)
    far = np.full((3, 12), 50.0)
    assert np.array_equal(one.step(far)[0], other.step(np.clip(far, -ACTION_LIMIT, ACTION_LIMIT))[0])


def test_a_robot_moved_to_another_ground_starts_there():
    walks = environment()
    episode(walks, 3)
    walks.move_to(np.array([0]), np.array([1]))
    assert np.array_equal(walks.tiles, [1, 1, 2])
    assert np.array_equal(walks.step_count, [0, 3, 3])
    assert np.array_equal(walks.simulation.tile, [1, 1, 2])
    local = walks.simulation.qpos[0, :2] - walks.simulation.arena.corner_m[1]
    assert np.all((local >= 0) & (local <= walks.simulation.arena.period_m[1]))
    assert abs(walks.simulation.yaw_rad[0]) <= 0.2 + 1e-9  # up the slope, more or less


def test_wrong_options_actions_and_settings_are_refused():
    walks = environment()
    with pytest.raises(ConfigError, match="colour"):
        walks.reset(options={"colour": "grey"})
    with pytest.raises(ShapeError, match=r"\(3, 12\)"):
        walks.step(np.zeros((2, 12)))
    spoilt = np.zeros((3, 12))
    spoilt[1, 2] = np.nan
    with pytest.raises(ShapeError, match="finite"):
        walks.step(spoilt)
    with pytest.raises(ShapeError, match="as many tiles"):
        WalkEnvironment(GO1, Arena(GROUNDS), [RobotProperties()] * 2, [0])
    with pytest.raises(ConfigError, match="0 to 2"):
        WalkEnvironment(GO1, Arena(GROUNDS), [RobotProperties()], [3])
    for setting in (
        {"episode_s": 0.001},
        {"sensor_delay_steps": -1},
        {"push_m_s": -0.1},
        {"action_scale_rad": 0.0},
        {"episode_s": np.inf},
        {"action_scale_rad": np.nan},
        {"push_m_s": np.nan},
        {"fall_tilt": np.nan},
        {"gait": Gait(frequency_hz=0.0)},
        {"gait": Gait(stance_height_m=np.nan)},
        {"rewards": RewardWeights(torque=np.nan)},
    ):
        with pytest.raises(ConfigError, match=next(iter(setting))):
            WalkConfig(**setting).check()
    with pytest.raises(ConfigError, match="negative"):
        NoiseScales(gravity=-0.1)
    with pytest.raises(ConfigError, match="finite"):
        NoiseScales(gravity=np.nan)
    with pytest.raises(ConfigError, match="seed=-1"):
        walks.reset(seed=-1)
    for tile in (-1, 3):
        with pytest.raises(ConfigError, match="0 to 2"):
            walks.move_to(np.array([0]), np.array([tile]))
        with pytest.raises(ConfigError, match="0 to 2"):
            walks.simulation.place(np.array([0]), np.array([tile]))


def test_commands_are_drawn_from_their_ranges():
    ranges, rng = CommandRanges(), np.random.default_rng(0)
    commands = Commands(ranges, 4000)
    commands.draw(np.arange(4000), np.arange(4000) < 1000, rng)
    limits = np.array([ranges.forward_m_s, ranges.left_m_s, ranges.yaw_rad_s])
    np.testing.assert_allclose(commands.velocity.min(axis=0), limits[:, 0], atol=0.01)
    np.testing.assert_allclose(commands.velocity.max(axis=0), limits[:, 1], atol=0.01)
    assert np.all(commands.velocity >= limits[:, 0])
    assert np.all(commands.velocity <= limits[:, 1])
    keeps = np.isfinite(commands.heading)
    assert np.all(keeps[:1000])
    assert 0.45 < keeps[1000:].mean() < 0.55
    assert np.nanmax(np.abs(commands.heading)) <= 0.4


def test_a_heading_is_kept_by_turning_the_short_way():
    commands = Commands(CommandRanges(), 5)
    commands.heading[:] = [0.2, -3.1, 3.1, 1.0, np.nan]
    commands.velocity[:, 2] = 0.55
    commands.follow_heading(np.array([0.0, 3.1, -3.1, -1.0, 2.0]))
    around = 2 * np.pi - 6.2
    np.testing.assert_allclose(commands.velocity[:, 2], [0.3, 1.5 * around, -1.5 * around, 0.8, 0.55])


def test_commands_change_when_their_time_is_over():
    walks = environment(commands=dataclasses.replace(CommandRanges(), duration_s=0.1), episode_s=1.0)
    seen = episode(walks, 12)[..., part("command")][..., :2]
    changed = np.any(seen[1:] != seen[:-1], axis=2).all(axis=1)
    assert np.array_equal(np.flatnonzero(changed) + 1, [5, 10])
    assert not np.any((seen[1:] != seen[:-1])[~changed])


def weights(**only):
    """All terms without worth but some."""
    return RewardWeights(**{**{f.name: 0.0 for f in dataclasses.fields(RewardWeights)}, **only})


@pytest.fixture
def moving():
    """Two robots tilted, turning and moving, with torques."""
    simulation = Simulation(GO1, Arena(GROUNDS), 2, threads=1)
    simulation.qpos[:, 3:7] = np.array([0.9, 0.2, -0.1, 0.3]) / np.linalg.norm([0.9, 0.2, -0.1, 0.3])
    simulation.qvel[:, :6] = [0.4, -0.2, 0.15, 0.3, -0.5, 0.6]
    simulation.qpos[:, 7:] += 0.05
    simulation.batch.forward()
    return simulation


@pytest.mark.parametrize(
    "name",
    [
        "track_velocity",
        "track_yaw",
        "advance",
        "vertical_speed",
        "tumbling",
        "tilt",
        "torque",
        "action_change",
        "action_size",
    ],
)
def test_each_reward_is_what_its_name_says(moving, name):
    rng = np.random.default_rng(1)
    command, action, previous = rng.normal(size=(2, 3)), rng.normal(size=(2, 12)), rng.normal(size=(2, 12))
    inverse, velocity, down = np.zeros(4), np.zeros(3), np.zeros(3)
    mujoco.mju_negQuat(inverse, moving.qpos[0, 3:7])
    mujoco.mju_rotVecQuat(velocity, moving.qvel[0, :3], inverse)
    mujoco.mju_rotVecQuat(down, np.array([0.0, 0, -1]), inverse)
    level = np.array([True, False])
    told = np.linalg.norm(command[:, :2], axis=1)
    expected = {
        "track_velocity": np.exp(-((velocity[:2] - command[:, :2]) ** 2).sum(axis=1) / 0.25),
        "track_yaw": np.exp(-((0.6 - command[:, 2]) ** 2) / 0.25),
        "advance": np.minimum(command[:, :2] @ velocity[:2] / told, told) / np.maximum(told, 0.3),
        "vertical_speed": velocity[2] ** 2 * level,
        "tumbling": np.full(2, 0.3**2 + 0.5**2),
        "tilt": (down[0] ** 2 + down[1] ** 2) * level,
        "torque": np.full(2, 12 * (35 * 0.05) ** 2),
        "action_change": ((action - previous) ** 2).sum(axis=1),
        "action_size": (action**2).sum(axis=1),
    }[name]
    found = reward(moving, command, action, previous, level, weights(**{name: 2.0}))
    worth = 2.0 * expected * CONTROL_PERIOD_S
    np.testing.assert_allclose(found, np.maximum(worth, 0), rtol=1e-6, atol=1e-12)
    debt = reward(moving, command, action, previous, level, weights(**{name: -2.0}))
    np.testing.assert_allclose(debt, np.maximum(-worth, 0), rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize(
    ("command", "velocity", "made", "wanted"),
    [
        ((0.5, 0.0, 0.3), (0.4, 0.2, 9.0), 0.4, 0.5),
        ((0.3, 0.4, 0.0), (-0.3, -0.4, 0.0), -0.5, 0.5),
        ((0.0, 0.0, 0.8), (0.4, 0.2, 0.0), 0.0, 0.0),
    ],
)
def test_speed_along_the_command(command, velocity, made, wanted):
    found = speed_along(np.array([velocity]), np.array([command]))
    np.testing.assert_allclose(np.concatenate(found), [made, wanted], atol=1e-12)


@pytest.fixture(scope="module")
def gait_alone():
    """An untrained policy, whose actions are next to nothing."""
    policy = Policy(
        sum(OBSERVATION.values()), sum(PRIVILEGED.values()), 12, widths=(8, 8), key=jax.random.key(0)
    )
    return policy


def test_a_walk_is_measured_as_one_would_by_hand(gait_alone):
    """All of it recorded, and worked out afterwards."""
    robots, grounds = (
        [RobotProperties(), RobotProperties(payload_kg=2.0)],
        [Terrain(), Terrain("slope_up", 0.06)],
    )
    walk = evaluate_walking(gait_alone, GO1, robots, grounds, seconds=2.0, seed=7, threads=1)
    walks = WalkEnvironment(GO1, Arena(grounds), robots, [0, 1], WalkConfig(episode_s=9.0), threads=1)
    observation, _ = walks.reset(seed=7)
    simulation = walks.simulation
    start, errors, power = simulation.travelled_m.copy(), [], []
    for _ in range(100):
        told = observation[:, part("command")]
        observation, *_ = walks.step(np.asarray(gait_alone.mean(jax.numpy.asarray(observation))))
        moves = np.concatenate([simulation.trunk_velocity_m_s[:, :2], simulation.qvel[:, 5:6]], axis=1)
        errors.append(moves - told)
        power.append(np.maximum(simulation.torques_nm * simulation.qvel[:, 6:], 0).sum(axis=1))
    # Means over a gait cycle of 20 steps that ends after the first second.
    means = np.array([np.mean(errors[end - 20 : end], axis=0) for end in range(51, 101)])
    assert not walk.fell.any()
    assert not walk.diverged.any()
    np.testing.assert_allclose(walk.seconds, 2.0)
    far = np.linalg.norm((simulation.travelled_m - start)[:, :2], axis=1)
    np.testing.assert_allclose(walk.distance_m, far, rtol=1e-3)
    np.testing.assert_allclose(walk.energy_j, np.sum(power, axis=0) * CONTROL_PERIOD_S, rtol=1e-2)
    np.testing.assert_allclose(
        walk.velocity_error_m_s, np.sqrt(np.mean(np.sum(means[..., :2] ** 2, axis=2), axis=0)), rtol=1e-2
    )
    np.testing.assert_allclose(walk.yaw_error_rad_s, np.sqrt(np.mean(means[..., 2] ** 2, axis=0)), rtol=1e-2)


def test_a_robot_too_weak_to_stand_is_counted_as_fallen(gait_alone):
    robots = [RobotProperties(), RobotProperties(motor_strength=0.1, payload_kg=3.0)]
    walk = evaluate_walking(gait_alone, GO1, robots, [Terrain()] * 2, seconds=2.0, commands=STILL, threads=1)
    assert np.array_equal(walk.fell, [False, True])
    # It fell before its speed was measured, which is no perfect one.
    assert np.isnan([walk.velocity_error_m_s[1], walk.yaw_error_rad_s[1]]).all()
    assert np.isfinite([walk.velocity_error_m_s[0], walk.yaw_error_rad_s[0]]).all()
    one, both = summarise_walk(walk, slice(1, 2)), summarise_walk(walk, slice(0, 2))
    assert one["velocity_rmse"] is None
    assert both["velocity_rmse"] == pytest.approx(walk.velocity_error_m_s[0])
    assert not walk.diverged.any()
    assert walk.seconds[1] < 1.0 < walk.seconds[0]


def test_a_simulation_that_comes_apart_is_measured_as_such(gait_alone, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # MuJoCo logs there
    step, calls = Simulation.step, []

    def spoiling(simulation, targets):
        calls.append(0)
        if len(calls) == 20:
            simulation.qvel[1] = np.nan
        step(simulation, targets)

    monkeypatch.setattr(Simulation, "step", spoiling)
    walk = evaluate_walking(
        gait_alone, GO1, [RobotProperties()] * 2, [Terrain()] * 2, seconds=1.0, commands=STILL, threads=1
    )
    assert np.array_equal(walk.diverged, [False, True])
    assert not walk.fell.any()
    np.testing.assert_allclose(walk.seconds, [1.0, 19 * CONTROL_PERIOD_S])


def test_an_evaluation_repeats_itself(gait_alone):
    def measured(seed):
        grounds = [Terrain(), Terrain("rough", 0.03, 0.2)]
        walk = evaluate_walking(
            gait_alone, GO1, [RobotProperties()] * 2, grounds, seconds=1.0, seed=seed, threads=1
        )
        return [getattr(walk, field.name).tobytes() for field in dataclasses.fields(walk)]

    assert measured(0) == measured(0) != measured(1)
