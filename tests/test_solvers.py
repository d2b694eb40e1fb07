"""Inner loops against closed forms, explicit loops and finite differences."""

import itertools
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests.helpers import FACTORS, double_precision, learner, network, same_bits, solver

from dmcm import Factors, Prior
from dmcm.errors import ConfigError, FactorError, ShapeError
from dmcm.networks import Network
from dmcm.samples import Samples
from dmcm.solvers import GradientDescent, LevenbergMarquardt, SetEncoder, levenberg_marquardt
from dmcm.solvers.base import objective

LINEAR = Factors(c=3)
KINDS = ["levenberg_marquardt", "gradient_descent", "set_encoder"]


@eqx.filter_jit
def solve(way, net, prior, support, held, training=False):
    return way.solve(net, prior, support, held, training=training)


def linear_problem(rows=9, outputs=2, seed=0):
    """A network linear in its one context, samples, and f(x; c) = A c + b."""
    net = network("tensor_product", LINEAR, inputs=2, outputs=outputs, normalise=False)
    rng = np.random.default_rng(seed)
    x, y = jnp.asarray(rng.normal(size=(rows, 2))), jnp.asarray(rng.normal(size=(rows, outputs)))
    encoded = np.asarray(net.encode(x))
    return net, Samples(x, y, jnp.ones(rows)), encoded[..., :-1].reshape(-1, 3), encoded[..., -1].reshape(-1)


def a_prior(factors=LINEAR, seed=1, low=-3.0):
    """A prior with a mean that is not zero and a precision of its own for each direction."""
    rng = np.random.default_rng(seed)
    leaves = {name: jnp.asarray(rng.normal(size=n)) for name, n in factors.sizes.items()}
    logs = {name: jnp.asarray(rng.uniform(low, 0, n)) for name, n in factors.sizes.items()}
    return eqx.tree_at(lambda p: (p.mean, p.log_precision), Prior(factors, floor=1e-3), (leaves, logs))


def ridge(A, b, y, prior, keep=slice(None)):
    """Minimum of ½·mean (A c + b − y)² + ½ (c − m)ᵀ Λ (c − m)."""
    A, b, y = A[keep], b[keep], np.asarray(y).reshape(-1)[keep]
    m, precision = np.asarray(prior.mean["c"]), np.diag(1e-3 + np.exp(np.asarray(prior.log_precision["c"])))
    return np.linalg.solve(A.T @ A / len(y) + precision, A.T @ (y - b) / len(y) + precision @ m)


def test_levenberg_marquardt_is_ridge_regression_where_contexts_are_linear():
    with double_precision():
        net, support, A, b = linear_problem()
        prior = a_prior()
        expected = ridge(A, b, support.y, prior)
        found = solve(LevenbergMarquardt(30), net, prior, support, {})["c"]
        np.testing.assert_allclose(found, expected, rtol=1e-6)
        # Undamped Gauss-Newton is there after one step.
        found = solve(LevenbergMarquardt(1, safeguard=False), net, prior, support, {})["c"]
        np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_the_first_step_is_a_damped_one():
    with double_precision():
        net, support, A, b = linear_problem()
        prior = a_prior()
        m = np.asarray(prior.mean["c"])
        precision = 1e-3 + np.exp(np.asarray(prior.log_precision["c"]))
        y = np.asarray(support.y).reshape(-1)
        slope = A.T @ (A @ m + b - y) / len(y)
        damped = A.T @ A / len(y) + np.diag(precision + 10 * (precision + 1e-3))
        found = solve(LevenbergMarquardt(1), net, prior, support, {})["c"]
        np.testing.assert_allclose(found, m - np.linalg.solve(damped, slope), rtol=1e-9)


