"""The robot's demonstration: the model against its parts, the origin of vectors, the page."""

import dataclasses
import json
import re

import jax.numpy as jnp
import numpy as np
import pytest

import dmcm
from dmcm.contexts import Contexts
from dmcm.errors import ConfigError, DataError, FactorError, ShapeError, StorageError
from dmcm.models import save_learner
from dmcm.quadruped import demo_page, demo_walk
from dmcm.quadruped.body.properties import TRAINING_RANGES
from dmcm.quadruped.body.robot_table import load_robot
from dmcm.quadruped.conditioned.shipped import GAIT_POLICY, MATCHED_POLICY, PLAIN_POLICY, TOLD_POLICY
from dmcm.quadruped.data.recording import column
from dmcm.quadruped.data.windows import OUTPUTS, WindowConfig, cut, output
from dmcm.quadruped.demo import QUANTITIES, SLOPE, UNSEEN, WAYS, Demo, mix_and_predict, run_demo, simulate
from dmcm.quadruped.demo_walk import FILMED, SOFT, STAIRS, TOLD, WalkDemo, run_walk_demo
from dmcm.quadruped.dynamics import model as dynamics_model
from dmcm.quadruped.dynamics.model import BASE_OF, DynamicsModel, load_dynamics_model, trained_model
from dmcm.quadruped.walking.evaluation import Walk
from dmcm.quadruped.walking.gait import SETTINGS
from dmcm.quadruped.walking.policy import POLICY, load_policy
from dmcm.quadruped.world.terrain import TRAINING_TERRAINS
from dmcm.report import write_page
from dmcm.runs import RunFolder
from dmcm.scaling import Scaler
from helpers import network, robot_model, same_bits, solver

GO1 = load_robot("go1")
SECONDS = 6.0
FLAT, KNOWN, TARGET = range(3)


@pytest.fixture(scope="module")
def model():
    return robot_model()


@pytest.fixture(scope="module")
def policy():
    return load_policy(POLICY)[0]


@pytest.fixture(scope="module")
def collection(policy):
    return simulate(policy, seed=0, seconds=SECONDS)


@pytest.fixture(scope="module")
def shown(model, collection):
    return mix_and_predict(model, collection)


def samples(model, rng, count=60):
    """Made-up inputs, and outputs of a robot and terrain of made-up vectors."""
    x = rng.normal(size=(count, model.base.inputs)).astype(np.float32)
    vectors = {name: jnp.asarray(rng.normal(size=2), jnp.float32) for name in ("robot", "terrain")}
    return x, vectors


def test_without_vectors_it_is_the_base_network(model):
    x, vectors = samples(model, np.random.default_rng(0))
    base = np.asarray(model.base.predict(model.base.prior_contexts(), x))
    np.testing.assert_array_equal(model.predict(None, x), base)
    corrected = model.learner.predict(Contexts(vectors, None), x)
    np.testing.assert_allclose(model.predict(Contexts(vectors, None), x), base + corrected, atol=1e-5)
    assert np.abs(corrected).max() > 0.01


def test_vectors_explain_what_the_base_network_gets_wrong(model):
    x, vectors = samples(model, np.random.default_rng(1))
    # Far from zero, so that it cannot pass for an error of itself.
    far = np.random.default_rng(2).normal(0, 5, (len(x), model.base.outputs)).astype(np.float32)
    base = dmcm.Learner(
        model.base.network, model.base.solver, model.base.factors, scaler=Scaler.from_samples(x, far)
    )
    model = DynamicsModel(base, model.learner, model.windows)
    truth = np.asarray(model.predict(Contexts(vectors, None), x))
    found = model.adapt(x, truth)
    left, wrong = (np.square(model.predict(c, x) - truth).mean() for c in (found, None))
    assert left < 0.002 * wrong
    held = model.adapt(x, truth, given={"robot": vectors["robot"]})
    np.testing.assert_array_equal(held["robot"], vectors["robot"])
    only = model.adapt(x, truth, only=["robot"])
    np.testing.assert_array_equal(only["terrain"], model.learner.prior_contexts()["terrain"])


