"""The streaming filter: closed forms, the batch solution, forgetting, calibration, what is refused."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests.helpers import double_precision

import dmcm
from dmcm.errors import ConfigError, DataError, FactorError, ShapeError
from dmcm.scaling import Scaler
from dmcm.streaming import ContextFilter

SAMPLES, NOISE = 30, 0.2
FACTORS = dmcm.Factors(robot=3, terrain=2)


def build(*, normalise):
    """Two inputs, three outputs, raw units far from standardised ones, a prior that is not zero."""
    network = dmcm.TensorProductNetwork(
        FACTORS, 2, 3, width=16, activation="silu", normalise=normalise, key=jax.random.key(0)
    )
    scaler = Scaler(*(jnp.asarray(v, jnp.float32) for v in ([1, 2], [3, 0.5], [5, 0, -1], [2, 2, 2])))
    prior = dmcm.Prior(FACTORS, precision=0.02)
    prior = eqx.tree_at(lambda p: p.mean["robot"], prior, jnp.asarray([0.3, -0.2, 0.5]))
    return dmcm.Learner(network, dmcm.LevenbergMarquardt(30), FACTORS, prior=prior, scaler=scaler)


@pytest.fixture(scope="module")
def learner():
    """Predictions are linear in one factor's vector."""
    return build(normalise=False)


def task(learner, robot, terrain, count=SAMPLES, seed=0, noise=NOISE):
    """Samples of a task with known contexts, in raw units."""
    rng = np.random.default_rng(seed)
    x = (rng.normal(size=(count, 2)) * [3, 0.5] + [1, 2]).astype(np.float32)
    contexts = {"robot": jnp.asarray(robot, jnp.float32), "terrain": jnp.asarray(terrain, jnp.float32)}
    y = np.asarray(learner.predict(dmcm.Contexts(contexts), x))
    return x, (y + noise * rng.normal(size=y.shape)).astype(np.float32)


GIVEN = {"terrain": np.array([0.8, -0.6], np.float32)}
ROBOT = [1.0, -0.7, 0.4]


def alone(learner, **settings):
    """Moves the robot's vector, by which predictions are linear."""
    return ContextFilter(learner, **({"noise": NOISE, "samples": SAMPLES, "given": GIVEN} | settings))


def linear(learner, x):
    """Predictions as `offset + slopes @ robot` in standardised units, double precision."""
    scaled = learner.scaler.scale_x(jnp.asarray(x))

    def predict(robot):
        return learner.network(scaled, {"robot": robot, "terrain": jnp.asarray(GIVEN["terrain"])})

    zero = jnp.zeros(3)
    return np.asarray(predict(zero), float), np.asarray(jax.jacfwd(predict)(zero), float)


def posterior(learner, x, y, weight, samples=SAMPLES):
    """Closed form of linear regression: mean and covariance."""
    offset, slopes = linear(learner, x)
    target = np.asarray(learner.scaler.scale_y(jnp.asarray(y)), float) - offset
    measured = weight[weight > 0].mean()
    prior_information = samples * 3 * measured * np.diag(np.asarray(learner.prior.precision()["robot"]))
    information = prior_information + np.einsum("noi,o,noj->ij", slopes, weight, slopes)
    mean = np.asarray(learner.prior.mean["robot"], float)
    right = prior_information @ mean + np.einsum("noi,o,no->i", slopes, weight, np.nan_to_num(target))
    return np.linalg.solve(information, right), np.linalg.inv(information)


def test_one_factor_is_the_batch_solution_and_the_closed_form(learner):
    x, y = task(learner, ROBOT, GIVEN["terrain"])
    own = alone(learner)
    state = own.start()
    for sample in zip(x, y, strict=True):
        state = own.update(state, *sample)
    mean, covariance = posterior(learner, x, y, np.full(3, (2 / NOISE) ** 2))
    np.testing.assert_allclose(state.mean, mean, atol=2e-4)
    deviations = own.deviations(state)
    assert set(deviations) == {"robot"}
    np.testing.assert_allclose(deviations["robot"], np.sqrt(np.diag(covariance)), rtol=1e-3)
    contexts = own.contexts(state)
    batch = learner.adapt(x, y, given=GIVEN)
    np.testing.assert_allclose(contexts["robot"], batch["robot"], atol=2e-4)
    np.testing.assert_array_equal(contexts["terrain"], GIVEN["terrain"])
    assert contexts.model == learner.fingerprint()
    # Neither their order counts, nor whether they come one by one.
    turned = own.update_many(own.start(), x[::-1], y[::-1])
    np.testing.assert_allclose(turned.mean, state.mean, atol=2e-4)
    at_once = own.update_many(own.start(), x, y)
    np.testing.assert_allclose(at_once.mean, state.mean, atol=1e-6)
    np.testing.assert_allclose(at_once.information, state.information, rtol=1e-5)


