"""Probes, swap and clamp tests against cases with known answers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dmcm.contexts import Contexts, Factors
from dmcm.errors import ContextMismatchError, DataError, FactorError, ShapeError
from dmcm.learner import Learner
from dmcm.metrics import LEAST_GROUPS, chance_label, clamp_test, probe_label, probe_number, swap_test
from dmcm.networks import TensorProductNetwork
from dmcm.priors import Prior
from dmcm.samples import Samples
from dmcm.solvers import LevenbergMarquardt

TASKS = 300


@pytest.fixture(scope="module")
def vectors():
    return np.random.default_rng(3).uniform(-2, 2, size=(TASKS, 2))


def test_probe_reads_a_nonlinear_function(vectors):
    assert probe_number(vectors, np.sin(2 * vectors[:, 0]) * vectors[:, 1]) > 0.98


def test_probe_reads_nothing_from_noise(vectors):
    values = np.random.default_rng(4).normal(size=(8, TASKS))
    assert np.median([abs(probe_number(vectors, noise)) for noise in values]) < 0.05


def test_probe_finds_just_the_share_that_is_there(vectors):
    noise = np.random.default_rng(5).normal(size=TASKS)
    found = probe_number(vectors, vectors[:, 0] + noise)
    assert found == pytest.approx(4 / 7, abs=0.15)  # variances 4/3 and 1


def test_probe_does_not_depend_on_units_or_order_of_contexts(vectors):
    values = np.tanh(vectors[:, 0] - vectors[:, 1])
    plain = probe_number(vectors, values)
    changed = probe_number(vectors[:, ::-1] * [1e3, 1e-3] + 7, 100 * values - 3)
    assert changed == pytest.approx(plain, abs=1e-3)


def test_probe_tests_on_tasks_it_has_not_seen(vectors):
    """A probe scored on its own training tasks would read random values perfectly."""
    values = np.random.default_rng(6).normal(size=TASKS)
    assert max(probe_number(vectors, values, seed=seed) for seed in range(5)) < 0.3


def test_constant_contexts_carry_nothing(vectors):
    assert probe_number(np.ones((TASKS, 3)), vectors[:, 0]) == pytest.approx(0.0, abs=0.1)


def test_label_probe_and_chance(vectors):
    labels = np.where(np.sum(vectors**2, axis=1) > 2, "far", np.where(vectors[:, 0] > 0, "r", "l"))
    assert probe_label(vectors, labels) > 0.9
    shuffled = np.random.default_rng(7).permutation(labels)
    assert probe_label(vectors, shuffled) < chance_label(shuffled) + 0.12
    skewed = np.where(np.arange(TASKS) % 10 == 0, 1, 0)
    assert chance_label(skewed) == pytest.approx(0.9, abs=0.1)
    assert chance_label(np.zeros(TASKS, int)) == 1.0


def test_probe_refuses_what_it_cannot_read(vectors):
    with pytest.raises(DataError, match="at least 20"):
        probe_number(vectors[:10], vectors[:10, 0])
    with pytest.raises(DataError, match="differ"):
        probe_number(vectors, np.ones(TASKS))
    with pytest.raises(DataError, match="finite"):
        probe_number(vectors, np.where(np.arange(TASKS) == 5, np.nan, vectors[:, 0]))
    with pytest.raises(DataError, match="finite"):
        probe_number(np.full((TASKS, 2), np.inf), vectors[:, 0])
    with pytest.raises(ShapeError, match="one value a task"):
        probe_number(vectors, vectors)
    with pytest.raises(ShapeError, match="tasks, size"):
        probe_label(vectors[:, 0], np.zeros(TASKS))


def make_contexts(seed=0):
    a, b = np.random.default_rng(seed).normal(size=(2, TASKS))
    contexts = Contexts({"a": jnp.asarray(a[:, None]), "b": jnp.asarray(b[:, None])})
    return contexts, {"a": np.asarray(contexts["a"][:, 0]), "b": np.asarray(contexts["b"][:, 0])}


def test_swap_test_of_contexts_that_are_the_factors():
    contexts, truth = make_contexts()
    read = lambda c: {"a": np.asarray(c["a"][:, 0]), "b": np.asarray(c["b"][:, 0])}  # noqa: E731
    donors = np.random.default_rng(1).permutation(TASKS)
    table = swap_test(contexts, donors, read, truth)
    assert all(cell["rms"] == 0 for row in table.values() for cell in row.values())


@pytest.mark.parametrize(
    ("read", "error", "match"),
    [
        (
            lambda c: {"a": c["a"], "b": c["b"][:, 0]},
            ShapeError,
            r"'a' has shape \(\d+, 1\).*one number a task",
        ),
        (lambda c: {"a": np.zeros(1), "b": c["b"][:, 0]}, ShapeError, "'a' has shape"),
        (lambda c: {"a": c["a"][:, 0]}, FactorError, "truth has values of 'b'"),
        (lambda c: {"a": ["x"] * TASKS, "b": c["b"][:, 0]}, DataError, "not an array of numbers"),
    ],
)
def test_swap_test_refuses_readouts_that_would_be_broadcast(read, error, match):
    contexts, truth = make_contexts()
    with pytest.raises(error, match=match):
        swap_test(contexts, np.arange(TASKS), read, truth)


@pytest.mark.parametrize("factor", ["donors", "q"])
def test_swap_test_checks_donors_and_truths_whatever_a_factor_is_called(factor):
    values = np.random.default_rng(0).normal(size=TASKS).astype(np.float32)
    contexts = Contexts({factor: jnp.asarray(values[:, None]), "b": jnp.asarray(values[:, None])})
    read = lambda c: {name: np.asarray(c[name][:, 0]) for name in ("b", factor) if name in c.values}  # noqa: E731
    with pytest.raises(ShapeError, match=r"^donors has shape \(3,\)"):
        swap_test(contexts, np.arange(3), read, {factor: values})
    with pytest.raises(FactorError, match=f"truth has values of '{factor}', but there is no context"):
        swap_test(contexts.select("b"), np.arange(TASKS), read, {factor: values})


def test_swap_test_needs_true_values_that_differ():
    contexts, truth = make_contexts()
    read = lambda c: {"a": np.asarray(c["a"][:, 0]), "b": np.asarray(c["b"][:, 0])}  # noqa: E731
    with pytest.raises(DataError, match="the same true 'b'"):
        swap_test(contexts, np.arange(TASKS), read, {**truth, "b": np.ones(TASKS)})


def test_probes_take_arrays():
    with pytest.raises(DataError, match="one array of contexts"):
        probe_number([["x"]] * TASKS, make_contexts()[1]["a"])


def test_swap_test_of_factors_that_sit_in_the_wrong_context():
    """With a and b exchanged nothing follows the swap that should: errors of two independent draws."""
    contexts, truth = make_contexts()
    read = lambda c: {"a": np.asarray(c["b"][:, 0]), "b": np.asarray(c["a"][:, 0])}  # noqa: E731
    table = swap_test(contexts, np.roll(np.arange(TASKS), 1), read, truth)
    assert table["a"]["a"]["rms"] == pytest.approx(np.sqrt(2), rel=0.15)
    assert table["a"]["b"]["rms"] == pytest.approx(np.sqrt(2), rel=0.15)


def test_swap_test_measures_a_known_leak():
    """A readout b + ε·a moves by ε·(a' − a) when only a is swapped."""
    contexts, truth = make_contexts()
    read = lambda c: {  # noqa: E731
        "a": np.asarray(c["a"][:, 0]),
        "b": np.asarray(c["b"][:, 0] + 0.1 * c["a"][:, 0]),
    }
    donors = np.roll(np.arange(TASKS), 1)
    table = swap_test(contexts, donors, read, truth)
    moved = 0.1 * (truth["a"][donors] - truth["a"]) / np.std(truth["b"])
    assert table["a"]["b"]["rms"] == pytest.approx(np.sqrt(np.mean(moved**2)), rel=1e-4)
    assert table["a"]["b"]["median"] == pytest.approx(np.median(np.abs(moved)), rel=1e-4)
    # The readout of b gets the donor's b, and keeps the leak of the own a.
    leak = 0.1 * truth["a"] / np.std(truth["b"])
    assert table["b"]["b"]["rms"] == pytest.approx(np.sqrt(np.mean(leak**2)), rel=1e-4)


def test_swap_test_uses_the_difference_it_is_given():
    contexts, truth = make_contexts()
    read = lambda c: {  # noqa: E731
        "a": np.asarray(c["a"][:, 0]) + 2 * np.pi,
        "b": np.asarray(c["b"][:, 0]),
    }
    around = lambda x, y: (x - y + np.pi) % (2 * np.pi) - np.pi  # noqa: E731
    donors = np.roll(np.arange(TASKS), 1)
    assert swap_test(contexts, donors, read, truth)["a"]["a"]["rms"] > 1
    table = swap_test(contexts, donors, read, truth, differences={"a": around})
    assert table["a"]["a"]["rms"] < 1e-5


def test_swap_test_refuses_what_does_not_fit():
    contexts, truth = make_contexts()
    read = lambda c: truth  # noqa: E731
    donors = np.arange(TASKS)
    with pytest.raises(ShapeError, match="donors"):
        swap_test(contexts, donors[:5], read, truth)
    with pytest.raises(FactorError, match="'c'"):
        swap_test(contexts, donors, read, {**truth, "c": truth["a"]})
    with pytest.raises(ContextMismatchError, match="several tasks"):
        swap_test(contexts.at(0), donors, read, truth)


@pytest.fixture(scope="module")
def deaf_learner():
    """A model whose output is x·c_a and does not listen to c_b."""
    factors = Factors(a=1, b=1)
    network = TensorProductNetwork(factors, 1, 1, width=4, depth=1, normalise=False, key=jax.random.key(0))
    head = jnp.zeros_like(network.head).at[:, :, 0, 1].set(network.head[:, :, 0, 1])
    object.__setattr__(network, "head", head)
    return Learner(network, LevenbergMarquardt(8), factors, prior=Prior(factors, floor=1e-8, precision=1e-8))


def test_clamp_test_tells_the_factor_that_is_listened_to(deaf_learner):
    tasks, n = 40, 8
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.uniform(-1, 1, (tasks, n, 1)), jnp.float32)
    amplitude = rng.normal(size=(tasks, 1))
    truth = Contexts({"a": jnp.asarray(amplitude, jnp.float32), "b": jnp.zeros((tasks, 1))})
    y = deaf_learner.predict(truth, x)

    def errors(contexts):
        return np.mean(np.asarray(deaf_learner.predict(contexts, x) - y) ** 2, axis=(1, 2))

    table = clamp_test(deaf_learner, Samples(x, y, jnp.ones((tasks, n))), errors)
    assert table["free"] < 1e-8
    power = float(jnp.mean(y**2))
    assert table["a"] == {"replaced": pytest.approx(power), "held": pytest.approx(power)}
    assert table["b"]["replaced"] < 1e-8
    assert table["b"]["held"] < 1e-8