def test_samples_that_do_not_fit_are_refused(model):
    x, _ = samples(model, np.random.default_rng(2))
    with pytest.raises(ShapeError):
        model.adapt(x, np.zeros((len(x), 1), np.float32))  # would broadcast
    with pytest.raises(ShapeError):
        model.predict(None, x[:, 1:])


def test_models_for_something_else_are_refused_with_advice(model, tmp_path):
    sizes = {"inputs": model.base.inputs, "outputs": model.base.outputs}
    cell = dmcm.Factors(cell=4)
    single = dmcm.Learner(network(factors=cell, **sizes), solver(factors=cell), cell)
    files = {name: tmp_path / name for name in ("base", "both", "single")}
    for name, learner in (("base", model.base), ("both", model.learner), ("single", single)):
        save_learner(files[name], learner)
    with pytest.raises(FactorError, match=r"robot and terrain are needed\. Take the run dmcm"):
        load_dynamics_model(base_path=files["base"], path=files["single"])
    with pytest.raises(FactorError):
        load_dynamics_model(base_path=files["both"], path=files["base"])  # swapped
    with pytest.raises(ShapeError, match=r"history=4 have 173 and 74\. Give the WindowConfig"):
        DynamicsModel(model.base, model.learner, WindowConfig(history=4))
    narrow = network("concat", model.base.factors, inputs=sizes["inputs"], outputs=9)
    base = dmcm.Learner(narrow, solver(factors=model.base.factors), model.base.factors)
    with pytest.raises(ShapeError, match="base network has 131 input and 9 output columns"):
        DynamicsModel(base, model.learner, model.windows)


def test_models_are_read_from_their_files(model, tmp_path, monkeypatch):
    base_path, path = tmp_path / "base.safetensors", tmp_path / "model.safetensors"
    save_learner(base_path, model.base)
    save_learner(path, model.learner)
    assert same_bits(load_dynamics_model(base_path=base_path, path=path), model)
    monkeypatch.setattr(dynamics_model, "BASE_MODEL", base_path)
    monkeypatch.setattr(dynamics_model, "MODEL", path)
    assert same_bits(load_dynamics_model(), model)
    with pytest.raises(StorageError, match=r"nowhere\.safetensors"):
        load_dynamics_model(path=tmp_path / "nowhere.safetensors")


def test_a_learner_of_another_base_network_is_refused(model, tmp_path):
    for name, learner in (("base", model.base), ("dmcm", model.learner)):
        save_learner(tmp_path / name / "seed-0" / "model.safetensors", learner)
    beside = tmp_path / "dmcm" / "seed-0" / "cell.json"
    for told in (None, {"seed": 0}, {BASE_OF: model.base.fingerprint()}):
        if told is not None:
            beside.write_text(json.dumps(told))
        assert same_bits(trained_model(tmp_path, "dmcm", 0), model)
    beside.write_text(json.dumps({BASE_OF: model.learner.fingerprint()}))
    with pytest.raises(StorageError, match="dmcm of seed 0 was trained to correct another base network"):
        trained_model(tmp_path, "dmcm", 0)


def test_the_robot_is_new_and_neither_it_nor_the_slope_is_extreme():
    for name, (low, high) in TRAINING_RANGES.items():
        assert low <= getattr(UNSEEN, name) <= high
    assert SLOPE in TRAINING_TERRAINS


def test_recordings_are_of_the_right_robots_on_the_right_grounds(collection):
    pairs = [
        (collection.grid.robots[cell.robot], collection.grid.terrains[cell.terrain])
        for cell in collection.grid.cells
    ]
    assert pairs[TARGET] == (UNSEEN, SLOPE)
    assert pairs[FLAT][0] == UNSEEN
    assert pairs[FLAT][1].kind == "flat"
    assert pairs[KNOWN][0] != UNSEEN
    assert pairs[KNOWN][1] == SLOPE
    walking = slice(50, None)  # they begin with a drop to the ground
    height = collection["height_m"][:, walking, 0]
    forward = collection["trunk_velocity_m_s"][:, walking, 0].mean(axis=1) * (SECONDS - 1)
    climbed = height[:, -1] - height[:, 0]
    assert abs(climbed[FLAT]) < 0.05
    np.testing.assert_allclose(climbed[[KNOWN, TARGET]], SLOPE.size * forward[[KNOWN, TARGET]], rtol=0.3)


