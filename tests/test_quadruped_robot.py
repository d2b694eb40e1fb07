"""The robot's table against the compiled model, by hand-made kinematics; its gait against MuJoCo's."""

import dataclasses
import tomllib
from importlib import resources
from xml.etree import ElementTree

import mujoco
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from dmcm.errors import ConfigError, DataError
from dmcm.quadruped.body.properties import (
    OOD_RANGES,
    TRAINING_RANGES,
    RobotProperties,
    draw_ood_robots,
    draw_robots,
    nominal,
)
from dmcm.quadruped.body.robot_table import JOINT_NAMES, JOINTS, LEGS, load_robot, parse_robot, robot_names
from dmcm.quadruped.standin.urdf import robot_urdf
from dmcm.quadruped.walking.gait import Gait, inverse_kinematics
from dmcm.quadruped.world.arena import Arena
from dmcm.quadruped.world.model import build_model
from dmcm.quadruped.world.rotations import rotate_into_body, rotate_into_world, yaw_quaternion
from dmcm.quadruped.world.terrain import Terrain

ROBOTS = ("a1", "go1")
GO1 = (resources.files("dmcm.quadruped.body") / "robots" / "go1.toml").read_text(encoding="utf-8")


@pytest.fixture(scope="module", params=ROBOTS)
def robot(request):
    """A table, and the model of it on flat ground."""
    table = load_robot(request.param)
    return table, build_model(table, Arena([Terrain()]))


def turn(axis, angle):
    """Rotation about x (0) or y (1) as a matrix."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[[1, 0, 0], [0, c, -s], [0, s, c]], [[c, 0, s], [0, 1, 0], [-s, 0, c]]][axis])


def links(table, angles):
    """Mass, centre of mass and inertia of every link in the trunk frame, and the feet, at joint angles."""
    parts = [(table.trunk.mass_kg, np.array(table.trunk.com_m), table.trunk.inertia())]
    feet = []
    for leg, (hip, thigh, calf) in zip(LEGS, angles.reshape(4, 3), strict=True):
        front, left = (1 if leg[0] == "F" else -1), (1 if leg[1] == "L" else -1)
        frame, origin = np.eye(3), np.array([front, left, 0]) * [*table.hip_position_m, 0]
        for name, axis, angle, offset in (
            ("hip", 0, hip, np.zeros(3)),
            ("thigh", 1, thigh, np.array([0, left * table.hip_offset_m, 0])),
            ("calf", 1, calf, np.array([0, 0, -table.thigh_length_m])),
        ):
            origin = origin + frame @ offset
            frame = frame @ turn(axis, angle)
            link = table.links[name]
            flip = np.ones(3)
            if "rear" in link.mirrored:
                flip[0] = front
            if "right" in link.mirrored:
                flip[1] = left
            own = frame @ np.diag(flip)  # a mirror is no rotation, but tensors do not mind
            parts.append((link.mass_kg, origin + own @ np.array(link.com_m), own @ link.inertia() @ own.T))
        feet.append(origin + frame @ np.array([0, 0, -table.calf_length_m]))
    return parts, np.array(feet)


def posed(model, angles, height=1.0):
    """The model's data with the trunk at the origin and level."""
    data = mujoco.MjData(model)
    data.qpos[:] = [0, 0, height, 1, 0, 0, 0, *angles]
    mujoco.mj_forward(model, data)
    return data


def poses(table, count, seed=0):
    """Random joint angles within the limits, and the home pose, shape (count + 1, 12)."""
    limits = table.joint_limits_rad
    drawn = np.random.default_rng(seed).uniform(limits[:, 0], limits[:, 1], (count, 12))
    return np.vstack([table.home_pose_rad, drawn])


def test_both_robots_come_with_the_package():
    assert robot_names() == ROBOTS


def test_mass_and_its_centre_are_the_sum_of_the_parts(robot):
    table, model = robot
    for angles in poses(table, 3):
        parts, _ = links(table, angles)
        mass = sum(m for m, _, _ in parts)
        centre = sum(m * com for m, com, _ in parts) / mass
        assert table.mass_kg == pytest.approx(mass, rel=1e-12)
        assert model.body_mass.sum() == pytest.approx(mass, rel=1e-9)
        np.testing.assert_allclose(
            posed(model, angles).subtree_com[model.body("trunk").id], centre + np.array([0, 0, 1]), atol=1e-9
        )


