"""An exported policy on a robot: the environment's joint targets, stops by injected faults, the log."""

import dataclasses
import json
import re
import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmcm import Contexts, Factors, Learner
from dmcm.bank import ContextBank
from dmcm.errors import BankError, ConfigError, DataError, DmcmError, FactorError, ShapeError, StorageError
from dmcm.models import load_learner
from dmcm.quadruped.body.properties import draw_robots
from dmcm.quadruped.body.robot_table import JOINT_NAMES, load_robot
from dmcm.quadruped.conditioned.export import export_policy
from dmcm.quadruped.conditioned.shipped import PLAIN_POLICY, TOLD_POLICY
from dmcm.quadruped.data.recording import column
from dmcm.quadruped.deployment.controller import Controller, Step
from dmcm.quadruped.deployment.loop import run
from dmcm.quadruped.deployment.outcome import Outcome, StepRecord
from dmcm.quadruped.deployment.robot import Reading, Robot
from dmcm.quadruped.deployment.safety import Limits, violation
from dmcm.quadruped.deployment.vectors import bank_vectors
from dmcm.quadruped.dynamics.model import MODEL
from dmcm.quadruped.walking.environment import WalkConfig, WalkEnvironment
from dmcm.quadruped.walking.guides import History, Vectors
from dmcm.quadruped.walking.known_gains import GainReader
from dmcm.quadruped.walking.observations import OBSERVATION, part
from dmcm.quadruped.walking.policy import Policy, load_policy, mean_action, save_policy
from dmcm.quadruped.walking.told_gait import GaitReader
from dmcm.quadruped.world.arena import Arena
from dmcm.quadruped.world.physics import SENSED
from dmcm.quadruped.world.simulation import Simulation
from dmcm.quadruped.world.terrain import Terrain
from helpers import network, solver

GO1 = load_robot("go1")
HOME = GO1.home_pose_rad
LOW, HIGH = GO1.joint_limits_rad.T
PERIOD = 0.02
COMMAND = (0.5, 0.1, -0.2)
LYING = np.clip(HOME + 4 * np.array([0.05, 0.1, -0.2] * 4), LOW, HIGH)


@pytest.fixture(scope="module")
def policies(tmp_path_factory):
    """Policies told nothing, told vectors, and one that reads its past: by kind."""
    folder = tmp_path_factory.mktemp("policies")
    own, past, rng = sum(OBSERVATION.values()), History(1).size, np.random.default_rng(0)

    def filled(leaf):
        if not isinstance(leaf, jax.ShapeDtypeStruct):
            return leaf
        # Smaller than usual, for the robot must stay on its feet.
        scale = 0.7 * leaf.shape[-1] ** -0.5 if len(leaf.shape) == 2 else 0.02
        return jnp.asarray(rng.normal(0, scale, leaf.shape), jnp.float32)

    # Shapes alone: drawing the weights would take most of this file's time.
    history = jax.tree.map(
        filled,
        eqx.filter_eval_shape(Policy, own + past, 4, 12, past=past, summary=10, key=jax.random.key(0)),
    )
    history = eqx.tree_at(lambda p: p.observation_scale.variance, history, jnp.ones(own + past))
    about = {"training": {"method": "history", "told": {"vectors": {}, "model": None}}}
    save_policy(folder / "history.safetensors", history, about)
    told, training = load_policy(TOLD_POLICY)
    gains = eqx.tree_at(
        lambda r: r.slope, GainReader(10), jnp.asarray(0.2 * rng.normal(size=(2, 10)), jnp.float32)
    )
    gait = eqx.tree_at(
        lambda r: r.slope, GaitReader(10), jnp.asarray(0.2 * rng.normal(size=(4, 10)), jnp.float32)
    )
    matched = eqx.tree_at(lambda p: (p.gains, p.gait), told, (gains, gait), is_leaf=lambda x: x is None)
    save_policy(folder / "matched.safetensors", matched, {"training": training["training"]})
    return {
        "plain": PLAIN_POLICY,
        "told": TOLD_POLICY,
        "history": folder / "history.safetensors",
        "matched": folder / "matched.safetensors",
    }


@pytest.fixture(scope="module")
def files(policies, tmp_path_factory):
    """The same as ONNX."""
    folder = tmp_path_factory.mktemp("exported")
    return {kind: export_policy(path, folder / f"{kind}.onnx") for kind, path in policies.items()}


@pytest.fixture
def controller(files):
    return Controller(files["plain"])


def vectors(seed=0):
    rng = np.random.default_rng(seed)
    return {"robot": rng.normal(0, 0.5, 6), "terrain": rng.normal(0, 0.5, 4)}


def standing(**changes):
    """A reading of a robot that stands at time 1 s."""
    values = {
        "time_s": 1.0,
        "joint_angles_rad": HOME,
        "joint_speeds_rad_s": np.zeros(12),
        "torques_nm": np.zeros(12),
        "gyro_rad_s": np.zeros(3),
        "gravity_direction": [0.0, 0.0, -1.0],
        "foot_forces_n": np.full(4, 30.0),
    }
    values |= changes
    return Reading(values.pop("time_s"), **{name: np.asarray(value) for name, value in values.items()})


