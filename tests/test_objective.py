"""Donors, recombined loss and dependence penalty against loops, and what must never be learned from."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.helpers import FACTORS, learner, solver

from dmcm import Factors, Learner
from dmcm.networks import Network
from dmcm.objective import choose_donors, dependence_between, outer_loss
from dmcm.samples import Batch, Samples
from dmcm.scaling import Scaler

TASKS = 8
lists = {"min_size": TASKS, "max_size": TASKS}


@given(
    st.lists(st.integers(0, 3), **lists),
    st.lists(st.integers(0, 5), **lists),
    st.lists(st.booleans(), **lists),
    st.integers(0, 99),
)
def test_donors_carry_the_label_are_valid_and_another_task(labels, task, valid, seed):
    arrays = jnp.asarray(labels), jnp.asarray(task), jnp.asarray(valid)
    donor, found = map(np.asarray, jax.jit(choose_donors)(*arrays, jax.random.key(seed)))
    for i in range(TASKS):
        allowed = [j for j in range(TASKS) if labels[j] == labels[i] and task[j] != task[i] and valid[j]]
        assert found[i] == bool(allowed)
        assert donor[i] in (allowed or [i])


def test_donors_are_drawn_evenly():
    labels, task = jnp.asarray([0, 0, 0, 0, 1, 1, 2, 0]), jnp.asarray([0, 1, 2, 3, 4, 5, 6, 0])
    keys = jax.random.split(jax.random.key(0), 3000)
    donors = np.asarray(jax.vmap(lambda key: choose_donors(labels, task, jnp.ones(8, bool), key)[0])(keys))
    # Task 7 is task 0 drawn again, so neither donates to the other.
    for i, allowed in {0: [1, 2, 3], 1: [0, 2, 3, 7], 4: [5], 6: [6]}.items():
        counts = np.bincount(donors[:, i], minlength=8)
        assert np.flatnonzero(counts).tolist() == allowed
        assert np.all(np.abs(counts[allowed] / 3000 - 1 / len(allowed)) < 0.04)


def a_batch(seed=0, *, labels=None, valid=None, task=None):
    """Eight tasks of noise on a 3 × 3 table of labels, with padded samples."""
    rng = np.random.default_rng(seed)

    def samples(n):
        weight = np.ones((TASKS, n), np.float32)
        weight[::2, -1] = 0
        x, y = (rng.normal(size=(TASKS, n, 1)).astype(np.float32) for _ in range(2))
        return Samples(*map(jnp.asarray, (x, y, weight)))

    labels = labels or {"amplitude": [0, 0, 1, 1, 2, 0, 1, 2], "phase": [0, 1, 0, 1, 0, 2, 2, 3]}
    return Batch(
        support=samples(5),
        query=samples(4),
        task=jnp.arange(TASKS) if task is None else jnp.asarray(task),
        labels={name: jnp.asarray(codes) for name, codes in labels.items()},
        valid=jnp.ones(TASKS, bool) if valid is None else jnp.asarray(valid),
    )


@pytest.fixture(scope="module")
def model():
    scaler = Scaler(*(jnp.asarray([v]) for v in (0.5, 2.0, -0.25, 1.5)))
    return learner(solver=solver("gradient_descent", steps=2), scaler=scaler)


@eqx.filter_jit
def loss_and_slopes(model, batch, key, outlier_scale=None):
    """With one pair of weights throughout, so that there is little to compile."""

    def loss(trained, static):
        weights = {"recombination": 2.5, "dependence": 0.75, "omission": 1.5, "outlier_scale": outlier_scale}
        return outer_loss(eqx.combine(trained, static), batch, key, **weights)

    trained, static = eqx.partition(model, eqx.is_inexact_array)
    (total, parts), slopes = jax.value_and_grad(loss, has_aux=True)(trained, static)
    return total, parts, slopes


@eqx.filter_jit
def contexts_of(model, batch):
    scale = model.scaler

    def one(x, y, weight):
        support = Samples(scale.scale_x(x), scale.scale_y(y), weight)
        return model.solver.solve(model.network, model.prior, support, {}, training=True)

    return jax.vmap(one)(batch.support.x, batch.support.y, batch.support.weight)


def query_error(model, batch, i, contexts):
    """Mean squared error of task i's real queries in standard units."""
    real = np.asarray(batch.query.weight[i]) > 0
    x, y = np.asarray(batch.query.x[i])[real], np.asarray(batch.query.y[i])[real]
    predicted = model.network(jnp.asarray((x - 0.5) / 2), contexts)
    return np.mean((np.asarray(predicted) - (y + 0.25) / 1.5) ** 2)


