"""Tests of identification: starts and gains against closed forms, replays against simulations, recovery."""

import dataclasses

import mujoco
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmcm.errors import ConfigError, DataError, ShapeError
from dmcm.quadruped.body.properties import (
    OOD_RANGES,
    TRAINING_RANGES,
    RobotProperties,
    draw_ood_robots,
    draw_robots,
)
from dmcm.quadruped.body.robot_table import LEGS, load_robot
from dmcm.quadruped.conditioned.logs import log_recording
from dmcm.quadruped.data.recording import COLUMNS, TRUTH, column
from dmcm.quadruped.identification.box import LIMITS, from_unit, to_unit
from dmcm.quadruped.identification.evolution import IdentifySettings, identify
from dmcm.quadruped.identification.gains import regressed_gains
from dmcm.quadruped.identification.replay import WORST, Replay
from dmcm.quadruped.identification.segments import (
    COMPARED,
    LEAST_SEGMENTS,
    NEEDED,
    PAST,
    Segments,
    cut_segments,
    possible_starts,
)
from dmcm.quadruped.identification.start import GIVES_M, leg_kinematics, measured_state
from dmcm.quadruped.walking.policy import POLICY, load_policy
from dmcm.quadruped.world.arena import Arena
from dmcm.quadruped.world.model import TIMESTEP_S, build_model
from dmcm.quadruped.world.rotations import rotate_into_body
from dmcm.quadruped.world.simulation import Simulation
from dmcm.quadruped.world.terrain import Terrain

GO1 = load_robot("go1")
MODEL = build_model(GO1, Arena([Terrain()]))
ROBOT = RobotProperties(
    p_gain_nm_per_rad=22.0,
    d_gain_nms_per_rad=0.5,
    payload_kg=4.5,
    payload_x_m=-0.08,
    payload_y_m=0.03,
    action_delay_s=0.02,
)
FEW = IdentifySettings(segments=LEAST_SEGMENTS, steps=5, population=4, generations=2)


@pytest.fixture(scope="module")
def log():
    """Six seconds of a robot, shape (steps, columns)."""
    return log_recording(load_policy(POLICY)[0], GO1, [ROBOT], [Terrain()], seed=(0, 99), seconds=6.0)[0]


def row(**values):
    """One moment of a log, zero where not given, shape (1, columns)."""
    data = np.zeros((1, sum(COLUMNS.values())))
    for name, value in values.items():
        data[0, column(name)] = value
    return data


def standing(steps):
    """A log of a robot that stands, without anything else in it."""
    return np.tile(row(foot_forces_n=30.0, gravity_direction=[0, 0, -1]), (steps, 1))