class FakeRobot:
    """Joints go half of the way to their targets in each control step; its clock is its own."""

    def __init__(self, fault_at=None, **faults):
        """Things that go wrong from a reading on: functions by name, or errors to raise."""
        self.time, self.angles, self.speeds = 5.0, LYING.copy(), np.zeros(12)
        self.targets, self.fault_at, self.faults = None, fault_at, faults
        self.reads, self.damps, self.events, self.sent, self.waits = 0, 0, [], [], []

    def _fault(self, name):
        return self.faults.get(name) if self.fault_at is not None and self.reads >= self.fault_at else None

    def _call(self, name):
        self.events.append(name)
        error = self._fault(name)
        if isinstance(error, BaseException):
            raise error

    def now_s(self):
        return self.time

    def read(self):
        self._call("read")
        measured = {
            "time_s": self.time,
            "joint_angles_rad": self.angles,
            "joint_speeds_rad_s": self.speeds,
            "torques_nm": np.full(12, 0.01 * self.reads),
        }
        change = self._fault("reading")
        reading = standing(**(measured | (change(self) if change else {})))
        self.reads += 1
        return reading

    def send(self, joint_targets_rad, p_gain_nm_per_rad, d_gain_nms_per_rad):
        self._call("send")
        assert (p_gain_nm_per_rad, d_gain_nms_per_rad) == (GO1.p_gain_nm_per_rad, GO1.d_gain_nms_per_rad)
        self.targets = joint_targets_rad.copy()
        self.sent.append(self.targets)
        self.time += self.faults.get("work_s", 0.0) if self._fault("slow") else 0.0

    def damp(self):
        self._call("damp")
        self.targets = None

    def wait_until(self, time_s):
        self._call("wait")
        self.waits.append(time_s)
        if self._fault("frozen") or time_s <= self.time:
            return
        self.time = time_s
        if self.targets is not None:
            moved = 0.5 * (self.targets - self.angles)
            self.angles, self.speeds = self.angles + moved, moved / PERIOD


RECORD = StepRecord(standing(), Step(np.zeros(3), HOME, np.zeros(12), 0.0), 0.001)


def walk(robot, controller, *, seconds=0.4, stand_s=0.2, **settings):
    return run(robot, controller, lambda t: COMMAND, seconds=seconds, stand_s=stand_s, **settings)


def assert_damped(robot):
    """Once damped, nothing else is asked of the robot."""
    assert robot.events[-1] == "damp"
    assert robot.targets is None


# --- the controller ---


@pytest.mark.parametrize("kind", ["plain", "told", "history", "matched"])
def test_joint_targets_are_those_of_the_environment(kind, policies, files):
    told = vectors() if kind in ("told", "matched") else {}
    guide = {
        "plain": lambda: None,
        "told": lambda: Vectors(np.concatenate([told["robot"], told["terrain"]])[None]),
        "matched": lambda: Vectors(np.concatenate([told["robot"], told["terrain"]])[None]),
        "history": lambda: History(1),
    }[kind]()
    policy, controller = load_policy(policies[kind])[0], Controller(files[kind], told)
    body = draw_robots(np.random.default_rng(1), 1)
    walks = WalkEnvironment(
        GO1,
        Arena([Terrain("rough", 0.04, 0.2)]),
        body,
        [0],
        WalkConfig(push_m_s=0.5),
        guide=guide,
        gains=policy.gains,
        gait=policy.gait,
        threads=1,
    )
    for seed in (3, 4):
        walks.reset(seed=seed)
        walks.phase[:] = 0.0
        if guide is not None:
            guide.forget(np.array([0]))
        observation, simulation = walks.observe(), walks.simulation
        controller.reset()
        for _ in range(60):
            reading = standing(
                joint_angles_rad=simulation.joint_angles_rad[0],
                joint_speeds_rad_s=simulation.joint_speeds_rad_s[0],
                gyro_rad_s=simulation.gyro_rad_s[0],
                gravity_direction=simulation.gravity_direction[0],
                foot_forces_n=simulation.foot_forces_n[0],
            )
            phase, command = walks.phase[0], walks.commands.velocity[0].copy()
            step = controller.step(reading, command)
            action = np.asarray(mean_action(policy, observation))
            observation, _, fell, _, info = walks.step(action)
            np.testing.assert_allclose(
                step.joint_targets_rad, info["joint_targets_rad"][0], rtol=0, atol=3e-6
            )
            np.testing.assert_allclose(step.action, np.clip(action[0], -3, 3), rtol=0, atol=1e-5)
            assert step.phase == phase
            assert not fell[0]  # or steps of two episodes would be compared


