"""Simulated robots against closed forms and invariances: masses, gains, delays, friction, endless ground."""

import dataclasses

import mujoco
import numpy as np
import pytest

from dmcm.errors import ConfigError, ShapeError
from dmcm.quadruped.body.properties import RobotProperties
from dmcm.quadruped.body.robot_table import load_robot
from dmcm.quadruped.walking.gait import Gait
from dmcm.quadruped.walking.observations import privileged_state
from dmcm.quadruped.world.arena import Arena
from dmcm.quadruped.world.model import TIMESTEP_S
from dmcm.quadruped.world.simulation import CONTROL_PERIOD_S, SUBSTEPS, Simulation
from dmcm.quadruped.world.terrain import Terrain

GO1 = load_robot("go1")
HOME = GO1.home_pose_rad
GRAVITY = 9.81
FLAT = (Terrain(),)


def simulate(robots, grounds=FLAT, tiles=None, threads=1, table=GO1, **where):
    """Robots placed on their grounds."""
    simulation = Simulation(table, Arena(grounds), len(robots), threads=threads)
    everyone = np.arange(len(robots))
    simulation.set_robots(everyone, robots)
    simulation.place(everyone, np.zeros(len(robots), int) if tiles is None else np.array(tiles), **where)
    return simulation


def in_the_air(*robots):
    """Robots far above flat ground, at rest."""
    simulation = simulate(robots)
    simulation.qpos[:, 2] += 50.0
    return simulation


def hold(simulation, steps, targets=HOME):
    """Steps with the same targets for all."""
    for _ in range(steps):
        simulation.step(np.tile(targets, (simulation.count, 1)))
    return simulation


def walk(simulation, steps, command=(0.8, 0.0, 0.0), begin=0):
    """Steps of the bare gait; joint angles after each, shape (steps, n, 12)."""
    angles = []
    for step in range(begin, begin + steps):
        phase = np.full(simulation.count, step * CONTROL_PERIOD_S * 2.5 % 1)
        simulation.step(Gait().joint_targets(np.tile(command, (simulation.count, 1)), phase, GO1))
        angles.append(simulation.joint_angles_rad.copy())
    return np.array(angles)


def wild(steps, count, seed=0):
    """Random targets around the home pose, shape (steps, count, 12)."""
    return HOME + np.random.default_rng(seed).normal(0, 0.2, (steps, count, 12))


def model_and_data(simulation, number):
    """A robot's own model, and its data up to date."""
    model, data = simulation.batch.get_model(number), simulation.batch.get_data(number)
    mujoco.mj_forward(model, data)
    return model, data


def joint_inertia(simulation, number):
    """Inertia of the twelve joints without their rotors, shape (12, 12)."""
    model, data = model_and_data(simulation, number)
    full = np.zeros((model.nv, model.nv))
    mujoco.mj_fullM(model, data, full)
    return full[6:, 6:] - np.diag(model.dof_armature[6:])


def test_a_robot_falls_freely():
    simulation = in_the_air(RobotProperties(), RobotProperties(payload_kg=2.0, action_delay_s=0.03))
    before = simulation.qpos.copy()
    hold(simulation, 25)
    n = 25 * SUBSTEPS
    # The sum of equal increments of speed, each then travelled for one time step.
    drop = GRAVITY * TIMESTEP_S**2 * n * (n + 1) / 2
    np.testing.assert_allclose(before[:, 2] - simulation.qpos[:, 2], drop, rtol=1e-9)
    assert drop == pytest.approx(GRAVITY * 0.5**2 / 2, rel=0.011)
    np.testing.assert_allclose(simulation.qvel[:, 2], -GRAVITY * 0.5, rtol=1e-9)
    rest = [0, 1, *range(3, 19)]
    np.testing.assert_allclose(simulation.qpos[:, rest], before[:, rest], atol=1e-6)
    np.testing.assert_allclose(simulation.accelerometer_m_s2, 0, atol=1e-5)


