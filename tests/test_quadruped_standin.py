"""Tests of the stand-in robot: Bullet against MuJoCo and closed forms, motors and sensors too."""

import builtins
import importlib
import sys

import mujoco
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmcm.errors import ConfigError, ShapeError
from dmcm.quadruped.body.properties import RobotProperties, as_columns, nominal
from dmcm.quadruped.body.robot_table import LEGS, load_robot
from dmcm.quadruped.standin.engine import TIMESTEP_S, BulletRobot
from dmcm.quadruped.standin.gap import RealityGap
from dmcm.quadruped.standin.motors import Motors, torque_share
from dmcm.quadruped.standin.sensors import StandInSensors
from dmcm.quadruped.standin.simulation import SUBSTEPS, StandIn, stand_in
from dmcm.quadruped.walking.environment import WalkConfig, WalkEnvironment
from dmcm.quadruped.walking.policy import POLICY, load_policy, mean_action
from dmcm.quadruped.world.arena import Arena
from dmcm.quadruped.world.physics import SENSED
from dmcm.quadruped.world.simulation import Simulation
from dmcm.quadruped.world.terrain import Terrain

GO1 = load_robot("go1")
FLAT = Terrain()
NONE = RealityGap().scaled(0.0)
LOADED = RobotProperties(
    payload_kg=3.0, payload_x_m=0.08, payload_y_m=-0.04, leg_mass_scale=1.1, joint_friction_nm=0.0
)


@pytest.fixture
def bullet():
    """A robot without a ground."""
    robot = BulletRobot(GO1)
    yield robot
    robot.close()


def home(height_m=1.0):
    """A standing pose, somewhere."""
    return np.concatenate([[0.3, 0.2, height_m, 1, 0, 0, 0], GO1.home_pose_rad])


class TestEngine:
    """One robot in Bullet."""

    def test_accelerates_as_in_mujoco(self, bullet):
        # From rest and before it falls, M q̈ = torques: MuJoCo's mass matrix, with the knees' rotors turning
        # with their links as Bullet has them.
        rng = np.random.default_rng(0)
        qpos = home()
        qpos[3:7] = np.array([0.8, 0.3, -0.2, 0.48]) / np.linalg.norm([0.8, 0.3, -0.2, 0.48])
        qpos[7:] += 0.3 * rng.normal(size=12)
        torques = rng.normal(size=12)
        simulation = Simulation(GO1, Arena([Terrain()]), 1)
        simulation.set_robots(np.arange(1), [LOADED])
        model = simulation.batch.get_model(0)
        model.dof_armature[:] = 0
        data = mujoco.MjData(model)
        data.qpos[:] = qpos
        mujoco.mj_forward(model, data)
        inertia = np.zeros((18, 18))
        mujoco.mj_fullM(model, data, inertia)
        for leg in LEGS:
            calf, turning = model.body(f"{leg}_calf").id, np.zeros((3, 18))
            mujoco.mj_jacBody(model, data, None, turning, calf)
            axis = data.xmat[calf].reshape(3, 3)[:, 1] @ turning
            inertia += GO1.armature_kgm2 * np.outer(axis, axis)
        wanted = np.linalg.solve(inertia, np.concatenate([np.zeros(6), torques]))
        bullet.stand(Terrain(), LOADED, qpos)
        still = bullet_acceleration(bullet, np.zeros(12))
        bullet.stand(Terrain(), LOADED, qpos)
        found = bullet_acceleration(bullet, torques) - still
        np.testing.assert_allclose(found[:3], wanted[:3], atol=0.03)
        assert np.linalg.norm(found - wanted) < 0.02 * np.linalg.norm(wanted)

    def test_falls_freely(self, bullet):
        bullet.stand(Terrain(), LOADED, home(3.0))
        for _ in range(100):
            bullet.step(np.zeros(12))
        bullet.read()
        time_s = 100 * TIMESTEP_S
        assert bullet.qvel[2] == pytest.approx(-9.81 * time_s, rel=1e-3)
        # Semi-implicit Euler is half a step ahead of the parabola.
        assert bullet.qpos[2] == pytest.approx(3.0 - 9.81 * time_s * (time_s + TIMESTEP_S) / 2, abs=1e-3)

    @pytest.mark.parametrize("kind", ["flat", "rough", "slope_down", "stairs_up", "waves", "blocks"])
    def test_grounds_are_where_the_table_says(self, bullet, kind):
        terrain = Terrain(kind, 0.0 if kind == "flat" else 0.06, 0.4)
        qpos = home()
        qpos[:2] = -20.0
        bullet.stand(terrain, RobotProperties(), qpos)
        x, y = np.random.default_rng(1).uniform(0.05, 1.95, (2, 100))
        found = [bullet.ground_height(*point) for point in zip(x, y, strict=True)]
        # Bullet splits the cells of a height map along the other diagonal.
        tolerance = 2e-3 if kind == "rough" else 1e-6
        np.testing.assert_allclose(found, terrain.height(x, y), atol=tolerance)

    def test_place_and_motion_are_read_as_written(self, bullet):
        rng = np.random.default_rng(2)
        qpos, qvel = home(), rng.normal(size=18)
        qpos[3:7] = rng.normal(size=4)
        qpos[3:7] /= np.linalg.norm(qpos[3:7])
        bullet.stand(Terrain(), LOADED, home())
        bullet.embody(LOADED, qpos, qvel)
        bullet.read()
        bullet.qpos[3:7] *= np.sign(bullet.qpos[3] * qpos[3])  # q and -q are the same turn
        np.testing.assert_allclose(bullet.qpos, qpos, atol=1e-6)
        np.testing.assert_allclose(bullet.qvel, qvel, atol=1e-5)

    def test_says_how_to_get_the_engine(self, monkeypatch):
        real = builtins.__import__

        def missing(name, *rest):
            if name == "pybullet":
                raise ImportError(name)
            return real(name, *rest)

        monkeypatch.setattr(builtins, "__import__", missing)
        monkeypatch.delitem(sys.modules, "dmcm.quadruped.standin.engine")
        with pytest.raises(ConfigError, match="pip install"):
            importlib.import_module("dmcm.quadruped.standin.engine")