def test_what_is_told_and_what_was_lived_through_matter(files):
    one, other = (Controller(files["told"], vectors(seed)) for seed in (0, 1))
    first = one.step(standing(), COMMAND)
    assert np.abs(first.action - other.step(standing(), COMMAND).action).max() > 0.01
    one.reset()
    one.tell(vectors(1))
    other.reset()
    np.testing.assert_array_equal(
        one.step(standing(), COMMAND).action, other.step(standing(), COMMAND).action
    )
    # A walk that begins anew knows nothing of the one before.
    history = Controller(files["history"])
    actions = []
    for angles in (HOME, LYING):
        history.reset()
        history.step(standing(joint_angles_rad=angles), COMMAND)
        history.step(standing(joint_angles_rad=angles), COMMAND)
        actions.append(history.step(standing(), COMMAND).action)
    history.reset()
    for _ in range(3):
        again = history.step(standing(), COMMAND).action
    np.testing.assert_array_equal(again, actions[0])
    assert np.abs(actions[1] - actions[0]).max() > 0.01


@pytest.mark.parametrize(
    ("told", "error", "match"),
    [
        ({}, FactorError, r"robot \(6 numbers\), terrain \(4 numbers\)"),
        ({"robot": np.zeros(6)}, FactorError, r"give terrain \(4 numbers\)"),
        ({**vectors(), "ground": np.zeros(4)}, FactorError, "Valid: robot, terrain"),
        ({**vectors(), "robot": np.zeros(5)}, ShapeError, "'robot' must be 6 finite numbers.*dynamics model"),
        ({**vectors(), "terrain": [0.0, 0.0, 0.0, np.nan]}, ShapeError, "'terrain' must be 4 finite numbers"),
        ({**vectors(), "terrain": np.array("stairs")}, ShapeError, "holds no numbers"),
    ],
)
def test_wrong_vectors_are_refused(files, told, error, match):
    with pytest.raises(error, match=match):
        Controller(files["told"], told)
    controller = Controller(files["told"], vectors())
    before = controller.step(standing(), COMMAND).action
    with pytest.raises(error, match=match):
        controller.tell(told)
    controller.reset()
    np.testing.assert_array_equal(controller.step(standing(), COMMAND).action, before)


def test_a_policy_told_nothing_takes_no_vectors(files):
    with pytest.raises(FactorError, match="Valid: none"):
        Controller(files["plain"], {"robot": np.zeros(6)})


@pytest.mark.parametrize("command", [(0.5, 0.0), (0.5, 0.0, np.nan), np.array(0.5), np.array("forward")])
def test_wrong_commands_are_refused(controller, command):
    with pytest.raises(ShapeError, match="three finite numbers"):
        controller.step(standing(), command)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_no_policy_walks_by_what_is_no_number(controller, value):
    with pytest.raises(DataError, match="not finite in gyro_rad_s"):
        controller.step(standing(gyro_rad_s=[0, value, 0]), COMMAND)


def rewritten(source, out, change):
    """A file whose model was changed."""
    model = onnx.load(source)
    change(model)
    onnx.save(model, out)
    return out


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("home_pose_rad", [0.1] * 12),
        ("thigh_length_m", 0.3),
        ("p_gain_nm_per_rad", 20.0),
        ("d_gain_nms_per_rad", 0.1),
        ("robot", "go9"),
        ("gait_leg_offset", [0.0, 0.5, 0.0, 0.5]),
        ("past_stride_steps", 4),
    ],
)
def test_files_for_another_robot_or_gait_are_refused(files, tmp_path, name, value):
    def change(model):
        entry = model.metadata_props[0]
        entry.value = json.dumps(json.loads(entry.value) | {name: value})

    path = rewritten(files["history"], tmp_path / "other.onnx", change)
    with pytest.raises(StorageError, match=f"another {name}.*export-policy"):
        Controller(path, robot="go1")


def test_actions_are_cut_also_in_the_next_observation(files, tmp_path):
    def change(model):
        entry = model.metadata_props[0]
        entry.value = json.dumps(json.loads(entry.value) | {"action_limit": 0.05})

    cut = Controller(rewritten(files["plain"], tmp_path / "cut.onnx", change))
    seen = np.zeros((2, sum(OBSERVATION.values())), np.float32)
    seen[:, part("gravity_direction")] = [0, 0, -1]
    seen[:, part("command")] = COMMAND
    seen[:, part("foot_contact")] = 1
    turn = 2 * np.pi * np.array([0.0, 0.05])
    seen[:, part("gait_phase")] = np.stack([np.sin(turn), np.cos(turn)], axis=1)
    policy = load_policy(PLAIN_POLICY)[0]
    first = np.asarray(mean_action(policy, seen[:1]))[0]
    assert np.abs(first).max() > 0.06
    seen[1, part("previous_action")] = np.clip(first, -0.05, 0.05)
    second = np.asarray(mean_action(policy, seen[1:]))[0]
    for expected in (first, second):
        found = cut.step(standing(), COMMAND).action
        np.testing.assert_allclose(found, np.clip(expected, -0.05, 0.05), rtol=0, atol=1e-5)


def test_an_unknown_robot_and_a_missing_file_are_refused(files, tmp_path):
    with pytest.raises(StorageError, match="another robot"):
        Controller(files["plain"], robot="a1")
    with pytest.raises(DataError, match="a1, go1"):
        Controller(files["plain"], robot="go9")
    with pytest.raises(StorageError, match="cannot read"):
        Controller(tmp_path / "nowhere.onnx")


