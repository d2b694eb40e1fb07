"""Tests of adapting to a robot's log: outputs left out, warnings when they are due, the command."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from dmcm.bank import ContextBank
from dmcm.cli import main
from dmcm.contexts import Contexts
from dmcm.errors import ConfigError, DataError
from dmcm.quadruped.body.properties import RobotProperties, nominal
from dmcm.quadruped.body.robot_table import load_robot
from dmcm.quadruped.conditioned import robot_fit
from dmcm.quadruped.conditioned.logs import log_recording
from dmcm.quadruped.conditioned.robot_fit import fit_robot, make_reference
from dmcm.quadruped.conditioned.shipped import MATCHED_POLICY
from dmcm.quadruped.data.recording import COLUMNS, TRUTH, column, without_truth
from dmcm.quadruped.data.windows import OUTPUTS, STEP_OUTPUTS, WindowConfig, cut, output
from dmcm.quadruped.dynamics.base import base_errors
from dmcm.quadruped.dynamics.log_fit import BELIEVED, near_fit
from dmcm.quadruped.dynamics.measured import (
    COLUMNS_OF,
    fit_measured,
    measured_outputs,
    next_steps,
    only_outputs,
)
from dmcm.quadruped.dynamics.model import load_dynamics_model
from dmcm.quadruped.logs.log import RobotLog
from dmcm.quadruped.logs.mcap_write import write_mcap
from dmcm.quadruped.walking.policy import POLICY, load_policy
from dmcm.quadruped.world.terrain import Terrain, parse_terrain
from helpers import learner, robot_model

GO1 = load_robot("go1")
MEASURED = frozenset(COLUMNS) - {*TRUTH, "begins", "falls", "diverges"}
SOFT = RobotProperties(p_gain_nm_per_rad=26.0, payload_kg=2.5, payload_x_m=-0.08)


@pytest.fixture(scope="module")
def walker():
    return load_policy(POLICY)[0]


@pytest.fixture(scope="module")
def recordings(walker):
    """Twenty seconds of the nominal robot and of a soft and loaded one, twice each."""
    robots = [nominal(GO1), SOFT, nominal(GO1), SOFT]
    return log_recording(walker, GO1, robots, [Terrain()] * 4, seed=(11,))


@pytest.fixture(scope="module")
def model():
    return load_dynamics_model()


@pytest.fixture(scope="module", autouse=True)
def few():
    """Fewer reference robots, for their simulation takes the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(robot_fit, "REFERENCE_ROBOTS", 6)
        yield


@pytest.fixture(scope="module")
def reference(model, walker):
    return make_reference(model, walker, GO1, Terrain(), measured_outputs(MEASURED))


def as_log(data):
    """A recording as if it had been a file's."""
    return RobotLog(without_truth(data), MEASURED, (), "walk.mcap")