def test_vectors_come_from_where_they_must(model, collection, shown):
    windows = cut(collection.data, model.windows)

    def half(cell, number):
        count = windows.count[cell, number]
        return windows.x[cell, number, :count], windows.y[cell, number, :count]

    x, truth = half(TARGET, 1)
    np.testing.assert_array_equal(shown.truth, truth)
    robot, terrain = model.adapt(*half(FLAT, 0)), model.adapt(*half(KNOWN, 0))
    unknown = model.learner.prior_contexts()
    wanted = {
        "none": None,
        "robot": Contexts({"robot": robot["robot"], "terrain": unknown["terrain"]}, None),
        "terrain": Contexts({"robot": unknown["robot"], "terrain": terrain["terrain"]}, None),
        "mixed": Contexts({"robot": robot["robot"], "terrain": terrain["terrain"]}, None),
        "in_place": model.adapt(*half(TARGET, 0)),
    }
    assert set(shown.predicted) == set(WAYS) == set(wanted)
    for way, contexts in wanted.items():
        np.testing.assert_allclose(shown.predicted[way], model.predict(contexts, x), atol=1e-5)
    assert len({values.tobytes() for values in shown.predicted.values()}) == len(WAYS)


def test_the_mix_knows_nothing_of_the_pair(model, collection, shown):
    def changed(cell, half):
        """The demonstration if half a recording were of something else."""
        data = collection.data.copy()
        middle = data.shape[1] // 2
        part = slice(0, middle) if half == 0 else slice(middle, None)
        data[cell, part, column("torques_nm")] *= -0.5
        data[cell, part, column("joint_speeds_rad_s")] *= 0.5
        other = mix_and_predict(model, dataclasses.replace(collection, data=data))
        return {w for w in WAYS if not np.array_equal(other.predicted[w], shown.predicted[w])}

    assert changed(TARGET, 0) == {"in_place"}
    assert changed(FLAT, 0) == {"robot", "mixed"}
    assert changed(KNOWN, 0) == {"terrain", "mixed"}
    assert changed(FLAT, 1) == changed(KNOWN, 1) == set()


def test_equal_seeds_give_equal_numbers(model, policy, shown):
    again, other = (run_demo(model, policy, seed=seed, seconds=SECONDS) for seed in (0, 1))
    np.testing.assert_array_equal(again.truth, shown.truth)
    for way in WAYS:
        np.testing.assert_array_equal(again.predicted[way], shown.predicted[way])
    assert other.truth.shape != shown.truth.shape or np.any(other.truth != shown.truth)


def test_settings_and_robots_that_do_not_do(model, policy, collection):
    with pytest.raises(ConfigError, match=r"seconds=1\.0"):
        run_demo(model, policy, seconds=1.0)
    data = collection.data.copy()
    data[KNOWN, ::20, column("falls")] = 1
    with pytest.raises(DataError, match="fell too often"):
        mix_and_predict(model, dataclasses.replace(collection, data=data))


@pytest.fixture
def made_up():
    """A demonstration of four samples with one missing before the last, and errors known beforehand."""
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(4, sum(OUTPUTS.values()))).astype(np.float32)
    truth[:, output("pitch_1s")] = 0.0
    predicted = {way: truth.copy() for way in WAYS}
    predicted["none"][:, output("height_change_1s")] += 0.03
    predicted["none"][:, output("torque_nm").start] += 12.0  # one of twelve joints
    predicted["none"][:, output("tracking_error_1s")] -= np.pi / 180
    predicted["none"][:, output("pitch_1s")] = np.sin(np.radians(7))
    predicted["mixed"][:2, output("mean_torque_1s")] += 2.0
    return Demo(20.0, np.array([100, 104, 108, 116]), 4, truth, predicted, 12.3)