class TwoValleys(Network):
    """f_k = ((c_k − 1)(c_k + 1.2), 0.3 (c_k + 1.2)): zero at c_k = −1.2, nearly so at 1."""

    kind: ClassVar[str] = "two_valleys"
    factors: Factors = eqx.field(static=True)
    inputs: int = eqx.field(static=True)
    outputs: int = eqx.field(static=True)

    def __init__(self, factors: Factors):
        self.factors, self.inputs, self.outputs = factors, 1, 2 * len(factors)

    def encode(self, x: Any) -> Any:
        return x

    def decode(self, encoded: Any, contexts: Any) -> Any:
        parts = [((c - 1.0) * (c + 1.2), 0.3 * (c + 1.2)) for c in (contexts[n][0] for n in self.factors)]
        return jnp.tile(jnp.asarray(parts).reshape(-1), (encoded.shape[0], 1))

    def spec(self) -> dict[str, Any]:
        return {}


@pytest.mark.parametrize("means", [{"c": 0.3}, {"c": 0.3, "d": 0.3}, {"c": 0.3, "d": -1.0}])
def test_restarts_find_the_deeper_valley_beyond_the_prior_mean(means):
    factors = Factors(**dict.fromkeys(means, 1))
    net = TwoValleys(factors)
    values = {name: jnp.asarray([value]) for name, value in means.items()}
    prior = eqx.tree_at(lambda p: p.mean, Prior(factors, precision=1e-3), values)
    support = Samples(jnp.zeros((3, 1)), jnp.zeros((3, net.outputs)), jnp.ones(3))
    once = solve(LevenbergMarquardt(40), net, prior, support, {})
    assert float(once["c"][0]) > 0.5
    found = solve(LevenbergMarquardt(40, restarts=True), net, prior, support, {})
    for value in found.values():
        np.testing.assert_allclose(value, -1.2, atol=0.01)
    # While training there is one start, whatever the setting.
    ways = [LevenbergMarquardt(40, training_steps=9, restarts=r) for r in (False, True)]
    assert same_bits(*(solve(way, net, prior, support, {}, training=True) for way in ways))


def test_padded_samples_change_nothing():
    with double_precision():
        net, support, A, b = linear_problem(rows=9)
        prior = a_prior()
        weight = jnp.asarray([1.0, 0, 1, 1, 0, 1, 1, 0, 1])
        real = np.asarray(weight) > 0
        padded = Samples(support.x, support.y, weight)
        cut = Samples(support.x[real], support.y[real], weight[real])
        expected = ridge(A, b, support.y, prior, np.repeat(real, 2))
        found = solve(LevenbergMarquardt(1, safeguard=False), net, prior, padded, {})["c"]
        np.testing.assert_allclose(found, expected, rtol=1e-10)
        for kind in ("gradient_descent", "set_encoder"):
            way = solver(kind, LINEAR, inputs=2, outputs=2)
            one, other = (solve(way, net, prior, s, {})["c"] for s in (padded, cut))
            np.testing.assert_allclose(one, other, rtol=1e-9)


def explicit_descent(A, b, y, prior, rates):
    """Gradient descent on the ridge objective, written out."""
    m, precision = np.asarray(prior.mean["c"]), 1e-3 + np.exp(np.asarray(prior.log_precision["c"]))
    c, y = m.copy(), np.asarray(y).reshape(-1)
    for rate in rates:
        c = c - rate * (A.T @ (A @ c + b - y) / len(y) + precision * (c - m))
    return c


def test_gradient_descent_follows_the_written_out_loop():
    with double_precision():
        net, support, A, b = linear_problem()
        prior = a_prior()
        rates = np.random.default_rng(2).uniform(0.05, 0.5, (3, 3))
        way = GradientDescent(LINEAR, 5, training_steps=3)
        way = eqx.tree_at(lambda s: s.log_rate["c"], way, jnp.log(rates))
        trained = solve(way, net, prior, support, {}, training=True)["c"]
        np.testing.assert_allclose(trained, explicit_descent(A, b, support.y, prior, rates), rtol=1e-10)
        # At use two more steps, of the sizes of the last one trained.
        used = solve(way, net, prior, support, {})["c"]
        longer = [*rates, rates[-1], rates[-1]]
        np.testing.assert_allclose(used, explicit_descent(A, b, support.y, prior, longer), rtol=1e-10)