class TestStart:
    """States from what is measured."""

    @pytest.mark.parametrize(("roll", "pitch"), [(0.0, 0.0), (0.2, 0.0), (0.0, -0.3), (0.15, 0.25)])
    def test_a_standing_robot_is_as_high_as_its_legs_and_still(self, roll, pitch):
        gravity = [np.sin(pitch), -np.cos(pitch) * np.sin(roll), -np.cos(pitch) * np.cos(roll)]
        one_foot = [30.0, 0.0, 0.0, 0.0]
        rows = row(joint_angles_rad=GO1.home_pose_rad, gravity_direction=gravity, foot_forces_n=one_foot)
        qpos, qvel, disagreement = measured_state(rows, GO1)
        _, thigh, calf = GO1.home_pose_rad[:3]
        x, y = GO1.hip_position_m
        foot = np.array(
            [
                x - GO1.thigh_length_m * np.sin(thigh) - GO1.calf_length_m * np.sin(thigh + calf),
                -y - GO1.hip_offset_m,
                -GO1.thigh_length_m * np.cos(thigh) - GO1.calf_length_m * np.cos(thigh + calf),
            ]
        )
        assert qpos[0, 2] == pytest.approx(foot @ gravity + GO1.foot_radius_m - GIVES_M)
        down = rotate_into_body(qpos[:, 3:7], np.array([0.0, 0.0, -1.0]))
        np.testing.assert_allclose(down[0], gravity, atol=1e-12)
        np.testing.assert_allclose(qpos[0, 7:], GO1.home_pose_rad)
        assert not qvel.any()
        assert disagreement == 0

    def test_feet_are_where_mujoco_has_them_and_move_so(self):
        rng = np.random.default_rng(0)
        data = mujoco.MjData(MODEL)
        data.qpos[:7], data.qpos[7:] = [0, 0, 1, 1, 0, 0, 0], rng.uniform(-1, 1, 12)
        data.qvel[6:] = rng.normal(size=12)
        mujoco.mj_forward(MODEL, data)
        feet, speeds, turning = leg_kinematics(data.qpos[None, 7:], data.qvel[None, 6:], GO1)
        for number, leg in enumerate(LEGS):
            np.testing.assert_allclose(feet[0, number], data.geom(f"{leg}_foot").xpos - [0, 0, 1], atol=1e-9)
            motion = np.zeros(6)
            geom = MODEL.geom(f"{leg}_foot").id
            mujoco.mj_objectVelocity(MODEL, data, mujoco.mjtObj.mjOBJ_GEOM, geom, motion, 0)
            np.testing.assert_allclose(turning[0, number], motion[:3], atol=1e-9)
            np.testing.assert_allclose(speeds[0, number], motion[3:], atol=1e-9)

    def test_velocity_is_the_one_at_which_no_standing_foot_slides(self):
        rng = np.random.default_rng(1)
        data = mujoco.MjData(MODEL)
        roll = 0.1
        data.qpos[:7] = [0, 0, 0.3, np.cos(roll / 2), np.sin(roll / 2), 0, 0]
        data.qpos[7:] = GO1.home_pose_rad + rng.uniform(-0.2, 0.2, 12)
        data.qvel[:6] = rng.normal(0, 0.4, 6)
        mujoco.mj_forward(MODEL, data)
        for number, leg in enumerate(LEGS[:2]):  # the speeds of the other legs are anything
            place = data.geom(f"{leg}_foot").xpos - [0, 0, GO1.foot_radius_m]
            jacobian = np.zeros((3, 18))
            mujoco.mj_jac(MODEL, data, jacobian, None, place, MODEL.body(f"{leg}_calf").id)
            own = slice(6 + 3 * number, 9 + 3 * number)
            data.qvel[own] = -np.linalg.solve(jacobian[:, own], jacobian[:, :6] @ data.qvel[:6])
        data.qvel[12:] = rng.normal(size=6)
        rows = row(
            joint_angles_rad=data.qpos[7:],
            joint_speeds_rad_s=data.qvel[6:],
            gyro_rad_s=data.qvel[3:6],
            gravity_direction=[0, -np.sin(roll), -np.cos(roll)],
            foot_forces_n=[40.0, 90.0, 0.0, 0.0],
        )
        _, qvel, disagreement = measured_state(rows, GO1)
        np.testing.assert_allclose(qvel[0], data.qvel, atol=1e-9)
        assert disagreement[0] == pytest.approx(0, abs=1e-9)
        rows[0, column("foot_forces_n")] = [40.0, 90.0, 50.0, 0.0]
        assert measured_state(rows, GO1)[2][0] > 0.1


