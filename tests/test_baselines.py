"""Baselines behind the learner's interface do what their names promise."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests.helpers import FACTORS, learner, network, same_bits, samples_of, sine, sines, solver

from dmcm import Factors, FitConfig, GradientDescent, Learner, Prior, fit
from dmcm.baselines import NoAdaptation, Oracle, ParameterNetwork, parameter_factors
from dmcm.errors import ConfigError, DataError
from dmcm.samples import Samples

SIZES = {"width": 5, "depth": 2}


def maml(last_layer_only=False, steps=1, rate=0.2, inputs=1, outputs=1):
    factors = parameter_factors(inputs, outputs, **SIZES, last_layer_only=last_layer_only)
    net = ParameterNetwork(
        factors, inputs, outputs, **SIZES, last_layer_only=last_layer_only, key=jax.random.key(0)
    )
    free = Prior(factors, precision=1e-12, floor=1e-12)
    return Learner(net, GradientDescent(factors, steps, rate=rate), factors, prior=free)


def stepped(perceptron, x, y, rate, layers):
    """One explicit step of gradient descent on ½·mean (y − f)² over the weights of some layers."""

    def loss(perceptron):
        return 0.5 * jnp.mean((jax.vmap(perceptron)(x) - y) ** 2)

    slopes = eqx.filter_grad(loss)(perceptron)
    for i in layers:
        weight, bias = perceptron.layers[i].weight, perceptron.layers[i].bias
        moved = weight - rate * slopes.layers[i].weight, bias - rate * slopes.layers[i].bias
        perceptron = eqx.tree_at(lambda p, i=i: (p.layers[i].weight, p.layers[i].bias), perceptron, moved)
    return perceptron


@pytest.mark.parametrize(("last_layer_only", "layers"), [(False, [0, 1, 2]), (True, [2])])
def test_maml_and_anil_take_the_explicit_steps(last_layer_only, layers):
    (x, y), fresh = sine(2.0, 0.5), jnp.linspace(-3, 3, 7)[:, None]
    model = maml(last_layer_only, steps=2)
    by_hand = model.network.perceptron
    np.testing.assert_allclose(
        model.predict(model.prior_contexts(), fresh), jax.vmap(by_hand)(fresh), rtol=1e-5, atol=1e-6
    )
    for _ in range(2):
        by_hand = stepped(by_hand, x, y, 0.2, layers)
    predicted = model.predict(model.adapt(x, y), fresh)
    np.testing.assert_allclose(predicted, jax.vmap(by_hand)(fresh), rtol=1e-4, atol=1e-5)
    assert np.abs(predicted - jax.vmap(model.network.perceptron)(fresh)).max() > 1e-2


@pytest.mark.parametrize("last_layer_only", [False, True])
@pytest.mark.parametrize(("inputs", "outputs"), [(1, 1), (3, 2)])
def test_as_many_numbers_as_weights(inputs, outputs, last_layer_only):
    model = maml(last_layer_only, inputs=inputs, outputs=outputs)
    part = model.network.perceptron.layers[-1] if last_layer_only else model.network.perceptron
    weights = sum(leaf.size for leaf in jax.tree.leaves(eqx.filter(part, eqx.is_array)))
    assert model.factors.sizes == {"parameters": weights}
    x = np.random.default_rng(0).normal(size=(4, inputs))
    assert model.predict(model.prior_contexts(), x).shape == (4, outputs)


def test_a_parameter_network_of_other_factors_is_refused():
    for factors in (Factors(parameters=10), Factors(a=23, b=23)):
        with pytest.raises(ConfigError, match="adapts 46 weights as one factor"):
            ParameterNetwork(factors, 1, 1, **SIZES, key=jax.random.key(0))


def test_without_adaptation_contexts_are_the_prior_mean():
    moved = eqx.tree_at(lambda p: p.mean["phase"], Prior(FACTORS), jnp.asarray([3.0, 4.0]))
    model = learner(solver=NoAdaptation(), prior=moved)
    found = model.adapt(*sine(2.0, 1.0))
    assert same_bits(found.values, dict(moved.mean))
    assert same_bits(found, model.prior_contexts())
    held = model.adapt(*sine(), given={"amplitude": np.ones(2, np.float32)})
    np.testing.assert_array_equal(held["amplitude"], 1)


@pytest.fixture(scope="module")
def oracle():
    factors = Factors(amplitude=1, phase=1)
    return Learner(network(factors=factors), Oracle({"phase": 4.0}), factors)


def test_the_oracle_reads_the_truth_and_no_samples(oracle):
    truth = {"amplitude": jnp.asarray([[2.0], [3.0]]), "phase": jnp.asarray([[1.0], [8.0]])}
    tasks = samples_of(sine(1.0, 1.0), sine(2.0, 2.0))
    found = oracle.adapt_samples(tasks, truth=truth)
    np.testing.assert_array_equal(found["amplitude"], [[2.0], [3.0]])
    np.testing.assert_array_equal(found["phase"], [[0.25], [2.0]])
    noise = Samples(tasks.x, 100 * tasks.y, tasks.weight)
    assert same_bits(oracle.adapt_samples(noise, truth=truth), found)
    held = oracle.adapt_samples(tasks, truth=truth, given={"phase": np.zeros(1, np.float32)})
    np.testing.assert_array_equal(held["phase"], 0)
    assert not oracle.solver.needs_data()
    assert learner().solver.needs_data()


def test_the_oracle_without_the_truth(oracle):
    tasks = samples_of(sine(), sine())
    with pytest.raises(
        DataError, match=r"the oracle needs the true value of each factor \(amplitude, phase\)"
    ):
        oracle.adapt(*sine())
    with pytest.raises(DataError, match="the oracle needs"):
        oracle.adapt_samples(tasks, truth={"phase": jnp.zeros((2, 1))})
    with pytest.raises(DataError, match="true value of 'amplitude' has 2 numbers, its context has 1"):
        oracle.adapt_samples(tasks, truth={"amplitude": jnp.zeros((2, 2)), "phase": jnp.zeros((2, 1))})
    for scale in (0.0, -1.0, float("nan")):
        with pytest.raises(ConfigError, match="must be positive"):
            Oracle({"phase": scale})


def test_baselines_train_by_the_same_loop(oracle):
    config = FitConfig(steps=60, chunk=30, learning_rate=1e-2, recombination=0.0)
    for model in (oracle, maml(rate=0.05)):
        done = fit(model, sines(), config, progress=False)
        assert done.history[-1]["own"] < 0.8 * done.history[0]["own"]
    text = sines()
    unknown = type(text).from_arrays(
        text.x, text.y, {"amplitude": list("aaabbbccc"), "phase": list("abcabcabc")}, shots=5
    )
    with pytest.raises(DataError, match="the oracle needs the true value"):
        fit(oracle, unknown, config, progress=False)


def test_one_factor_is_a_single_context():
    factors = Factors(task=4)
    model = Learner(network("concat", factors), solver("gradient_descent", factors), factors)
    found = model.adapt(*sine(2.0, 1.0))
    assert found.sizes == {"task": 4}