def test_gradient_descent_follows_finite_differences_where_contexts_are_not_linear():
    with double_precision():
        net = network("film")
        rng = np.random.default_rng(0)
        support = Samples(
            jnp.asarray(rng.normal(size=(6, 1))), jnp.asarray(rng.normal(size=(6, 1))), jnp.ones(6)
        )
        prior = a_prior(FACTORS)
        start, unravel = jax.flatten_util.ravel_pytree(prior.mean)

        def cost(flat):
            contexts = unravel(jnp.asarray(flat))
            parts = (net(support.x, contexts), support, contexts, prior.mean, prior.precision())
            return float(objective(*parts))

        flat = np.asarray(start)
        for _ in range(2):
            steps = 1e-6 * np.eye(flat.size)
            flat = flat - 0.1 * np.array([(cost(flat + e) - cost(flat - e)) / 2e-6 for e in steps])
        found = solve(GradientDescent(FACTORS, 2, rate=0.1), net, prior, support, {})
        np.testing.assert_allclose(jax.flatten_util.ravel_pytree(found)[0], flat, rtol=1e-7)


def test_objective_is_what_it_says():
    contexts = {"a": jnp.asarray([1.0, 2.0]), "b": jnp.asarray([3.0])}
    start = {"a": jnp.asarray([0.0, 1.0]), "b": jnp.asarray([1.0])}
    precision = {"a": jnp.asarray([0.5, 1.0]), "b": jnp.asarray([0.25]), "held": jnp.asarray([9.0])}
    support = Samples(
        jnp.zeros((3, 1)), jnp.asarray([[1.0, 0.0], [0.0, 2.0], [9.0, 9.0]]), jnp.asarray([1.0, 1, 0])
    )
    value = objective(jnp.zeros((3, 2)), support, contexts, start, precision)
    assert float(value) == pytest.approx(0.5 * (1 + 4) / 4 + 0.5 * (0.5 + 1 + 0.25 * 4))
    empty = Samples(support.x, support.y, jnp.zeros(3))
    assert float(objective(jnp.zeros((3, 2)), empty, contexts, start, precision)) == pytest.approx(1.25)


@pytest.fixture(scope="module")
def many_tasks():
    """Samples of 40 unrelated tasks, hard to fit."""
    rng = np.random.default_rng(0)
    x, y = rng.uniform(-3, 3, (40, 6, 1)), 3 * rng.normal(size=(40, 6, 1))
    return Samples(jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.float32), jnp.ones((40, 6)))


def objectives_after(steps, many_tasks, **settings):
    net, prior = network("film", width=16), Prior(FACTORS, precision=1e-3)
    way = LevenbergMarquardt(steps, **settings)

    def reached(support):
        found = solve(way, net, prior, support, {})
        return objective(net(support.x, found), support, found, prior.mean, prior.precision())

    return np.asarray(jax.jit(jax.vmap(reached))(many_tasks))


def test_more_safeguarded_steps_never_raise_the_objective(many_tasks):
    net, prior = network("film", width=16), Prior(FACTORS, precision=1e-3)
    start = jax.vmap(lambda s: objective(net(s.x, prior.mean), s, prior.mean, prior.mean, prior.precision()))(
        many_tasks
    )
    # Of one descent: restarts begin where it ended, elsewhere after each number of steps.
    once = (objectives_after(steps, many_tasks) for steps in (1, 2, 8))
    reached = [np.asarray(start), *once]
    for before, after in itertools.pairwise(reached):
        assert np.all(after <= before * (1 + 1e-5))
    assert np.median(reached[-1] / reached[0]) < 0.95
    assert np.all(objectives_after(8, many_tasks, restarts=True) <= reached[-1])
    # Without the safeguard some of these tasks do overshoot, so the test above could fail.
    loose = objectives_after(3, many_tasks, safeguard=False)
    assert np.any(~(loose <= reached[0]))