@pytest.fixture
def made_up_walk():
    """Four episodes a policy: with nothing one falls and one is slow, told of flat ground all are slow."""
    progress = {"nothing": [0.9, 0.9, 0.7, 0.9], "published": [0.5] * 4, "own": [0.8] * 4, "both": [0.9] * 4}
    zeros = np.zeros(4)
    walks = {
        way: Walk(
            np.array([way == "nothing", False, False, False]),
            np.full(4, 8.0),
            zeros,
            np.array([2.0, 3.0, 4.0, 5.0]),
            np.array(progress[way]),
            *[zeros] * 3,
            np.zeros(4, bool),
        )
        for way in TOLD
    }
    return WalkDemo(20.0, np.array([19.0, 0.54]), np.array([0.176, 0.29, 0.0, 1.0]), walks, None)


def test_errors_are_in_the_units_they_are_given_in(made_up):
    units = [quantity.unit for quantity in QUANTITIES.values()]
    assert units == ["N m", "N m", "°", "cm", "°"]
    errors = [made_up.error("none", name) for name in QUANTITIES]
    np.testing.assert_allclose(errors, [12 / np.sqrt(12), 0, 1, 3, 7], rtol=1e-3, atol=1e-6)
    assert made_up.error("mixed", "mean_torque_1s") == pytest.approx(np.sqrt(2), rel=1e-5)
    climb = made_up.truth[:, output("height_change_1s")]
    assert made_up.relative_error("none", "height_change_1s") == pytest.approx(0.03 / climb.std(), rel=1e-3)
    first = made_up.truth[:, output("torque_nm").start].std()
    wanted = 12 / first / np.sqrt(12)
    assert made_up.relative_error("none", "torque_nm") == pytest.approx(wanted, rel=1e-3)


def test_pictures_show_the_numbers(made_up):
    axis = demo_page.pitch_picture(made_up).axes[0]
    for line, way in zip(axis.lines, ("truth", "none", "mixed"), strict=True):
        np.testing.assert_allclose(line.get_xdata(), [2.0, 2.08, 2.16, 2.24, 2.32])
        # Gravity leans forward where the nose is down.
        pitch = -7.0 if way == "none" else 0.0
        np.testing.assert_allclose(line.get_ydata(), [pitch] * 3 + [np.nan, pitch], rtol=1e-5)
    axis = demo_page.torque_picture(made_up).axes[0]
    for line, way in zip(axis.lines, ("none", "mixed"), strict=True):
        mean = made_up.predicted[way][:, output("mean_torque_1s")].mean(axis=0)
        np.testing.assert_allclose(line.get_ydata(), mean, rtol=1e-5)
    (bars,) = axis.collections
    heights = [segment[0, 1] for segment in bars.get_segments()]
    np.testing.assert_allclose(heights, made_up.truth[:, output("mean_torque_1s")].mean(axis=0), rtol=1e-5)


def test_the_page_tells_it_all(shown, made_up_walk, tmp_path, monkeypatch):
    monkeypatch.setattr(demo_page, "standing_images", lambda *_: None)
    path = write_page(RunFolder(tmp_path / "go1"), demo_page.build_page(shown, made_up_walk))
    assert path == tmp_path / "go1" / "report.html"
    text = path.read_text()
    assert not re.search(r"<(script|link|iframe)", text)
    assert all(source.startswith("data:") for source in re.findall(r'(?:src|href)="([^"]*)"', text))
    assert [row[1:3] for row in demo_page.walk_table(made_up_walk).rows] == [[2, 1], [0, 0], [4, 0], [4, 0]]
    for row in (*demo_page.error_table(shown).rows, *demo_page.walk_table(made_up_walk).rows):
        for cell in row:
            assert f">{demo_page.show_number(cell) if isinstance(cell, float) else cell}<" in text
    assert "3 s on flat ground" in text
    assert "lifted by 18 cm instead of 14" in text
    assert len(list((tmp_path / "go1" / "plots").iterdir())) == 2


