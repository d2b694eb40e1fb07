"""Tests of the transfer study: its robots, its settings, its tables, vectors without the truth."""

import dataclasses
import types

import jax.numpy as jnp
import numpy as np
import pytest

from dmcm import Contexts
from dmcm.cli import main
from dmcm.errors import ConfigError, DataError, StorageError
from dmcm.quadruped.body.properties import OOD_RANGES, nominal
from dmcm.quadruped.body.robot_table import load_robot
from dmcm.quadruped.data.recording import COLUMNS, TRUTH, column, without_truth
from dmcm.quadruped.data.windows import STEP_OUTPUTS, WindowConfig, cut, output
from dmcm.quadruped.dynamics.cells import ROBOT, TERRAIN, robot_truth
from dmcm.quadruped.dynamics.log_fit import (
    cell_vectors,
    log_vectors,
    near_vectors,
    torque_error,
)
from dmcm.quadruped.dynamics.model import load_dynamics_model
from dmcm.quadruped.transfer import study
from dmcm.quadruped.transfer.scenario import GROUNDS, WAYS, TransferConfig, stand_ins
from dmcm.quadruped.transfer.study import GAPPED, SHORTENED, run_transfer
from dmcm.quadruped.transfer.table import ALL, success_tables
from dmcm.quadruped.transfer.vectors import MEASURED, VectorSource
from dmcm.quadruped.walking.policy import POLICY, load_policy
from dmcm.quadruped.world.terrain import TRAINING_TERRAINS, Terrain
from helpers import robot_model

GO1 = load_robot("go1")


def test_robots_lie_outside_training_and_are_always_the_same():
    config = TransferConfig(robots=30)
    robots = stand_ins(config)
    assert robots == stand_ins(config)
    assert robots != stand_ins(dataclasses.replace(config, seed=1))
    for robot in robots:
        assert robot.p_gain_nm_per_rad <= OOD_RANGES["p_gain_nm_per_rad"][1] or robot.payload_kg > 3


def test_grounds_are_of_training_and_hard():
    assert set(GROUNDS.values()) <= set(TRAINING_TERRAINS)
    assert Terrain() not in GROUNDS.values()


@pytest.mark.parametrize(
    ("settings", "advice"),
    [
        ({"ways": ("dcmm",)}, "dmcm"),
        ({"seeds": 0}, "at least 1"),
        ({"seconds": float("nan")}, "at least 2"),
        ({"seconds": float("inf")}, "at least 2"),
        ({"data_s": (0.5,)}, "between 1 and 20"),
        ({"gaps": (-1.0,)}, "not be negative"),
    ],
)
def test_settings_out_of_range_are_refused(settings, advice):
    with pytest.raises(ConfigError, match=advice):
        TransferConfig(**settings).check()


def test_missing_policies_are_named_with_the_command_that_trains_them(tmp_path, capsys):
    config = TransferConfig(policies=tmp_path / "none", ways=("vanilla",), out=tmp_path)
    with pytest.raises(StorageError, match="train-policy --methods vanilla"):
        run_transfer(config, progress=False)
    assert main(["quadruped", "transfer", "--policies", str(tmp_path / "none"), "--ways", "vanilla"]) == 2
    assert "train-policy" in capsys.readouterr().err


def noise_log(steps=240, seed=0):
    """Two logs of nonsense that never fall, shape (2, steps, columns)."""
    rng = np.random.default_rng(seed)
    data = 0.1 * rng.normal(size=(2, steps, sum(COLUMNS.values()))).astype(np.float32)
    for name in ("begins", "falls", "diverges"):
        data[..., column(name)] = 0
    data[:, 0, column("begins")] = 1
    return data


def test_vectors_do_not_know_the_truth():
    # A recording whose true columns are nonsense gives the same vectors.
    data = noise_log()
    spoiled = data.copy()
    for name in TRUTH:
        spoiled[..., column(name)] = 1e6
    model = robot_model()
    one, other = (log_vectors(model, without_truth(log), outputs=MEASURED) for log in (data, spoiled))
    for name in model.learner.factors:
        np.testing.assert_array_equal(one[name], other[name])
        assert np.any(one[name] != np.asarray(model.learner.prior_contexts()[name]))
    assert "height_change_1s" not in MEASURED


def test_robots_that_fall_within_the_second_have_vectors_of_their_next_steps(monkeypatch):
    monkeypatch.setattr("dmcm.quadruped.dynamics.log_fit.BELIEVED", np.inf)  # of an untrained model too
    monkeypatch.setattr("dmcm.quadruped.dynamics.log_fit.DELAYS", (0,))
    model = robot_model()
    data = noise_log()
    falling = data.copy()
    falling[1, ::25, column("falls")] = 1
    falling[1, 1::25, column("begins")] = 1
    found = log_vectors(model, falling, outputs=MEASURED)
    prior = model.learner.prior_contexts()
    steps = cut(falling[1:], WindowConfig(), parts=1, outcomes=False)
    assert 0 < steps.count[0, 0] < 60
    alone = cell_vectors(model, steps, outputs=[name for name in STEP_OUTPUTS if name in MEASURED], least=1)
    usual = log_vectors(model, data, outputs=MEASURED)
    for name in model.learner.factors:
        assert np.any(found[name][1] != np.asarray(prior[name]))
        np.testing.assert_array_equal(found[name][1], alone[name][0])
        np.testing.assert_allclose(found[name][0], usual[name][0], atol=1e-5)
    # A log too short for one sample leaves what is known of any robot.
    for name, value in log_vectors(model, data[:, :3], outputs=MEASURED).items():
        np.testing.assert_array_equal(value, np.tile(np.asarray(prior[name]), (2, 1)))


