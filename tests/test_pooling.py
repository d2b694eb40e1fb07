"""Pooled adaptation against ridge regression, brute-force optimisation and its own symmetries."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import least_squares
from tests.helpers import FACTORS, double_precision, learner, network, same_bits, sine, solver

from dmcm import Factors, Learner, LevenbergMarquardt, Prior
from dmcm.errors import ContextMismatchError, DataError, FactorError, ShapeError


def with_prior(factors, precisions, means):
    """A prior with a mean and precisions of its own in each direction."""
    logs = {name: jnp.log(jnp.asarray(value) - 0.01) for name, value in precisions.items()}
    return eqx.tree_at(
        lambda p: (p.mean, p.log_precision),
        Prior(factors, floor=0.01),
        ({name: jnp.asarray(value) for name, value in means.items()}, logs),
    )


def ragged(sizes, inputs, outputs, seed=0):
    rng = np.random.default_rng(seed)
    return [
        (rng.normal(size=(n, inputs)).astype(np.float32), rng.normal(size=(n, outputs)).astype(np.float32))
        for n in sizes
    ]


def test_pooling_a_linear_context_is_ridge_regression_on_all_samples():
    with double_precision():
        factors, tasks = Factors(c=3), ragged((4, 9, 6), 2, 2)
        net = network("tensor_product", factors, inputs=2, outputs=2, normalise=False)
        mean, precision = np.array([0.5, -1.0, 2.0]), np.array([0.1, 1.0, 0.3])
        model = Learner(
            net,
            LevenbergMarquardt(1, safeguard=False),
            factors,
            prior=with_prior(factors, {"c": precision}, {"c": mean}),
        )
        encoded = np.asarray(net.encode(jnp.asarray(np.concatenate([x for x, _ in tasks])))).reshape(-1, 4)
        A, b, y = encoded[:, :3], encoded[:, 3], np.concatenate([y.reshape(-1) for _, y in tasks])
        # The prior is one of three terms of the mean, as the tasks are three.
        pull = np.diag(precision) / 3
        expected = np.linalg.solve(A.T @ A / len(y) + pull, A.T @ (y - b) / len(y) + pull @ mean)
        found = model.adapt_pooled(tasks, shared="c")
        np.testing.assert_allclose(found["c"], expected, rtol=1e-6)
        assert found.sizes == {"c": 3}
        assert found.model == model.fingerprint()


def test_pooling_finds_the_joint_minimum_over_shared_and_private_vectors():
    with double_precision():
        tasks = ragged((5, 8, 6), 1, 1, seed=3)
        # Not in alphabetical order, which the pool must not confuse.
        factors = Factors(zeta=2, alpha=3)
        net = network("tensor_product", factors, normalise=False)
        precision = {"zeta": [0.5, 0.8], "alpha": [0.6, 0.4, 0.9]}
        mean = {"zeta": [0.3, -0.2], "alpha": [0.1, 0.5, -0.4]}
        model = Learner(net, LevenbergMarquardt(60), factors, prior=with_prior(factors, precision, mean))
        encoded = [np.asarray(net.encode(jnp.asarray(x)))[:, 0] for x, _ in tasks]
        total = sum(len(x) for x, _ in tasks)

        def residuals(flat):
            zeta, alphas = flat[:2], flat[2:].reshape(3, 3)
            parts = [np.sqrt(np.asarray(precision["zeta"]) / 3) * (zeta - mean["zeta"])]
            for block, (_, y), alpha in zip(encoded, tasks, alphas, strict=True):
                predicted = np.einsum("nij,i,j->n", block, np.append(zeta, 1), np.append(alpha, 1))
                parts.append((predicted - y[:, 0]) / np.sqrt(total))
                parts.append(np.sqrt(np.asarray(precision["alpha"]) / 3) * (alpha - mean["alpha"]))
            return np.concatenate(parts)

        start = np.concatenate([mean["zeta"], np.tile(mean["alpha"], 3)])
        best = least_squares(residuals, start, xtol=1e-15, ftol=1e-15, gtol=1e-15).x
        found = model.adapt_pooled(tasks, shared="zeta")
        np.testing.assert_allclose(found["zeta"], best[:2], rtol=1e-5, atol=1e-7)
        # Shared and private are not the same thing.
        alone = np.mean([model.adapt(x, y)["zeta"] for x, y in tasks], axis=0)
        assert np.abs(alone - best[:2]).max() > 1e-2


@pytest.fixture(scope="module")
def tasks():
    return [sine(2.0, phase, samples=n, seed=n) for phase, n in ((0.0, 6), (0.5, 8), (1.0, 10))]


@pytest.mark.parametrize("kind", ["levenberg_marquardt", "gradient_descent", "set_encoder"])
def test_order_of_the_tasks_does_not_matter(kind, tasks):
    model = learner(solver=solver(kind), prior=Prior(FACTORS, precision=0.1))
    one = model.adapt_pooled(tasks, shared="amplitude")
    two = model.adapt_pooled([tasks[2], tasks[0], tasks[1]], shared=["amplitude"])
    np.testing.assert_allclose(one["amplitude"], two["amplitude"], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind", ["gradient_descent", "set_encoder"])
def test_copies_of_one_task_say_what_the_task_says(kind):
    """But for the prior, which counts once against more data: here it is too weak to matter."""
    x, y = sine(1.5, 0.5)
    model = learner(solver=solver(kind), prior=Prior(FACTORS, precision=1e-5))
    alone = model.adapt(x, y)["amplitude"]
    long = (np.tile(x, (20, 1)), np.tile(y, (20, 1)))
    for copies in ([(x, y)], [(x, y)] * 4, [(x, y), (x, y), long]):
        pooled = model.adapt_pooled(copies, shared="amplitude")["amplitude"]
        np.testing.assert_allclose(pooled, alone, rtol=1e-3, atol=1e-3)


def test_a_pool_of_one_task_is_the_task():
    (x, y), model = sine(1.5, 0.5), learner(prior=Prior(FACTORS, precision=0.1))
    one = model.adapt_pooled([(x, y)], shared="amplitude")["amplitude"]
    np.testing.assert_allclose(one, model.adapt(x, y)["amplitude"], rtol=1e-4, atol=1e-5)


def test_set_encoder_averages_over_tasks(tasks):
    model = learner(solver=solver("set_encoder"))
    each = [model.adapt(x, y)["phase"] for x, y in tasks]
    found = model.adapt_pooled(tasks, shared="phase")["phase"]
    np.testing.assert_allclose(found, np.mean(each, axis=0), rtol=1e-5, atol=1e-6)


def test_without_adaptation_the_pool_stays_at_the_prior(tasks):
    model = learner(solver=solver("none"))
    assert same_bits(model.adapt_pooled(tasks, shared="phase")["phase"], model.prior.mean["phase"])


def test_all_factors_can_be_shared_and_given_ones_are_held(tasks):
    model = learner(prior=Prior(FACTORS, precision=0.1))
    both = model.adapt_pooled(tasks, shared=("phase", "amplitude"))
    assert list(both.values) == list(FACTORS)
    # With one vector for all, the pool is one long task with a weaker prior.
    x, y = (np.concatenate([task[i] for task in tasks]) for i in (0, 1))
    weaker = learner(prior=Prior(FACTORS, precision=0.1 / 3, floor=1e-6 / 3)).adapt(x, y)
    for name in FACTORS:
        np.testing.assert_allclose(both[name], weaker[name], rtol=1e-2, atol=1e-3)
    here = model.adapt_pooled(tasks, shared="amplitude", given={"phase": np.zeros(2)})
    there = model.adapt_pooled(tasks, shared="amplitude", given={"phase": np.ones(2)})
    assert np.abs(here["amplitude"] - there["amplitude"]).max() > 1e-2
    # A vector given for what is to be found says nothing.
    asked = model.adapt_pooled(tasks, shared="amplitude", given=both)
    again = model.adapt_pooled(tasks, shared="amplitude", given={"phase": np.asarray(both["phase"])})
    assert same_bits(asked["amplitude"], again["amplitude"])


def test_factor_names_that_look_like_the_pools_own(tasks):
    found = []
    for names in (("robot", "robot.0"), ("robot", "zzz")):
        factors = Factors(**dict.fromkeys(names, 2))
        net = network(factors=factors)
        model = Learner(net, solver(), factors, prior=Prior(factors, precision=0.1))
        found.append(model.adapt_pooled(tasks, shared=names[1])[names[1]])
    np.testing.assert_allclose(found[0], found[1], rtol=1e-4, atol=1e-5)


def test_pools_that_cannot_be_meant(tasks):
    model = learner()
    (x, y), other = tasks[0], learner(seed=7)
    with pytest.raises(DataError, match="no tasks to pool"):
        model.adapt_pooled([], shared="phase")
    with pytest.raises(FactorError, match="no factor 'fase'"):
        model.adapt_pooled(tasks, shared="fase")
    with pytest.raises(FactorError, match="name the factor the tasks share"):
        model.adapt_pooled(tasks, shared=())
    with pytest.raises(ShapeError, match="takes pairs"):
        model.adapt_pooled([(x[None], y[None])], shared="phase")
    with pytest.raises(ShapeError, match="same number of samples"):
        model.adapt_pooled([(x, y[:-1])], shared="phase")
    with pytest.raises(DataError, match="y has NaN"):
        model.adapt_pooled([(x, y), (x, np.nan * y)], shared="phase")
    with pytest.raises(ContextMismatchError, match="different models"):
        model.adapt_pooled(tasks, shared="phase", given=other.adapt(x, y))
    with pytest.raises(ContextMismatchError, match="it needs"):
        model.adapt_pooled(tasks, shared="phase", given={"amplitude": np.zeros((3, 2))})


def test_a_pool_can_be_a_generator(tasks):
    model = learner()
    one = model.adapt_pooled(iter(tasks), shared="phase")
    assert same_bits(one, model.adapt_pooled(tasks, shared="phase"))
    assert jax.tree.leaves(one)[0].shape == (2,)