class TestOutputs:
    """Which outputs count."""

    def test_every_output_names_real_columns(self):
        assert COLUMNS_OF.keys() == OUTPUTS.keys()
        assert {name for names in COLUMNS_OF.values() for name in names} <= COLUMNS.keys()

    @pytest.mark.parametrize("lacking", [name for name in COLUMNS if name in str(COLUMNS_OF)])
    def test_an_output_needs_all_its_columns(self, recordings, lacking):
        # The other way round: where a column is NaN, just these outputs of the samples are.
        data = recordings[:1, :200].copy()
        data[..., column(lacking)] = np.nan
        measured = measured_outputs(set(COLUMNS) - {lacking})
        y = cut(data, WindowConfig(), parts=1).y[0, 0]
        for name in OUTPUTS:
            values = y[:5, output(name)]
            if name in measured:
                assert np.all(np.isfinite(values)), name
            else:
                assert np.any(np.isnan(values)), name

    def test_what_is_left_out_does_not_count(self, recordings):
        model = robot_model()
        windows = cut(recordings[:1], model.windows, parts=1)
        x, step = windows.x[0, 0], windows.step[0, 0]
        wrong = base_errors(windows, model.base)[0, 0]
        kept = ("torque_nm", "pitch_1s")
        spoiled = np.full_like(wrong, np.nan)
        for name in kept:
            spoiled[:, output(name)] = wrong[:, output(name)]
        one, other = (fit_measured(model.learner, x, y, step, kept) for y in (wrong, spoiled))
        every = fit_measured(model.learner, x, wrong, step, tuple(OUTPUTS))
        for name in model.learner.factors:
            np.testing.assert_array_equal(one.contexts[name], other.contexts[name])
            np.testing.assert_array_equal(one.deviations[name], other.deviations[name])
            assert not np.allclose(one.contexts[name], every.contexts[name], atol=1e-3)

    def test_with_all_outputs_it_is_adapt(self, recordings):
        model = robot_model()
        windows = cut(recordings[:1], model.windows, parts=1)
        wrong = base_errors(windows, model.base)[0, 0]
        given = {"terrain": jnp.array([0.2, -0.1])}
        fit = fit_measured(
            model.learner, windows.x[0, 0], wrong, windows.step[0, 0], tuple(OUTPUTS), given=given
        )
        wanted = model.learner.adapt(windows.x[0, 0], wrong, given=given)
        np.testing.assert_allclose(fit.contexts["robot"], wanted["robot"], rtol=1e-5)
        np.testing.assert_array_equal(fit.contexts["terrain"], given["terrain"])
        assert fit.contexts.model == model.learner.fingerprint()
        assert fit.deviations.keys() == {"robot"}

    def test_refuses(self, recordings):
        with pytest.raises(ConfigError, match="tensor-product"):
            only_outputs(learner(), ("torque_nm",))
        with pytest.raises(DataError, match="no output"):
            fit_measured(robot_model().learner, np.zeros((1, 131)), np.zeros((1, 74)), np.zeros(1), ())