def test_feet_carry_the_weight_at_rest():
    payloads = np.array([0.0, 1.5, 4.0])
    simulation = hold(simulate([RobotProperties(payload_kg=p) for p in payloads]), 100)
    assert np.abs(simulation.qvel).max() < 0.05
    np.testing.assert_allclose(
        simulation.foot_forces_n.sum(axis=1), (GO1.mass_kg + payloads) * GRAVITY, rtol=5e-3
    )
    np.testing.assert_allclose(np.linalg.norm(simulation.accelerometer_m_s2, axis=1), GRAVITY, rtol=1e-3)
    lean = -simulation.accelerometer_m_s2 / GRAVITY
    np.testing.assert_allclose(simulation.gravity_direction, lean, atol=2e-3)


def test_a_load_in_front_weighs_on_the_front_feet():
    """Torque balance about the mean line of the feet."""
    loads = [RobotProperties(payload_kg=3.0, payload_x_m=x) for x in (-0.1, 0.0, 0.1)]
    simulation = hold(simulate(loads), 100)
    for number in range(3):
        model, data = model_and_data(simulation, number)
        forces = simulation.foot_forces_n[number]
        feet = np.array([data.geom(f"{leg}_foot").xpos for leg in ("FR", "FL", "RR", "RL")])
        centre = data.subtree_com[model.body("trunk").id]
        np.testing.assert_allclose(forces @ feet[:, :2] / forces.sum(), centre[:2], atol=2e-3)
    front = simulation.foot_forces_n[:, :2].sum(axis=1)
    assert np.all(np.diff(front) > 5)


def test_payload_moves_the_centre_of_mass_by_the_lever_rule():
    load = RobotProperties(payload_kg=2.5, payload_x_m=0.1, payload_y_m=-0.05, payload_z_m=0.2)
    simulation = simulate([RobotProperties(), load])
    (model, bare), (loaded_model, loaded) = (model_and_data(simulation, number) for number in (0, 1))
    trunk = model.body("trunk").id
    place = bare.xpos[trunk] + [0.1, -0.05, 0.2]
    expected = (GO1.mass_kg * bare.subtree_com[trunk] + 2.5 * place) / (GO1.mass_kg + 2.5)
    np.testing.assert_allclose(loaded.subtree_com[trunk], expected, atol=1e-9)
    assert model.body_subtreemass[trunk] == pytest.approx(GO1.mass_kg)
    assert loaded_model.body_subtreemass[trunk] == pytest.approx(GO1.mass_kg + 2.5)


def test_leg_mass_scales_weight_and_inertia_of_legs_alone():
    simulation = simulate([RobotProperties(), RobotProperties(leg_mass_scale=2.0)])
    legs = GO1.mass_kg - GO1.trunk.mass_kg
    masses = [simulation.batch.get_model(number).body_mass.sum() for number in (0, 1)]
    np.testing.assert_allclose(masses, [GO1.mass_kg, GO1.mass_kg + legs])
    once, twice = (joint_inertia(simulation, number) for number in (0, 1))
    np.testing.assert_allclose(twice, 2 * once, atol=1e-12)


def torques(robot, angle=0.0, speed=0.0):
    """Torques of a robot whose joints are off the home pose, which they have been told to hold."""
    simulation = simulate([robot])
    simulation.qpos[:, 7:] += angle
    simulation.qvel[:, 6:] = speed
    simulation.batch.forward()
    return simulation.torques_nm[0]


@pytest.mark.parametrize("delay", [0.0, 0.0175, 0.04])
def test_torque_is_gain_times_error_less_damping_times_speed(delay):
    offsets = np.linspace(-0.2, 0.2, 12)
    robot = RobotProperties(p_gain_nm_per_rad=30.0, d_gain_nms_per_rad=0.7, action_delay_s=delay)
    np.testing.assert_allclose(torques(robot, offsets), -30.0 * offsets, atol=1e-9)
    np.testing.assert_allclose(torques(robot, offsets, 2.0), -30.0 * offsets - 1.4, atol=1e-9)
    doubled = dataclasses.replace(robot, p_gain_nm_per_rad=60.0)
    np.testing.assert_allclose(torques(doubled, offsets), 2 * torques(robot, offsets), atol=1e-9)