def test_a_policy_that_gives_no_numbers_is_refused(files, tmp_path):
    def change(model):
        bias = next(c for c in model.graph.initializer if c.name == "actor_last_bias")
        bias.raw_data = np.full(12, np.nan, np.float32).tobytes()

    broken = Controller(rewritten(files["plain"], tmp_path / "broken.onnx", change))
    with pytest.raises(DataError, match="output is not finite"):
        broken.step(standing(), COMMAND)
    robot = FakeRobot()
    with pytest.raises(DataError, match="output is not finite"):
        walk(robot, broken)
    assert_damped(robot)
    assert len(robot.sent) == 10  # it stood up


def test_without_onnxruntime_it_says_what_to_install(files, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ConfigError, match="pip install onnxruntime"):
        Controller(files["plain"])


# --- vectors out of a bank ---


@pytest.fixture(scope="module")
def bank(tmp_path_factory):
    """A bank with entries of the policy's model, one of another model, and a damaged one."""
    bank, own = ContextBank(tmp_path_factory.mktemp("bank")), load_learner(MODEL)
    sizes = Factors(robot=6, terrain=4)
    other = Learner(network(factors=sizes), solver(factors=sizes), sizes)
    for name, model in (("ours", own), ("another", other), ("broken", own)):
        values = {kind: jnp.asarray(value, jnp.float32) for kind, value in vectors(7).items()}
        bank.save(name, Contexts(values, model.fingerprint()), model, source="a log", samples=10)
    (bank.path / "robot" / "broken.safetensors").write_bytes(b"no")
    return bank


def test_vectors_out_of_a_bank_are_told(bank, files):
    contract = Controller(files["told"], vectors()).contract
    found = bank_vectors(contract, bank, {"robot": "ours", "terrain": "ours"})
    for kind, value in vectors(7).items():
        np.testing.assert_array_equal(found[kind], value.astype(np.float32))
    np.testing.assert_array_equal(
        Controller(files["told"], found).step(standing(), COMMAND).action,
        Controller(files["told"], vectors(7)).step(standing(), COMMAND).action,
    )


@pytest.mark.parametrize(
    ("names", "error", "match"),
    [
        ({"robot": "ours"}, FactorError, r"give terrain \(4 numbers\)"),
        ({"robot": "ours", "terain": "ours"}, FactorError, "Did you mean 'terrain'"),
        ({"robot": "our", "terrain": "ours"}, BankError, "Did you mean 'ours'"),
        ({"robot": "ours", "terrain": "another"}, BankError, "made by model .* was trained with"),
        ({"robot": "broken", "terrain": "ours"}, BankError, "cannot be used"),
    ],
)
def test_entries_that_do_not_fit_are_refused(bank, files, names, error, match):
    contract = Controller(files["told"], vectors()).contract
    with pytest.raises(error, match=match):
        bank_vectors(contract, bank, names)


def test_banks_hold_no_truth_and_must_be_there(bank, files, tmp_path):
    contract = Controller(files["told"], vectors()).contract
    names = {"robot": "ours", "terrain": "ours"}
    with pytest.raises(FactorError, match="the truth"):
        bank_vectors(dataclasses.replace(contract, vectors_model=None), bank, names)
    with pytest.raises(BankError, match="there is no context bank"):
        bank_vectors(contract, ContextBank(tmp_path / "nowhere"), names)
    assert bank_vectors(Controller(files["plain"]).contract, ContextBank(tmp_path / "nowhere"), {}) == {}


# --- limits ---


def test_a_standing_robot_violates_nothing():
    assert violation(standing(), 1.0, GO1, Limits()) is None


@given(
    st.sampled_from([(name, place) for name, size in SENSED.items() for place in range(size)]),
    st.sampled_from([np.nan, np.inf, -np.inf]),
)
def test_a_number_that_is_none_stops(where, value):
    name, place = where
    values = getattr(standing(), name).copy()
    values[place] = value
    found = violation(standing(**{name: values}), 1.0, GO1, Limits())
    assert found is not None
    assert name in found
    assert "not finite" in found


@given(st.integers(0, 11), st.floats(0.001, 1.0), st.booleans(), st.booleans())
def test_joints_stop_beyond_the_margin_only(joint, distance, above, beyond):
    limits, angles, speeds, torques = Limits(), HOME.copy(), np.zeros(12), np.zeros(12)
    way, sign = distance if beyond else -distance, 1 if above else -1
    angles[joint] = HIGH[joint] + limits.joint_margin_rad + way if above else LOW[joint] - 0.2 - way
    speeds[joint] = sign * (limits.joint_speed_rad_s + way)
    torques[joint] = sign * GO1.peak_torque_nm[joint] * (limits.torque_share + way)
    for name, values, says in (
        ("joint_angles_rad", angles, "beyond its limits"),
        ("joint_speeds_rad_s", speeds, "turns at"),
        ("torques_nm", torques, "times its peak"),
    ):
        found = violation(standing(**{name: values}), 1.0, GO1, limits)
        assert (found is not None) == beyond
        if found is not None:
            assert f"joint {JOINT_NAMES[joint]} " in found
            assert says in found