@pytest.mark.parametrize("scale", [None, 0.5])
def test_outer_loss_is_what_loops_compute(model, scale):
    batch = a_batch(valid=[True] * 6 + [False, True])
    key = jax.random.key(3)
    total, parts, _ = loss_and_slopes(model, batch, key, scale)
    contexts = contexts_of(model, batch)
    each = [{name: contexts[name][i] for name in FACTORS} for i in range(TASKS)]
    own = [query_error(model, batch, i, each[i]) for i in range(TASKS) if batch.valid[i]]
    donors, found = {}, np.zeros(TASKS, bool)
    for name, own_key in zip(FACTORS, jax.random.split(key, 2), strict=True):
        donors[name], some = choose_donors(batch.labels[name], batch.task, batch.valid, own_key)
        found |= np.asarray(some)
    mixed = [
        query_error(model, batch, i, {name: contexts[name][int(donors[name][i])] for name in FACTORS})
        for i in range(TASKS)
        if batch.valid[i] and found[i]
    ]
    # The last task has no other of its phase, and its amplitude's only other donor is task 4.
    assert [int(donors[name][7]) for name in FACTORS] == [4, 7]
    np.testing.assert_allclose(parts["own"], np.mean(own), rtol=1e-4)
    left_out = jax.random.randint(jax.random.fold_in(key, 1), (TASKS,), 0, 2)
    start = model.prior.start()
    partial = [
        query_error(model, batch, i, each[i] | {name: start[name]})
        for i, name in enumerate(FACTORS.names[int(k)] for k in left_out)
        if batch.valid[i]
    ]
    assert set(np.asarray(left_out).tolist()) == {0, 1}
    np.testing.assert_allclose(parts["recombined"], np.mean(mixed), rtol=1e-4)
    np.testing.assert_allclose(parts["omitted"], np.mean(partial), rtol=1e-4)
    penalty = dependence_between(contexts, batch.valid)
    np.testing.assert_allclose(parts["dependence"], penalty, rtol=1e-4)

    def counted(errors):
        errors = np.asarray(errors)
        return np.mean(errors if scale is None else 2 * scale * (np.sqrt(1 + errors / scale) - 1))

    expected = counted(own) + 2.5 * counted(mixed) + 1.5 * counted(partial) + 0.75 * penalty
    np.testing.assert_allclose(total, expected, rtol=1e-4)


def test_a_batch_without_donors_has_its_own_loss_alone(model):
    lonely = {"amplitude": range(TASKS), "phase": range(TASKS)}
    batch = a_batch(labels={name: list(codes) for name, codes in lonely.items()})
    total, parts, slopes = loss_and_slopes(model, batch, jax.random.key(0))
    assert parts["recombined"] == 0 < parts["own"]
    expected = parts["own"] + 1.5 * parts["omitted"] + 0.75 * parts["dependence"]
    np.testing.assert_allclose(total, expected, rtol=1e-6)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(slopes))


def test_the_same_task_drawn_twice_is_no_donor(model):
    batch = a_batch(labels={name: [0] * TASKS for name in FACTORS}, task=[5] * TASKS)
    assert loss_and_slopes(model, batch, jax.random.key(0))[1]["recombined"] == 0


@pytest.mark.parametrize("kind", ["levenberg_marquardt", "gradient_descent", "set_encoder"])
def test_a_batch_with_nothing_valid_gives_zero_and_finite_slopes(kind):
    model = learner(solver=solver(kind), scaler=Scaler.identity(1, 1))
    batch = a_batch(valid=[False] * TASKS)
    total, parts, slopes = loss_and_slopes(model, batch, jax.random.key(0))
    assert total == 0
    assert all(part == 0 for part in parts.values())
    assert all(np.all(np.asarray(leaf) == 0) for leaf in jax.tree.leaves(slopes))


def test_tasks_that_are_not_valid_change_nothing_whatever_they_hold(model):
    valid = [True] * 6 + [False] * 2
    batch = a_batch(valid=valid)
    broken = eqx.tree_at(
        lambda b: (b.support.y, b.query.x),
        batch,
        (batch.support.y.at[6:].set(jnp.nan), batch.query.x.at[6:].set(jnp.inf)),
    )
    key = jax.random.key(1)
    one, other = (loss_and_slopes(model, b, key) for b in (batch, broken))
    assert one[0] == other[0]
    for a, b in zip(jax.tree.leaves(one[2]), jax.tree.leaves(other[2]), strict=True):
        assert np.all(np.isfinite(b))
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


class Gap(Network):
    """Predicts the difference of two contexts, which is zero where both come from one task."""

    kind = "gap"
    factors: Factors = eqx.field(static=True)
    inputs: int = eqx.field(static=True)
    outputs: int = eqx.field(static=True)

    def encode(self, x):
        return x

    def decode(self, encoded, contexts):
        return jnp.zeros_like(encoded) + contexts["a"] - contexts["b"]

    def spec(self):
        return {}