@pytest.mark.parametrize("strength", [1.0, 0.5])
def test_motors_saturate_at_their_share_of_the_peak_torque(strength):
    found = torques(RobotProperties(motor_strength=strength), np.where(np.arange(12) % 2, 2.0, -2.0))
    peak = np.array([23.7, 23.7, 35.55] * 4) * strength
    np.testing.assert_allclose(found, np.where(np.arange(12) % 2, -peak, peak))


def test_dry_friction_holds_a_joint_against_a_smaller_torque():
    stuck, loose = (RobotProperties(joint_friction_nm=friction) for friction in (3.0, 0.0))
    simulation = hold(in_the_air(stuck, loose), 10, HOME + 0.05)  # 1.75 N m
    moved = simulation.joint_angles_rad - HOME
    assert moved[0].max() < 0.025  # MuJoCo's dry friction creeps
    np.testing.assert_allclose(moved[1], 0.05, rtol=0.1)


@pytest.mark.parametrize("begin", [0, 7, 50])
@pytest.mark.parametrize("late", [1, 2, 3, 7])
def test_an_action_delay_shifts_the_response_by_that_many_substeps(late, begin):
    """In free fall joints know nothing of time, so the later response is the earlier one, later."""
    prompt, slow = (RobotProperties(action_delay_s=delay) for delay in (0.005, 0.005 * (1 + late)))
    simulation = hold(in_the_air(prompt, slow), begin)
    np.testing.assert_allclose(simulation.joint_angles_rad, np.tile(HOME, (2, 1)), atol=1e-6)
    targets, angles = simulation.batch.bind("ctrl"), []
    targets[:] = HOME + 0.1
    for _ in range(16):
        simulation.batch.step()
        angles.append(simulation.joint_angles_rad.copy())
    prompt_angles, slow_angles = np.moveaxis(np.array(angles), 1, 0)
    np.testing.assert_allclose(slow_angles[late:], prompt_angles[:-late], atol=1e-6)
    # The first substep after a new target is still the old one's.
    np.testing.assert_allclose(prompt_angles[0], HOME, atol=1e-6)
    assert np.abs(prompt_angles[1] - HOME).min() > 1e-4


def test_a_delay_of_whole_substeps_stays_the_same_as_time_goes_on():
    """Simulated time is rounded differently all the time; the robot is put back before each response."""
    delays = [0.01, 0.015, 0.02, 0.03, 0.04]
    simulation = in_the_air(*(RobotProperties(action_delay_s=delay) for delay in delays))
    targets, found = simulation.batch.bind("ctrl"), set()
    for _ in range(200):
        hold(simulation, 3)
        simulation.qpos[:, 2], simulation.qpos[:, 7:], simulation.qvel[:] = 50.0, HOME, 0.0
        targets[:] = HOME + 0.1
        first = np.zeros(len(delays), int)
        for substep in range(10):
            simulation.batch.step()
            pull = np.abs(simulation.torques_nm).max(axis=1) > 1.0
            first = np.where((first == 0) & pull, substep, first)
        found.add(tuple(first.tolist()))
        targets[:] = HOME
    assert found == {(2, 3, 4, 6, 8)}


def test_no_delay_is_a_delay_of_a_substep():
    simulation = in_the_air(RobotProperties(action_delay_s=0.0), RobotProperties(action_delay_s=0.005))
    for targets in wild(5, 1):
        simulation.step(np.tile(targets, (2, 1)))
    np.testing.assert_array_equal(simulation.joint_angles_rad[0], simulation.joint_angles_rad[1])