def directional_error(loss, tree, seed=0, step=1e-5):
    """Relative gap between the gradient and a central difference along a random direction."""
    flat, unravel = jax.flatten_util.ravel_pytree(tree)
    direction = np.random.default_rng(seed).normal(size=flat.size)
    direction = jnp.asarray(direction / np.linalg.norm(direction))
    evaluate = jax.jit(lambda f: loss(unravel(f)))
    slope = float(jax.jit(jax.grad(lambda f: loss(unravel(f))))(flat) @ direction)
    difference = float(evaluate(flat + step * direction) - evaluate(flat - step * direction)) / (2 * step)
    assert abs(difference) > 1e-4
    return abs(slope - difference) / abs(difference)


@pytest.mark.parametrize("kind", ["levenberg_marquardt", "gradient_descent"])
def test_outer_gradients_agree_with_finite_differences(kind):
    with double_precision():
        rng = np.random.default_rng(0)
        x, y = (jnp.asarray(rng.normal(size=(8, 1))) for _ in range(2))
        support, query = Samples(x[:5], y[:5], jnp.ones(5)), Samples(x[5:], y[5:], jnp.ones(3))
        settings = {"rate": 0.3} if kind == "gradient_descent" else {"training_steps": 3}
        parts = (network("tensor_product"), a_prior(FACTORS), solver(kind, **settings))
        dynamic, static = eqx.partition(parts, eqx.is_inexact_array)

        def loss(dynamic):
            net, prior, way = eqx.combine(dynamic, static)
            found = solve(way, net, prior, support, {}, training=True)
            return jnp.mean((net(query.x, found) - query.y) ** 2)

        for seed in range(3):
            assert directional_error(loss, dynamic, seed) < 1e-5


@pytest.mark.parametrize("restarts", [False, True])
def test_a_task_that_has_settled_takes_no_more_steps(restarts, monkeypatch):
    taken, real = [], levenberg_marquardt._solve

    def counted(*arguments):
        jax.debug.callback(lambda: taken.append(0))
        return real(*arguments)

    monkeypatch.setattr(levenberg_marquardt, "_solve", counted)
    net, support, A, b = linear_problem()
    prior = a_prior()
    way = LevenbergMarquardt(1_000, restarts=restarts)
    found = jax.block_until_ready(solve(way, net, prior, support, {})["c"])
    jax.effects_barrier()
    np.testing.assert_allclose(found, ridge(A, b, support.y, prior), rtol=1e-4)
    assert 3 < len(taken) < (60 if restarts else 30)
    found = solve(LevenbergMarquardt(30, safeguard=False), net, prior, support, {})["c"]
    np.testing.assert_allclose(found, ridge(A, b, support.y, prior), rtol=1e-4)


def test_a_step_that_damping_has_shortened_does_not_end_the_descent():
    """Outputs that hardly move with the context: the first steps are short, and yet the way is long."""
    with double_precision():
        net, support, A, b = linear_problem()
        scale = 1e-4
        small = eqx.tree_at(lambda n: n.head, net, net.head * scale)
        rows, rest = np.asarray(small.encode(support.x)), Prior(LINEAR, precision=1e-12, floor=1e-12)
        A, b = rows[..., :-1].reshape(-1, 3), rows[..., -1].reshape(-1)
        prior = eqx.tree_at(lambda p: p.mean, rest, {"c": jnp.asarray([3.0, 1.0, -2.0])})
        found = np.asarray(solve(LevenbergMarquardt(64), small, prior, support, {})["c"])
        best = np.linalg.lstsq(A, np.asarray(support.y).reshape(-1) - b, rcond=None)[0]
        assert np.linalg.norm(best) > 1e3
        np.testing.assert_allclose(found, best, rtol=0.05)


