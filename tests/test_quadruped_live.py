"""Vectors that are filtered while robots walk: equal to a filter over the recording afterwards."""

import dataclasses

import jax
import numpy as np
import pytest

from dmcm.errors import DataError
from dmcm.quadruped.body.properties import draw_robots, nominal
from dmcm.quadruped.body.robot_table import load_robot
from dmcm.quadruped.conditioned.export import export_policy
from dmcm.quadruped.conditioned.live import LiveVectors, step_noise
from dmcm.quadruped.conditioned.logs import log_recording
from dmcm.quadruped.conditioned.shipped import MATCHED_POLICY
from dmcm.quadruped.conditioned.widening import widen
from dmcm.quadruped.data.recording import (
    COLUMNS,
    TRUTH,
    after_step,
    before_step,
    column,
    delayed,
    without_truth,
)
from dmcm.quadruped.data.windows import OUTPUTS, STEP_OUTPUTS, WindowConfig, cut, output
from dmcm.quadruped.deployment.controller import Controller, Step
from dmcm.quadruped.deployment.live import LiveTelling
from dmcm.quadruped.deployment.outcome import StepRecord
from dmcm.quadruped.deployment.robot import Reading
from dmcm.quadruped.dynamics.base import base_errors
from dmcm.quadruped.dynamics.cells import ROBOT, TERRAIN
from dmcm.quadruped.dynamics.log_fit import DELAYS, log_vectors, torque_error
from dmcm.quadruped.dynamics.model import load_dynamics_model
from dmcm.quadruped.dynamics.sampler import SHOTS
from dmcm.quadruped.walking.environment import WalkConfig, WalkEnvironment
from dmcm.quadruped.walking.known_gains import GainReader
from dmcm.quadruped.walking.policy import POLICY, load_policy, mean_action, save_policy
from dmcm.quadruped.world.arena import Arena
from dmcm.quadruped.world.physics import SENSED
from dmcm.quadruped.world.terrain import Terrain
from dmcm.streaming import ContextFilter
from helpers import robot_model

GO1 = load_robot("go1")
STEPS, SIZE = 61, sum(STEP_OUTPUTS.values())


@pytest.fixture(scope="module")
def model():
    return robot_model()


@pytest.fixture(scope="module")
def noise(model):
    robots = draw_robots(np.random.default_rng(0), 3)
    data = log_recording(
        load_policy(POLICY)[0], GO1, robots, [Terrain()] * 3, seed=(0,), seconds=3.0, threads=1
    )
    return step_noise(model, cut(data, WindowConfig(), parts=1))


PAIR = (nominal(GO1), dataclasses.replace(nominal(GO1), payload_kg=40.0, p_gain_nm_per_rad=10.0))


def walked(live, robots=PAIR):
    """Two robots walk, and one of the usual pair falls; their recording from the second step on."""
    policy = load_policy(POLICY)[0]
    walks = WalkEnvironment(GO1, Arena([Terrain()]), list(robots), [0, 0], WalkConfig(), threads=1, seed=0)
    seen, _ = walks.reset(seed=0)
    rows, begins = [], np.ones(2, bool)
    for _ in range(STEPS):
        row = before_step(walks, begins)
        seen, _, fell, cut_off, info = walks.step(np.asarray(mean_action(policy, seen)))
        after_step(row, info, fell)
        rows.append(row)
        begins = fell | cut_off
        live.watch(walks, info, fell)
    return np.stack(rows, axis=1)[:, 1:]


def test_it_is_the_filter_over_the_recording(model, noise, monkeypatch):
    monkeypatch.setattr("dmcm.quadruped.conditioned.live.BELIEVED", np.inf)  # of an untrained model too
    rng = np.random.default_rng(1)
    terrain = rng.normal(0, 0.3, (2, model.learner.factors[TERRAIN])).astype(np.float32)
    live = LiveVectors(model, terrain, noise)
    prior = np.asarray(model.learner.prior_contexts()[ROBOT])
    np.testing.assert_array_equal(live.guide.values, np.tile(prior, (2, 1)))
    data = walked(live)
    assert data[1, :, column("falls")].sum() >= 1
    windows = cut(data, WindowConfig(), parts=1, outcomes=False)
    assert windows.count[1, 0] < windows.count[0, 0]
    for row in range(2):
        own = ContextFilter(
            model.learner, noise=noise, samples=SHOTS, forgetting=0.99, given={TERRAIN: terrain[row]}
        )
        fits = [filtered(own, model, delayed(data[row : row + 1], late)) for late in DELAYS]
        expected, _ = min(fits, key=lambda fit: fit[1])
        np.testing.assert_allclose(live.guide.values[row], expected, rtol=1e-3, atol=1e-4)
        assert np.abs(expected - prior).max() > 1e-3
        assert np.abs(fits[0][0] - fits[1][0]).max() > 1e-3