@given(st.floats(0, np.pi), st.floats(-np.pi, np.pi), st.floats(0.85, 1.15))
def test_tilt_stops_whatever_its_direction(tilt, around, length):
    across = np.sin(tilt) * np.array([np.cos(around), np.sin(around)])
    gravity = length * np.array([*across, -np.cos(tilt)])
    found = violation(standing(gravity_direction=gravity), 1.0, GO1, Limits())
    if abs(np.cos(tilt) - 0.7) > 1e-6:
        assert (found is not None) == (np.cos(tilt) < 0.7)
    if found is not None:
        assert f"tilted by {np.degrees(tilt):.0f}°" in found


@pytest.mark.parametrize("gravity", [[0, 0, 0], [0, 0, -9.81]])
def test_gravity_that_is_no_direction_stops(gravity):
    assert "unit vector" in violation(standing(gravity_direction=gravity), 1.0, GO1, Limits())


@pytest.mark.parametrize(
    ("age", "says"),
    [(0.0, None), (0.04, None), (0.0401, "stale"), (3.0, "3.000 s old"), (-0.01, None), (-0.1, "ahead")],
)
def test_old_readings_stop(age, says):
    found = violation(standing(), 1.0 + age, GO1, Limits())
    assert (found is None) == (says is None)
    assert says is None or says in found
    assert violation(standing(time_s=np.nan), 1.0, GO1, Limits()) is not None


def test_a_trunk_measured_in_degrees_stops():
    assert "turns at 57.0" in violation(standing(gyro_rad_s=[0, 0, 57.0]), 1.0, GO1, Limits())


@pytest.mark.parametrize(
    "change",
    [{"upward": 1.0}, {"joint_margin_rad": np.nan}, {"late_steps": 0}, {"reading_age_s": -1.0}],
)
def test_limits_that_are_none_are_refused(controller, change):
    robot = FakeRobot()
    with pytest.raises(ConfigError, match=next(iter(change))):
        walk(robot, controller, limits=Limits(**change))
    assert robot.events == []


@pytest.mark.parametrize(
    ("values", "match"),
    [({"joint_angles_rad": np.zeros(20)}, "twelve joints"), ({"gyro_rad_s": "fast"}, "no numbers")],
)
def test_readings_of_other_shapes_are_refused(values, match):
    with pytest.raises(ShapeError, match=match):
        standing(**values)


def test_a_reading_keeps_what_it_was():
    own = HOME.copy()
    reading = standing(joint_angles_rad=own)
    own += 1.0
    np.testing.assert_array_equal(reading.joint_angles_rad, HOME)


# --- the loop ---


def test_a_robot_stands_up_walks_settles_and_is_damped(controller):
    robot, seen = FakeRobot(), []
    assert isinstance(robot, Robot)
    outcome = walk(robot, controller, on_step=seen.append)
    assert (outcome.ended, outcome.fell, outcome.late_steps) == ("finished", False, 0)
    assert "0.4 s" in outcome.reason
    assert tuple(seen) == outcome.steps
    assert_damped(robot)
    assert robot.events.count("damp") == 1
    # 0.2 s up, 0.4 s of walking, 1 s back, one target in each control step of 20 ms.
    sent = np.array(robot.sent)
    assert len(sent) == 10 + 20 + 50
    np.testing.assert_allclose(np.diff(robot.waits), PERIOD, rtol=0, atol=1e-9)
    np.testing.assert_allclose(sent[[9, -1]], [HOME, HOME], rtol=0, atol=1e-12)
    # Up in one direction, from where the joints were, and never faster than a third of the way at once.
    share = (sent[:10] - LYING) / (HOME - LYING + (HOME == LYING))
    moved = np.diff(np.concatenate([np.zeros((1, 12)), share]), axis=0)[:, LYING != HOME]
    assert moved.min() > 0
    assert moved.max() < 0.34
    # Back from what was sent last, not from where the joints hang.
    back = 0.5 - 0.5 * np.cos(np.pi * np.arange(1, 51) / 50)[:, None]
    np.testing.assert_allclose(sent[30:], sent[29] + back * (HOME - sent[29]), rtol=0, atol=1e-12)
    # What is walked is what the controller says of the same readings.
    controller.reset()
    for record in outcome.steps:
        step = controller.step(record.reading, COMMAND)
        np.testing.assert_array_equal(step.joint_targets_rad, record.step.joint_targets_rad)
    np.testing.assert_array_equal(sent[10:30], [record.step.joint_targets_rad for record in outcome.steps])
    times = outcome.loop_times_s()
    assert 0 < times["median"] <= times["p99"] <= times["worst"]


def test_commands_are_asked_for_by_the_time_of_walking(controller):
    robot, asked = FakeRobot(), []

    def command(seconds):
        asked.append(seconds)
        return seconds, 0.0, 0.0

    outcome = run(robot, controller, command, seconds=0.1, stand_s=0.0)
    np.testing.assert_allclose(asked, [0.0, 0.02, 0.04, 0.06, 0.08], rtol=0, atol=1e-12)
    assert [record.step.command[0] for record in outcome.steps] == asked