def test_inertia_of_the_whole_robot_is_the_sum_of_the_parts(robot):
    table, model = robot
    for angles in poses(table, 3, seed=1):
        parts, _ = links(table, angles)
        expected = sum(i + m * (com @ com * np.eye(3) - np.outer(com, com)) for m, com, i in parts)
        data, full = posed(model, angles), np.zeros((18, 18))
        mujoco.mj_fullM(model, data, full)
        np.testing.assert_allclose(full[3:6, 3:6], expected, atol=1e-6)


def test_feet_are_where_the_lengths_put_them(robot):
    table, model = robot
    for angles in poses(table, 3, seed=2):
        _, feet = links(table, angles)
        data = posed(model, angles, height=0.0)
        found = [data.geom(f"{leg}_foot").xpos for leg in LEGS]
        np.testing.assert_allclose(found, feet, atol=1e-9)
        assert all(model.geom(f"{leg}_foot").size[0] == table.foot_radius_m for leg in LEGS)


def test_joints_and_motors_are_in_order_with_the_limits_of_the_table(robot):
    table, model = robot
    assert tuple(model.actuator(i).name for i in range(model.nu)) == JOINT_NAMES
    for i, name in enumerate(JOINT_NAMES):
        joint, motor = model.joint(name), model.actuator(name)
        facts = table.joints[name.split("_")[1]]
        assert joint.qposadr[0] == 7 + i
        assert tuple(joint.range) == facts.range_rad
        assert tuple(motor.forcerange) == (-facts.peak_torque_nm, facts.peak_torque_nm)
        assert model.dof_armature[6 + i] == table.armature_kgm2


def test_a_mirrored_link_has_the_mirrored_inertia(robot):
    table, _ = robot
    signs = {"FL": (1, 1), "FR": (1, -1), "RL": (-1, 1), "RR": (-1, -1)}
    for link in table.links.values():
        both = dataclasses.replace(link, mirrored=("right", "rear"))
        for leg, (x, y) in signs.items():
            mirror = np.diag([x, y, 1.0])
            np.testing.assert_allclose(
                both.on_leg(leg).inertia(), mirror @ link.inertia() @ mirror, atol=1e-15
            )
            np.testing.assert_allclose(both.on_leg(leg).com_m, mirror @ link.com_m, atol=1e-15)
            plain = dataclasses.replace(link, mirrored=())
            assert plain.on_leg(leg) == plain


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("mass_kg = 5.204", "mass_kg = -5.204", "trunk.mass_kg"),
        ("mass_kg = 0.68", "mass_kg = nan", "leg.hip.mass_kg"),
        ("mass_kg = 0.68", "mass_kg = true", "leg.hip.mass_kg"),
        ("mass_kg = 1.009", "mass_kg = '1 kg'", "leg.thigh.mass_kg"),
        ("com_m = [0.0223, 0.002, -0.0005]", "com_m = [0.0223, inf, 0.0]", "trunk.com_m"),
        ("com_m = [0.0223, 0.002, -0.0005]", "com_m = [0.0223, 0.002]", "trunk.com_m"),
        ("inertia_kgm2 = [0.016813, 0.06301,", "inertia_kgm2 = [-0.016813, 0.06301,", "positive definite"),
        ("inertia_kgm2 = [0.016813, 0.06301,", "inertia_kgm2 = [0.016813, 0.006301,", "trunk.inertia_kgm2"),
        ("[joints.calf]", "[joints.knee]", "calf"),
        ("[leg.calf]", "[leg.shin]", "calf"),
        ("hip_offset_m", "hip_ofset_m", "hip_offset_m"),
        ('title = "Unitree Go1"', 'title = "Unitree Go1"\ncolour = "grey"', "colour"),
        ("peak_torque_nm = 35.55", "peak_torque_nm = 0.0", "joints.calf.peak_torque_nm"),
        ("home_rad = -1.6", "home_rad = -91.7", "joints.calf"),
        ("range_rad = [-0.863, 0.863]", "range_rad = [0.863, -0.863]", "joints.hip"),
        ("half_size_m = [0.1881,", "half_size_m = [0.0,", "trunk.half_size_m"),
        ('mirrored = ["right", "rear"]', 'mirrored = ["left"]', "leg.hip.mirrored"),
        ("p_gain_nm_per_rad = 35.0", "p_gain_nm_per_rad = -35.0", "actuators.p_gain_nm_per_rad"),
        ('mirrored = ["right", "rear"]', 'mirrored = "right"', "leg.hip.mirrored.*list of texts"),
        ('name = "go1"', "name = go1", "TOML"),
    ],
)
def test_an_impossible_table_is_refused_by_the_name_of_the_entry(tmp_path, old, new, named):
    assert old in GO1
    path = tmp_path / "robot.toml"
    path.write_text(GO1.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(DataError, match=named):
        load_robot(path)


@pytest.mark.parametrize("sources", [5, "http", [1]])
def test_sources_are_texts(sources):
    with pytest.raises(DataError, match=r"sources = .* list of texts"):
        parse_robot({**tomllib.loads(GO1), "sources": sources})


def test_any_name_can_stand_in_a_urdf():
    table = dataclasses.replace(load_robot("go1"), name='a"<b>&')
    assert ElementTree.fromstring(robot_urdf(table, nominal(table))).get("name") == 'a"<b>&'


def test_a_table_of_ones_own_is_read_from_its_path(tmp_path):
    path = tmp_path / "own.toml"
    path.write_text(GO1.replace("mass_kg = 5.204", "mass_kg = 6.204", 1), encoding="utf-8")
    assert load_robot(path).mass_kg == pytest.approx(load_robot("go1").mass_kg + 1)


def test_an_unknown_robot_is_answered_with_the_known_ones(tmp_path):
    with pytest.raises(DataError, match=r"go2.*a1, go1.*Did you mean 'go1'"):
        load_robot("go2")
    with pytest.raises(DataError, match=r"missing\.toml"):
        load_robot(tmp_path / "missing.toml")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("p_gain_nm_per_rad", 0.0),
        ("motor_strength", -0.5),
        ("leg_mass_scale", 0.0),
        ("d_gain_nms_per_rad", -0.1),
        ("payload_kg", -1.0),
        ("joint_friction_nm", -0.2),
        ("action_delay_s", 0.05),
        ("payload_x_m", float("nan")),
    ],
)
def test_properties_no_robot_can_have_are_refused_by_name(name, value):
    with pytest.raises(ConfigError, match=name):
        RobotProperties(**{name: value}).check()