def test_a_placed_robot_forgets_the_targets_of_its_last_life():
    simulation = simulate([RobotProperties(action_delay_s=0.03)] * 2)
    for targets in wild(5, 2):
        simulation.step(targets)
    simulation.place(np.array([0, 1]), np.array([0, 0]))
    simulation.qpos[:, 2] += 5.0
    hold(simulation, 3)
    np.testing.assert_allclose(simulation.joint_angles_rad, np.tile(HOME, (2, 1)), atol=1e-9)


def test_robots_stand_as_placed():
    grounds = (Terrain("stairs_up", 0.1), Terrain(), Terrain("slope_up", 0.2))
    yaw, share = np.array([0.0, 1.0, -2.0]), np.array([[0.2, 0.3], [0.5, 0.5], [0.9, 0.1]])
    simulation = simulate([RobotProperties()] * 3, grounds, (0, 1, 2), yaw_rad=yaw, share=share)
    np.testing.assert_allclose(simulation.yaw_rad, yaw, atol=1e-12)
    np.testing.assert_allclose(
        simulation.qpos[:, :2], simulation.arena.corner_m + share * simulation.arena.period_m, atol=1e-12
    )
    assert np.all(simulation.qvel == 0)
    assert simulation.clearance_m[1] == pytest.approx(GO1.home_height_m)
    # On uneven ground no foot is buried.
    for number in range(3):
        _, data = model_and_data(simulation, number)
        feet = np.array([data.geom(f"{leg}_foot").xpos for leg in ("FR", "FL", "RR", "RL")])
        ground = simulation.arena.height(np.full(4, number), feet[:, :2])
        assert (feet[:, 2] - ground).min() > 0


def test_sensors_of_a_placed_robot_are_of_where_it_is():
    """Not of the arena's first ground, where a reset puts it for a moment."""
    low = dataclasses.replace(GO1, home_height_m=0.3)  # so that the feet press
    alone = simulate([RobotProperties()], table=low)
    beside = simulate([RobotProperties()], (Terrain("stairs_up", 0.1), Terrain()), (1,), table=low)
    assert alone.foot_forces_n.min() > 1
    np.testing.assert_allclose(beside.foot_forces_n, alone.foot_forces_n, rtol=1e-6)
    np.testing.assert_allclose(beside.accelerometer_m_s2, alone.accelerometer_m_s2, rtol=1e-6, atol=1e-6)


def test_velocity_and_rates_are_in_the_frame_of_the_trunk():
    simulation = simulate([RobotProperties()], yaw_rad=np.pi / 2)
    simulation.qvel[0, :6] = [0.0, 0.7, 0.1, 0.2, 0.3, 0.4]
    np.testing.assert_allclose(simulation.trunk_velocity_m_s[0], [0.7, 0.0, 0.1], atol=1e-12)
    np.testing.assert_allclose(simulation.gyro_rad_s[0], [0.2, 0.3, 0.4])
    data = simulation.batch.get_data(0)
    velocity = np.zeros(6)
    mujoco.mj_forward(simulation.model, data)
    body = mujoco.mjtObj.mjOBJ_XBODY
    mujoco.mj_objectVelocity(simulation.model, data, body, simulation.model.body("trunk").id, velocity, 1)
    np.testing.assert_allclose(velocity, [0.2, 0.3, 0.4, 0.7, 0.0, 0.1], atol=1e-9)


def test_a_robot_slides_on_a_slope_steeper_than_its_friction_holds():
    grounds = [Terrain("slope_up", 0.24, friction=friction) for friction in (0.1, 0.8)]
    simulation = hold(simulate([RobotProperties()] * 2, grounds, (0, 1)), 50)
    start, speed = simulation.travelled_m.copy(), simulation.qvel[0, 0]
    hold(simulation, 30)
    angle = np.arctan(0.24)
    acceleration = -GRAVITY * (np.sin(angle) - 0.1 * np.cos(angle)) * np.cos(angle)
    assert simulation.qvel[0, 0] - speed == pytest.approx(acceleration * 0.6, rel=0.05)
    slid = (simulation.travelled_m - start)[:, 0]
    assert slid[0] == pytest.approx(speed * 0.6 + acceleration * 0.6**2 / 2, rel=0.05)
    assert abs(simulation.qvel[1, 0]) < 0.05