def bullet_acceleration(bullet, torques):
    """Change of all speeds in a time step, by its length, shape (18,)."""
    bullet.step(torques)
    bullet.read()
    return bullet.qvel / TIMESTEP_S


class TestMotors:
    """Torques of motors that lag, fade and saturate."""

    STILL = np.zeros((1, 12))

    def run(self, gap, steps, target, **changes):
        """Torques after each step of motors that stand at 0 and are told a target, shape (steps, 12)."""
        properties = as_columns([RobotProperties(**{"action_delay_s": 0.0, **changes})])
        motors = Motors(GO1, gap, 1, TIMESTEP_S, 0.04)
        asked = np.full((1, 12), target)
        return np.array([motors.step(asked, self.STILL, self.STILL, properties)[0] for _ in range(steps)])

    def test_torque_lags_as_an_exponential(self):
        lag = RealityGap(torque_lag_s=0.01)
        found = self.run(lag, 20, 0.1, p_gain_nm_per_rad=50.0)
        time_s = TIMESTEP_S * np.arange(1, 21)
        np.testing.assert_allclose(found, np.tile(5.0 * (1 - np.exp(-time_s / 0.01)), (12, 1)).T)

    @pytest.mark.parametrize("delay_s", [0.0, 0.006, 0.04])
    def test_targets_are_late(self, delay_s):
        # Before a target is heard the motors hold the home pose, from 0 rad.
        found = self.run(NONE, 30, 0.0, action_delay_s=delay_s)
        steps = round(delay_s / TIMESTEP_S)
        assert np.all(np.any(found[:steps] != 0, axis=1))
        assert not found[steps:].any()

    def test_saturates_at_what_is_left_of_the_peak(self):
        np.testing.assert_allclose(self.run(NONE, 1, 10.0, motor_strength=0.6)[0], 0.6 * GO1.peak_torque_nm)

    def test_braking_does_not_fade(self):
        fast = np.full((1, 12), 25.0)
        properties = as_columns([RobotProperties(d_gain_nms_per_rad=0.0, action_delay_s=0.0)])
        gap = RealityGap(torque_lag_s=0.0, viscous_friction_nms_per_rad=0.0)
        driving, braking = (
            Motors(GO1, gap, 1, TIMESTEP_S, 0.04).step(np.full((1, 12), target), self.STILL, fast, properties)
            + GO1.joint_damping_nms_per_rad * fast
            for target in (10.0, -10.0)
        )
        np.testing.assert_allclose(braking[0], -GO1.peak_torque_nm)
        wanted = np.tile([(1 - 25 / 30.1) / 0.7, (1 - 25 / 30.1) / 0.7, 0.0], 4) * GO1.peak_torque_nm
        np.testing.assert_allclose(driving[0], wanted)

    @given(st.floats(0, 60), st.floats(0.05, 1.0))
    def test_share_of_torque_falls_from_one_to_nothing(self, speed, full):
        share = torque_share(np.full(12, speed), np.full(12, 30.0), full)
        assert np.all((share >= 0) & (share <= 1))
        if full == 1 or speed <= 30 * full:
            np.testing.assert_allclose(share, 1.0)
        elif speed >= 30:
            assert not share.any()