class TestSegments:
    """Pieces of a log."""

    @given(
        marks=st.dictionaries(
            st.integers(0, 59), st.sampled_from(["begins", "falls", "diverges", "lifts"]), max_size=8
        ),
        steps=st.integers(2, 12),
    )
    def test_none_spans_an_interruption_and_none_is_left_out(self, marks, steps):
        data = standing(60)
        for place, mark in marks.items():
            if mark == "lifts":
                data[place, column("foot_forces_n")] = [30.0, 30.0, 30.0, 0.0]
            else:
                data[place, column(mark)] = 1
        expected = []
        for start in range(PAST, 60 - steps):
            names = {place - start: name for place, name in marks.items()}
            within = {name for place, name in names.items() if -PAST <= place < steps}
            begun = {name for place, name in names.items() if -PAST < place <= steps}
            lifted = [names.get(place) == "lifts" for place in range(-PAST, 1)]
            if not within & {"falls", "diverges"} and "begins" not in begun and len(set(lifted)) == 1:
                expected.append(start)
        assert possible_starts(data, steps).tolist() == expected

    def test_hold_what_was_told_and_sensed(self, log):
        segments = cut_segments(log, GO1, 10, 6)
        assert (segments.count, segments.steps) == (10, 6)
        for number in range(segments.count):
            (start,) = np.flatnonzero(
                (log[:, column("joint_angles_rad")] == segments.qpos[number, 7:]).all(axis=1)
            )
            targets = log[start - PAST : start + 6, column("joint_targets_rad")]
            np.testing.assert_array_equal(segments.targets_rad[number], targets)
            after = log[start + 1 : start + 7, column("gyro_rad_s")]
            np.testing.assert_array_equal(segments.sensed["gyro_rad_s"][number], after)
            torques = log[start : start + 6, column("torques_nm")]
            np.testing.assert_array_equal(segments.sensed["torques_nm"][number], torques)

    def test_feet_that_slide_are_passed_over(self):
        data = standing(200)
        data[:, column("joint_angles_rad")] = GO1.home_pose_rad
        data[:, column("joint_speeds_rad_s")] = np.random.default_rng(0).normal(size=(200, 12))
        calm = np.arange(10, 180, 12)
        data[calm, column("joint_speeds_rad_s")] = 0
        segments = cut_segments(data, GO1, LEAST_SEGMENTS, 5)
        assert not segments.qvel.any()


class TestReplay:
    """Segments simulated again."""

    def segments(self, robot, steps=6):
        """A segment of a robot, with the true state at its start."""
        rng = np.random.default_rng(3)
        simulation = Simulation(GO1, Arena([Terrain()]), 1, threads=1)
        simulation.set_robots(np.arange(1), [robot])
        targets = GO1.home_pose_rad + rng.normal(0, 0.2, (5 + steps, 12))
        for told in targets[:5]:
            simulation.step(told[None])
        qpos, qvel = simulation.qpos.copy(), simulation.qvel.copy()
        qpos[:, :2] = 0
        sensed = {name: np.empty((1, steps, COLUMNS[name])) for name in COMPARED}
        for step, told in enumerate(targets[5:]):
            simulation.step(told[None])
            for name, values in sensed.items():
                values[:, step] = getattr(simulation, name)
        scales = {name: values.std() for name, values in sensed.items()}
        return Segments(qpos, qvel, targets[None, 5 - PAST :], sensed, scales)

    @pytest.mark.parametrize("delay_s", [0.0, 0.02, 0.03])
    def test_the_true_body_repeats_itself(self, delay_s):
        robot = dataclasses.replace(ROBOT, action_delay_s=delay_s)
        others = [
            dataclasses.replace(robot, action_delay_s=0.01),
            dataclasses.replace(robot, payload_kg=3.5),
            dataclasses.replace(robot, leg_mass_scale=1.2),
        ]
        errors = Replay(self.segments(robot), GO1, 4, threads=1).errors([robot, *others])[:, 0]
        assert errors[0] < 1e-3
        assert errors[1:].min() > 20 * errors[0]

    def test_bodies_and_calls_do_not_mix(self):
        replay = Replay(self.segments(ROBOT), GO1, 2, threads=1)
        one, other = ROBOT, dataclasses.replace(ROBOT, p_gain_nm_per_rad=30.0)
        first = replay.errors([one, other])
        np.testing.assert_array_equal(replay.errors([other, one]), first[::-1])

    def test_what_comes_apart_counts_as_the_worst(self):
        segments = self.segments(ROBOT)
        segments.qvel[:] = 1e3
        assert Replay(segments, GO1, 1, threads=1).errors([ROBOT]).item() == WORST


def test_gains_follow_from_torques():
    rng = np.random.default_rng(4)
    data = standing(300)
    for name, size in (("joint_targets_rad", 0.3), ("joint_angles_rad", 0.3), ("joint_speeds_rad_s", 4.0)):
        data[:, column(name)] = rng.normal(0, size, (300, 12))
    targets, angles, speeds = (
        data[:, column(name)] for name in ("joint_targets_rad", "joint_angles_rad", "joint_speeds_rad_s")
    )
    peak = 0.7 * GO1.peak_torque_nm
    then = angles[2:] - TIMESTEP_S * speeds[2:]
    asked = 30.0 * (0.4 * targets[1:-1] + 0.6 * targets[:-2] - then) - 0.6 * speeds[2:]
    data[1:-1, column("torques_nm")] = np.clip(asked, -peak, peak)
    assert (np.abs(asked) > peak).any()
    # A gap: what comes before it has nothing to do with what comes after.
    data[150, column("begins")] = 1
    data[149:151, column("torques_nm")] = 5.0
    assert regressed_gains(data, GO1) == pytest.approx((30.0, 0.6))