def test_friction_of_the_ground_follows_the_robot_from_tile_to_tile():
    grounds = (Terrain(), Terrain("flat", friction=0.3))
    simulation = simulate([RobotProperties()] * 2, grounds, (0, 1))
    kept = simulation.snapshot()

    def frictions():
        simulation.qpos[:, 2] -= 0.01  # placed, the feet hang a little above the ground
        return [model_and_data(simulation, number)[1].contact.friction[0, 0] for number in (0, 1)]

    assert frictions() == [0.8, 0.3]
    simulation.place(np.array([0, 1]), np.array([1, 0]))
    assert frictions() == [0.3, 0.8]
    simulation.restore(kept)
    assert frictions() == [0.8, 0.3]


def varied(count):
    return [
        RobotProperties(p_gain_nm_per_rad=30.0 + i, payload_kg=i / 2, action_delay_s=0.005 * i)
        for i in range(count)
    ]


ROUGH = (Terrain(), Terrain("rough", 0.06, 0.2), Terrain("stairs_up", 0.06))


def test_the_same_bits_whatever_the_number_of_threads():
    states = []
    for threads in (1, 2, 1):
        simulation = simulate(varied(6), ROUGH, (0, 1, 2, 0, 1, 2), threads=threads)
        for targets in wild(20, 6):
            simulation.step(targets)
        states.append(
            (
                simulation.batch.state.tobytes(),
                simulation.torques_nm.tobytes(),
                simulation.foot_forces_n.tobytes(),
            )
        )
    assert states[0] == states[1] == states[2]


def test_a_robot_does_not_depend_on_its_neighbours():
    many = simulate(varied(4), ROUGH, (0, 1, 2, 0))
    alone = simulate(varied(4)[2:3], ROUGH, (2,))
    for targets in wild(15, 4):
        many.step(targets)
        alone.step(targets[2:3])
    assert many.qpos[2].tobytes() == alone.qpos[0].tobytes()


def test_a_snapshot_replays_to_the_same_bits():
    simulation = simulate(varied(3), ROUGH, (0, 1, 2))
    first, then = wild(10, 3), wild(10, 3, seed=1)
    for targets in first:
        simulation.step(targets)
    kept = simulation.snapshot()
    simulation.restore(kept)
    futures, readings = [], read(simulation)
    for _ in range(2):
        for targets in then:
            simulation.step(targets)
        futures.append(
            (
                simulation.batch.state.tobytes(),
                simulation.travelled_m.tobytes(),
                simulation.torques_nm.tobytes(),
            )
        )
        simulation.set_robots(np.arange(3), [RobotProperties(payload_kg=5.0, motor_strength=0.5)] * 3)
        simulation.place(np.arange(3), np.array([2, 0, 1]), yaw_rad=1.0)
        hold(simulation, 3)
        simulation.restore(kept)
        assert read(simulation) == readings
        assert np.array_equal(simulation.tile, [0, 1, 2])
        assert np.array_equal(simulation.properties["payload_kg"], [0, 0.5, 1])
    assert futures[0] == futures[1]


def read(simulation):
    """Bits of what sensors say."""
    names = ("joint_angles_rad", "torques_nm", "foot_forces_n", "accelerometer_m_s2", "gravity_direction")
    return [getattr(simulation, name).tobytes() for name in names]


def test_a_snapshot_of_other_grounds_is_refused():
    simulation = simulate(varied(2))
    other = simulate(varied(2), ROUGH, (1, 1)).snapshot()
    before = simulation.tile.copy(), read(simulation)
    with pytest.raises(ConfigError, match="another arena"):
        simulation.restore(other)
    assert (simulation.tile.tolist(), read(simulation)) == (before[0].tolist(), before[1])