def test_each_factor_draws_donors_of_its_own():
    factors = Factors(a=1, b=1)
    model = Learner(Gap(factors, 1, 1), solver("oracle"), factors)
    numbers = np.arange(TASKS) ** 2 / 10
    values = {name: jnp.asarray(numbers, jnp.float32)[:, None] for name in factors}
    batch = a_batch(labels=dict.fromkeys(factors, [0] * TASKS))
    batch = Batch(batch.support, batch.query, batch.task, batch.labels, batch.valid, values)
    batch = eqx.tree_at(lambda b: b.query.y, batch, jnp.zeros_like(batch.query.y))

    def recombined(key):
        return outer_loss(model, batch, key, recombination=1.0, dependence=0.0)[1]["recombined"]

    drawn = jax.jit(jax.vmap(recombined))(jax.random.split(jax.random.key(0), 2000))
    # Two independent draws from the other tasks differ by twice their variance.
    expected = np.mean([2 * np.var(np.delete(numbers, i)) for i in range(TASKS)])
    assert np.mean(drawn) == pytest.approx(expected, rel=0.05)
    assert np.std(drawn) > 0


def test_a_factor_left_out_is_at_its_prior_mean_and_each_is_in_turn():
    factors = Factors(a=1, b=1)
    model = Learner(Gap(factors, 1, 1), solver("oracle"), factors)
    values = {"a": jnp.full((TASKS, 1), 3.0), "b": jnp.full((TASKS, 1), 4.0)}
    batch = a_batch(labels=dict.fromkeys(factors, [0] * TASKS))
    batch = Batch(batch.support, batch.query, batch.task, batch.labels, batch.valid, values)
    batch = eqx.tree_at(lambda b: b.query.y, batch, jnp.zeros_like(batch.query.y))

    def omitted(key):
        weights = {"recombination": 0.0, "dependence": 0.0, "omission": 1.0}
        return outer_loss(model, batch, key, **weights)[1]["omitted"]

    drawn = np.asarray(jax.jit(jax.vmap(omitted))(jax.random.split(jax.random.key(0), 2000)))
    # Without a the difference is −4, without b it is 3.
    assert np.mean(drawn) == pytest.approx((16 + 9) / 2, rel=0.02)
    assert drawn.min() >= 9
    assert drawn.max() <= 16


def hsic(contexts, valid=None):
    first = next(iter(contexts.values()))
    valid = np.ones(len(first), bool) if valid is None else valid
    return float(dependence_between({k: jnp.asarray(v) for k, v in contexts.items()}, jnp.asarray(valid)))


def test_dependence_is_zero_on_a_full_table_and_one_for_copies():
    rng = np.random.default_rng(0)
    rows, columns = rng.normal(size=(5, 2)), rng.normal(size=(7, 3))
    a, b = np.repeat(rows, 7, axis=0), np.tile(columns, (5, 1))
    assert abs(hsic({"a": a, "b": b})) < 1e-5
    assert hsic({"a": a, "b": a}) == pytest.approx(1, abs=1e-5)
    # A bent copy depends, and three factors give the mean over their pairs.
    assert 0.3 < hsic({"a": a, "b": a**3}) < 0.999
    assert hsic({"a": a, "b": b, "c": a}) == pytest.approx(1 / 3, abs=1e-4)
    assert hsic({"a": a}) == 0


def test_dependence_ignores_order_rotation_and_unit():
    rng = np.random.default_rng(1)
    a = rng.normal(size=(20, 3))
    b = np.tanh(a[:, :2]) + 0.5 * rng.normal(size=(20, 2))
    reference = hsic({"a": a, "b": b})
    assert 0.05 < reference < 0.95
    order, (turn, _) = rng.permutation(20), np.linalg.qr(rng.normal(size=(3, 3)))
    assert hsic({"a": a[order], "b": b[order]}) == pytest.approx(reference, rel=1e-4)
    assert hsic({"a": 40 * a @ turn + 3, "b": b / 100}) == pytest.approx(reference, rel=1e-3)
    assert hsic({"a": a[order], "b": b}) < reference


def test_dependence_by_its_formula_ignoring_what_is_not_valid():
    rng = np.random.default_rng(2)
    a, b, valid = rng.normal(size=(12, 2)), rng.normal(size=(12, 1)), np.arange(12) < 9
    junk = np.where(valid[:, None], a, 1e3)

    def kernel(values):
        gaps = ((values[:, None] - values[None]) ** 2).sum(-1)
        centre = np.eye(9) - 1 / 9
        return centre @ np.exp(-gaps / gaps.mean()) @ centre

    p, q = kernel(a[:9]), kernel(b[:9])
    expected = np.trace(p @ q) / np.sqrt(np.trace(p @ p) * np.trace(q @ q))
    assert hsic({"a": junk, "b": b}, valid) == pytest.approx(expected, rel=1e-4)


def test_dependence_of_contexts_that_do_not_differ_is_zero_with_finite_slopes():
    values = {"a": jnp.ones((6, 2)), "b": jnp.zeros((6, 1))}
    for valid in (jnp.ones(6, bool), jnp.zeros(6, bool)):
        value, slopes = jax.value_and_grad(lambda c, valid=valid: dependence_between(c, valid))(values)
        assert value == 0
        assert all(np.all(np.isfinite(leaf)) for leaf in slopes.values())