class TestFit:
    """The package's model on simulated logs."""

    def test_two_logs_of_a_robot_agree_and_two_robots_do_not(self, model, recordings, reference):
        fits = [fit_robot(model, as_log(data), reference) for data in recordings]
        vectors = [np.asarray(fit.contexts["robot"]) for fit in fits]
        spread = fits[0].spread
        same = [np.abs(vectors[i] - vectors[i + 2]) / spread for i in (0, 1)]
        other = np.abs(vectors[0] - vectors[1]) / spread
        assert np.max(same) < 0.7
        assert np.max(other) > 1.5
        for fit in fits:
            assert fit.warnings == ()
            assert np.all(fit.half_width / robot_fit.BETWEEN_LOGS < fit.spread)
            assert "height_change_1s" not in fit.errors
            before, after = fit.errors["mean_torque_1s"]
            assert after < 0.8 * before

    def test_it_is_fitted_to_next_steps_and_judged_by_all(self, model, recordings, reference):
        log = as_log(recordings[1])
        fit = fit_robot(model, log, reference)
        assert fit.outputs == tuple(STEP_OUTPUTS)
        assert {"mean_torque_1s", "torque_nm"} <= fit.errors.keys()
        # A recording whose outcomes are nonsense gives the same vector: foot forces are in no next step.
        spoiled = recordings[1].copy()
        spoiled[:, column("foot_forces_n")] = 7.0
        again = fit_robot(model, as_log(spoiled), reference)
        np.testing.assert_allclose(again.contexts["robot"], fit.contexts["robot"], rtol=1e-5, atol=1e-6)
        assert next_steps(("pitch_1s", "torque_nm", "gyro_rad_s")) == ("gyro_rad_s", "torque_nm")
        assert next_steps(("pitch_1s",)) == ("pitch_1s",)

    def test_torques_that_no_vector_explains_are_said(self, model, recordings, reference):
        # The torque sensors of another log: those of a robot whose targets act at other times.
        late = recordings[1].copy()
        late[:, column("torques_nm")] = np.roll(late[:, column("torques_nm")], 3, axis=0)
        fit = fit_robot(model, as_log(late), reference)
        assert any("beyond any vector" in text for text in fit.warnings)

    def test_without_torques_targets_are_not_to_be_matched(self, model, recordings, reference):
        log = as_log(recordings[1])
        blind = dataclasses.replace(log, measured=log.measured - {"torques_nm"})
        fit = fit_robot(model, blind, reference)
        assert "torque_nm" not in fit.outputs
        assert any("do not match targets" in text for text in fit.warnings)

    def test_targets_logged_a_step_early_change_nothing_but_the_delay(self, model, recordings, reference):
        # As if each target had been given a control step before it was: the same robot, a step late.
        early = recordings[1].copy()
        early[:-1, column("joint_targets_rad")] = early[1:, column("joint_targets_rad")]
        usual, late = (fit_robot(model, as_log(data), reference) for data in (recordings[1], early))
        assert (usual.delay_steps, late.delay_steps) == (0, 1)
        one, other = (np.asarray(fit.contexts["robot"]) for fit in (usual, late))
        np.testing.assert_allclose(one, other, atol=0.1 * usual.spread.min())
        assert late.warnings == ()

    def test_gains_of_late_robots_are_read(self, walker, model):
        gains = load_policy(MATCHED_POLICY)[0].gains
        late = [
            RobotProperties(action_delay_s=delay_s, p_gain_nm_per_rad=share * GO1.p_gain_nm_per_rad)
            for delay_s, share in ((0.022, 1.0), (0.028, 0.6))
        ]
        data = log_recording(walker, GO1, [*late, nominal(GO1)], [Terrain()] * 3, seed=(12,), seconds=10.0)
        fit = near_fit(model, data)
        np.testing.assert_array_equal(fit.delay_steps, [1, 1, 0])
        np.testing.assert_allclose(gains(fit.vectors["robot"])[:, 0], [1.0, 0.6, 1.0], rtol=0.2)
        assert np.all(fit.error < BELIEVED / 2)

    def test_a_robot_that_changes_is_said_to(self, model, recordings, reference):
        # Half a log of one robot, half of another: either half foretells the other badly.
        half = recordings.shape[1] // 2
        mixed = np.concatenate([recordings[1, :half], recordings[2, half:]])
        mixed[half, column("begins")] = 1
        fit = fit_robot(model, as_log(mixed), reference)
        assert any("does not improve" in text or "do not determine" in text for text in fit.warnings)

    def test_too_short_a_log_is_refused(self, model, recordings, reference):
        with pytest.raises(DataError, match="at least 20 are needed"):
            fit_robot(model, as_log(recordings[0, :120]), reference)
        with pytest.raises(DataError, match="too few to tell how certain a vector is: record 20 s"):
            fit_robot(model, as_log(recordings[0, :250]), reference)

    def test_a_recording_is_a_log(self, model, recordings, reference):
        data = without_truth(recordings[1])
        log, own = RobotLog.of_recording(data, "walk"), as_log(recordings[1])
        assert log.measured == frozenset(COLUMNS) - set(TRUTH)
        one, other = (fit_robot(model, one, reference) for one in (log, own))
        np.testing.assert_array_equal(one.contexts["robot"], other.contexts["robot"])
        for bad in (data[:0], data[:, 1:], data[0]):
            with pytest.raises(DataError, match="walk has shape"):
                RobotLog.of_recording(bad, "walk")

    def test_a_robot_that_stood_still_is_said_to_be_open(self, model, recordings, reference):
        rng, walked, text = np.random.default_rng(0), recordings[0], "stood still for"
        stood = np.tile(walked[0], (len(walked), 1))
        stood[:, column("joint_speeds_rad_s")] = 0.0
        stood[:, column("gait_phase")], stood[1:, column("begins")] = walked[:, column("gait_phase")], 0.0
        for name, noise in (("joint_angles_rad", 0.002), ("joint_speeds_rad_s", 0.02), ("torques_nm", 0.1)):
            stood[:, column(name)] += noise * rng.normal(size=(len(stood), 12))
        fit = fit_robot(model, as_log(stood), reference)
        # Its numbers hardly scatter, so their intervals alone would not tell.
        assert np.all(fit.half_width < fit.spread)
        assert f"{text} 100%" in fit.warnings[0]
        both = np.concatenate([walked[:700], stood[700:]])
        for data in (walked, both):
            assert not any(text in warning for warning in fit_robot(model, as_log(data), reference).warnings)

    def test_a_robot_unlike_any_is_said_to_be(self, model, recordings, reference):
        near = dataclasses.replace(reference, robots=0.01 * reference.robots)
        fit = fit_robot(model, as_log(recordings[1]), near)
        assert any("unlike any" in text for text in fit.warnings)
        assert any("do not determine" in text for text in fit.warnings)