def test_what_adapts_at_use_can_be_differentiated():
    """The minimum's slope by the data, through steps that may not be taken, is that of ridge regression."""
    with double_precision():
        net, support, A, b = linear_problem()
        prior = a_prior()

        def first(y):
            return solve(LevenbergMarquardt(60), net, prior, eqx.tree_at(lambda s: s.y, support, y), {})["c"][
                0
            ]

        slope = np.asarray(jax.grad(first)(support.y)).reshape(-1)
        along = np.random.default_rng(0).normal(size=slope.shape)
        y = np.asarray(support.y).reshape(-1)
        ends = [ridge(A, b, y + sign * 1e-4 * along, prior)[0] for sign in (1, -1)]
        assert slope @ along == pytest.approx((ends[0] - ends[1]) / 2e-4, rel=1e-4)


@pytest.mark.parametrize("steps", [8, 60])  # with many, a task that has settled refuses dozens
def test_levenberg_marquardt_stays_finite_where_data_determine_little(steps):
    net, prior = network("tensor_product"), Prior(FACTORS, precision=1e-12, floor=1e-12)
    # One sample ten times over, and no sample at all.
    repeated = Samples(jnp.full((10, 1), 0.7), jnp.full((10, 1), 1.3), jnp.ones(10))
    empty = Samples(repeated.x, repeated.y, jnp.zeros(10))

    @eqx.filter_jit
    @eqx.filter_value_and_grad
    def loss(parts, support):
        found = solve(LevenbergMarquardt(8, training_steps=steps), *parts, support, {}, training=True)
        return jnp.sum((parts[0](repeated.x, found) - 1) ** 2)

    for support in (repeated, empty):
        value, slopes = loss((net, prior), support)
        assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves((value, slopes)))
    unmoved = solve(LevenbergMarquardt(8), net, prior, empty, {})
    assert same_bits(unmoved, dict(prior.mean))
    fitted = solve(LevenbergMarquardt(8), net, prior, repeated, {})
    np.testing.assert_allclose(net(repeated.x, fitted), 1.3, rtol=1e-3)


def test_an_objective_that_overflows_is_no_answer():
    net = network("tensor_product")
    support = Samples(jnp.ones((3, 1)), jnp.full((3, 1), 1e30), jnp.ones(3))
    found = solve(LevenbergMarquardt(3), net, Prior(FACTORS), support, {})
    assert all(np.all(np.isnan(value)) for value in found.values())


@pytest.mark.parametrize("kind", KINDS)
def test_given_contexts_are_held_to_the_bit(kind):
    net, way, prior = network(), solver(kind), a_prior(FACTORS)
    rng = np.random.default_rng(0)
    x, y = (jnp.asarray(rng.normal(size=(6, 1)), jnp.float32) for _ in range(2))
    support = Samples(x, y, jnp.ones(6))
    held = {"phase": jnp.asarray([0.1, 1 / 3], jnp.float32)}
    found = jax.jit(lambda h: solve(way, net, prior, support, h))(held)
    assert found.keys() == set(FACTORS)
    assert same_bits(found["phase"], held["phase"])
    assert not np.array_equal(found["amplitude"], prior.mean["amplitude"])
    everything = {**held, "amplitude": jnp.asarray([2.0, 3.0])}
    assert same_bits(solve(way, net, prior, support, everything), everything)


def test_holding_a_context_fits_the_rest_to_it():
    """Held at the answer of a joint fit, the other factor is found where it was; elsewhere it moves."""
    net, prior = network(), Prior(FACTORS, precision=0.1)
    way = LevenbergMarquardt(40)
    rng = np.random.default_rng(3)
    support = Samples(*(jnp.asarray(rng.normal(size=(8, 1)), jnp.float32) for _ in range(2)), jnp.ones(8))
    joint = solve(way, net, prior, support, {})
    again = solve(way, net, prior, support, {"phase": joint["phase"]})
    np.testing.assert_allclose(again["amplitude"], joint["amplitude"], atol=2e-3)
    moved = solve(way, net, prior, support, {"phase": joint["phase"] + 1})
    assert np.abs(moved["amplitude"] - joint["amplitude"]).max() > 1e-2