class TestSensors:
    """What is measured, against the truth."""

    def truth(self, rng, count):
        """Arbitrary truths."""
        values = {name: rng.normal(size=(count, size)) for name, size in SENSED.items()}
        values["gravity_direction"] /= np.linalg.norm(values["gravity_direction"], axis=1, keepdims=True)
        return values | {"foot_forces_n": np.abs(values["foot_forces_n"])}

    def test_without_a_gap_they_tell_the_truth(self):
        truth = self.truth(np.random.default_rng(0), 5)
        found = StandInSensors(NONE, 5, np.random.default_rng(1)).read(truth)
        assert found.keys() == SENSED.keys()
        for name, value in truth.items():
            np.testing.assert_allclose(found[name], value, rtol=1e-12)

    def test_errors_last_and_noise_does_not(self):
        gap, count = RealityGap(), 400
        sensors = StandInSensors(gap, count, np.random.default_rng(1))
        truth = self.truth(np.random.default_rng(0), count)
        readings = [sensors.read(truth) for _ in range(50)]
        for name, lasting, noise in (
            ("joint_angles_rad", gap.joint_offset_rad, gap.joint_noise_rad),
            ("joint_speeds_rad_s", 0.0, gap.joint_speed_noise_rad_s),
            ("gyro_rad_s", gap.gyro_bias_rad_s, gap.gyro_noise_rad_s),
        ):
            errors = np.array([reading[name] - truth[name] for reading in readings])
            assert errors.std(axis=0).mean() == pytest.approx(noise, rel=0.05)
            spread = np.sqrt(max(np.var(errors.mean(axis=0)) - noise**2 / 50, 0))
            assert spread == pytest.approx(lasting, rel=0.1, abs=0.1 * noise)
        lengths = np.linalg.norm(readings[0]["gravity_direction"], axis=1)
        np.testing.assert_allclose(lengths, 1.0)


class TestGap:
    """How large the gap is."""

    @pytest.mark.parametrize(
        "values", [{"torque_lag_s": -1.0}, {"joint_noise_rad": np.nan}, {"full_torque_share": 0.0}]
    )
    def test_refuses_what_cannot_be(self, values):
        with pytest.raises(ConfigError):
            RealityGap(**values).check()

    @pytest.mark.parametrize("size", [-0.5, np.inf])
    def test_refuses_sizes(self, size):
        with pytest.raises(ConfigError, match="0 or more"):
            RealityGap().scaled(size)

    @given(st.floats(0, 10))
    def test_scaled_gaps_are_gaps(self, size):
        scaled = RealityGap().scaled(size).check()
        assert scaled.joint_noise_rad == pytest.approx(size * RealityGap().joint_noise_rad)
        assert (scaled.full_torque_share == 1) == (size < 1e-12)

    def test_one_is_the_gap_itself(self):
        assert RealityGap().scaled(1.0) == RealityGap()