def test_box_holds_all_robots():
    rng = np.random.default_rng(5)
    for robot in draw_robots(rng, 20) + draw_ood_robots(rng, 20):
        point = to_unit(robot)
        assert 0 <= point.min() <= point.max() <= 1
        assert dataclasses.asdict(from_unit(point)) == pytest.approx(dataclasses.asdict(robot))
    low, high = from_unit(np.full(len(LIMITS), -1.0)), from_unit(np.full(len(LIMITS), 2.0))
    for name in TRAINING_RANGES:
        known = [*TRAINING_RANGES[name], *OOD_RANGES.get(name, ())]
        assert (getattr(low, name), getattr(high, name)) == pytest.approx((min(known), max(known)))


def test_a_known_robot_is_found(log):
    settings = IdentifySettings(segments=12, steps=10, population=10, generations=20)
    found = identify(log, GO1, settings=settings)
    robot = found.properties
    assert found.segments == 12
    assert found.loss < 0.5 * found.first_loss
    assert robot.p_gain_nm_per_rad == pytest.approx(22.0, rel=0.06)
    assert robot.d_gain_nms_per_rad == pytest.approx(0.5, abs=0.08)
    # The search starts at 1.5 kg, 0 m and 7.5 ms.
    assert robot.payload_kg == pytest.approx(4.5, abs=0.8)
    assert robot.payload_x_m == pytest.approx(-0.08, abs=0.04)
    assert robot.action_delay_s == pytest.approx(0.02, abs=0.006)


def test_what_no_robot_measures_is_not_used(log):
    spoiled = log.copy()
    for name in (*TRUTH, "command", "gait_phase"):
        spoiled[:, column(name)] = np.nan if name == "height_m" else 1e6
    assert identify(spoiled, GO1, settings=FEW) == identify(log, GO1, settings=FEW)


def test_seeds_decide_and_threads_do_not(log):
    one = identify(log, GO1, settings=FEW, seed=3, threads=1)
    assert identify(log, GO1, settings=FEW, seed=3, threads=2) == one
    assert identify(log, GO1, settings=FEW, seed=4, threads=1) != one


@pytest.mark.parametrize("name", NEEDED)
def test_logs_with_holes_are_refused(log, name):
    holed = log.copy()
    holed[100, column(name).start] = np.nan
    with pytest.raises(DataError, match=f"not finite in {name}"):
        identify(holed, GO1, settings=FEW)


def test_logs_that_say_too_little_are_refused(log):
    falling = log.copy()
    falling[::6, column("falls")] = 1
    with pytest.raises(DataError, match="calmer walking"):
        identify(falling, GO1, settings=FEW)
    with pytest.raises(DataError, match="calmer walking"):
        identify(log[:3], GO1, settings=FEW)
    with pytest.raises(ShapeError, match="one log at a time"):
        identify(log[None], GO1, settings=FEW)
    heavy = log.copy()
    heavy[:, column("gravity_direction")] *= 9.81
    with pytest.raises(DataError, match="unit vector"):
        identify(heavy, GO1, settings=FEW)


@pytest.mark.parametrize(
    ("settings", "advice"),
    [
        ({"segments": 7}, "segments=7 must be at least 8"),
        ({"steps": 1}, "steps=1"),
        ({"population": 3}, "population=3"),
        ({"generations": 0}, "generations=0"),
    ],
)
def test_settings_out_of_range_are_refused(settings, advice):
    with pytest.raises(ConfigError, match=advice):
        IdentifySettings(**settings).check()


def test_seeds_out_of_range_are_refused(log):
    with pytest.raises(ConfigError, match="seed=-1"):
        identify(log, GO1, settings=FEW, seed=-1)
