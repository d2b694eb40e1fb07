"""Gains that are estimated from vectors, and joint targets that compensate for them."""

import dataclasses

import equinox as eqx
import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmcm.quadruped.body.properties import RobotProperties, draw_robots, nominal
from dmcm.quadruped.body.robot_table import load_robot
from dmcm.quadruped.conditioned.widening import read_gains, widen
from dmcm.quadruped.dynamics.cells import TRUE_ROBOT, robot_truth
from dmcm.quadruped.walking.environment import WalkConfig, WalkEnvironment
from dmcm.quadruped.walking.guides import Vectors
from dmcm.quadruped.walking.known_gains import D_SHARES, LEAD_S, P_SHARES, GainReader, matched_targets
from dmcm.quadruped.walking.policy import POLICY, Policy, load_policy, mean_action, save_policy
from dmcm.quadruped.world.arena import Arena
from dmcm.quadruped.world.simulation import Simulation
from dmcm.quadruped.world.terrain import Terrain

GO1 = load_robot("go1")
P, D = GO1.p_gain_nm_per_rad, GO1.d_gain_nms_per_rad


@given(seed=st.integers(0, 1_000), stiffness=st.floats(0.4, 2.0), damping=st.floats(0.35, 1.5))
def test_matched_targets_make_the_torques_of_published_gains(seed, stiffness, damping):
    rng = np.random.default_rng(seed)
    wanted, angles, speeds = rng.normal(size=(3, 2, 12)) * [[[1.0]], [[1.0]], [[10.0]]]
    targets = matched_targets(wanted, angles, speeds, np.array([[stiffness, damping]] * 2), GO1)
    soon = angles + LEAD_S * speeds
    made = stiffness * P * (targets - soon) - damping * D * speeds
    np.testing.assert_allclose(made, P * (wanted - soon) - D * speeds, atol=1e-9)


def test_published_gains_leave_targets_alone():
    wanted, angles, speeds = np.random.default_rng(0).normal(size=(3, 4, 12))
    targets = matched_targets(wanted, angles, speeds, np.ones((4, 2)), GO1)
    np.testing.assert_allclose(targets, wanted, atol=1e-12)
    np.testing.assert_array_equal(GainReader(6)(np.ones((4, 6))), 1.0)
    np.testing.assert_array_equal(GainReader(6, logarithmic=False)(np.ones((4, 6))), 1.0)


def test_a_reader_finds_what_vectors_say_and_cuts_what_cannot_be():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(50, 4))
    slope = np.array([[0.3, -0.1, 0.0, 0.2], [0.0, 0.1, 0.2, -0.2]])
    shares = np.exp(vectors @ slope.T + [0.1, -0.1])
    reader = GainReader(4).fitted(vectors, shares)
    inside = (shares > np.array([P_SHARES, D_SHARES])[:, 0]) & (shares < np.array([P_SHARES, D_SHARES])[:, 1])
    np.testing.assert_allclose(reader(vectors)[inside], shares[inside], rtol=1e-4)
    assert inside.mean() > 0.8
    wild = reader(1e6 * vectors)
    assert np.all(np.isfinite(wild))
    assert {*wild[:, 0].round(6)} <= {*P_SHARES}
    assert {*wild[:, 1].round(6)} <= {*D_SHARES}


def test_true_gains_are_exact_as_far_as_believed_and_nothing_is_read_where_nothing_is_matched():
    rng = np.random.default_rng(1)
    robots = draw_robots(rng, 60)
    reader = read_gains("oracle", {"true_robot": robot_truth(robots)}, robots, GO1)
    assert reader is not None
    soft = dataclasses.replace(nominal(GO1), p_gain_nm_per_rad=15.0, d_gain_nms_per_rad=0.6, payload_kg=5.0)
    np.testing.assert_allclose(reader(robot_truth([soft])), [[15.0 / P, 0.6 / D]], rtol=1e-4)
    damped_less = dataclasses.replace(soft, d_gain_nms_per_rad=0.4)
    np.testing.assert_allclose(reader(robot_truth([damped_less])), [[15.0 / P, D_SHARES[0]]], rtol=1e-4)
    assert "p_gain_nm_per_rad" in TRUE_ROBOT
    for method in ("vanilla", "history", "dmcm_told", "oracle_told"):
        assert read_gains(method, {}, robots, GO1) is None


def exact_reader():
    """Reads a vector that is (P share, D share) itself."""
    reader = GainReader(2, logarithmic=False)
    return eqx.tree_at(lambda r: (r.slope, r.offset), reader, (np.eye(2), np.zeros(2)))


def standing(robot, shares):
    """Joint angles and torques of a robot after two seconds of holding the home pose."""
    simulation = Simulation(GO1, Arena([Terrain()]), 1, threads=1)
    simulation.set_robots(np.array([0]), [robot])
    for _ in range(100):
        angles, speeds = simulation.joint_angles_rad, simulation.joint_speeds_rad_s
        simulation.step(matched_targets(GO1.home_pose_rad[None], angles, speeds, shares, GO1))
    return simulation.joint_angles_rad[0], simulation.torques_nm[0]