def test_the_nominal_robot_has_the_gains_of_its_table():
    table = load_robot("go1")
    robot = nominal(table).check()
    assert robot.p_gain_nm_per_rad == table.p_gain_nm_per_rad
    assert robot.d_gain_nms_per_rad == table.d_gain_nms_per_rad
    assert (robot.payload_kg, robot.motor_strength, robot.leg_mass_scale) == (0.0, 1.0, 1.0)


def test_drawn_robots_are_in_their_ranges_and_others_outside():
    for robot in draw_robots(np.random.default_rng(0), 50):
        for name, (low, high) in TRAINING_RANGES.items():
            assert low <= getattr(robot.check(), name) <= high
    outside = {"p_gain_nm_per_rad": 0, "payload_kg": 0, "both": 0}
    for robot in draw_ood_robots(np.random.default_rng(0), 90):
        weak = robot.p_gain_nm_per_rad <= OOD_RANGES["p_gain_nm_per_rad"][1]
        heavy = robot.check().payload_kg >= OOD_RANGES["payload_kg"][0]
        assert weak or heavy
        outside["p_gain_nm_per_rad"] += weak and not heavy
        outside["payload_kg"] += heavy and not weak
        outside["both"] += weak and heavy
    assert min(outside.values()) > 15


numbers = st.floats(-10, 10, width=32)


@given(arrays.arrays(float, (3, 4), elements=numbers), arrays.arrays(float, (3, 3), elements=numbers))
def test_rotation_into_the_body_is_mujocos_and_keeps_norms(quaternions, vectors):
    norms = np.linalg.norm(quaternions, axis=1, keepdims=True)
    quaternions = np.where(norms > 0.1, quaternions / np.maximum(norms, 0.1), [[1.0, 0, 0, 0]])
    turned = rotate_into_body(quaternions, vectors)
    np.testing.assert_allclose(np.linalg.norm(turned, axis=1), np.linalg.norm(vectors, axis=1), atol=1e-9)
    for quaternion, vector, found in zip(quaternions, vectors, turned, strict=True):
        inverse, expected = np.zeros(4), np.zeros(3)
        mujoco.mju_negQuat(inverse, quaternion)
        mujoco.mju_rotVecQuat(expected, vector, inverse)
        np.testing.assert_allclose(found, expected, atol=1e-9)
    np.testing.assert_allclose(rotate_into_world(quaternions, turned), vectors, atol=1e-9)


def test_yaw_turns_x_towards_y():
    quaternions = yaw_quaternion(np.array([0.0, np.pi / 2]))
    np.testing.assert_allclose(
        rotate_into_body(quaternions, np.array([0.0, 1.0, 0.0])), [[0, 1, 0], [1, 0, 0]], atol=1e-12
    )