@pytest.mark.parametrize(
    ("ground", "whole"),
    [
        (Terrain(), 0.5),
        (Terrain("slope_up", 0.15), 0.7),
        (Terrain("slope_down", 0.24), 0.7),
        (Terrain("stairs_up", 0.05), 0.9),
        (Terrain("stairs_down", 0.05), 0.9),
        (Terrain("waves", 0.06, 1.0), 1.0),
    ],
    ids=lambda value: value.label if isinstance(value, Terrain) else "",
)
def test_a_robot_cannot_tell_that_it_is_moved_back_by_a_period(ground, whole):
    """One walks over the period's end, one stands a whole number of the ground's lengths before it."""
    x_period, y_period = ground.period_m
    before_the_end = np.array([[0.006, 0.01], [0.006 + whole, 0.01 + 1.2]])
    share = 1 - before_the_end / (x_period, y_period)
    simulation = simulate([RobotProperties()] * 2, (ground,), (0, 0), share=share)
    simulation.qvel[:, :2] = [1.0, 0.8]
    start, angles, truth = simulation.travelled_m.copy(), [], []
    for step in range(25):
        angles.append(walk(simulation, 1, begin=step)[0])
        truth.append(privileged_state(simulation))
        np.testing.assert_allclose(
            simulation.travelled_m[0] - start[0], simulation.travelled_m[1] - start[1], atol=1e-6
        )
    np.testing.assert_allclose(
        simulation.moved_m, [[x_period, y_period, ground.rise_m], [0, 0, 0]], atol=1e-9
    )
    angles, truth = np.array(angles), np.array(truth)
    np.testing.assert_allclose(angles[:, 0], angles[:, 1], atol=1e-6)
    np.testing.assert_allclose(truth[:, 0], truth[:, 1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("field", "poison"),
    [("qvel", np.nan), ("qvel", -np.inf), ("qvel", 1e3), ("qvel", 1e6), ("qpos", np.nan), ("qpos", 1e12)],
)
def test_a_robot_that_comes_apart_is_marked_counted_and_put_back(tmp_path, monkeypatch, field, poison):
    monkeypatch.chdir(tmp_path)  # MuJoCo logs there
    simulation, untouched = (simulate(varied(3), ROUGH, (1, 2, 0), share=0.3) for _ in range(2))
    spoilt = np.zeros(3, bool)
    spoilt[1] = True
    for count, targets in enumerate(wild(4, 3)):
        simulation.step(targets)
        untouched.step(targets)
        assert not simulation.diverged.any()
        for again in (1, 2):  # also in two steps on end
            getattr(simulation, field)[1, 8:11] = poison
            simulation.step(targets)
            untouched.step(targets)
            assert np.array_equal(simulation.diverged, spoilt)
            assert simulation.divergences == 2 * count + again
            np.testing.assert_array_equal(simulation.joint_angles_rad[1], HOME)
            assert np.all(simulation.qvel[1] == 0)
            assert simulation.tile[1] == 2
            assert 0.2 < simulation.clearance_m[1] < 0.5
        assert simulation.qpos[~spoilt].tobytes() == untouched.qpos[~spoilt].tobytes()
        assert simulation.qvel[~spoilt].tobytes() == untouched.qvel[~spoilt].tobytes()
    assert untouched.divergences == 0
    hold(simulation, 2)
    assert not simulation.diverged.any()


def test_wrong_counts_and_shapes_are_refused():
    with pytest.raises(ConfigError, match="count=0"):
        Simulation(GO1, Arena([Terrain()]), 0)
    simulation = simulate([RobotProperties()] * 2)
    with pytest.raises(ShapeError, match=r"\(2, 12\)"):
        simulation.step(np.zeros((3, 12)))
    with pytest.raises(ShapeError, match="2 robots"):
        simulation.set_robots(np.arange(2), [RobotProperties()])
    with pytest.raises(ConfigError, match="payload_kg"):
        simulation.set_robots(np.arange(1), [RobotProperties(payload_kg=-1.0)])
    with pytest.raises(ShapeError, match=r"2 robots.*1"):
        simulate([RobotProperties()]).restore(simulation.snapshot())