def test_the_page_shows_the_robot_where_it_can_be_drawn(shown, made_up_walk, tmp_path, monkeypatch):
    images = [np.zeros((20, 32, 4), np.uint8)] * 2
    monkeypatch.setattr(demo_page, "standing_images", lambda *_: images)
    path = write_page(RunFolder(tmp_path), demo_page.build_page(shown, made_up_walk))
    assert "The robot on both grounds" in path.read_text()
    assert (path.parent / "plots" / "the-robot-on-both-grounds.svg").exists()


def test_the_policies_that_come_with_it_fit_its_model():
    paths = (MATCHED_POLICY, GAIT_POLICY, TOLD_POLICY, PLAIN_POLICY)
    loaded = [load_policy(path) for path in paths]
    (matched, gaited, _, actor), abouts = zip(*loaded, strict=True)
    about, chosen, told, plain = (found["training"] for found in abouts)
    model = load_dynamics_model().learner.fingerprint()
    assert [found["told"]["model"] for found in (about, chosen, told)] == [model] * 3
    methods = [found["method"] for found in (about, chosen, told, plain)]
    assert methods == ["dmcm", "dmcm_gait", "dmcm_told", "vanilla"]
    assert plain["told"]["vectors"] == {}
    same = ("iterations", "robots", "seed", "ppo", "start", "data")
    assert [told[name] for name in same] == [plain[name] for name in same]
    # The very same actor.
    seen = np.random.default_rng(0).normal(size=(4, actor.observation_scale.mean.size))
    given = jnp.asarray(np.concatenate([seen, np.ones((4, 10))], axis=1), jnp.float32)
    for policy, size in ((matched, 6), (gaited, 10)):
        heard = given[:, : seen.shape[1] + size]
        np.testing.assert_allclose(policy.mean(heard), actor.mean(given[:, :-10]), atol=1e-5)


def test_the_soft_robot_is_outside_training_and_told_its_own_vector(policy, made_up_walk, monkeypatch):
    calls = []

    def walk(*args, **how):
        calls.append((args, how))
        return made_up_walk.walks["own"]

    monkeypatch.setattr(demo_walk, "evaluate_walking", walk)
    panes = []
    monkeypatch.setattr(demo_walk, "film", lambda walkers, *args, **how: panes.extend(walkers))
    model = load_dynamics_model()
    found = run_walk_demo(model, policy, episodes=2)
    assert found.gif is None
    assert set(found.walks) == set(TOLD)
    for name in ("p_gain_nm_per_rad", "payload_kg"):
        low, high = TRAINING_RANGES[name]
        assert not low <= getattr(SOFT, name) <= high
    # Its vector says its gains, of which it was not told.
    np.testing.assert_allclose(found.gains, [SOFT.p_gain_nm_per_rad, SOFT.d_gain_nms_per_rad], rtol=0.15)
    for way, (args, how) in zip(TOLD, calls, strict=True):
        assert args[2:] == ([SOFT] * 2, [STAIRS] * 2)
        assert how["seed"] == 0
        assert (how["guide"] is None) == (way == "nothing")
    published, own, both = (how["guide"].values for _, how in calls[1:])
    gains = load_policy(MATCHED_POLICY)[0].gains
    np.testing.assert_allclose(gains(published), 1.0, atol=0.1)
    np.testing.assert_allclose(gains(own)[0] * [35.0, 0.8], found.gains, rtol=1e-5)
    assert [pane.title for pane in panes] == list(FILMED.values())
    assert [None if pane.guide is None else pane.guide.values.tolist() for pane in panes] == [
        None,
        own[:1].tolist(),
        both[:1].tolist(),
    ]
    assert [pane.policy.gait is not None for pane in panes] == [False, False, True]
    # The vector of the stairs lifts the feet, whatever the robot's says.
    np.testing.assert_array_equal(both[:, :6], own)
    gait = load_policy(GAIT_POLICY)[0].gait
    np.testing.assert_allclose(gait(np.hstack([published, both[:, 6:]]))[0], found.gait, rtol=1e-6)
    assert found.gait[SETTINGS.index("swing_height_m")] > 0.16
