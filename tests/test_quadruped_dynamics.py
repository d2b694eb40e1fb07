"""Samples, donors, batches and measures of the dynamics comparison, against hand calculation."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dmcm.contexts import Contexts, Factors
from dmcm.errors import ConfigError, DataError, StorageError
from dmcm.learner import Learner
from dmcm.networks import ConcatNetwork, TensorProductNetwork
from dmcm.quadruped.data.collection import Collection, collect
from dmcm.quadruped.data.grid import GridConfig, make_grid
from dmcm.quadruped.data.recording import COLUMNS, column, delayed
from dmcm.quadruped.data.shards import CollectConfig
from dmcm.quadruped.data.windows import (
    OUTCOMES,
    OUTPUTS,
    SECOND,
    STATE_SIZE,
    STEP_OUTPUTS,
    WindowConfig,
    cut,
    inputs_at,
    output,
    states,
)
from dmcm.quadruped.dynamics.base import base_errors
from dmcm.quadruped.dynamics.cells import ROBOT, TERRAIN, describe_cells
from dmcm.quadruped.dynamics.donors import _one_of, robot_donors, strangers, terrain_donors
from dmcm.quadruped.dynamics.evaluation import (
    FARTHEST,
    HORIZONS_S,
    ROLLED,
    STARTS,
    adapt_cells,
    given_to_roll,
    roll,
    rollout_errors,
    second_half_errors,
)
from dmcm.quadruped.dynamics.log_fit import NearFit
from dmcm.quadruped.dynamics.measured import filled, only_outputs
from dmcm.quadruped.dynamics.measures import Measures
from dmcm.quadruped.dynamics.methods import METHODS
from dmcm.quadruped.dynamics.sampler import NOISE, CellSampler
from dmcm.quadruped.dynamics.study import DynamicsConfig, run_dynamics
from dmcm.quadruped.dynamics.table import _with_shares
from dmcm.scaling import Scaler
from dmcm.solvers import LevenbergMarquardt

STEPS = 300


@pytest.fixture(scope="module")
def collection():
    """Noise in place of robots, with falls and fresh starts here and there."""
    grid = make_grid(GridConfig(robots=4, ood_robots=1, seed=3))
    rng = np.random.default_rng(0)
    data = rng.normal(size=(len(grid.cells), STEPS, sum(COLUMNS.values()))).astype(np.float32)
    for name in ("begins", "falls", "diverges"):
        data[..., column(name)] = 0
    data[:, 0, column("begins")] = 1
    for cell in range(0, len(data), 3):
        at = int(rng.integers(20, STEPS - 20))
        data[cell, at, column("falls")] = 1
        data[cell, at + 1, column("begins")] = 1
    data[5, 40, column("diverges")] = 1
    return Collection({"seconds": STEPS / 50}, grid, data)


@pytest.fixture(scope="module")
def windows(collection):
    return cut(collection.data, WindowConfig(history=3, stride=4))


@pytest.fixture(scope="module")
def cells(collection, windows):
    described = describe_cells(collection, windows)
    return dataclasses.replace(described, sound=windows.count.min(axis=1) >= 3)


def test_no_sample_spans_a_fall_and_none_is_lost(collection, windows):
    config = WindowConfig(history=3, stride=4)
    data, half = collection.data, STEPS // 2
    for cell in range(len(data)):
        begins, falls, diverges = (
            data[cell, :, column(n)][:, 0] > 0 for n in ("begins", "falls", "diverges")
        )
        for part in range(2):
            wanted = []
            for at in range(part * half + config.history - 1, (part + 1) * half - SECOND, config.stride):
                first = at - config.history + 1
                # A fresh start may be the first step of a window; after it, or a fall anywhere, spoils it.
                spoilt = begins[first + 1 : at + SECOND + 1].any()
                spoilt |= falls[first : at + SECOND + 1].any() | diverges[first : at + SECOND + 1].any()
                wanted += [] if spoilt else [at]
            count = windows.count[cell, part]
            assert list(windows.step[cell, part, :count]) == wanted


def test_next_steps_alone_need_no_second(collection, windows):
    near = cut(collection.data, WindowConfig(history=3, stride=4), outcomes=False)
    size = sum(STEP_OUTPUTS.values())
    assert np.all(near.count >= windows.count)
    assert near.count.sum() > windows.count.sum()
    for cell, part in np.ndindex(*near.count.shape):
        there = near.step[cell, part, : near.count[cell, part]]
        common = windows.step[cell, part, : windows.count[cell, part]]
        rows = np.flatnonzero(np.isin(there, common))
        assert len(rows) == len(common)
        x, y = near.half(cell, part)
        wanted_x, wanted_y = windows.half(cell, part)
        np.testing.assert_array_equal(x[rows], wanted_x)
        np.testing.assert_array_equal(y[rows, :size], wanted_y[:, :size])
        assert np.all(y[:, size:] == 0)
        for name in ("falls", "diverges"):
            happens = collection.data[cell, :, column(name)][:, 0] > 0
            assert not any(happens[at - 2 : at + 1].any() for at in there)


def test_outputs_are_what_happens_next(collection, windows):
    cell, part, sample = 1, 1, 2
    at, data = windows.step[cell, part, sample], collection.data[cell]
    y = {name: windows.y[cell, part, sample, output(name)] for name in OUTPUTS}
    angles = data[:, column("joint_angles_rad")]
    second = slice(at, at + SECOND)
    np.testing.assert_allclose(y["joint_angle_change_rad"], angles[at + 1] - angles[at], atol=1e-6)
    np.testing.assert_allclose(y["joint_speed_rad_s"], data[at + 1, column("joint_speeds_rad_s")])
    np.testing.assert_allclose(y["torque_nm"], data[at, column("torques_nm")])
    height = data[:, column("height_m")]
    np.testing.assert_allclose(y["height_change_1s"], height[at + SECOND] - height[at], atol=1e-6)
    speed = data[second, column("trunk_velocity_m_s")][:, 0].mean()
    np.testing.assert_allclose(y["forward_speed_1s"][0], speed, atol=1e-5)
    error = np.abs(data[second, column("joint_targets_rad")] - angles[second]).mean(axis=0)
    np.testing.assert_allclose(y["tracking_error_1s"], error, rtol=1e-4)
    forces = np.maximum(data[second, column("foot_forces_n")], 0)
    front = forces[:, :2].sum(axis=1).mean() / max(forces.sum(axis=1).mean(), 1.0)
    np.testing.assert_allclose(y["front_load_1s"][0], front, rtol=1e-4)
    torque = np.abs(data[second, column("torques_nm")]).mean(axis=0)
    np.testing.assert_allclose(y["mean_torque_1s"], torque, rtol=1e-4)


def test_one_unknown_step_spoils_the_seconds_around_it_alone(collection):
    gap, data = 200, collection.data[:1].copy()
    data[0, gap, column("torques_nm")] = np.nan
    found = cut(data, WindowConfig(), parts=1)
    for sample in range(found.count[0, 0]):
        torque = found.y[0, 0, sample, output("mean_torque_1s")]
        spoilt = gap - SECOND < found.step[0, 0, sample] <= gap
        assert np.isnan(torque).all() if spoilt else np.isfinite(torque).all()


def test_inputs_hold_the_past_and_nothing_of_the_future(collection, windows):
    cell, part, sample = 1, 0, 3
    at, data = windows.step[cell, part, sample], collection.data[cell]
    past = states(data)[at - 2 : at + 1]
    offsets = data[at - 2 : at + 1, column("joint_targets_rad")] - past[:, :12]
    turn = 2 * np.pi * data[at, column("gait_phase")]
    wanted = [past.ravel(), offsets.ravel(), data[at, column("command")], np.sin(turn), np.cos(turn)]
    np.testing.assert_allclose(windows.x[cell, part, sample], np.concatenate(wanted), atol=1e-5)


@pytest.mark.parametrize("bad", [{"history": 0}, {"history": 51}, {"stride": 0}])
def test_impossible_windows_are_refused(collection, bad):
    with pytest.raises(ConfigError, match="between 1 and 50"):
        cut(collection.data, WindowConfig(**bad))


def test_strangers_share_nothing_and_are_of_training(cells):
    which = np.flatnonzero(cells.sound)
    drawn = strangers(cells, which)
    assert np.all(drawn >= 0)
    assert set(cells.split[drawn]) == {"seen_pair"}
    assert np.all(cells.sound[drawn])
    assert not np.any(cells.robot[drawn] == cells.robot[which])
    assert not np.any(cells.terrain[drawn] == cells.terrain[which])
    # A cell's stranger does not depend on which others are asked for.
    assert strangers(cells, which[::2]).tolist() == drawn[::2].tolist()


def test_a_ground_and_a_stranger_are_drawn_apart():
    """From like lists the same generator would take the robot of the same rank for both."""
    grid = np.arange(100)
    ranks = [(_one_of(grid, [target, 1]), _one_of(grid, [target, 2])) for target in range(300)]
    assert abs(np.corrcoef(np.array(ranks).T)[0, 1]) < 0.2


def test_donors_share_their_factor_and_nothing_of_the_pair(cells):
    which = np.flatnonzero(cells.sound)
    robots, grounds = robot_donors(cells, which), terrain_donors(cells, which)
    for target, robot, ground in zip(which, robots, grounds, strict=True):
        split = cells.split[target]
        if robot >= 0:
            assert cells.robot[robot] == cells.robot[target]
            assert cells.terrain[robot] != cells.terrain[target]
            assert cells.split[robot] == ("ood_robot" if split in ("ood_robot", "ood_both") else "seen_pair")
        if ground >= 0:
            assert cells.terrain[ground] == cells.terrain[target]
            assert cells.robot[ground] != cells.robot[target]
            assert cells.split[ground] == (
                "ood_terrain" if split.startswith(("ood_t", "ood_b")) else "seen_pair"
            )
    assert (robots >= 0).mean() > 0.9
    assert (grounds >= 0).mean() > 0.5


def test_batches_hold_anchors_and_a_donor_per_factor(cells):
    sampler = CellSampler(cells, cells.windows.y, cells.of("seen_pair"))
    batch = sampler.sample(jax.random.key(1))
    third = len(batch.task) // 3
    for name, part in ((ROBOT, 1), (TERRAIN, 2)):
        codes = np.asarray(batch.labels[name])
        assert (codes[:third] == codes[part * third : (part + 1) * third]).all()
    known = np.asarray(sampler.x)
    for row, task in enumerate(np.asarray(batch.task)):
        for half, samples in enumerate((batch.support, batch.query)):
            own = known[task, half, : int(sampler.count[task, half])]
            # Command and phase, the last columns, are without noise.
            assert all((own[:, -5:] == x[-5:]).all(axis=1).any() for x in np.asarray(samples.x[row]))
    assert all(
        (known[task, 0] == x).all(axis=1).any()
        for x, task in zip(np.asarray(batch.support.x[:, 0]), np.asarray(batch.task), strict=True)
    )


@pytest.mark.parametrize("corrects", [False, True])
def test_queries_are_off_and_lead_back_to_the_true_next_state(cells, corrects):
    seen, windows = cells.of("seen_pair"), cells.windows
    base = base_learner(windows.x.shape[-1]) if corrects else None
    y = windows.y if base is None else base_errors(cells.windows, base)
    sampler = CellSampler(cells, y, seen, base=base)
    batch = sampler.sample(jax.random.key(2))
    spread, ratios = np.asarray(sampler.moments.x_std)[:90], []
    for row, task in enumerate(np.asarray(batch.task)):
        count = windows.count[seen[task], 1]
        known, follows = windows.x[seen[task], 1, :count], windows.y[seen[task], 1, :count]
        for x, found in zip(np.asarray(batch.query.x[row]), np.asarray(batch.query.y[row]), strict=True):
            at = np.flatnonzero((known[:, -5:] == x[-5:]).all(axis=1))[0]
            noise = (x - known[at])[:90]
            ratios.append(noise / spread)
            # Targets are relative to the angles that are sensed.
            turned = noise.reshape(3, 30)[:, :12].ravel()
            np.testing.assert_allclose((x - known[at])[90:126], -turned, atol=1e-5)
            # The wrong state and the change asked for make the true next state.
            wanted = follows[at].copy()
            for name, part in (("joint_angle_change_rad", slice(60, 72)), ("gravity_change", slice(87, 90))):
                wanted[output(name)] += known[at][part] - x[part]
            if base is not None:
                wanted -= np.asarray(base.predict(base.prior_contexts(), x[None]))[0]
            np.testing.assert_allclose(found, wanted, atol=2e-5)
    assert np.std(ratios) == pytest.approx(NOISE, rel=0.02)
    assert abs(np.mean(ratios)) < 0.002


def base_learner(inputs):
    factors = Factors(all=1)
    network = ConcatNetwork(factors, inputs, 74, width=8, depth=1, key=jax.random.key(0))
    return Learner(network, LevenbergMarquardt(), factors)


def two_contexts(inputs):
    factors = Factors(robot=2, terrain=2)
    network = TensorProductNetwork(factors, inputs, 74, width=8, depth=1, key=jax.random.key(1))
    return Learner(network, LevenbergMarquardt(4, condensed=True), factors)


def some_contexts(learner, count, seed):
    rng = np.random.default_rng(seed)
    values = {name: jnp.asarray(rng.normal(size=(count, 2)), jnp.float32) for name in learner.factors}
    return Contexts(values, learner.fingerprint())


def test_errors_are_those_of_the_second_half(cells):
    inputs = cells.windows.x.shape[-1]
    base, learner = base_learner(inputs), two_contexts(inputs)
    wrong = base_errors(cells.windows, base)
    which = np.flatnonzero(cells.sound)[:5]
    contexts = some_contexts(learner, len(which), 0)
    found = second_half_errors(learner, contexts, cells, wrong, which)
    for row, cell in enumerate(which):
        count = cells.windows.count[cell, 1]
        x, y = cells.windows.x[cell, 1, :count], cells.windows.y[cell, 1, :count]
        own = Contexts({n: v[row] for n, v in contexts.values.items()}, contexts.model)
        predicted = base.predict(base.prior_contexts(), x) + learner.predict(own, x)
        np.testing.assert_allclose(found[row], np.mean((y - predicted) ** 2, axis=0), rtol=2e-3)
    alone = second_half_errors(None, None, cells, wrong, which)
    np.testing.assert_allclose(
        alone[0], (wrong[which[0], 1].astype(float) ** 2).sum(0) / cells.windows.count[which[0], 1]
    )


def test_adapting_uses_the_first_half_up_to_the_seconds_asked(cells):
    inputs = cells.windows.x.shape[-1]
    learner = two_contexts(inputs)
    wrong = base_errors(cells.windows, base_learner(inputs))
    which = np.flatnonzero(cells.sound & (cells.windows.count[:, 0] > 8))[:3]
    # Of 1.5 s, samples that begin in the first half second: each looks a second ahead.
    found = adapt_cells(learner, cells.windows, wrong, which, seconds=1.5)
    for row, cell in enumerate(which):
        early = (cells.windows.step[cell, 0] < 25) & (
            np.arange(wrong.shape[2]) < cells.windows.count[cell, 0]
        )
        own = learner.adapt(cells.windows.x[cell, 0][early], wrong[cell, 0][early])
        for name in learner.factors:
            np.testing.assert_allclose(found[name][row], own[name], atol=1e-3)


def test_a_first_second_has_no_outcomes_to_adapt_to(collection, cells):
    inputs = cells.windows.x.shape[-1]
    base, learner, names = base_learner(inputs), two_contexts(inputs), tuple(STEP_OUTPUTS)
    wrong = base_errors(cells.windows, base)
    measures = Measures(collection, cells, wrong, base, learner, WindowConfig())
    which = np.flatnonzero(cells.sound)[:3]
    spoiled = wrong.copy()
    spoiled[..., sum(STEP_OUTPUTS.values()) :] = 7.0
    spoiled = Measures(collection, cells, spoiled, base, learner, WindowConfig())
    for seconds, alone in ((1.0, True), (1.5, False)):
        one, other = (m._adapt(which, seconds=seconds) for m in (measures, spoiled))
        same = all(np.array_equal(one[name], other[name]) for name in learner.factors)
        assert same == alone
        assert one.model == learner.fingerprint()
    blind = adapt_cells(
        only_outputs(learner, names),
        cells.windows,
        filled(learner, wrong, names),
        which,
        seconds=1.0,
        ahead=1,
    )
    for name in learner.factors:
        np.testing.assert_array_equal(measures._adapt(which, seconds=1.0)[name], blind[name])


def test_vectors_of_next_steps_meet_targets_when_late_robots_act(collection, cells, monkeypatch):
    inputs, rng, count = cells.windows.x.shape[-1], np.random.default_rng(5), len(cells.sound)
    base, learner, config = base_learner(inputs), two_contexts(inputs), WindowConfig()
    vectors = {
        name: rng.normal(size=(count, size)).astype(np.float32)
        for name, size in learner.factors.sizes.items()
    }
    late = rng.integers(0, 2, count)
    fit = NearFit(vectors, np.zeros(count), late)
    seen = []
    monkeypatch.setattr("dmcm.quadruped.dynamics.measures.near_fit", lambda *a: seen.append(a) or fit)
    measures = Measures(collection, cells, base_errors(cells.windows, base), base, learner, config)
    grounds = rng.normal(size=(count, learner.factors.sizes[TERRAIN])).astype(np.float32)
    made, terrain = measures.near, lambda which: jnp.asarray(grounds[which])
    found = measures.near_errors(made, measures.robot_donor, terrain)
    np.testing.assert_array_equal(seen[0][1], collection.data[:, : STEPS // 2])
    split = "unseen_pair"
    which, torque = measures._targets(split), output("torque_nm")
    assert {0, 1} == {late[measures.robot_donor[cell]] for cell in which}

    def errors_with(donors, grounds):
        errors = []
        for cell in which:
            donor, data = donors[cell], collection.data[cell]
            windows = cut(delayed(data, int(late[donor]))[None], config)
            x, y = windows.half(0, 1)
            own = {ROBOT: vectors[ROBOT][donor], TERRAIN: grounds[cell]}
            own = Contexts({name: jnp.asarray(value) for name, value in own.items()}, None)
            left = y - np.asarray(base.predict(base.prior_contexts(), x) + learner.predict(own, x))
            errors.append(np.mean(left.astype(float) ** 2, axis=0))
        return np.mean(errors, axis=0)[torque]

    seen_pairs = cells.of("seen_pair")
    spread = cells.windows.y[seen_pairs, 1][cells.windows.real[seen_pairs, 1]].var(axis=0, dtype=float)
    expected = np.sqrt(np.mean(errors_with(measures.robot_donor, grounds) / spread[torque]))
    assert found[split]["torque_nm"] == pytest.approx(expected, rel=1e-3)
    in_place = np.arange(count)
    expected = np.sqrt(np.mean(errors_with(in_place, vectors[TERRAIN]) / spread[torque]))
    found_here = measures.near_errors(made, in_place)
    assert found_here[split]["torque_nm"] == pytest.approx(expected, rel=1e-3)
    # Of what targets become in the coming second nothing is said.
    assert not {*OUTCOMES} & found[split].keys()
    assert "joint_rollout_1s" in found[split]


def test_rollouts_feed_the_model_its_own_predictions(collection, cells):
    inputs, history = cells.windows.x.shape[-1], 3
    base, learner = base_learner(inputs), two_contexts(inputs)
    which = np.flatnonzero(cells.sound)[:2]
    contexts = some_contexts(learner, 2, 0)
    found = rollout_errors(base, learner, contexts, collection, cells, which)
    cell, data, squares = which[1], collection.data[which[1]], []
    own = Contexts({name: value[1] for name, value in contexts.values.items()}, contexts.model)
    for share in np.linspace(0, 1, STARTS):
        begin = cells.windows.step[cell, 1, int(share * (cells.windows.count[cell, 1] - 1))]
        past = states(data)[begin - history + 1 : begin + 1]
        errors = []
        for now in range(begin, begin + SECOND):
            targets = data[now - history + 1 : now + 1, column("joint_targets_rad")]
            x = inputs_at(past, targets, data[now, column("command")], data[now, column("gait_phase")])[None]
            y = np.asarray(base.predict(base.prior_contexts(), x) + learner.predict(own, x))[0]
            angles = past[-1, :12] + y[output("joint_angle_change_rad")]
            gravity = past[-1, -3:] + y[output("gravity_change")]
            following = [
                angles,
                y[output("joint_speed_rad_s")],
                y[output("gyro_rad_s")],
                gravity / np.linalg.norm(gravity),
            ]
            past = np.concatenate([past[1:], np.concatenate(following)[None]])
            errors.append((past[-1] - states(data)[now + 1]) ** 2)
        squares.append([errors[round(h * 50) - 1] for h in HORIZONS_S])
    expected = np.mean(squares, axis=0)
    assert sum(columns.stop - columns.start for columns in ROLLED.values()) == expected.shape[-1]
    for part, columns in ROLLED.items():
        np.testing.assert_allclose(found[part][1], expected[:, columns].mean(axis=1), rtol=1e-2)


def test_rollouts_stay_near_what_the_base_network_was_trained_on(collection, cells):
    plain, history, length, far = base_learner(cells.windows.x.shape[-1]), 3, 20, 15
    x = cells.windows.x[cells.windows.real]
    scaler = Scaler.from_samples(x, np.random.default_rng(0).normal(size=(len(x), plain.outputs)))
    wild = dataclasses.replace(scaler, y_std=100 * scaler.y_std)
    mean, std = (np.asarray(part)[2 * STATE_SIZE : 3 * STATE_SIZE] for part in (scaler.x_mean, scaler.x_std))
    past, *rest = given_to_roll(collection.data[:2, None, 10 - history + 1 : 10 + length], history)
    past = past.at[0, 0, -1, far].set(mean[far] + 7 * std[far])
    foreseen = {}
    for name, own in {"mild": scaler, "wild": wild}.items():
        base = Learner(plain.network, plain.solver, plain.factors, scaler=own)
        foreseen[name] = np.asarray(roll(base, None, None, past, *rest))
        assert foreseen[name].shape == (2, 1, length, STATE_SIZE)
        np.testing.assert_allclose(np.linalg.norm(foreseen[name][..., -3:], axis=-1), 1, rtol=1e-5)
    # Speeds and turning rates, which are not added up, are left alone where they err little.
    assert 0 < (np.abs(foreseen["mild"] - mean) / std)[..., 12:27].max() < FARTHEST
    away = ((foreseen["wild"] - mean) / std)[..., :-3]
    # What was known to lie further away may go on to do so.
    assert away[0, 0, :, far].max() == pytest.approx(7, rel=1e-4)
    assert away[0, 0, :, far].min() == pytest.approx(-FARTHEST, rel=0.05)
    known = np.abs((np.asarray(past) - mean) / std)[..., :-3].max(axis=2)
    allowed = np.maximum(FARTHEST, known)[:, :, None]
    assert np.all(np.abs(away) <= allowed + 1e-3)
    assert np.all(np.isclose(np.abs(away), FARTHEST, atol=1e-3).any(axis=2)[known <= FARTHEST])


@pytest.mark.slow
def test_the_whole_comparison_runs_resumes_and_measures(tmp_path, monkeypatch):
    for name in ("dmcm", "single", "oracle"):
        small = METHODS[name].network | {"width": 8}
        monkeypatch.setitem(METHODS, name, dataclasses.replace(METHODS[name], network=small))
    data = tmp_path / "data"
    collect(CollectConfig(grid=GridConfig(robots=5, ood_robots=1), seconds=8.0), data, progress=False)
    config = DynamicsConfig(
        data=data,
        methods=("dmcm", "single", "oracle"),
        seeds=1,
        steps=4,
        out=tmp_path / "out",
        results=tmp_path / "d.json",
    )
    table = run_dynamics(config, progress=False)
    again = run_dynamics(config, progress=False)
    assert again["methods"]["dmcm"] == table["methods"]["dmcm"]
    stored = json.loads((tmp_path / "d.json").read_text())
    ways = ("recombined", "recombined_near", "robot_only", "terrain_only", "wrong_robot", "wrong_terrain")
    assert {"none", "dmcm", *(f"dmcm_{way}" for way in ways), "single", "oracle"} <= stored["methods"].keys()
    assert {"single_near", "single_from_robot_near", "dmcm_near"} <= stored["methods"].keys()
    assert {"joint_rollout_1s", "gyro_rollout_0.1s", "gravity_rollout_0.5s"} <= set(
        stored["methods"]["dmcm_wrong_robot"]["unseen_pair"]
    )
    for method in stored["methods"].values():
        for outputs in method.values():
            assert all(np.isfinite(cell["nrmse"]) for cell in outputs.values())
    without, own, oracle = (stored["methods"][name]["seen_pair"] for name in ("none", "dmcm", "oracle"))
    for name, cell in own.items():
        gain, most = (without[name]["nrmse"] - of[name]["nrmse"] for of in (own, oracle))
        worth = cell["oracle_gain"] >= 0.05
        assert cell["gain_share"] == (pytest.approx(gain / most) if worth else None), name


def test_shares_are_of_mean_gains():
    """A seed in which the oracle gains nothing has no share of its own, and must not rule the mean."""

    def runs(values):
        return [{"unseen_pair": {"torque_nm": value}} for value in values]

    none, oracle, own = runs([1.0, 1.0, 1.0]), runs([0.9, 0.8, 1.0]), runs([0.8, 0.7, 0.9])
    cell = _with_shares(own, none, oracle)["unseen_pair"]["torque_nm"]
    assert cell["oracle_gain"] == pytest.approx(0.1)
    assert cell["gain_share"] == pytest.approx(0.2 / 0.1)
    # Gains 0.2, 0.3, 0.1 against twice 0.1, 0.2, 0: off by 0, -0.1, 0.1.
    assert cell["gain_share_ci95"] == pytest.approx(4.303 * 0.1 / np.sqrt(3) / 0.1)
    assert _with_shares(none, none, oracle)["unseen_pair"]["torque_nm"]["gain_share"] == pytest.approx(0)
    little = runs([0.99, 0.98, 0.97])
    assert _with_shares(own, none, little)["unseen_pair"]["torque_nm"]["gain_share"] is None


def test_data_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(StorageError):
        run_dynamics(DynamicsConfig(data=tmp_path / "none"), progress=False)
    with pytest.raises(ConfigError, match="method"):
        run_dynamics(DynamicsConfig(data=tmp_path, methods=("dmc",)), progress=False)


@pytest.mark.slow
def test_too_little_data_is_refused(tmp_path):
    collect(
        CollectConfig(grid=GridConfig(robots=2, ood_robots=0), seconds=4.0), tmp_path / "d", progress=False
    )
    with pytest.raises(DataError, match="Collect more"):
        run_dynamics(DynamicsConfig(data=tmp_path / "d"), progress=False)
