"""The pendulum family against energy and an independent integrator; its protocol and comparison."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dmcm.errors import ConfigError
from dmcm.pendulum import protocol
from dmcm.pendulum.comparison import PendulumConfig, run_pendulum
from dmcm.pendulum.family import (
    BLOCK,
    POINTS,
    RANGES,
    SHOTS,
    STEP,
    PendulumSampler,
    in_block,
    scaler,
    times,
    trajectories,
)
from dmcm.pendulum.methods import METHODS, PRECISION, SIZE
from dmcm.studies import build


def simulate(**values):
    """Trajectories of numbers or lists of them, shape (tasks, POINTS)."""
    arrays = np.broadcast_arrays(*(np.atleast_1d(values[name]) for name in RANGES))
    return np.asarray(trajectories(*(jnp.asarray(a, jnp.float32) for a in arrays)), np.float64)


def integrate(damping, stiffness, drive, substeps=40):
    """The same angle by the midpoint rule with much smaller steps, in double precision."""
    angle, speed, t, h = -1.5, 0.0, 0.0, STEP / substeps
    angles = [angle]
    acceleration = lambda a, v, t: (  # noqa: E731
        -damping * v - stiffness * np.sin(a) + drive * np.cos(2 * t)
    )
    for i in range((POINTS - 1) * substeps):
        half_angle = angle + h / 2 * speed
        half_speed = speed + h / 2 * acceleration(angle, speed, t)
        angle += h * half_speed
        speed += h * acceleration(half_angle, half_speed, t + h / 2)
        t = (i + 1) * h
        if (i + 1) % substeps == 0:
            angles.append(angle)
    return np.array(angles)


@pytest.mark.parametrize("corner", [(0.1, 6.0, 1.5), (1.0, 1.0, 0.0), (0.1, 1.0, 1.5), (0.4, 4.0, 1.0)])
def test_trajectories_agree_with_another_integrator(corner):
    found = simulate(damping=corner[0], stiffness=corner[1], drive=corner[2])[0]
    np.testing.assert_allclose(found, integrate(*corner), atol=3e-3)
    assert np.abs(found - integrate(*corner)).mean() < 5e-4


def test_undamped_pendulum_keeps_its_energy():
    angles = simulate(damping=0.0, stiffness=3.0, drive=0.0)[0]
    speed = (angles[2:] - angles[:-2]) / (2 * STEP)
    energy = speed**2 / 2 - 3.0 * np.cos(angles[1:-1])
    # Speed by central differences, so good to about 1 %.
    np.testing.assert_allclose(energy, -3.0 * np.cos(1.5), atol=0.05)
    assert np.abs(angles).max() <= 1.5 + 1e-4


def test_no_pendulum_of_the_family_turns_over():
    """On a random cloud and, more telling, at the corners of the ranges."""
    rng = np.random.default_rng(0)
    values = {
        name: np.append(rng.uniform(*limits, 5000), rng.choice(limits, 64)) for name, limits in RANGES.items()
    }
    angles = simulate(**values)
    assert np.all(angles[:, 0] == -1.5)
    assert np.abs(angles).max() < 2.6


@pytest.fixture(scope="module")
def cube():
    """Trajectories of 12 values of each factor, shape (12, 12, 12, POINTS)."""
    axes = [np.linspace(*limits, 12) for limits in RANGES.values()]
    values = [grid.ravel() for grid in np.meshgrid(*axes, indexing="ij")]
    return simulate(**dict(zip(RANGES, values, strict=True))).reshape(12, 12, 12, POINTS)


def test_truth_is_no_product_that_the_contexts_could_hold(cube):
    """What the best expansion in SIZE + 1 functions of stiffness misses, by singular values."""
    centred = cube - cube.mean()
    unfolded = np.moveaxis(centred, list(RANGES).index("stiffness"), 0).reshape(12, -1)
    squares = np.linalg.svd(unfolded, compute_uv=False) ** 2
    missed = squares[SIZE + 1 :].sum() / squares.sum()
    assert 0.005 < missed < 0.03


def test_every_factor_matters(cube):
    for axis in range(3):
        share = np.var(cube - cube.mean(axis=axis, keepdims=True)) / np.var(cube)
        assert share > 0.02


def test_scaler_agrees_with_draws(cube):
    moments = scaler()
    assert float(moments.y_mean[0]) == pytest.approx(cube.mean(), abs=0.02)
    assert float(moments.y_std[0]) == pytest.approx(cube.std(), rel=0.05)
    assert float(moments.x_mean[0]) == pytest.approx(times().mean())
    assert float(moments.x_std[0]) == pytest.approx(times().std(), rel=0.01)


@pytest.fixture(scope="module")
def batches():
    keys = jax.random.split(jax.random.key(0), 40)
    return eqx.filter_jit(lambda: jax.vmap(PendulumSampler().sample)(keys))()


def test_batches_are_points_of_their_trajectories(batches):
    values = {name: np.asarray(value)[..., 0] for name, value in batches.values.items()}
    for task in (0, 13, 26):
        angles = simulate(**{name: value[0, task] for name, value in values.items()})[0]
        for samples in (batches.support, batches.query):
            index = np.rint(np.asarray(samples.x)[0, task, :, 0] / STEP).astype(int)
            np.testing.assert_allclose(samples.y[0, task, :, 0], angles[index], atol=1e-5)
    for name, (low, high) in RANGES.items():
        assert values[name].min() >= low
        assert values[name].max() <= high


def test_held_out_block_is_never_trained_on(batches):
    values = {name: np.asarray(value)[..., 0] for name, value in batches.values.items()}
    inside = (values["stiffness"] > BLOCK["stiffness"]) & (values["drive"] > BLOCK["drive"])
    assert np.array_equal(np.asarray(batches.valid), ~inside)
    assert 0.1 < inside.mean() < 0.4


def test_every_task_has_donors(batches):
    """Equal labels mean equal values, and each label is carried by nine tasks."""
    for name, label in batches.labels.items():
        value = np.asarray(batches.values[name])[..., 0]
        same = np.asarray(label)[:, :, None] == np.asarray(label)[:, None, :]
        assert np.array_equal(same, value[:, :, None] == value[:, None, :])
        assert np.all(same.sum(axis=-1) == 9)
    labels = np.stack([np.asarray(label)[0] for label in batches.labels.values()])
    assert len(np.unique(labels, axis=1).T) == 27


@pytest.mark.parametrize("split", protocol.SPLITS)
def test_test_tasks_and_donors_lie_where_they_must(split):
    drawn = protocol.draw_tasks(split, seed=3, tasks=200)
    assert np.asarray(in_block(drawn.values)).all() == (split == "unseen_combination")
    assert np.asarray(in_block(drawn.values)).any() == (split == "unseen_combination")
    np.testing.assert_allclose(drawn.angles, simulate(**drawn.values), atol=1e-6)
    index = np.rint(np.asarray(drawn.support.x)[..., 0] / STEP).astype(int)
    assert index.shape == (200, SHOTS)
    np.testing.assert_allclose(
        np.asarray(drawn.support.y)[..., 0], np.take_along_axis(drawn.angles, index, 1), atol=1e-6
    )
    assert drawn.donors.keys() == RANGES.keys()


@given(seed=st.integers(0, 2**31))
@settings(max_examples=20)
def test_donors_share_one_factor_and_stay_out_of_the_block(seed):
    rng = np.random.default_rng(seed)
    values = protocol._draw_values(rng, 50, True, {})
    for name, own in values.items():
        donor = protocol._draw_values(rng, 50, False, {name: own})
        assert np.array_equal(donor[name], own)
        assert not np.asarray(in_block(donor)).any()
        for other, (low, high) in RANGES.items():
            assert donor[other].min() >= low
            assert donor[other].max() <= high
            assert other == name or not np.array_equal(donor[other], values[other])


def test_unknown_names():
    with pytest.raises(ConfigError, match="Did you mean 'seen'"):
        protocol.draw_tasks("sen")
    with pytest.raises(ConfigError, match="Did you mean 'film'"):
        PendulumConfig(methods=("flim",)).names()
    for wrong in ({"seeds": 0}, {"steps": 0}):
        with pytest.raises(ConfigError, match="at least 1"):
            PendulumConfig(**wrong).names()
    assert PendulumConfig().names() == tuple(METHODS)


def test_methods_have_contexts_of_the_same_total_size():
    assert {sum(method.factors.values()) for method in METHODS.values()} == {SIZE * len(RANGES)}


def test_evaluation_has_every_figure():
    few = {"kind": "levenberg_marquardt", "steps": 1, "training_steps": 1}
    method = dataclasses.replace(METHODS["single"], solver=few)
    learner = dataclasses.replace(build(method, 0), scaler=scaler())
    table = protocol.evaluate(learner, seed=1, tasks=40)
    drawn = protocol.draw_tasks("unseen_combination", seed=1, tasks=40)
    ways = protocol.zero_shot_contexts(learner, drawn)
    assert ways.keys() == {*RANGES, "mean"}
    errors = {way: protocol.task_errors(learner, mixed, drawn).mean() for way, mixed in ways.items()}
    assert table["zero_shot"]["unseen_combination"]["mean"] == pytest.approx(min(errors.values()))
    adapted = learner.adapt_samples(drawn.support)
    predicted = np.asarray(learner.predict(adapted, times()))[..., 0]
    expected = np.mean((predicted - drawn.angles) ** 2)
    assert table["few_shot"]["unseen_combination"]["mean"] == pytest.approx(expected, rel=1e-4)
    assert table["probes"].keys() == {"task"}
    assert all(0 <= value <= 1 for value in table["probes"]["task"].values())


def test_comparison_trains_measures_and_remembers(monkeypatch, tmp_path):
    # Without an inner loop there is next to nothing to compile.
    method = dataclasses.replace(METHODS["dmcm"], solver={"kind": "none"})
    monkeypatch.setitem(METHODS, "dmcm", method)
    evaluate, trained = protocol.evaluate, []

    def quickly(learner, seed):
        trained.append(learner)
        return evaluate(learner, seed=seed, tasks=40)

    monkeypatch.setattr(protocol, "evaluate", quickly)
    config = PendulumConfig(
        methods=("dmcm",), seeds=2, steps=2, out=tmp_path / "runs", results=tmp_path / "table.json"
    )
    table = run_pendulum(config, progress=False)
    for learner in trained:
        for value in learner.prior.precision().values():
            np.testing.assert_allclose(value, PRECISION, rtol=0.05)  # two steps hardly move it
    found = table["methods"]["dmcm"]
    assert len(found["zero_shot"]["unseen_combination"]["per_seed"]) == 2
    assert found["probes"].keys() == RANGES.keys()
    assert len(found["probes"]["drive"]["stiffness"]["per_seed"]) == 2
    assert (tmp_path / "table.json").exists()
    monkeypatch.setattr(protocol, "evaluate", None)  # a second call must not need it
    assert run_pendulum(config, progress=False)["methods"] == table["methods"]