def test_clamp_test_refuses_a_factor_that_has_the_name_of_its_first_row():
    factors = Factors(free=1, b=1)
    network = TensorProductNetwork(factors, 1, 1, width=4, depth=1, key=jax.random.key(0))
    model = Learner(network, LevenbergMarquardt(2), factors)
    with pytest.raises(FactorError, match="'free'"):
        clamp_test(model, Samples(jnp.ones((2, 3, 1)), jnp.ones((2, 3, 1)), jnp.ones((2, 3))), np.zeros)


def test_a_probe_with_groups_cannot_recognise_what_it_has_seen():
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(40), 8)
    value = rng.normal(size=40)[group]
    name_tag = rng.normal(size=(40, 3))[group] + 0.01 * rng.normal(size=(320, 3))  # tells groups, not values
    assert probe_number(name_tag, value) > 0.9
    assert probe_number(name_tag, value, groups=group) < 0.3
    assert probe_number(value[:, None] + 0 * name_tag, value, groups=group) > 0.9
    kind = (value > 0).astype(int)
    assert probe_label(name_tag, kind) > 0.9
    assert probe_label(name_tag, kind, groups=group) < 0.8


def test_groups_of_another_shape_or_too_few_are_refused():
    with pytest.raises(ShapeError, match="groups"):
        probe_number(np.ones((30, 2)), np.arange(30.0), groups=np.arange(29))
    with pytest.raises(DataError, match="8 groups"):
        probe_number(np.ones((30, 2)), np.arange(30.0), groups=np.arange(30) % 7)


@pytest.mark.parametrize("seed", range(4))
def test_a_probe_of_the_fewest_groups_still_reads_what_is_plain(seed):
    group = np.arange(160) % LEAST_GROUPS
    value = np.random.default_rng(seed).normal(size=LEAST_GROUPS)[group]
    contexts = value[:, None] + 1e-3 * np.random.default_rng(seed + 9).normal(size=(160, 2))
    assert probe_number(contexts, value, groups=group, seed=seed) > 0.3