def test_vectors_that_do_not_explain_the_torques_are_not_believed(monkeypatch):
    model = robot_model()
    data = noise_log()
    windows = cut(data, WindowConfig(), parts=1, outcomes=False)
    found = cell_vectors(model, windows, outputs=tuple(STEP_OUTPUTS), least=1)
    contexts = [
        Contexts(
            {name: jnp.asarray(value[row]) for name, value in found.items()}, model.learner.fingerprint()
        )
        for row in (0, 1)
    ]
    # By hand: what the model says of the torques against what came.
    errors = []
    for row, one in enumerate(contexts):
        x, y = windows.half(row, 0)
        left = (y - np.asarray(model.predict(one, x)))[:, output("torque_nm")]
        errors.append(np.sqrt(np.mean(left**2)))
        wrong = y - np.asarray(model.predict(None, x))
        assert torque_error(model, one, x, wrong) == pytest.approx(errors[row], rel=1e-4)
    monkeypatch.setattr("dmcm.quadruped.dynamics.log_fit.BELIEVED", float(np.mean(errors)))
    monkeypatch.setattr("dmcm.quadruped.dynamics.log_fit.DELAYS", (0,))
    near, prior = near_vectors(model, data), model.learner.prior_contexts()
    worse = int(np.argmax(errors))
    for name in model.learner.factors:
        np.testing.assert_array_equal(near[name][worse], prior[name])
        np.testing.assert_array_equal(near[name][1 - worse], found[name][1 - worse])


def test_identified_robots_are_kept_and_those_of_too_short_logs_are_as_published(tmp_path, monkeypatch):
    config = TransferConfig(robots=2, out=tmp_path)
    source = VectorSource(config, GO1, load_policy(POLICY)[0])
    source._log = lambda name, gap: noise_log()
    soft, calls = dataclasses.replace(nominal(GO1), p_gain_nm_per_rad=20.0), []

    def finding(log, table, *, seed):
        calls.append(log.shape)
        if len(calls) == 2:
            raise DataError("too short")
        return types.SimpleNamespace(properties=soft)

    monkeypatch.setattr("dmcm.quadruped.transfer.vectors.identify", finding)
    told = source.told(("identified_robot",), seed=0, gap=1.0, data_s=2.0)
    np.testing.assert_array_equal(told, np.tile(robot_truth([soft, nominal(GO1)]), (len(GROUNDS), 1)))
    again = source.told(("identified_robot",), seed=1, gap=1.0, data_s=2.0)
    np.testing.assert_array_equal(again, told)
    assert calls == [(100, sum(COLUMNS.values()))] * 2


@pytest.mark.parametrize(("way", "told"), [("dmcm_live", 6), ("dmcm_gait_live", 10)])
def test_live_ways_give_policies_what_they_read(way, told, tmp_path, monkeypatch):
    config = TransferConfig(ways=(way,), robots=2, out=tmp_path)
    model = load_dynamics_model()
    source = VectorSource(config, GO1, load_policy(POLICY)[0])
    monkeypatch.setattr(source, "model", lambda seed: model)
    terrain = np.arange(20, dtype=np.float32).reshape(5, 4)
    monkeypatch.setattr(source, "_simulated", lambda seed: {TERRAIN: terrain})
    monkeypatch.setattr(source, "_reference", noise_log)
    seen = []

    def walk(policy, table, robots, grounds, *, guide, watch, **_):
        seen.append((guide, watch))
        return object()

    monkeypatch.setattr(study, "evaluate_walking", walk)
    monkeypatch.setattr(study, "summarise_walk", lambda walk, which: {})
    study._evaluated(config, GO1, source, load_policy(POLICY)[0], study._Case(way, 0))
    ((guide, watch),) = seen
    assert callable(watch)
    prior = np.asarray(model.learner.prior_contexts()[ROBOT])
    # Ground by ground with all robots on each; the first row of the simulation is flat ground.
    expected = np.concatenate([np.tile(prior, (8, 1)), np.repeat(terrain[1:], 2, axis=0)], axis=1)
    np.testing.assert_array_equal(guide.values, expected[:, :told])


def test_tables_hold_every_way_ground_and_size():
    rng = np.random.default_rng(0)

    def cells():
        return {name: {"success": float(rng.random()), "ci95": 0.1} for name in (*GROUNDS, ALL)}

    table = {
        "methods": {name: cells() for name in WAYS},
        "seconds": {name: {"1": cells(), "10": cells()} for name in SHORTENED},
        "gap": {name: {"0": cells(), "2": cells()} for name in GAPPED},
    }
    shown = success_tables(table, 0.8)
    first, seconds, gap = shown.values()
    assert [row[0] for row in first.rows] == list(WAYS)
    assert first.columns == ("told", *GROUNDS, ALL)
    assert seconds.columns == ("told", "1", "10", "20")
    assert gap.columns == ("told", "0", "1", "2")
    (row,) = (row for row in gap.rows if row[0] == "dmcm")
    assert row[3].value == pytest.approx(100 * table["gap"]["dmcm"]["2"][ALL]["success"])
    assert len(success_tables({**table, "seconds": {}, "gap": {}}, 0.8)) == 1