def test_inverse_kinematics_undoes_mujocos_forward_kinematics(robot):
    table, model = robot
    rng = np.random.default_rng(3)
    angles = np.stack(
        [rng.uniform(-0.6, 0.6, (40, 4)), rng.uniform(-0.2, 1.3, (40, 4)), rng.uniform(-2.2, -1.0, (40, 4))],
        axis=-1,
    )
    hips = np.stack([table.hip_m(leg) for leg in LEGS])
    for pose in angles:
        data = posed(model, pose.ravel(), height=0.0)
        feet = np.array([data.geom(f"{leg}_foot").xpos for leg in LEGS]) - hips
        np.testing.assert_allclose(inverse_kinematics(feet[None], table)[0], pose, atol=1e-9)


def test_a_foot_out_of_reach_stretches_the_leg_towards_it():
    table = load_robot("go1")
    feet = np.zeros((1, 4, 3))
    feet[..., 1] = [table.side_offset_m(leg) for leg in LEGS]
    feet[..., 2] = -0.9
    np.testing.assert_allclose(inverse_kinematics(feet, table)[0], np.zeros((4, 3)), atol=1e-9)


@pytest.mark.parametrize("command", [(0.8, 0.0, 0.0), (0.2, -0.3, 0.0), (0.0, 0.0, 0.7), (-0.3, 0.2, -0.5)])
def test_standing_feet_move_as_the_ground_under_the_commanded_trunk(command):
    table, gait, step = load_robot("go1"), Gait(), 1e-4
    phases = np.array([0.1, 0.3, 0.6, 0.9])
    commands = np.tile(command, (4, 1))
    before = gait.foot_targets(commands, phases, table)
    after = gait.foot_targets(commands, phases + step * gait.frequency_hz, table)
    velocity = (after - before) / step
    stands = np.isclose(before[..., 2], -gait.stance_height_m, atol=1e-12)
    assert np.all(stands.sum(axis=1) == 2)
    hips = np.stack([table.hip_m(leg) + np.array([0, table.side_offset_m(leg), 0]) for leg in LEGS])
    x, y, yaw = command
    # A point of the ground seen from a trunk that moves with (x, y) and turns with yaw.
    seen = -np.stack([x - yaw * hips[:, 1], y + yaw * hips[:, 0], np.zeros(4)], axis=1)
    np.testing.assert_allclose(velocity[stands], np.broadcast_to(seen, (4, 4, 3))[stands], atol=1e-6)


def test_diagonal_legs_step_together_and_the_others_half_a_cycle_later():
    table, gait = load_robot("go1"), Gait()
    commands, phases = np.tile([0.5, 0.0, 0.0], (7, 1)), np.linspace(0, 0.9, 7)
    feet = gait.foot_targets(commands, phases, table)
    later = gait.foot_targets(commands, (phases + 0.5) % 1, table)
    right_front, left_front, right_rear, left_rear = (feet[:, i][:, [0, 2]] for i in range(4))
    np.testing.assert_allclose(right_front, left_rear, atol=1e-12)
    np.testing.assert_allclose(left_front, right_rear, atol=1e-12)
    np.testing.assert_allclose(later[:, 0][:, [0, 2]], left_front, atol=1e-12)
    lifts = gait.foot_targets(np.zeros((1, 3)), np.array([0.25]), table)[0, :, 2] + gait.stance_height_m
    np.testing.assert_allclose(lifts, [gait.swing_height_m, 0, 0, gait.swing_height_m], atol=1e-12)


def test_feet_do_not_jump_within_a_cycle():
    table, gait = load_robot("go1"), Gait()
    phases = np.arange(1000) / 1000
    feet = gait.foot_targets(np.tile([0.8, 0.3, 0.4], (1000, 1)), phases, table)
    assert np.abs(feet - np.roll(feet, 1, axis=0)).max() < 0.002


def test_joint_targets_keep_to_the_limits_however_high_the_swing(robot):
    table, _ = robot
    gait = Gait(swing_height_m=0.29)
    targets = gait.joint_targets(np.tile([2.0, 1.0, 2.0], (50, 1)), np.arange(50) / 50, table)
    limits = table.joint_limits_rad
    assert np.all((targets >= limits[:, 0]) & (targets <= limits[:, 1]))
    assert np.any(targets == limits[:, 0])


def test_names_of_joints_run_through_the_legs():
    assert JOINT_NAMES[:3] == tuple(f"FR_{joint}" for joint in JOINTS)
    assert len(JOINT_NAMES) == 12