def test_outputs_that_are_not_measured_count_nothing(learner):
    x, y = task(learner, ROBOT, GIVEN["terrain"])
    noise = np.array([NOISE, np.inf, 3 * NOISE])
    y[:, 1] = np.nan
    own = alone(learner, noise=noise)
    state = own.update_many(own.start(), x, y)
    mean, covariance = posterior(learner, x, y, (2 / noise) ** 2)
    np.testing.assert_allclose(state.mean, mean, atol=5e-4)
    np.testing.assert_allclose(jnp.linalg.inv(state.information), covariance, rtol=0.02, atol=1e-6)


def test_what_is_forgotten_comes_back_to_the_prior(learner):
    x, y = task(learner, ROBOT, GIVEN["terrain"], 200)
    own = alone(learner, forgetting=0.9)
    state = own.update_many(own.start(), x, y)
    # A network whose outputs do not depend on the vector: nothing is seen.
    blind = alone(
        eqx.tree_at(lambda own: own.network.head, learner, replace_fn=jnp.zeros_like), forgetting=0.9
    )
    later = blind.update(dataclasses.replace(state, model=blind.start().model), x[0], y[0])
    start = own.start()
    information = 0.9 * state.information + 0.1 * start.information
    np.testing.assert_allclose(later.information, information, rtol=1e-4)
    pull = 0.9 * state.information @ (state.mean - start.mean)
    np.testing.assert_allclose(later.mean, start.mean + jnp.linalg.solve(information, pull), atol=1e-3)
    for _ in range(200):
        later = blind.update(later, x[0], y[0])
    np.testing.assert_allclose(later.mean, start.mean, atol=1e-3)
    np.testing.assert_allclose(later.information, start.information, rtol=1e-3, atol=1e-3)


def test_a_body_that_changes_is_followed_by_a_filter_that_forgets(learner):
    before = task(learner, ROBOT, GIVEN["terrain"], 150, seed=1)
    after = task(learner, [-0.5, 0.6, 1.2], GIVEN["terrain"], 60, seed=2)
    missed = {}
    for forgetting in (1.0, 0.9):
        own = alone(learner, forgetting=forgetting, samples=1)
        state = own.update_many(own.update_many(own.start(), *before), *after)
        predicted = np.asarray(learner.predict(own.contexts(state), after[0]))
        missed[forgetting] = float(np.mean((predicted - after[1]) ** 2))
    assert missed[0.9] < 1.3 * NOISE**2
    assert missed[1.0] > 2 * missed[0.9]


def test_intervals_cover(learner):
    own, rng = alone(learner), np.random.default_rng(0)
    deviation = 1 / np.sqrt(np.diag(np.asarray(own.start().information)))
    mean = np.asarray(own.start().mean)
    inside = []
    for seed in range(300):
        robot = mean + deviation * rng.normal(size=3)
        state = own.update_many(own.start(), *task(learner, robot, GIVEN["terrain"], 10, seed=seed))
        found = np.asarray(own.deviations(state)["robot"])
        inside += list(np.abs(np.asarray(state.mean) - robot) < 1.96 * found)
    # 900 numbers, those of a task dependent: four standard errors of 300.
    assert np.mean(inside) == pytest.approx(0.95, abs=0.05)


def test_both_factors_on_their_spheres_come_close_to_the_batch_solution():
    learner = build(normalise=True)
    x, y = task(learner, ROBOT, [0.8, -0.6], 300, noise=0.05)
    own = ContextFilter(learner, noise=0.05, samples=SAMPLES)
    state = own.update_many(own.start(), x, y)
    errors = {
        name: float(np.mean((np.asarray(learner.predict(contexts, x)) - y) ** 2))
        for name, contexts in (
            ("prior", learner.prior_contexts()),
            ("stream", own.contexts(state)),
            ("batch", learner.adapt(x, y)),
        )
    }
    assert errors["stream"] - errors["batch"] < 0.02 * (errors["prior"] - errors["batch"])
    assert set(own.deviations(state)) == {"robot", "terrain"}
    assert own.contexts(state)["robot"].shape == (3,)
    assert own.contexts(state)["terrain"].shape == (2,)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"forgetting": 0.0}, ConfigError, "above 0 and at most 1"),
        ({"forgetting": 1.1}, ConfigError, "above 0 and at most 1"),
        ({"samples": 0}, ConfigError, "at least 1"),
        ({"noise": 0.0}, ConfigError, "must be positive"),
        ({"noise": np.nan}, ConfigError, "must be positive"),
        ({"noise": np.full(3, np.inf)}, ConfigError, "finite for at least one"),
        ({"noise": 1e-25}, ConfigError, "too small"),
        ({"noise": np.ones(2)}, ShapeError, "one number or 3"),
        ({"noise": np.array("much")}, DataError, "noise is not an array of numbers"),
        ({"only": ["motor"]}, FactorError, "motor"),
        ({"given": {"robot": np.zeros(3), "terrain": np.zeros(2)}}, ConfigError, "nothing is left to move"),
    ],
)
def test_settings_that_cannot_be_are_refused(learner, settings, error, message):
    with pytest.raises(error, match=message):
        alone(learner, **settings)