def test_nothing_is_compiled_while_a_robot_walks(model, noise):
    live = LiveVectors(model, np.zeros((1, model.learner.factors[TERRAIN]), np.float32), noise)
    rng, compiled = np.random.default_rng(0), []

    def listen(event, duration, **_):
        if "compile" in event:
            compiled.append((event, duration))

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        for _ in range(12):
            live.last[:] = rng.normal(size=live.last.shape)
            live.last[:, column("begins")] = live.last[:, column("falls")] = 0
            live.last[:, column("diverges")] = 0
            live.advance(live.last.copy())
        assert compiled == []
        jax.jit(lambda x: x + 1.2345)(1.0)
        assert compiled
    finally:
        jax.monitoring.clear_event_listeners()
    assert np.abs(live._vectors[0, 0] - live._prior).max() > 0


def test_a_policy_that_reads_both_vectors_is_given_the_grounds_too(model, noise, monkeypatch):
    monkeypatch.setattr("dmcm.quadruped.conditioned.live.BELIEVED", np.inf)  # of an untrained model too
    size = model.learner.factors[TERRAIN]
    terrain = np.random.default_rng(1).normal(0, 0.3, (2, size)).astype(np.float32)
    alone, both = (LiveVectors(model, terrain, noise, tell_ground=told) for told in (False, True))
    for live in (alone, both):
        walked(live)
    assert np.abs(alone.guide.values - np.asarray(model.learner.prior_contexts()[ROBOT])).max() > 1e-3
    np.testing.assert_array_equal(both.guide.values, np.concatenate([alone.guide.values, terrain], axis=1))
    np.testing.assert_array_equal(both.robot, alone.robot)


def filtered(own, model, data):
    """The robot's vector after a recording, and the recent squared error of its torques."""
    windows = cut(data, WindowConfig(), parts=1, outcomes=False)
    wrong, state, errors = base_errors(windows, model.base), own.start(), []
    assert windows.count[0, 0] > 3
    for i in range(windows.count[0, 0]):
        x, y = windows.x[0, 0, i : i + 1], wrong[0, 0, i : i + 1]
        state = own.update(state, x[0], y[0])
        errors.append(torque_error(model, own.contexts(state), x, y) ** 2)
    # Each weighs nine tenths of the next; the first stands for all before it.
    weights = 0.1 * 0.9 ** np.arange(len(errors))[::-1]
    weights[0] *= 10
    return np.asarray(own.contexts(state)[ROBOT]), weights @ errors


def test_gains_are_known_within_a_second(monkeypatch):
    """The prior weighs as in training. As heavy as a whole log's, it would hold vectors back for long."""
    monkeypatch.setattr(f"{__name__}.STEPS", 51)
    model, reader = load_dynamics_model(), load_policy(MATCHED_POLICY)[0].gains
    soft = dataclasses.replace(nominal(GO1), p_gain_nm_per_rad=18.0)
    known = [nominal(GO1), *draw_robots(np.random.default_rng(0), 3)]
    logs = log_recording(load_policy(POLICY)[0], GO1, known, [Terrain()] * 4, seed=(0,), seconds=8.0)
    terrain = np.tile(log_vectors(model, logs[:1])[TERRAIN], (2, 1))
    live = LiveVectors(model, terrain, step_noise(model, cut(logs, WindowConfig(), parts=1)))
    walked(live, (nominal(GO1), soft))
    p_gains = reader(live.guide.values)[:, 0] * GO1.p_gain_nm_per_rad
    np.testing.assert_allclose(p_gains, [GO1.p_gain_nm_per_rad, 18.0], rtol=0.12)