class TestLabels:
    """Grounds by their labels."""

    @pytest.mark.parametrize(
        "terrain",
        [
            Terrain(),
            Terrain(friction=0.3),
            Terrain("slope_up", 0.12),
            Terrain("stairs_down", 0.08, friction=0.5),
            Terrain("stairs_up", 0.08, 0.25),
            Terrain("rough", 0.06, 0.2, seed=3),
            Terrain("waves", 0.12, 1.0, friction=0.4),
        ],
    )
    def test_labels_are_read_as_written(self, terrain):
        assert parse_terrain(terrain.label) == terrain

    @pytest.mark.parametrize(
        ("label", "advice"),
        [
            ("stair-0.08", "stairs_up"),
            ("waves-0.12-each-1", "not the label"),
            ("slope_up-steep", "not the label"),
            ("rough-0.05-every", "not the label"),
            ("rough-0.05-seed-1.5", "not the label"),
            ("rough-0.05-seed-1e400", "not the label"),
            ("flat-0.1", "not the label"),
            ("stairs_up", "above 0"),
        ],
    )
    def test_others_are_refused_with_advice(self, label, advice):
        with pytest.raises(ConfigError, match=advice):
            parse_terrain(label)


class TestCommand:
    """`dmcm quadruped adapt`."""

    def test_writes_both_vectors_and_says_how_sure(self, model, recordings, tmp_path, capsys):
        write_mcap(tmp_path / "walk.mcap", without_truth(recordings[1]), GO1)
        bank = tmp_path / "bank"
        command = ["quadruped", "adapt", str(tmp_path / "walk.mcap"), "--bank", str(bank), "--name", "ours"]
        assert main(command) == 0
        said = capsys.readouterr().out
        assert "robots differ by" in said
        assert "mean_torque_1s" in said
        entries = {(entry.factor, entry.name): entry for entry in ContextBank(bank).entries()}
        assert entries.keys() == {("robot", "ours"), ("terrain", "flat")}
        assert {entry.model for entry in entries.values()} == {model.learner.fingerprint()}
        assert main(command) == 2
        assert "overwrite" in capsys.readouterr().err
        # A ground's vector that somebody else put there stays.
        own = Contexts({"terrain": jnp.ones(4)}, model.learner.fingerprint())
        ContextBank(bank).save("flat", own, model.learner, source="a real floor", samples=9, overwrite=True)
        assert main([*command[:-1], "theirs"]) == 0
        assert "keeps its existing vector of terrain 'flat' (a real floor)" in " ".join(
            capsys.readouterr().out.split()
        )
        there = {entry.name: entry for entry in ContextBank(bank).entries()}
        assert set(there) == {"ours", "theirs", "flat"}
        assert there["flat"].source == "a real floor"
        assert main([*command, "--overwrite"]) == 0
        there = {entry.name: entry for entry in ContextBank(bank).entries()}
        assert there["flat"].source == "a real floor"

    def test_bad_input_is_refused(self, tmp_path, capsys):
        for arguments, advice in (
            (["none.mcap"], "none.mcap"),
            (["none.mcap", "--mapping", "ros"], "ros2"),
            (["none.mcap", "--ground", "stairs"], "stairs_up"),
            (["none.mcap", "--robot", "a1"], "Give --model"),
        ):
            more = ["--bank", str(tmp_path / "bank"), "--name", "ours"]
            assert main(["quadruped", "adapt", *arguments, *more]) == 2
            assert advice in capsys.readouterr().err

    def test_simulated_logs_can_be_read(self, tmp_path, capsys):
        out = tmp_path / "walk.mcap"
        assert main(["quadruped", "simulate-log", str(out), "--seconds", "3"]) == 0
        assert out.stat().st_size > 10_000
        assert main(["quadruped", "simulate-log", str(tmp_path / "walk.csv")]) == 2
        assert ".mcap" in capsys.readouterr().err
        assert main(["quadruped", "simulate-log", str(out), "--engine", "ode"]) == 2
        assert main(["quadruped", "simulate-log", str(out), "--gap", "2"]) == 2
        assert "bullet" in capsys.readouterr().err