def test_a_soft_robot_stands_as_a_published_one_where_its_gains_are_known():
    # At rest nothing is left of the time between two targets, in which the robot's own gains act; but
    # dry friction of 0.2 N m holds it within that much of the same torque.
    loaded = RobotProperties(payload_kg=3.0)
    soft = dataclasses.replace(loaded, p_gain_nm_per_rad=0.5 * P, d_gain_nms_per_rad=0.6 * D)
    (angles, torques), (same, same_torques), (sagging, _) = (
        standing(robot, np.array([shares]))
        for robot, shares in ((loaded, (1.0, 1.0)), (soft, (0.5, 0.6)), (soft, (1.0, 1.0)))
    )
    np.testing.assert_allclose(same, angles, atol=0.01)
    np.testing.assert_allclose(same_torques, torques, atol=0.3)
    assert np.abs(sagging - angles).max() > 0.1


def test_joints_are_foreseen_about_where_they_are_while_targets_act():
    # Nearer than where they are at the decision, for a walking robot of training's middle delay.
    robot = dataclasses.replace(nominal(GO1), action_delay_s=0.0075)
    walks = WalkEnvironment(GO1, Arena([Terrain()]), [robot] * 4, [0] * 4, WalkConfig(), threads=1)
    policy = load_policy(POLICY)[0]
    seen, _ = walks.reset(seed=0)
    errors = []
    for _ in range(100):
        simulation = walks.simulation
        angles, speeds = simulation.joint_angles_rad.copy(), simulation.joint_speeds_rad_s.copy()
        seen, *_ = walks.step(np.asarray(mean_action(policy, seen)))
        # Targets act from 7.5 ms on, for 20 ms: on average on the angles in the middle of that.
        middle = angles + 0.875 * (simulation.joint_angles_rad - angles)
        errors.append([middle - angles, middle - angles - LEAD_S * speeds])
    now, foreseen = np.sqrt(np.mean(np.square(errors), axis=(0, 2, 3)))
    assert foreseen < 0.6 * now


def test_robots_that_start_anew_are_told_their_own():
    # Observations of some robots alone must not shift what the others are told.
    told = np.array([[0.5, 0.5], [1.0, 1.0], [2.0, 1.5]])
    walks = WalkEnvironment(
        GO1,
        Arena([Terrain()]),
        [RobotProperties()] * 3,
        [0] * 3,
        WalkConfig(),
        guide=Vectors(told),
        gains=exact_reader(),
        threads=1,
    )
    walks.reset(seed=0)
    before = walks.joint_targets()
    walks.observe(np.array([2]))
    np.testing.assert_array_equal(walks.joint_targets(), before)


def test_policies_keep_their_reader(tmp_path):
    rng = np.random.default_rng(0)
    vectors = {"robot": rng.normal(size=(40, 6)), "terrain": rng.normal(size=(40, 4))}
    robots = draw_robots(rng, 40)
    for gains in (read_gains("dmcm", vectors, robots, GO1), None):
        policy = widen(load_policy(POLICY)[0], "dmcm", vectors, gains)
        save_policy(tmp_path / "policy.safetensors", policy, {"training": {}})
        read, about = load_policy(tmp_path / "policy.safetensors")
        assert about["training"] == {}
        assert isinstance(read, Policy)
        for one, other in zip(jax.tree.leaves(policy), jax.tree.leaves(read), strict=True):
            np.testing.assert_array_equal(one, other)
        assert (read.gains is None) == (gains is None)


def test_matching_changes_the_robot_and_not_the_action():
    told, soft = np.array([[0.5, 0.6]]), RobotProperties(p_gain_nm_per_rad=0.5 * P)
    policy = load_policy(POLICY)[0]
    actions = []
    for gains in (None, exact_reader()):
        walks = WalkEnvironment(
            GO1, Arena([Terrain()]), [soft], [0], WalkConfig(), guide=Vectors(told), gains=gains, threads=1
        )
        seen, _ = walks.reset(seed=3)
        actions.append(np.asarray(mean_action(policy, seen[:, :-2])))
    np.testing.assert_array_equal(*actions)


def swing_left(damping, believed, *, delay_s, inertia_kg_m2=0.01, seconds=2.0):
    """Share of its first swing that a joint still makes in its last quarter, held at 0 by late targets."""
    period, substeps = 0.02, 200
    dt = period / substeps
    angle, speed, due = 0.1, 0.0, [(0.0, 0.1)]
    swings = []
    for step in range(round(seconds / period)):
        joint = np.array([[angle]]), np.array([[speed]])
        target = matched_targets(np.zeros((1, 1)), *joint, np.array([[1.0, believed]]), GO1)[0, 0]
        due.append((step * period + delay_s, target))
        for substep in range(substeps):
            now = step * period + substep * dt
            while len(due) > 1 and due[1][0] <= now + 1e-9:
                due.pop(0)
            torque = P * (due[0][1] - angle) - damping * D * speed
            speed += dt * torque / inertia_kg_m2
            angle += dt * speed
        swings.append(abs(angle))
    return max(swings[-len(swings) // 4 :]) / 0.1


@pytest.mark.parametrize("delay_s", [0.02, 0.03])
def test_late_joints_come_to_rest_although_they_would_not_with_all_their_damping_made_up_for(delay_s):
    lowest = 0.3 / D
    assert swing_left(lowest, lowest, delay_s=delay_s) > 2.0
    assert swing_left(lowest, max(lowest, D_SHARES[0]), delay_s=delay_s) < 0.2


@pytest.mark.parametrize("share", [0.4, 2.0])
def test_what_is_believed_has_room_for_robots_outside_training(share):
    assert P_SHARES[0] * P <= 14.0
    assert P_SHARES[0] <= share <= P_SHARES[1]