def test_noise_is_of_next_steps_alone(noise):
    assert noise.shape == (sum(OUTPUTS.values()),)
    assert np.all(np.isfinite(noise[:SIZE]))
    assert np.all(noise[:SIZE] > 0)
    assert np.all(np.isinf(noise[SIZE:]))
    assert output("torque_nm").stop == SIZE


def test_noise_is_not_taken_from_logs_that_lack_outputs(model):
    data = log_recording(load_policy(POLICY)[0], GO1, [nominal(GO1)], [Terrain()], seed=(0,), seconds=3.0)
    with pytest.raises(DataError, match="log_samples"):
        step_noise(model, cut(without_truth(data), WindowConfig(), parts=1))


def test_a_vector_that_does_not_explain_the_torques_is_not_told(model, noise, monkeypatch):
    monkeypatch.setattr("dmcm.quadruped.conditioned.live.BELIEVED", 0.0)
    live = LiveVectors(model, np.zeros((2, model.learner.factors[TERRAIN]), np.float32), noise)
    walked(live)
    prior = np.asarray(model.learner.prior_contexts()[ROBOT])
    np.testing.assert_array_equal(live.guide.values, np.tile(prior, (2, 1)))


def test_the_truth_is_not_looked_at(model, noise, monkeypatch):
    monkeypatch.setattr("dmcm.quadruped.conditioned.live.BELIEVED", np.inf)
    terrain = np.zeros((2, model.learner.factors[TERRAIN]), np.float32)
    usual = LiveVectors(model, terrain, noise)
    walked(usual)
    spoiled = LiveVectors(model, terrain, noise)

    def lie(environment, begins):
        row = before_step(environment, begins)
        for name in TRUTH:
            row[:, column(name)] = 1e6
        return row

    monkeypatch.setattr("dmcm.quadruped.conditioned.live.before_step", lie)
    walked(spoiled)
    np.testing.assert_array_equal(usual.guide.values, spoiled.guide.values)
    assert sum(COLUMNS[name] for name in TRUTH) == 4


def test_a_real_robot_is_told_what_a_simulated_one_is(model, noise, monkeypatch, tmp_path):
    """The deployment loop's filter, fed with readings, against the environment's, over the same walk."""
    monkeypatch.setattr("dmcm.quadruped.conditioned.live.BELIEVED", np.inf)
    sizes = model.learner.factors.sizes
    policy = widen(load_policy(POLICY)[0], "dmcm", {"robot": np.eye(sizes[ROBOT])}, GainReader(sizes[ROBOT]))
    about = {"training": {"method": "dmcm", "told": {"vectors": {ROBOT: sizes[ROBOT]}, "model": None}}}
    save_policy(tmp_path / "policy", policy, about)
    path = export_policy(tmp_path / "policy", tmp_path / "policy.onnx")
    controller = Controller(path, {ROBOT: np.zeros(sizes[ROBOT])})
    terrain = np.zeros((1, sizes[TERRAIN]), np.float32)
    simulated, real = (LiveVectors(model, terrain, noise) for _ in range(2))
    telling, told = LiveTelling(controller, real), []
    monkeypatch.setattr(controller, "tell", lambda vectors: told.append(vectors[ROBOT].copy()))
    walks = WalkEnvironment(GO1, Arena([Terrain()]), [nominal(GO1)], [0], WalkConfig(), threads=1, seed=0)
    seen, _ = walks.reset(seed=0)
    walker, changes = load_policy(POLICY)[0], 0
    for step in range(STEPS):
        simulation = walks.simulation
        reading = Reading(0.02 * step, **{name: getattr(simulation, name)[0].copy() for name in SENSED})
        decided = (walks.commands.velocity[0].copy(), walks.phase[0])
        seen, _, fell, _, info = walks.step(np.asarray(mean_action(walker, seen)))
        assert not fell[0]
        # The environment looks after a step, the loop at the reading that follows it.
        step_of = Step(decided[0], info["joint_targets_rad"][0], np.zeros(12), decided[1])
        before = simulated.guide.values[0].copy()
        telling(StepRecord(reading, step_of, 0.0))
        np.testing.assert_allclose(told[-1], before, rtol=1e-4, atol=1e-5)
        simulated.watch(walks, info, fell)
        changes += not np.array_equal(before, simulated.guide.values[0])
    assert changes > 5