@pytest.mark.parametrize(
    ("command", "match"),
    [
        ((50.0, 0.0, 0.0), "go at 50 m/s; at most 1.5"),
        ((0.0, -2.0, 0.0), "go at 2 m/s"),
        ((0.0, 0.0, -45.0), "turn at 45"),
    ],
)
def test_commands_in_other_units_stop_the_robot(controller, command, match):
    robot = FakeRobot()
    outcome = run(robot, controller, lambda s: COMMAND if s < 0.05 else command, seconds=0.4, stand_s=0.0)
    assert outcome.ended == "stopped"
    assert match in outcome.reason
    assert len(robot.sent) == len(outcome.steps) == 3
    assert_damped(robot)


def test_targets_matched_to_a_soft_robot_are_sent_beyond_the_limits(policies, tmp_path):
    policy, about = load_policy(policies["matched"])
    soft = eqx.tree_at(
        lambda p: (p.gains.slope, p.gains.offset), policy, (jnp.zeros((2, 10)), jnp.log(0.4) * jnp.ones(2))
    )
    save_policy(tmp_path / "soft.safetensors", soft, {"training": about["training"]})
    controller = Controller(export_policy(tmp_path / "soft.safetensors", tmp_path / "soft.onnx"), vectors())
    # What the gait asks for lies within the limits; the joints of a robot held up hang far from it.
    robot = FakeRobot()
    robot.angles = HOME + np.tile([0.0, 0.0, 0.7], 4)
    robot.wait_until = lambda time_s: setattr(robot, "time", time_s)
    outcome = walk(robot, controller, stand_s=0.0)
    assert outcome.ended == "finished", outcome.reason
    sent = np.array(robot.sent)[: len(outcome.steps)]
    np.testing.assert_array_equal(sent, [record.step.joint_targets_rad for record in outcome.steps])
    assert np.any((sent < LOW) | (sent > HIGH))
    targets = outcome.recording()[:, column("joint_targets_rad")]
    np.testing.assert_array_equal(targets, sent.astype(np.float32))


def test_vectors_may_change_while_walking(files):
    controller, robot = Controller(files["told"], vectors()), FakeRobot()
    run(robot, controller, lambda t: COMMAND, seconds=0.1, stand_s=0.0)
    other = FakeRobot()
    run(
        other,
        controller,
        lambda t: COMMAND,
        seconds=0.1,
        stand_s=0.0,
        on_step=lambda record: controller.tell(vectors(1)),
    )
    np.testing.assert_array_equal(robot.sent[0], other.sent[0])
    assert np.abs(robot.sent[1] - other.sent[1]).max() > 1e-3


def edited(name, place, value):
    """A fault of one number of a reading."""

    def change(robot):
        values = np.array({"joint_angles_rad": robot.angles}.get(name, getattr(standing(), name)))
        values[place] = value
        return {name: values}

    return change


FAULTS = {
    "joint limit": ({"reading": edited("joint_angles_rad", 5, -3.1)}, "joint FL_calf is at -3.1"),
    "joint speed": ({"reading": edited("joint_speeds_rad_s", 6, 55.0)}, "joint RR_hip turns at 55.0"),
    "torque": ({"reading": edited("torques_nm", 1, -40.0)}, "joint FR_thigh shows -40.0"),
    "tilt": ({"reading": lambda r: {"gravity_direction": [0.8, 0.0, -0.6]}}, "tilted by 53°"),
    "upside down": ({"reading": lambda r: {"gravity_direction": [0, 0, 1]}}, "tilted by 180°"),
    "NaN": ({"reading": edited("foot_forces_n", 2, np.nan)}, "foot_forces_n is not finite"),
    "frozen clock": ({"frozen": True}, "clock is at .* it has stopped"),
    "too slow": ({"slow": True, "work_s": 0.03}, "5 control steps in a row .* the last by 10.0 ms"),
}