def test_samples_that_cannot_be_used_are_refused_and_leave_the_state_good(learner):
    x, y = task(learner, ROBOT, GIVEN["terrain"], 3)
    own = alone(learner)
    state = own.update_many(own.start(), x, y)
    with pytest.raises(ShapeError, match=r"x has shape \(3,\); \(2,\)"):
        own.update(state, np.zeros(3), y[0])
    with pytest.raises(ShapeError, match=r"y has shape \(3, 3\); \(2, 3\)"):
        own.update_many(state, x[:2], y)
    with pytest.raises(DataError, match="leave it out"):
        own.update(state, x[0], np.full(3, np.nan))
    with pytest.raises(DataError, match="x is not an array of numbers"):
        own.update_many(state, np.array([["one", "two"]]), y[:1])
    for far_x, far_y, name in ((x * 1e8, y, "inputs"), (x, y * 1e8, "outputs")):
        with pytest.raises(DataError, match=f"{name} lie up to .* another unit"):
            own.update(state, far_x[0], far_y[0])
        with pytest.raises(DataError, match=f"{name} lie up to .* another unit"):
            own.update_many(state, far_x, far_y)
    raw = alone(eqx.tree_at(lambda learner: learner.scaler, learner, None))
    with pytest.raises(DataError, match="not finite"):
        raw.update(raw.start(), np.full(2, 3e38), y[0])
    other = ContextFilter(learner, noise=NOISE, samples=SAMPLES)
    with pytest.raises(ShapeError, match="moves other factors"):
        own.update(other.start(), x[0], y[0])
    with pytest.raises(ShapeError, match="moves other factors"):
        own.contexts(other.start())
    with pytest.raises(ShapeError, match="moves other factors"):
        own.deviations(other.start())
    assert np.all(np.isfinite(state.mean))


def test_states_of_filters_of_the_same_size_are_told_apart():
    factors = dmcm.Factors(robot=2, terrain=2)
    one, two = (
        dmcm.Learner(
            dmcm.TensorProductNetwork(factors, 2, 3, width=4, key=jax.random.key(seed)),
            dmcm.LevenbergMarquardt(),
            factors,
        )
        for seed in (0, 1)
    )
    own, moves_other, other_model = (
        ContextFilter(model, noise=NOISE, samples=SAMPLES, only=[name])
        for model, name in ((one, "robot"), (one, "terrain"), (two, "robot"))
    )
    assert own.contexts(own.start()).model == one.fingerprint()
    with pytest.raises(ShapeError, match="2 numbers of robot, but this filter moves 2 of terrain"):
        moves_other.update(own.start(), np.zeros(2), np.zeros(3))
    with pytest.raises(ShapeError, match="of another model"):
        other_model.contexts(own.start())


def test_contexts_to_hold_must_be_finite(learner):
    spoiled = dmcm.Contexts({"terrain": jnp.asarray([jnp.nan, 0.0])})
    for given in (spoiled, dict(spoiled.values)):
        with pytest.raises(DataError, match="given context of 'terrain' has NaN"):
            alone(learner, given=given)


def test_a_model_in_single_precision_is_filtered_where_jax_runs_in_double(learner):
    x, y = task(learner, ROBOT, GIVEN["terrain"], 5)
    own = alone(learner, forgetting=0.9)
    single = own.update_many(own.start(), x, y)
    with double_precision():
        own = alone(learner, forgetting=0.9)
        double = own.update_many(own.start(), x, y)
        for sample in zip(x, y, strict=True):
            assert own.update(double, *sample).mean.dtype == jnp.float32
    np.testing.assert_allclose(double.mean, single.mean, atol=1e-4)


def test_what_the_data_hardly_see_stays_as_the_prior_says(learner):
    """Ten thousand samples at one input see one direction: the others keep the prior's deviation."""
    noise = np.array([NOISE, np.inf, np.inf])
    own = alone(learner, noise=noise)
    x, y = task(learner, ROBOT, GIVEN["terrain"], 1)
    x, y = np.repeat(x, 10_000, axis=0), np.repeat(y, 10_000, axis=0)
    state = own.update_many(own.start(), x, y)
    _, covariance = posterior(learner, x, y, (2 / noise) ** 2)
    np.testing.assert_allclose(own.deviations(state)["robot"], np.sqrt(np.diag(covariance)), rtol=1e-2)
