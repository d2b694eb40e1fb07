"""Policies that are given vectors of robot and ground: banks, training, the suite, and what is refused."""

import dataclasses
import json
import shutil

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dmcm.bank import ContextBank
from dmcm.contexts import Factors
from dmcm.errors import BankError, CheckpointError, ConfigError, DataError, ShapeError, StorageError
from dmcm.learner import Learner
from dmcm.models import save_learner
from dmcm.networks import ConcatNetwork, TensorProductNetwork
from dmcm.quadruped.body.properties import TRAINING_RANGES, nominal
from dmcm.quadruped.body.robot_table import load_robot
from dmcm.quadruped.conditioned import (
    evaluation,
    gait_fit,
    gait_trials,
    logs,
    study,
    suite_vectors,
    sweep,
)
from dmcm.quadruped.conditioned import table as table_module
from dmcm.quadruped.conditioned.evaluation import SuiteConfig, bodies, evaluate_condition
from dmcm.quadruped.conditioned.methods import METHODS
from dmcm.quadruped.conditioned.shipped import MATCHED_POLICY, TOLD_POLICY
from dmcm.quadruped.conditioned.sources import SOURCES, told
from dmcm.quadruped.conditioned.study import PolicyStudy, run_policy_study
from dmcm.quadruped.conditioned.suite import CONDITIONS, GROUNDS, TRAINING, Condition
from dmcm.quadruped.conditioned.suite_vectors import VectorMaker
from dmcm.quadruped.conditioned.sweep import PolicySweep, run_sweep
from dmcm.quadruped.conditioned.training import CellScene, PolicyTraining, told_vectors, train_policy
from dmcm.quadruped.conditioned.vectors import cell_name, fill_bank, read_bank
from dmcm.quadruped.conditioned.widening import widen
from dmcm.quadruped.data.collection import collect
from dmcm.quadruped.data.grid import GridConfig
from dmcm.quadruped.data.shards import CollectConfig
from dmcm.quadruped.data.windows import WindowConfig, cut
from dmcm.quadruped.dynamics.cells import describe_cells
from dmcm.quadruped.dynamics.log_fit import cell_vectors, log_vectors, near_vectors
from dmcm.quadruped.dynamics.model import trained_model
from dmcm.quadruped.walking import loop
from dmcm.quadruped.walking.evaluation import evaluate_walking
from dmcm.quadruped.walking.observations import OBSERVATION
from dmcm.quadruped.walking.policy import POLICY, load_policy, save_policy
from dmcm.quadruped.walking.ppo import PpoConfig, improve
from dmcm.quadruped.walking.suite import OVER_GROUND
from dmcm.quadruped.world.terrain import TRAINING_TERRAINS, Terrain
from dmcm.runs import RunFolder
from dmcm.solvers import LevenbergMarquardt
from dmcm.storage import read_json, write_json
from helpers import same_bits

GO1 = load_robot("go1")
OWN = sum(OBSERVATION.values())
TINY = PpoConfig(horizon=4, minibatches=2, epochs=1, learning_rate=1e-4)