@pytest.mark.parametrize("fault_at", [4, 17, 40], ids=["standing up", "walking", "settling"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_stops_the_robot(controller, fault, fault_at):
    faults, says = FAULTS[fault]
    robot = FakeRobot(fault_at, **faults)
    outcome = walk(robot, controller)
    assert outcome.ended == "stopped"
    assert_damped(robot)
    assert robot.events.count("damp") == 1
    assert re.search(says, outcome.reason)
    # Nothing is sent after the reading that showed it; the computer is given five late steps.
    waited = 4 if fault == "too slow" else 0
    assert len(robot.sent) == fault_at + waited
    assert len(outcome.steps) == np.clip(fault_at + waited - 10, 0, 20)
    assert outcome.fell == (fault in ("tilt", "upside down"))


@pytest.mark.parametrize("fault_at", [4, 17, 40], ids=["standing up", "walking", "settling"])
def test_readings_that_stay_the_same_stop_the_robot(controller, fault_at):
    last = {}

    def stuck(robot):
        return last.setdefault("reading", {"time_s": robot.time - PERIOD})

    robot = FakeRobot(fault_at, reading=stuck)
    outcome = walk(robot, controller)
    assert outcome.ended == "stopped"
    assert "0.060 s old" in outcome.reason
    assert_damped(robot)
    # One and two control steps old may pass, three may not.
    assert len(robot.sent) == fault_at + 2


@pytest.mark.parametrize("fault_at", [0, 4, 17, 40])
@pytest.mark.parametrize("call", ["read", "send", "wait"])
@pytest.mark.parametrize("error", [OSError("cable out"), DataError("no robot"), MemoryError()])
def test_whatever_raises_damps_the_robot_first(controller, call, error, fault_at):
    robot = FakeRobot(fault_at, **{call: error})
    with pytest.raises(DmcmError) as caught:
        walk(robot, controller)
    assert_damped(robot)
    assert robot.events[-2] == call
    assert len(robot.sent) <= fault_at
    if isinstance(error, DmcmError):
        assert caught.value is error
    else:
        assert caught.value.__cause__ is error
        assert f"{type(error).__name__}: {error}" in str(caught.value)


@pytest.mark.parametrize("call", ["read", "send", "wait"])
@pytest.mark.parametrize("fault_at", [4, 17, 40])
def test_ctrl_c_damps_the_robot_and_keeps_the_log(controller, call, fault_at):
    robot = FakeRobot(fault_at, **{call: KeyboardInterrupt()})
    outcome = walk(robot, controller)
    assert outcome.ended == "interrupted"
    assert "Ctrl-C" in outcome.reason
    assert_damped(robot)
    # The step that was being sent is not part of the log.
    assert len(outcome.steps) == np.clip(fault_at - 10 - (call == "send"), 0, 20)
    assert len(outcome.recording()) == len(outcome.steps)


def test_leaving_the_program_damps_the_robot(controller):
    robot = FakeRobot(17, send=SystemExit(3))
    with pytest.raises(SystemExit):
        walk(robot, controller)
    assert_damped(robot)


def fails(*arguments):
    raise ZeroDivisionError("ours")


@pytest.mark.parametrize(
    ("command_source", "on_step", "match"),
    [
        (fails, None, "ZeroDivisionError: ours"),
        (lambda t: COMMAND, fails, "ZeroDivisionError: ours"),
        (lambda t: (0.0, 0.0, np.nan), None, "three finite numbers"),
    ],
)
def test_faults_of_commands_and_logs_damp_the_robot(controller, command_source, on_step, match):
    robot = FakeRobot()
    with pytest.raises(DmcmError, match=match):
        run(robot, controller, command_source, seconds=0.4, stand_s=0.2, on_step=on_step)
    assert_damped(robot)
    assert len(robot.sent) == (11 if on_step else 10)


def test_a_policy_that_cannot_be_run_damps_the_robot(controller, monkeypatch):
    monkeypatch.setattr(controller._session, "run", fails, raising=False)
    robot = FakeRobot()
    with pytest.raises(DmcmError, match="the robot damped: ZeroDivisionError"):
        walk(robot, controller)
    assert_damped(robot)


@pytest.mark.parametrize("error", [OSError("cable out"), KeyboardInterrupt()])
def test_damping_is_tried_again_and_a_robot_that_cannot_be_damped_is_told(controller, error):
    class Stiff(FakeRobot):
        tries = 2

        def damp(self):
            self.tries -= 1
            if self.tries >= 0:
                raise error
            super().damp()

    robot = Stiff()
    assert walk(robot, controller).ended == "finished"
    assert_damped(robot)
    Stiff.tries = 9
    with pytest.raises(DmcmError, match=r"could not be damped in 3 tries.*by hand"):
        walk(Stiff(), controller)
    # Not even then is it forgotten what went wrong first.
    with pytest.raises(DmcmError, match="could not be damped") as caught:
        walk(Stiff(17, read=ValueError("first")), controller)
    errors = [caught.value]
    while errors[-1].__context__ is not None:
        errors.append(errors[-1].__context__)
    assert any(str(found) == "first" for found in errors)


def test_late_steps_are_counted_and_not_caught_up_with(controller):
    class Slow(FakeRobot):
        def send(self, *arguments):
            super().send(*arguments)
            # Every third step takes half a period too long.
            self.time += 1.5 * PERIOD if len(self.sent) % 3 == 0 else 0.0

    robot = Slow()
    outcome = walk(robot, controller, stand_s=0.0)
    assert outcome.ended == "finished"
    assert outcome.late_steps == (20 + 50 - 1) // 3
    times = np.diff([record.reading.time_s for record in outcome.steps])
    np.testing.assert_allclose(times, [1.5 * PERIOD if i % 3 == 2 else PERIOD for i in range(19)], atol=1e-9)


@pytest.mark.parametrize(
    "settings", [{"seconds": 0.0}, {"seconds": np.nan}, {"stand_s": -1.0}, {"stand_s": np.inf}]
)
def test_settings_out_of_range_leave_the_robot_alone(controller, settings):
    robot = FakeRobot()
    with pytest.raises(ConfigError, match=r"seconds=.* stand_s="):
        walk(robot, controller, **settings)
    assert robot.events == []


# --- the log ---


def test_a_recording_has_torques_of_the_next_reading_and_no_more_than_was_measured(controller):
    robot = FakeRobot()
    outcome = walk(robot, controller)
    data = outcome.recording()
    assert data.dtype == np.float32
    assert data.shape == (20, column("diverges").stop)
    for name in ("trunk_velocity_m_s", "height_m"):
        assert np.all(np.isnan(data[:, column(name)]))
    # The fake robot's torques count its readings; the last step's are of the first that settles it.
    np.testing.assert_allclose(data[:, column("torques_nm")], 0.01 * np.tile(np.arange(11, 31)[:, None], 12))
    np.testing.assert_array_equal(data[:, column("begins")][:, 0], [1] + [0] * 19)
    assert not data[:, column("falls")].any()
    assert not data[:, column("diverges")].any()
    np.testing.assert_allclose(data[:, column("command")], np.tile(COMMAND, (20, 1)), rtol=1e-6)
    np.testing.assert_allclose(data[:, column("gait_phase")][:, 0], np.arange(20) * 0.05 % 1, atol=1e-6)
    np.testing.assert_allclose(
        data[:, column("joint_targets_rad")], np.array(robot.sent[10:30]), rtol=0, atol=1e-6
    )


def test_gaps_in_time_begin_anew_and_have_no_torques(controller):
    def hiccup(robot):
        # Readings 15 and 20 are those of the control step before.
        return {"time_s": robot.time - PERIOD} if robot.reads in (15, 20) else {}

    data = walk(FakeRobot(0, reading=hiccup), controller).recording()
    begins = np.flatnonzero(data[:, column("begins")])
    # Walking begins with reading 10. A repeated one is nothing new, the next is two periods later.
    np.testing.assert_array_equal(begins, [0, 5, 6, 10, 11])
    np.testing.assert_array_equal(
        np.flatnonzero(np.isnan(data[:, column("torques_nm")]).all(axis=1)), [4, 5, 9, 10]
    )


def test_a_recording_of_a_fall_says_so_and_that_of_nothing_is_empty(controller):
    robot = FakeRobot(17, reading=lambda r: {"gravity_direction": [0.8, 0.0, -0.6]})
    data = walk(robot, controller).recording()
    np.testing.assert_array_equal(data[:, column("falls")][:, 0], [0] * 6 + [1])
    assert not np.isnan(data[:, column("torques_nm")]).any()
    nothing = walk(FakeRobot(4, reading=edited("torques_nm", 0, np.nan)), controller)
    assert nothing.recording().shape == (0, column("diverges").stop)
    assert nothing.loop_times_s() == {}


@given(st.lists(st.floats(1e-5, 1.0), min_size=1, max_size=30))
def test_loop_times_are_order_statistics(times):
    steps = tuple(dataclasses.replace(RECORD, loop_s=value) for value in times)
    found = Outcome("finished", "", steps, None, False, 0, PERIOD).loop_times_s()
    assert found["worst"] == max(times)
    below = sum(value <= found["median"] for value in times)
    assert 2 * below >= len(times)
    assert found["median"] <= found["p99"] <= found["worst"]


# --- a simulated robot ---


class Simulated:
    """One robot of the simulation; what it lived through is kept beside."""

    def __init__(self):
        self.simulation, self.steps, self.lived = Simulation(GO1, Arena([Terrain()]), 1, threads=1), 0, []
        self.targets = HOME

    def now_s(self):
        return PERIOD * self.steps

    def read(self):
        simulation = self.simulation
        return Reading(
            self.now_s(),
            simulation.joint_angles_rad[0],
            simulation.joint_speeds_rad_s[0],
            simulation.torques_nm[0],
            simulation.gyro_rad_s[0],
            simulation.gravity_direction[0],
            simulation.foot_forces_n[0],
        )

    def send(self, joint_targets_rad, p_gain_nm_per_rad, d_gain_nms_per_rad):
        self.targets = joint_targets_rad

    def damp(self):
        self.targets = None

    def wait_until(self, time_s):
        while self.now_s() < time_s - 1e-9:
            before = self.simulation.joint_angles_rad[0].copy()
            self.simulation.step(self.targets[None])
            self.steps += 1
            self.lived.append((before, self.targets, self.simulation.torques_nm[0].copy()))


def test_a_simulated_robot_walks_within_the_limits_and_its_log_is_what_it_lived_through(controller):
    robot = Simulated()
    start = robot.simulation.travelled_m[0, :2].copy()
    outcome = run(robot, controller, lambda t: (0.6, 0.0, 0.0), seconds=3.0, stand_s=0.4)
    assert outcome.ended == "finished", outcome.reason
    data = outcome.recording()
    columns = [column(name) for name in ("joint_angles_rad", "joint_targets_rad", "torques_nm")]
    for of_column, values in zip(columns, zip(*robot.lived[20:170], strict=True), strict=True):
        np.testing.assert_allclose(data[:, of_column], np.array(values), rtol=1e-5, atol=1e-5)
    # It went where it was told to.
    assert np.linalg.norm(robot.simulation.travelled_m[0, :2] - start) > 0.5 * 0.6 * 3.0