class TestStandIn:
    """Many robots at once."""

    def make(self, terrains=(FLAT,), count=2, gap=NONE, seed=0):
        """Robots on the first ground."""
        return StandIn(GO1, Arena(terrains), count, gap=gap, seed=seed)

    def walk(self, simulation, steps, seed=0):
        """Joint targets that wander around the home pose."""
        rng = np.random.default_rng(seed)
        for _ in range(steps):
            simulation.step(GO1.home_pose_rad + 0.1 * rng.normal(size=(simulation.count, 12)))

    def test_feet_carry_the_weight(self):
        simulation = self.make()
        simulation.set_robots(np.arange(2), [nominal(GO1), RobotProperties(payload_kg=4.0)])
        for _ in range(100):
            simulation.step(np.tile(GO1.home_pose_rad, (2, 1)))
        weight = 9.81 * (GO1.mass_kg + np.array([0.0, 4.0]))
        np.testing.assert_allclose(simulation.foot_forces_n.sum(axis=1), weight, rtol=0.02)

    def test_slides_where_the_slope_is_steeper_than_friction(self):
        simulation = self.make([Terrain("slope_up", 0.3, friction=0.15), Terrain("slope_up", 0.3)])
        simulation.place(np.arange(2), np.arange(2))
        places = []
        for _ in range(100):
            simulation.step(np.tile(GO1.home_pose_rad, (2, 1)))
            places.append(simulation.travelled_m[:, 0].copy())
        # In the second half they have landed.
        slid = places[49] - places[99]
        assert slid[0] > 0.5
        assert slid[1] < 0.02

    def test_same_seed_same_bits(self):
        runs = []
        for _ in range(2):
            simulation = self.make([Terrain("rough", 0.06, 0.2)], gap=RealityGap(), seed=3)
            self.walk(simulation, 20)
            runs.append(np.hstack([simulation.qpos, simulation.joint_angles_rad]))
        np.testing.assert_array_equal(runs[0], runs[1])

    def test_placing_forgets_the_past(self):
        fresh, used = self.make(), self.make()
        self.walk(used, 20, seed=1)
        used.place(np.arange(2), used.tile)
        for simulation in (fresh, used):
            self.walk(simulation, 10)
        np.testing.assert_array_equal(fresh.qpos, used.qpos)

    def test_placing_one_leaves_the_readings_of_the_others(self):
        simulation = self.make(gap=RealityGap())
        self.walk(simulation, 5)
        before = {name: getattr(simulation, name).copy() for name in SENSED}
        held = simulation.joint_angles_rad
        simulation.place(np.array([1]), simulation.tile[1:])
        for name, values in before.items():
            np.testing.assert_array_equal(getattr(simulation, name)[0], values[0])
            assert not np.array_equal(getattr(simulation, name)[1], values[1])
        np.testing.assert_array_equal(held, before["joint_angles_rad"])

    def test_pushes_are_refused_where_nothing_would_happen(self):
        arena = Arena([Terrain()])
        with pytest.raises(ConfigError, match="push_m_s=0"):
            WalkEnvironment(
                GO1,
                arena,
                [RobotProperties()],
                [0],
                WalkConfig(push_m_s=0.5),
                physics=stand_in(RealityGap(), 0),
            )

    def test_another_body_keeps_its_motion(self):
        simulation = self.make()
        self.walk(simulation, 10)
        qpos, qvel = simulation.qpos.copy(), simulation.qvel.copy()
        simulation.set_robots(np.array([1]), [RobotProperties(payload_kg=5.0)])
        np.testing.assert_allclose(simulation.qpos, qpos, atol=1e-6)
        np.testing.assert_allclose(simulation.qvel, qvel, atol=1e-5)
        self.walk(simulation, 10)
        assert not np.allclose(simulation.qpos[0, 7:], simulation.qpos[1, 7:], atol=1e-3)

    def test_ground_never_ends(self):
        # Thrown up a slope, over its period's end: it flies on as if nothing was.
        simulation = self.make([Terrain("slope_up", 0.24)], count=1)
        simulation.place(np.arange(1), np.zeros(1, int), share=0.98)
        robot = simulation._robots[0]
        robot.read()
        robot.qpos[2] += 1.0
        robot.qvel[0] = 3.0
        robot._write()
        before = robot.qpos[:3].copy()
        for _ in range(5):
            simulation.step(GO1.home_pose_rad[None])
        assert simulation.moved_m[0, 0] == pytest.approx(2.0)
        assert simulation.moved_m[0, 2] == pytest.approx(2.0 * 0.24)
        time_s = 5 * SUBSTEPS * TIMESTEP_S
        wanted = before[0] + 3.0 * time_s, before[2] - 9.81 * time_s**2 / 2
        np.testing.assert_allclose(simulation.travelled_m[0, [0, 2]], wanted, atol=0.01)

    def test_comes_apart_and_starts_anew(self):
        simulation = self.make()
        robot = simulation._robots[1]
        robot.read()
        robot.qvel[2] = 900.0
        robot._write()
        simulation.step(np.tile(GO1.home_pose_rad, (2, 1)))
        assert simulation.diverged.tolist() == [False, True]
        assert simulation.divergences == 1
        assert np.abs(simulation.qvel[1]).max() < 10

    def test_walks_by_the_policy_of_training(self):
        policy, _ = load_policy(POLICY)
        arena = Arena([Terrain()])
        environment = WalkEnvironment(
            GO1, arena, [nominal(GO1)] * 2, [0, 0], physics=stand_in(RealityGap(), 0), seed=1
        )
        observation, _ = environment.reset(seed=1)
        for _ in range(100):
            observation, _, fell, _, _ = environment.step(np.asarray(mean_action(policy, observation)))
            assert not fell.any()

    def test_refuses(self):
        with pytest.raises(ConfigError, match="at least one"):
            self.make(count=0)
        simulation = self.make()
        with pytest.raises(ShapeError, match="targets_rad"):
            simulation.step(np.zeros((1, 12)))
        with pytest.raises(ShapeError, match="as many properties"):
            simulation.set_robots(np.arange(2), [nominal(GO1)])
        with pytest.raises(ConfigError, match="payload_kg"):
            simulation.set_robots(np.arange(1), [RobotProperties(payload_kg=-1.0)])