@pytest.fixture(scope="module")
def encoder():
    return SetEncoder(FACTORS, 2, 1, width=8, key=jax.random.key(0))


def encode(encoder, x, y, weight=None, seed=0):
    net, weight = network(inputs=2, seed=seed), np.ones(len(x)) if weight is None else weight
    support = Samples(jnp.asarray(x), jnp.asarray(y), jnp.asarray(weight, jnp.float32))
    return solve(encoder, net, a_prior(FACTORS, seed), support, {})


def test_set_encoder_sees_a_set(encoder):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(6, 2)).astype(np.float32), rng.normal(size=(6, 1)).astype(np.float32)
    reference = encode(encoder, x, y)
    order = rng.permutation(6)
    twice = np.concatenate([x, x]), np.concatenate([y, y])
    padded = np.concatenate([x, 9 + x]), np.concatenate([y, 9 + y]), np.repeat([1, 0], 6)
    for same in (encode(encoder, x[order], y[order]), encode(encoder, *twice), encode(encoder, *padded)):
        for name in FACTORS:
            np.testing.assert_allclose(same[name], reference[name], rtol=1e-5, atol=1e-6)
    other = encode(encoder, x, y + 5)
    assert all(np.abs(other[name] - reference[name]).max() > 1e-3 for name in FACTORS)
    # It reads samples alone: neither the network nor the prior, and follows no slope.
    assert same_bits(encode(encoder, x, y, seed=1), reference)


def test_set_encoder_averages_by_its_formula(encoder):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(4, 2)).astype(np.float32), rng.normal(size=(4, 1)).astype(np.float32)
    found = encode(encoder, x, y)
    for name in FACTORS:
        each = [encoder.per_sample[name](jnp.concatenate([a, b])) for a, b in zip(x, y, strict=True)]
        np.testing.assert_allclose(found[name], encoder.per_set[name](sum(each) / 4), rtol=1e-5, atol=1e-6)


def test_fixed_step_sizes_are_not_trained():
    net, prior = network(), Prior(FACTORS)
    support = Samples(jnp.ones((3, 1)), jnp.ones((3, 1)), jnp.ones(3))

    def loss(way):
        found = solve(way, net, prior, support, {}, training=True)
        return sum(jnp.sum(value**2) for value in found.values())

    for learned in (True, False):
        slopes = eqx.filter_grad(loss)(GradientDescent(FACTORS, 2, learned=learned))
        size = sum(float(jnp.abs(leaf).sum()) for leaf in jax.tree.leaves(slopes))
        assert (size > 0) is learned


def test_a_mean_that_is_not_learned_gets_no_gradient_and_precision_has_a_floor():
    prior = Prior(FACTORS, precision=1e-3, floor=0.5, learn_mean=False)
    slopes = eqx.filter_grad(lambda p: sum(jnp.sum(v) for v in p.start().values()))(prior)
    assert all(float(jnp.abs(value).max()) == 0 for value in slopes.mean.values())
    for value in prior.precision().values():
        np.testing.assert_allclose(value, 0.501, rtol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_specification_builds_the_same_solver_again(kind):
    way = solver(kind)
    assert same_bits(solver(kind, **way.spec()), way)
    assert solver(kind, **way.spec()).spec() == way.spec()


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("levenberg_marquardt", {"steps": 0}),
        ("levenberg_marquardt", {"training_steps": -1}),
        ("gradient_descent", {"steps": 0}),
        ("gradient_descent", {"training_steps": 0}),
        ("gradient_descent", {"rate": 0.0}),
        ("gradient_descent", {"rate": float("nan")}),
        ("gradient_descent", {"rate": float("inf")}),
        ("set_encoder", {"width": 0}),
        ("set_encoder", {"activation": "x"}),
        ("set_encoder", {"unknown": 1}),
    ],
)
def test_impossible_solver_settings(kind, settings):
    with pytest.raises(ConfigError):
        solver(kind, **settings)