def learner_of(**sizes):
    """A learner of untrained weights with the columns of the windows."""
    factors = Factors(**sizes)
    build = ConcatNetwork if "all" in sizes else TensorProductNetwork
    network = build(factors, 131, 74, width=8, depth=1, key=jax.random.key(len(sizes)))
    return Learner(network, LevenbergMarquardt(2, condensed="all" not in sizes), factors)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a small collection and models of two seeds."""
    folder = tmp_path_factory.mktemp("policies")
    collect(
        CollectConfig(grid=GridConfig(robots=2, ood_robots=0, coverage=1.0), seconds=6.0),
        folder / "data",
        threads=1,
        progress=False,
    )
    for name, learner in (
        ("base", learner_of(all=1)),
        ("dmcm", learner_of(robot=2, terrain=2)),
        ("single", learner_of(cell=4)),
    ):
        save_learner(folder / "dynamics" / name / "seed-0" / "model.safetensors", learner)
    return folder


@pytest.fixture(scope="module")
def collection(place):
    return collect(
        CollectConfig(grid=GridConfig(robots=2, ood_robots=0, coverage=1.0), seconds=6.0),
        place / "data",
        progress=False,
    )


@pytest.fixture(scope="module")
def cells(collection):
    return describe_cells(collection, cut(collection.data, WindowConfig()))


def training(place, method="dmcm_told", **options):
    return PolicyTraining(
        **{
            "method": method,
            "data": place / "data",
            "dynamics": place / "dynamics",
            "banks": place / "banks",
            "iterations": 4,
            "robots": 8,
            "phase": 2,
            "ppo": TINY,
            "threads": 1,
            **options,
        }
    )


# --- vectors ---


def test_a_bank_holds_what_adapting_by_hand_gives(place, collection, cells, tmp_path):
    model, which = trained_model(place / "dynamics", "dmcm", 0), cells.of("seen_pair")[:4]
    bank = ContextBank(tmp_path / "bank")
    fill_bank(bank, model, collection, cells, which)
    assert len(bank.entries()) == 2 * len(which)
    read = read_bank(bank, model.learner, collection.grid, which)
    for row, cell in enumerate(which):
        x, y = cells.windows.half(cell, 0)
        wrong = y - np.asarray(model.base.predict(model.base.prior_contexts(), x))
        by_hand = model.learner.adapt(x, wrong)
        for factor in ("robot", "terrain"):
            np.testing.assert_allclose(read[factor][row], by_hand[factor], atol=2e-3)
    entry = bank.entries()[0]
    assert entry.samples == cells.windows.count[which[0], 0]
    assert entry.name == cell_name(collection.grid, which[0]) == "robot-000.flat"


def test_a_bank_is_filled_once_and_filled_anew_for_another_model(place, collection, cells, tmp_path):
    model, which = trained_model(place / "dynamics", "dmcm", 0), cells.of("seen_pair")[:2]
    bank = ContextBank(tmp_path / "bank")
    fill_bank(bank, model, collection, cells, which[:1])
    first = {entry.path: entry.path.stat().st_mtime_ns for entry in bank.entries()}
    fill_bank(bank, model, collection, cells, which)
    assert len(bank.entries()) == 4
    assert all(path.stat().st_mtime_ns == time for path, time in first.items())
    network = TensorProductNetwork(model.learner.factors, 131, 74, width=8, depth=1, key=jax.random.key(7))
    other = dataclasses.replace(
        model, learner=Learner(network, LevenbergMarquardt(2, condensed=True), model.learner.factors)
    )
    with pytest.raises(BankError, match="made by model"):
        read_bank(bank, other.learner, collection.grid, which)
    fill_bank(bank, other, collection, cells, which)
    read_bank(bank, other.learner, collection.grid, which)


def test_a_bank_is_filled_anew_for_other_data(place, collection, cells, tmp_path):
    model, which = trained_model(place / "dynamics", "dmcm", 0), cells.of("seen_pair")[:2]
    bank = ContextBank(tmp_path / "bank")
    fill_bank(bank, model, collection, cells, which)
    before = read_bank(bank, model.learner, collection.grid, which)["robot"]
    other = dataclasses.replace(collection, data=np.roll(collection.data, 1, axis=0))
    fill_bank(bank, model, other, describe_cells(other, cut(other.data, WindowConfig())), which)
    assert not np.allclose(read_bank(bank, model.learner, collection.grid, which)["robot"], before, atol=1e-3)


# --- training ---


def test_a_widened_policy_does_the_same_whatever_it_is_told():
    start = load_policy(POLICY)[0]
    rng = np.random.default_rng(0)
    seen = rng.normal(size=(5, OWN)).astype(np.float32)
    vectors = {"robot": rng.normal(2.0, 3.0, (50, 6)), "terrain": rng.normal(size=(50, 4))}
    wide = widen(start, "dmcm_told", vectors)
    told_what = rng.normal(size=(5, 10)).astype(np.float32)
    given = jnp.asarray(np.concatenate([seen, told_what], axis=1))
    np.testing.assert_allclose(wide.mean(given), start.mean(jnp.asarray(seen)), atol=1e-5)
    truth = jnp.asarray(rng.normal(size=(5, 28)), jnp.float32)
    np.testing.assert_allclose(wide.value(given, truth), start.value(jnp.asarray(seen), truth), atol=1e-4)
    means = np.concatenate([values.mean(axis=0) for values in vectors.values()])
    np.testing.assert_allclose(wide.observation_scale.mean[OWN:], means, rtol=1e-5)


def test_a_policy_that_is_told_something_does_not_walk_untold():
    policy = load_policy(TOLD_POLICY)[0]
    for walk in (
        lambda: evaluate_walking(policy, GO1, [nominal(GO1)], [Terrain()], seconds=1.0),
        lambda: logs.log_recording(policy, GO1, [nominal(GO1)], [Terrain()], seed=(0,)),
    ):
        with pytest.raises(ShapeError, match=r"reads \d+ numbers, but its observations have \d+"):
            walk()


def test_what_is_told_beyond_training_is_cut_to_it():
    rng = np.random.default_rng(0)
    vectors = {"robot": rng.normal(2.0, 3.0, (500, 6)), "terrain": rng.normal(size=(500, 4))}
    wide = widen(load_policy(POLICY)[0], "dmcm_told", vectors)
    assert wide.modulation is not None
    weights = rng.normal(size=(2, 128, 10)).astype(np.float32)
    wide = eqx.tree_at(lambda p: (p.modulation.gain.weight, p.modulation.shift.weight), wide, tuple(weights))
    values = np.concatenate(list(vectors.values()), axis=1)
    ends = np.quantile(values, [0.01, 0.99], axis=0)
    np.testing.assert_allclose(np.stack([wide.modulation.low, wide.modulation.high]), ends, rtol=1e-5)
    seen = np.tile(rng.normal(size=(1, OWN)), (3, 1))
    beyond = np.stack([ends[1], ends[1] + 7.0, ends.mean(axis=0)])
    given = jnp.asarray(np.concatenate([seen, beyond], axis=1), jnp.float32)
    action, value = wide.mean(given), wide.value(given, jnp.zeros((3, 28)))
    np.testing.assert_allclose(action[0], action[1], rtol=1e-4)
    np.testing.assert_allclose(value[0], value[1], rtol=1e-4)
    assert not np.allclose(action[0], action[2], rtol=0.05)
    # By hand: the last hidden layer is scaled and shifted by the standardised vectors.
    scaled = wide.observation_scale(given)[2]
    hidden = scaled[:OWN]
    for layer in wide.actor.layers[:-1]:
        hidden = jax.nn.elu(layer(hidden))
    hidden = hidden * (1 + weights[0] @ scaled[OWN:]) + weights[1] @ scaled[OWN:]
    np.testing.assert_allclose(action[2], wide.actor.layers[-1](hidden), rtol=1e-4, atol=1e-4)


def test_the_truth_is_read_as_it_is_also_beyond_training():
    rng = np.random.default_rng(0)
    vectors = {"true_robot": rng.normal(2.0, 3.0, (500, 10)), "true_terrain": rng.normal(size=(500, 5))}
    start = load_policy(POLICY)[0]
    wide = widen(start, "oracle_told", vectors)
    assert wide.modulation is None
    seen = np.tile(rng.normal(size=(1, OWN)), (2, 1))
    beyond = np.concatenate(list(vectors.values()), axis=1).max(axis=0) + np.array([[0.0], [3.0]])
    given = jnp.asarray(np.concatenate([seen, beyond], axis=1), jnp.float32)
    np.testing.assert_allclose(wide.mean(given), start.mean(given[:, :OWN]), atol=1e-5)
    first = wide.actor.layers[0].weight
    listens = eqx.tree_at(lambda p: p.actor.layers[0].weight, wide, first.at[:, OWN:].set(0.1))
    action = listens.mean(given)
    assert not np.allclose(action[0], action[1], rtol=0.05)


def test_a_widened_policy_with_a_past_does_the_same_at_first():
    start = load_policy(POLICY)[0]
    wide = widen(start, "history", {})
    rng = np.random.default_rng(0)
    seen = rng.normal(size=(3, OWN)).astype(np.float32)
    past = rng.normal(size=(3, wide.observation_scale.mean.size - OWN)).astype(np.float32)
    given = jnp.asarray(np.concatenate([seen, past], axis=1))
    np.testing.assert_allclose(wide.mean(given), start.mean(jnp.asarray(seen)), atol=1e-5)
    assert widen(start, "vanilla", {}).observation_scale.mean.size == OWN


def scene(collection, cells, method, which, noise=0.0, robots=12):
    rows = np.arange(len(which))
    kinds = {
        "robot": np.array(
            [[collection.grid.cells[cell].robot, row] for row, cell in zip(rows, which, strict=True)]
        ),
        "terrain": np.array(
            [[collection.grid.cells[cell].terrain, row] for row, cell in zip(rows, which, strict=True)]
        ),
        "cell": rows[:, None],
        **{f"true_{name}": values[which] for name, values in cells.truth.items()},
    }
    schedule = loop.Schedule(robots=robots, threads=1)
    return CellScene(collection, which, method, kinds, schedule, noise)


def test_all_methods_meet_the_same_robots_on_the_same_grounds(collection, cells):
    which = cells.of("seen_pair")
    environments = [
        scene(collection, cells, method, which).environment(np.random.default_rng(5)) for method in METHODS
    ]
    first = environments[0]
    for other in environments[1:]:
        assert np.array_equal(first.tiles, other.tiles)
        for name, values in first.simulation.properties.items():
            np.testing.assert_array_equal(values, other.simulation.properties[name])


def test_vectors_are_of_the_right_robot_and_ground_and_from_other_cells(collection, cells):
    which = cells.of("seen_pair")
    environment = scene(collection, cells, "dmcm_told", which, robots=64).environment(
        np.random.default_rng(1)
    )
    robot, robot_row, terrain, terrain_row = environment.observe()[:, OWN:].T.astype(int)
    assert np.array_equal(terrain, environment.tiles)
    gains = np.array([collection.grid.robots[r].p_gain_nm_per_rad for r in robot])
    np.testing.assert_allclose(environment.simulation.properties["p_gain_nm_per_rad"], gains)
    assert np.mean(robot_row != terrain_row) > 0.5
    # One vector for both can only be of the pair itself.
    environment = scene(collection, cells, "single_told", which, robots=64).environment(
        np.random.default_rng(1)
    )
    own = [collection.grid.cells[which[row]] for row in environment.observe()[:, OWN].astype(int)]
    assert [cell.terrain for cell in own] == list(environment.tiles)


def test_noise_is_a_share_of_the_spread(collection, cells):
    which = cells.of("seen_pair")
    pair = [
        scene(collection, cells, "oracle_told", which, noise, robots=400)
        .environment(np.random.default_rng(2))
        .observe()[:, OWN:]
        for noise in (0.0, 0.3)
    ]
    spread = np.concatenate([cells.truth[name][which] for name in ("robot", "terrain")], axis=1).std(axis=0)
    moved = (pair[1] - pair[0]).std(axis=0)
    np.testing.assert_allclose(moved, 0.3 * spread, rtol=0.15, atol=1e-6)


@pytest.fixture(scope="module")
def uninterrupted(place):
    out = place / "policies" / "dmcm_told" / "seed-0"
    return train_policy(training(place), out, progress=False), out


def test_an_interrupted_run_ends_in_the_bits_of_a_whole_one(place, uninterrupted, tmp_path, monkeypatch):
    policy, whole = uninterrupted
    calls = []

    def stopping(*args):
        calls.append(0)
        if len(calls) > 3:
            raise KeyboardInterrupt
        return improve(*args)

    with monkeypatch.context() as patched:
        patched.setattr(loop, "improve", stopping)
        with pytest.raises(KeyboardInterrupt):
            train_policy(training(place), tmp_path / "run", progress=False)
    resumed = train_policy(training(place), tmp_path / "run", resume=True, progress=False)
    assert same_bits(resumed, policy)
    assert RunFolder(tmp_path / "run").history() == RunFolder(whole).history()


def test_a_policy_says_whose_vectors_it_was_trained_with(place, uninterrupted):
    _, out = uninterrupted
    about = load_policy(out / "policy.safetensors")[1]["training"]
    assert about["told"] == {
        "vectors": {"robot": 2, "terrain": 2},
        "model": trained_model(place / "dynamics", "dmcm", 0).learner.fingerprint(),
    }
    assert about["method"] == "dmcm_told"
    with pytest.raises(CheckpointError, match="method is 'dmcm_told' there and 'vanilla' here"):
        train_policy(training(place, "vanilla"), out, resume=True, progress=False)


def test_the_oracle_is_told_the_truth_and_others_nothing(place, collection, cells):
    which = cells.of("seen_pair")
    vectors, about = told_vectors(training(place, "oracle_told"), collection, cells, which)
    np.testing.assert_array_equal(vectors["true_robot"], cells.truth["robot"][which])
    assert about == {"vectors": {"true_robot": 9, "true_terrain": 10}, "model": None}
    assert told_vectors(training(place, "vanilla"), collection, cells, which) == (
        {},
        {"vectors": {}, "model": None},
    )


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"method": "oracel"}, ConfigError, "oracle"),
        ({"noise": -0.1}, ConfigError, "noise"),
        ({"robots": 7, "ppo": PpoConfig(horizon=1)}, ConfigError, "minibatches"),
        ({"seed": 5}, StorageError, "dmcm quadruped dynamics --seeds 6"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_the_run_begins(place, tmp_path, options, error, match):
    with pytest.raises(error, match=match):
        train_policy(training(place, **options), tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


# --- the suite ---


def test_conditions_are_of_training_but_for_what_they_name():
    for name, condition in CONDITIONS.items():
        robots = condition.draw(np.random.default_rng(0), 50)
        for prop, (low, high) in TRAINING_RANGES.items():
            values = np.array([getattr(robot, prop) for robot in robots])
            if prop in condition.ranges:
                low, high = condition.ranges[prop]
            elif condition.off_centre and prop == "payload_x_m":
                assert np.all(np.abs(values) >= 0.06)
                assert (values > 0).any()
                assert (values < 0).any()
                continue
            assert np.all((values >= low) & (values <= high)), (name, prop)
        outside = condition.ranges or condition.friction != Terrain().friction
        assert bool(outside) == (name != TRAINING)
    assert set(GROUNDS.values()) <= set(TRAINING_TERRAINS)


def test_two_conditions_at_once_are_both():
    both = Condition("a", {"payload_kg": (4.0, 5.0)}, off_centre=True) + Condition("b", friction=0.3)
    assert both.title == "a, b"
    assert both.on(Terrain("rough", 0.06, 0.2)) == Terrain("rough", 0.06, 0.2, friction=0.3)
    robot = both.draw(np.random.default_rng(0), 1)[0]
    assert 4 <= robot.payload_kg <= 5
    assert abs(robot.payload_x_m) >= 0.06


def test_bodies_are_the_same_every_time_and_differ_by_condition():
    config = SuiteConfig(episodes=3)
    assert bodies(config, "soft") == bodies(config, "soft")
    assert bodies(config, "soft") != bodies(SuiteConfig(episodes=3, seed=1), "soft")
    assert bodies(config, "weak")[0].d_gain_nms_per_rad != bodies(config, "soft")[0].d_gain_nms_per_rad


def test_what_policies_are_told_in_the_suite_is_from_where_it_says():
    vectors = {
        "robot": np.array([[0], [1], [2], [0], [1], [2]]),
        "terrain": np.array([[7], [7], [7], [8], [8], [8]]),
    }
    values = told(SOURCES["dmcm_told"], vectors, 3)
    np.testing.assert_array_equal(values, [[0, 7], [1, 7], [2, 7], [0, 8], [1, 8], [2, 8]])
    values = told(SOURCES["dmcm_told_wrong_robot"], vectors, 3)
    np.testing.assert_array_equal(values, [[1, 7], [2, 7], [0, 7], [1, 8], [2, 8], [0, 8]])
    values = told(SOURCES["dmcm_told_wrong_terrain"], vectors, 3)
    np.testing.assert_array_equal(values, [[0, 8], [1, 8], [2, 8], [0, 7], [1, 7], [2, 7]])
    assert told(SOURCES["vanilla"], vectors, 3) is None


@pytest.fixture
def small_suite(monkeypatch):
    """Two conditions, two grounds, short logs."""
    conditions = {name: CONDITIONS[name] for name in (TRAINING, "soft")}
    grounds = {name: GROUNDS[name] for name in ("flat", "stairs_up")}
    for module in (evaluation, suite_vectors, study, table_module):
        for name, value in (("CONDITIONS", conditions), ("GROUNDS", grounds)):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, value)
    monkeypatch.setattr(logs, "SECONDS", 4.0)
    return SuiteConfig(episodes=2, seconds=2.0, threads=1)


def test_suite_vectors_are_of_their_logs_and_made_once(place, small_suite, tmp_path, monkeypatch):
    monkeypatch.setattr("dmcm.quadruped.dynamics.log_fit.BELIEVED", np.inf)  # of an untrained model too
    walker = load_policy(POLICY)[0]
    maker = VectorMaker(GO1, walker, small_suite, place / "dynamics", 1, tmp_path)
    everything = {"robot", "cell", "terrain", "robot_here", "no_robot", "true_robot", "cell_near_here"}
    (vectors,) = maker.make(everything)
    found = vectors["soft"]
    assert {name: values.shape for name, values in found.items()} == {
        "robot": (4, 2), "cell": (4, 4), "terrain": (4, 2),
        "robot_here": (4, 2), "terrain_here": (4, 2), "cell_here": (4, 4),
        "no_robot": (4, 2), "no_terrain": (4, 2), "true_robot": (4, 9), "true_terrain": (4, 10),
        "cell_near_here": (4, 4),
    }  # fmt: skip
    for name in ("robot", "cell", "true_robot"):
        np.testing.assert_array_equal(found[name][:2], found[name][2:])
    for name in ("terrain", "true_terrain"):
        np.testing.assert_array_equal(found[name][0], found[name][1])
        assert not np.allclose(found[name][0], found[name][2])
    assert np.all(found["true_robot"][:, 0] < -1)
    model = trained_model(place / "dynamics", "dmcm", 0)
    where = [Terrain(), Terrain("stairs_up", 0.08)]
    data = logs.log_recording(walker, GO1, [nominal(GO1)] * 2, where, seed=(0, 1, 1), threads=1)
    np.testing.assert_allclose(log_vectors(model, data)["terrain"], found["terrain"][[0, 2]], atol=1e-5)
    who, there = evaluation.bodies(small_suite, "soft") * 2, [where[0], where[0], where[1], where[1]]
    data = logs.log_recording(walker, GO1, who, there, seed=(0, 1, 6), threads=1)
    single = trained_model(place / "dynamics", "single", 0)
    np.testing.assert_allclose(near_vectors(single, data)["cell"], found["cell_near_here"], atol=1e-5)
    assert np.ptp(found["cell_near_here"], axis=0).max() > 1e-3
    monkeypatch.setattr(suite_vectors, "log_recording", None)
    (again,) = maker.make(everything)
    np.testing.assert_array_equal(again["soft"]["robot_here"], found["robot_here"])
    other = dataclasses.replace(maker, suite=dataclasses.replace(small_suite, seed=3))
    with pytest.raises(StorageError, match="another suite"):
        other.make({"robot"})
    moved = eqx.tree_at(lambda p: p.log_deviation, walker, walker.log_deviation + 1)
    with pytest.raises(StorageError, match="another suite"):
        dataclasses.replace(maker, walker=moved).make({"robot"})


def test_what_needs_no_model_asks_for_none(small_suite, tmp_path):
    maker = VectorMaker(GO1, load_policy(POLICY)[0], small_suite, tmp_path / "none", 1, tmp_path)
    (vectors,) = maker.make({"true_robot"})
    assert set(vectors["soft"]) == {"true_robot", "true_terrain"}


def test_logs_of_nothing_but_falls_give_the_prior_mean(place, cells):
    model = trained_model(place / "dynamics", "dmcm", 0)
    count = cells.windows.count.copy()
    count[1, 0] = 3
    found = cell_vectors(model, dataclasses.replace(cells.windows, count=count), np.array([0, 1]))
    unknown = model.learner.prior_contexts()
    for name in ("robot", "terrain"):
        np.testing.assert_array_equal(found[name][1], unknown[name])
        assert not np.allclose(found[name][0], unknown[name])


def test_a_condition_is_walked_ground_by_ground(small_suite):
    policy = load_policy(POLICY)[0]
    cells = evaluate_condition(policy, GO1, "soft", small_suite, None)
    robots, (flat, stairs) = bodies(small_suite, "soft"), evaluation.grounds("soft")
    walk = evaluate_walking(
        policy,
        GO1,
        robots * 2,
        [flat, flat, stairs, stairs],
        seconds=2.0,
        commands=OVER_GROUND,
        seed=small_suite.seed,
        threads=1,
    )
    for rows, cell in zip((slice(0, 2), slice(2, 4)), cells.values(), strict=True):
        fine = ~walk.fell[rows] & (walk.progress[rows] >= 0.8)
        assert cell["success"] == fine.mean()
        assert cell["falls"] == walk.fell[rows].sum()
        assert cell["episodes"] == 2
        assert cell["distance_m"] == pytest.approx(walk.path_m[rows].mean())
        energy = walk.energy_j[rows].sum() / walk.path_m[rows].sum()
        assert cell["energy_j_per_m"] == pytest.approx(energy)


@pytest.fixture
def studied(place, small_suite, uninterrupted):
    """Policies of two methods and how they are evaluated."""
    out = place / "policies" / "vanilla" / "seed-0"
    train_policy(training(place, "vanilla"), out, resume=out.exists(), progress=False)
    run_sweep(PolicySweep(("dmcm", "dmcm_told"), 1, training(place), place / "policies"), progress=False)
    return PolicyStudy(
        policies=place / "policies",
        dynamics=place / "dynamics",
        sources=("vanilla", "dmcm", "dmcm_told_unknown"),
        seeds=1,
        suite=small_suite,
        results=place / "policy.json",
    )


def test_the_table_keeps_its_contract_and_goes_on_where_it_stopped(studied, monkeypatch):
    walked, real = [], study.evaluate_condition

    def counting(*arguments):
        walked.append(arguments[2])
        if len(walked) == 2:
            raise KeyboardInterrupt
        return real(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(study, "evaluate_condition", counting)
        patched.setattr(study, "gait_along", lambda *_, **__: {})  # slow, and never kept
        with pytest.raises(KeyboardInterrupt):
            run_policy_study(studied, progress=False)
        table = run_policy_study(studied, progress=False)
        assert walked == [TRAINING, "soft", "soft", *(TRAINING, "soft") * 2]
        again = run_policy_study(studied, progress=False)
        assert len(walked) == 7
    assert again["methods"] == table["methods"]
    written = json.loads(studied.results.read_text())
    assert list(written["methods"]) == ["vanilla", "dmcm", "dmcm_told_unknown"]
    keys = {"success", "ci95", "distance_m", "velocity_rmse", "energy_j_per_m", "episodes", "seeds", "falls"}
    keys |= {"ci95_over_seeds"}
    for cells in written["methods"].values():
        assert set(cells) == {
            "training on flat", "training on stairs_up", "soft on flat", "soft on stairs_up",
            "training", "soft", "outside",
        }  # fmt: skip
        assert all(set(cell) == keys for name, cell in cells.items() if name != "outside")
        assert set(cells["outside"]) == {*keys, "per_seed", "per_robot"}
        assert np.mean(cells["outside"]["per_robot"]) == pytest.approx(cells["outside"]["success"])
        assert cells["outside"]["success"] == pytest.approx(
            np.mean([cells[f"soft on {ground}"]["success"] for ground in ("flat", "stairs_up")])
        )
        assert cells["soft"]["episodes"] == 4
    assert "evaluate-policy" in written["command"]
    less = table["methods"]["dmcm"]["outside"]["success"] - table["methods"]["vanilla"]["outside"]["success"]
    assert table["differences"]["vanilla"]["mean"] == pytest.approx(less)
    # Rows that are not evaluated again stay, with what made them.
    some = run_policy_study(dataclasses.replace(studied, sources=("dmcm",)), progress=False)
    assert some["methods"] == table["methods"]
    assert some["differences"] == table["differences"]
    assert set(some["earlier"]) == {"vanilla", "dmcm_told_unknown"}
    assert all(made["command"] == table["command"] for made in some["earlier"].values())
    last = run_policy_study(dataclasses.replace(studied, sources=("vanilla",)), progress=False)
    assert last["earlier"]["dmcm_told_unknown"]["command"] == table["command"]
    assert last["earlier"]["dmcm"]["command"] == some["command"]
    # A table of another suite is neither replaced nor mixed with.
    fewer = dataclasses.replace(
        studied, sources=("vanilla",), suite=dataclasses.replace(studied.suite, seed=7)
    )
    before = studied.results.read_bytes()
    with pytest.raises(StorageError, match=r"suite\.seed: 0, not 7"):
        run_policy_study(fewer, progress=False)
    assert studied.results.read_bytes() == before
    alone = run_policy_study(dataclasses.replace(fewer, results=None), progress=False)
    assert set(alone["methods"]) == {"vanilla"}
    studied.results.write_text("[]")
    with pytest.raises(StorageError, match="choose another file"):
        run_policy_study(studied, progress=False)
    studied.results.unlink()


def test_another_policy_under_the_same_name_is_evaluated_anew(studied, place, monkeypatch):
    """What is kept belongs to weights and vectors, not to a folder and its settings."""
    walked, path = [], place / "policies" / "vanilla" / "seed-0" / "policy.safetensors"
    cell = dict.fromkeys(("success", "distance_m", "velocity_rmse", "energy_j_per_m"), 0.5)
    cell |= {"falls": 0, "episodes": 2, "per_robot": [0, 1]}

    def counting(policy, table, condition, suite, guide):
        walked.append(condition)
        return dict.fromkeys(study.GROUNDS, cell)

    monkeypatch.setattr(study, "evaluate_condition", counting)
    before, config = path.read_bytes(), dataclasses.replace(studied, sources=("vanilla",), results=None)
    kept = path.parent / "suite-vanilla.json"
    kept.unlink(missing_ok=True)
    for _ in range(2):
        run_policy_study(config, progress=False)
    assert walked == [TRAINING, "soft"]
    policy, about = load_policy(path)
    save_policy(path, eqx.tree_at(lambda p: p.log_deviation, policy, policy.log_deviation + 1), about)
    run_policy_study(config, progress=False)
    assert len(walked) == 4
    path.write_bytes(before)
    kept.unlink()


def test_a_policy_of_another_model_is_refused(studied, place, tmp_path):
    other = tmp_path / "dynamics"
    for name, learner in (("base", learner_of(all=1)), ("dmcm", learner_of(robot=2, terrain=2, more=1))):
        save_learner(other / name / "seed-0" / "model.safetensors", learner)
    folder = place / "policies" / "dmcm_told" / "seed-0"
    about = load_policy(folder / "policy.safetensors")[1]
    with pytest.raises(BankError, match="trained with vectors of model"):
        study._check_model(folder, about, other, "dmcm_told", 0)


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"sources": ("dcmc",)}, ConfigError, "dmcm"),
        ({"seeds": 0}, ConfigError, "seeds"),
        ({"robot": "a1"}, ConfigError, "trained with the robot go1"),
        ({"seeds": 2}, StorageError, "--seeds 2"),
        ({"sources": ("history",)}, StorageError, "train-policy --methods history"),
        ({"suite": SuiteConfig(episodes=0)}, ConfigError, "episodes"),
        ({"walker": MATCHED_POLICY}, ConfigError, "needs inputs that a robot's sensors"),
    ],
)
def test_what_cannot_be_evaluated_is_refused(studied, options, error, match):
    with pytest.raises(error, match=match):
        run_policy_study(dataclasses.replace(studied, results=None, **options), progress=False)


# --- the sweep ---


def test_a_sweep_trains_what_is_missing(place, uninterrupted, monkeypatch):
    trained = []

    def noting(config, out, *, resume, progress):
        trained.append((config.method, config.seed, out.name, resume))

    monkeypatch.setattr(sweep, "train_policy", noting)
    config = PolicySweep(("dmcm_told", "oracle_told"), 2, training(place), place / "policies")
    files = run_sweep(config, progress=False)
    assert trained == [
        ("oracle_told", 0, "seed-0", False),
        ("dmcm_told", 1, "seed-1", False),
        ("oracle_told", 1, "seed-1", False),
    ]
    assert files[0] == place / "policies" / "dmcm_told" / "seed-0" / "policy.safetensors"
    spread = []

    def over_ray(function, jobs, address):
        spread.extend((address, job[0].method, job[0].seed) for job in jobs)
        return iter(jobs)

    monkeypatch.setattr(sweep, "over_ray", over_ray)
    run_sweep(dataclasses.replace(config, ray="auto"), progress=False)
    assert spread == [("auto", "oracle_told", 0), ("auto", "dmcm_told", 1), ("auto", "oracle_told", 1)]


def test_methods_that_match_have_the_trained_actors_of_others(place, tmp_path, monkeypatch):
    trained, real = [], sweep.train_policy

    def noting(config, out, **options):
        trained.append((config.method, config.seed))
        return real(config, out, **options)

    monkeypatch.setattr(sweep, "train_policy", noting)
    config = PolicySweep(("dmcm", "oracle", "dmcm_ground"), 1, training(place), tmp_path)
    plain, ground, *files, both = [load_policy(file) for file in run_sweep(config, progress=False)]
    names = ("vanilla", "ground_told", "dmcm", "oracle", "dmcm_ground")
    assert trained == [(name, 0) for name in names]
    rng = np.random.default_rng(0)
    seen = rng.normal(size=(4, OWN)).astype(np.float32)
    wanted = plain[0].mean(jnp.asarray(seen))
    for (policy, about), told_what in zip(files, (2, 9), strict=True):
        assert policy.gains is not None
        assert about["training"]["actor"] == plain[1]["training"]
        given = np.concatenate([seen, rng.normal(size=(4, told_what))], axis=1)
        np.testing.assert_allclose(policy.mean(jnp.asarray(given, jnp.float32)), wanted, atol=1e-5)
    assert files[1][0].gains.logarithmic is False
    # Told both, the actor hears the ground alone, and gains are read out of the robot's vector alone.
    assert both[1]["training"]["actor"] == ground[1]["training"]
    robot, terrain = rng.normal(size=(2, 4, 2)).astype(np.float32)
    given = jnp.asarray(np.concatenate([seen, robot, terrain], axis=1))
    heard = jnp.asarray(np.concatenate([seen, terrain], axis=1))
    np.testing.assert_allclose(both[0].mean(given), ground[0].mean(heard), atol=1e-5)
    assert not np.allclose(ground[0].mean(heard), ground[0].mean(heard.at[:, OWN:].set(0.0)), atol=1e-6)
    np.testing.assert_allclose(both[0].gains(np.asarray(given[:, OWN:])), files[0][0].gains(robot), rtol=1e-4)
    truth = jnp.asarray(rng.normal(size=(4, 28)), jnp.float32)
    np.testing.assert_allclose(both[0].value(given, truth), ground[0].value(heard, truth), atol=1e-4)
    # A second call has nothing to do.
    run_sweep(config, progress=False)
    assert len(trained) == 5
    # With another actor, what was put together with the one of before is put together anew.
    path = tmp_path / "vanilla" / "seed-0" / "policy.safetensors"
    policy, about = load_policy(path)
    save_policy(path, policy, {**about, "training": {**about["training"], "data": {"robot": "go1"}}})
    run_sweep(config, progress=False)
    assert trained[5:] == [("dmcm", 0), ("oracle", 0)]
    # So is one that was put together with vectors of another model.
    path = tmp_path / "dmcm" / "seed-0" / "policy.safetensors"
    policy, about = load_policy(path)
    told = {**about["training"]["told"], "model": "other"}
    save_policy(path, policy, {**about, "training": {**about["training"], "told": told}})
    run_sweep(config, progress=False)
    assert trained[7:] == [("dmcm", 0)]
    # What was trained with other settings is not taken for what is asked for.
    longer = dataclasses.replace(config, training=training(place, iterations=6))
    with pytest.raises(CheckpointError, match=r"other settings: iterations is 4 there and 6 here"):
        run_sweep(longer, progress=False)


@pytest.fixture
def few_trials(monkeypatch):
    """Two batches of walks, from which a gait is learned in no time."""
    monkeypatch.setattr(gait_trials, "BATCHES", 2)
    monkeypatch.setattr(gait_fit, "_STEPS", 30)
    monkeypatch.setattr(gait_fit, "_READER_STEPS", 5)


def test_methods_learn_their_gait_from_the_same_walks(place, tmp_path, few_trials, monkeypatch):
    started = training(place, "vanilla", robots=50)
    out = tmp_path / "policies"
    train_policy(started, out / "vanilla" / "seed-0", progress=False)
    options = {"robots": 50, "trials": tmp_path / "trials"}
    config = PolicySweep(("vanilla_gait", "dmcm_gait"), 1, training(place, "vanilla", **options), out)
    walked, real = [], gait_trials.evaluate_walking

    def stopping(*arguments, **named):
        walked.append(named["gait"])
        if len(walked) == 2:
            raise KeyboardInterrupt
        return real(*arguments, **named)

    monkeypatch.setattr(gait_trials, "evaluate_walking", stopping)
    with pytest.raises(KeyboardInterrupt):
        run_sweep(config, progress=False)
    # The first batch is kept; the second is walked again, with the same gaits, for both methods.
    plain, fixed, told = [load_policy(file) for file in run_sweep(config, progress=False)]
    assert len(walked) == 3
    np.testing.assert_array_equal(walked[1], walked[2])
    assert walked[0].shape == (50, 4)
    rng = np.random.default_rng(0)
    seen, robots, grounds = (rng.normal(size=(6, size)).astype(np.float32) for size in (OWN, 2, 2))
    given = np.concatenate([seen, robots, grounds], axis=1)
    wanted = plain[0].mean(jnp.asarray(seen))
    np.testing.assert_allclose(told[0].mean(jnp.asarray(given)), wanted, atol=1e-5)
    # The gait follows the ground's vector alone, and is one for all without any.
    chosen = told[0].gait(given[:, OWN:])
    assert np.ptp(chosen, axis=0).max() > 1e-4
    same_ground = np.concatenate([robots, np.tile(grounds[:1], (6, 1))], axis=1)
    np.testing.assert_array_equal(told[0].gait(same_ground), np.tile(chosen[:1], (6, 1)))
    assert fixed[0].gait.slope.shape == (4, 0)
    assert fixed[0].gains is None
    # Nothing is left to do; with other noise the gait is learned anew, from the same walks.
    run_sweep(config, progress=False)
    before = load_policy(out / "dmcm_gait" / "seed-0" / "policy.safetensors")[0]
    noisier = dataclasses.replace(config.training, noise=0.5)
    train_policy(
        dataclasses.replace(
            noisier, method="dmcm_gait", start=out / "vanilla" / "seed-0" / "policy.safetensors"
        ),
        tmp_path / "noisier",
        progress=False,
    )
    after = load_policy(tmp_path / "noisier" / "policy.safetensors")[0]
    assert len(walked) == 3
    assert not np.array_equal(before.gait.slope, after.gait.slope)
    # Walks of another actor are not learned from.
    other = eqx.tree_at(lambda p: p.log_deviation, plain[0], plain[0].log_deviation + 1)
    save_policy(tmp_path / "other.safetensors", other, plain[1])
    with pytest.raises(StorageError, match="walks of another actor, other data or another number of robots"):
        train_policy(
            dataclasses.replace(noisier, method="dmcm_gait", start=tmp_path / "other.safetensors"),
            tmp_path / "elsewhere",
            progress=False,
        )


@pytest.mark.parametrize("what", ["digests.data", "digests.start", "digests.robot", "told.model"])
def test_a_finished_policy_from_other_sources_is_not_taken(place, uninterrupted, tmp_path, what):
    policy, about = load_policy(uninterrupted[1] / "policy.safetensors")
    config = PolicySweep(("dmcm_told",), 1, training(place), tmp_path)
    path = tmp_path / "dmcm_told" / "seed-0" / "policy.safetensors"
    save_policy(path, policy, about)
    assert run_sweep(config, progress=False) == [path]
    held, (part, name) = about["training"], what.split(".")
    save_policy(path, policy, {**about, "training": {**held, part: {**held[part], name: "other"}}})
    with pytest.raises(CheckpointError, match=f"{what} is 'other' there and .*choose another folder"):
        run_sweep(config, progress=False)
    # An earlier version did not say what its policies were made from.
    save_policy(path, policy, {**about, "training": {n: v for n, v in held.items() if n != part}})
    assert run_sweep(config, progress=False) == [path]


def test_data_of_a_robot_that_was_edited_are_refused(place, tmp_path):
    shutil.copytree(place / "data", tmp_path / "data")
    manifest = read_json(tmp_path / "data" / "manifest.json")
    manifest["robot_table"]["p_gain_nm_per_rad"] = 70.0
    write_json(tmp_path / "data" / "manifest.json", manifest)
    with pytest.raises(DataError, match=r"p_gain_nm_per_rad is 70\.0 there and .*collect again"):
        train_policy(training(place, data=tmp_path / "data"), tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("options", [{"methods": ("dmcn",)}, {"seeds": 0}])
def test_a_sweep_of_nothing_is_refused(place, options):
    with pytest.raises(ConfigError):
        run_sweep(dataclasses.replace(PolicySweep(training=training(place), out=place / "none"), **options))