@pytest.mark.parametrize("settings", [{"precision": 0.0}, {"floor": -1.0}, {"floor": float("nan")}])
def test_impossible_priors(settings):
    with pytest.raises(ConfigError, match="positive and finite"):
        Prior(FACTORS, **settings)


@pytest.mark.parametrize("other", [Factors(amplitude=2, phase=3), Factors(amplitude=2), Factors(a=2, b=2)])
def test_solvers_and_priors_of_other_factors_are_refused(other):
    for parts in (
        {"solver": solver("gradient_descent", other)},
        {"solver": solver("set_encoder", other)},
        {"prior": Prior(other)},
        {"network": network(factors=other)},
    ):
        with pytest.raises(FactorError):
            learner(**parts)
    with pytest.raises(ShapeError, match="the encoder reads 2 input"):
        learner(solver=solver("set_encoder", inputs=2))


def test_condensed_rows_have_the_same_squares_but_for_a_constant():
    factors = Factors(a=2, b=3)
    net = network("tensor_product", factors, inputs=2, outputs=3)
    rng = np.random.default_rng(5)
    x, y = jnp.asarray(rng.normal(size=(60, 2))), jnp.asarray(rng.normal(size=(60, 3)))
    root = jnp.sqrt(jnp.asarray(rng.uniform(0, 1, 60)))
    encoded = net.encode(x)
    rows, targets = net.condense(encoded, y, root)
    assert targets.shape == ((2 + 1) * (3 + 1), 1)
    excess = []
    for seed in range(4):
        own = np.random.default_rng(seed)
        contexts = {"a": jnp.asarray(own.normal(size=2)), "b": jnp.asarray(own.normal(size=3))}
        full = jnp.sum(((net.decode(encoded, contexts) - y) * root[:, None]) ** 2)
        excess.append(float(full - jnp.sum((net.decode(rows, contexts) - targets) ** 2)))
    np.testing.assert_allclose(excess, excess[0], rtol=1e-3)


def test_condensed_finds_what_all_samples_say():
    net, support, _, _ = linear_problem(rows=200)
    prior = a_prior()
    full = solve(LevenbergMarquardt(20), net, prior, support, {})
    condensed = solve(LevenbergMarquardt(20, condensed=True), net, prior, support, {})
    np.testing.assert_allclose(condensed["c"], full["c"], rtol=2e-3, atol=2e-3)


def test_condensed_is_ignored_where_the_network_cannot():
    net = network("film", Factors(a=2), inputs=2, outputs=1)
    rng = np.random.default_rng(0)
    support = Samples(jnp.asarray(rng.normal(size=(9, 2))), jnp.asarray(rng.normal(size=(9, 1))), jnp.ones(9))
    prior = a_prior(Factors(a=2))
    ways = [LevenbergMarquardt(5, condensed=condensed) for condensed in (False, True)]
    first, second = (solve(way, net, prior, support, {}) for way in ways)
    assert same_bits(first, second)


@pytest.mark.parametrize("restarts", [False, True])
def test_a_model_in_single_precision_adapts_where_jax_runs_in_double(restarts):
    model = learner(solver=solver(restarts=restarts))
    x = np.linspace(-2, 2, 7)[:, None]
    single = model.adapt(x, np.sin(x))
    with double_precision():
        double = model.adapt(x, np.sin(x))
    for name in model.factors:
        np.testing.assert_allclose(double[name], single[name], rtol=1e-4, atol=1e-5)
