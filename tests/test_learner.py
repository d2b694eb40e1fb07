"""adapt and predict: correct results, what they refuse, and the fingerprint that ties contexts to models."""

import copy
import os
import subprocess
import sys
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests.helpers import (
    FACTORS,
    ROOT,
    double_precision,
    learner,
    network,
    same_bits,
    samples_of,
    sine,
    solver,
)

from dmcm import Contexts, FactorDataset, Prior, share
from dmcm.errors import ConfigError, ContextMismatchError, DataError, FactorError, ShapeError
from dmcm.models import build_network
from dmcm.networks import ConcatNetwork
from dmcm.samples import Samples, as_samples, weighted_mean
from dmcm.scaling import Scaler

NAN, INF = float("nan"), float("inf")


@pytest.fixture(scope="module")
def model():
    """Well determined by ten samples: a strong prior, so that rounding cannot grow."""
    return learner(prior=Prior(FACTORS, precision=0.1))


@pytest.fixture(scope="module")
def tasks():
    return [sine(a, p, seed=i) for i, (a, p) in enumerate([(1, 0), (2, 0.5), (1.5, 1)])]


@pytest.fixture(scope="module")
def singles(model, tasks):
    return [model.adapt(x, y) for x, y in tasks]


def close(one, other, tolerance=1e-4):
    assert one.values.keys() == other.values.keys()
    for name in one.values:
        np.testing.assert_allclose(one[name], other[name], rtol=tolerance, atol=tolerance)


def test_adapting_learns_from_the_samples(model, singles, tasks):
    for (x, y), contexts in zip(tasks, singles, strict=True):
        assert contexts.sizes == FACTORS.sizes
        assert list(contexts.values) == list(FACTORS)
        assert contexts.batch_shape == ()
        before = np.mean((model.predict(model.prior_contexts(), x) - y) ** 2)
        assert np.mean((model.predict(contexts, x) - y) ** 2) < before


def test_many_tasks_at_once_are_each_task_alone(model, tasks, singles):
    x, y = (np.stack([task[i] for task in tasks]) for i in (0, 1))
    together = model.adapt_many(x, y)
    mapped = jax.vmap(model.adapt)(jnp.asarray(x), jnp.asarray(y))
    padded = samples_of(*tasks)
    padded = Samples(
        *(jnp.pad(leaf, [(0, 0), (0, 4)] + [(0, 0)] * (leaf.ndim - 2)) for leaf in (padded.x, padded.y)),
        jnp.pad(padded.weight, [(0, 0), (0, 4)]),
    )
    for many in (together, mapped, model.adapt_samples(padded)):
        assert many.batch_shape == (3,)
        assert many.model == model.fingerprint()
        for i, single in enumerate(singles):
            close(many.at(i), single)


def test_other_kinds_of_numbers_go_in(model, tasks, singles):
    x, y = tasks[0]
    close(model.adapt(jnp.asarray(x), y.astype(np.float64)), singles[0], 1e-6)
    whole = model.adapt(np.arange(4)[:, None], np.array([[True], [False], [True], [True]]))
    close(whole, model.adapt(np.arange(4.0)[:, None], np.array([[1.0], [0.0], [1.0], [1.0]])), 1e-6)


def test_adapting_inside_jit_and_its_gradient(model, tasks, singles):
    x, y = map(jnp.asarray, tasks[0])
    traced = eqx.filter_jit(model.adapt)(x, y)
    close(traced, singles[0])

    def error(y):
        return jnp.sum(model.adapt(x, y)["phase"])

    slope = jax.jit(jax.grad(error))(y)
    assert np.all(np.isfinite(slope))
    assert np.abs(slope).max() > 0
    as_argument = eqx.filter_jit(lambda model, x, y: model.adapt(x, y))(model, x, y)
    assert as_argument.model is None
    close(as_argument, singles[0])


def test_predictions_of_many_contexts_are_each_one_alone(model, tasks, singles):
    x = np.stack([task[0] for task in tasks])
    together = model.adapt_many(x, np.stack([task[1] for task in tasks]))
    own, common = model.predict(together, x), model.predict(together, x[0])
    assert own.shape == common.shape == (3, 10, 1)
    for i in range(3):
        np.testing.assert_allclose(own[i], model.predict(together.at(i), x[i]), rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(common[i], model.predict(together.at(i), x[0]), rtol=1e-5, atol=1e-5)
    assert model.predict(singles[0], np.zeros((0, 1))).shape == (0, 1)


def test_mixed_contexts_predict_what_the_network_computes(model, singles):
    mixed = share(amplitude=singles[0], phase=singles[1])
    x = jnp.linspace(-2, 2, 5)[:, None]
    expected = model.network(x, {"amplitude": singles[0]["amplitude"], "phase": singles[1]["phase"]})
    np.testing.assert_allclose(model.predict(mixed, x), expected, rtol=1e-5, atol=1e-6)


def test_only_moves_what_it_names(model, tasks, singles):
    x, y = tasks[0]
    for only in ("phase", ["phase"], ("phase", "phase")):
        from_prior = model.adapt(x, y, only=only)
        assert same_bits(from_prior["amplitude"], model.prior.mean["amplitude"])
        assert not np.array_equal(from_prior["phase"], model.prior.mean["phase"])
    held = model.adapt(x, y, only="phase", given=singles[1])
    assert same_bits(held["amplitude"], singles[1]["amplitude"])
    # What is named in `only` is found from the data, whatever was given for it.
    other = share(amplitude=singles[1], phase=singles[2])
    assert same_bits(model.adapt(x, y, only="phase", given=other)["phase"], held["phase"])
    both = model.adapt(x, y, only=("phase", "amplitude"))
    close(both, singles[0])


def test_given_vectors_are_held_and_serve_one_or_many(model, tasks, singles):
    x, y = (np.stack([task[i] for task in tasks]) for i in (0, 1))
    vector = np.asarray([0.3, -0.1], np.float32)
    for form in ({"phase": vector}, Contexts({"phase": jnp.asarray(vector)})):
        one, many = model.adapt(x[0], y[0], given=form), model.adapt_many(x, y, given=form)
        assert same_bits(one["phase"], jnp.asarray(vector))
        assert same_bits(many["phase"], jnp.tile(vector, (3, 1)))
        close(many.at(0), one)
    each = {"phase": np.stack([vector, 2 * vector, -vector])}
    many = model.adapt_many(x, y, given=each)
    np.testing.assert_array_equal(many["phase"], each["phase"])
    close(many.at(2), model.adapt(x[2], y[2], given={"phase": -vector}))
    # All held: nothing is left to find.
    assert same_bits(model.adapt(x[0], y[0], given=singles[1]).values, singles[1].values)


def test_raw_units_do_not_matter_if_the_scaler_follows(tasks):
    (x, y), (fresh, _) = tasks[1], tasks[2]
    scaler = Scaler(*(jnp.asarray([v]) for v in (0.5, 2.0, -0.25, 1.5)))
    plain = learner(prior=Prior(FACTORS, precision=0.1), scaler=scaler)
    moved = Scaler(scaler.x_mean * 16 + 3, scaler.x_std * 16, scaler.y_mean / 64 + 5, scaler.y_std / 64)
    other = learner(prior=Prior(FACTORS, precision=0.1), scaler=moved)
    one, two = plain.adapt(x, y), other.adapt(x * 16 + 3, y / 64 + 5)
    close(one, two, 1e-3)
    predicted = other.predict(two, fresh * 16 + 3)
    np.testing.assert_allclose(predicted, plain.predict(one, fresh) / 64 + 5, rtol=1e-4)
    assert np.abs(predicted - 5).max() > 1e-3
    close(learner(prior=Prior(FACTORS, precision=0.1)).adapt((x - 0.5) / 2, (y + 0.25) / 1.5), one, 1e-3)


def test_scaler_measures_mean_and_deviation():
    rng = np.random.default_rng(0)
    x = rng.normal([3, -1e4], [2, 5], (500, 2)).astype(np.float32)
    y = np.full((500, 1), 7.25, np.float32)
    scaler = Scaler.from_samples(x, y)
    scaled = np.asarray(scaler.scale_x(jnp.asarray(x)))
    np.testing.assert_allclose(scaled.mean(axis=0), 0, atol=2e-3)
    np.testing.assert_allclose(scaled.std(axis=0), 1, rtol=1e-3)
    # A column that never varies keeps its unit, and nothing is divided by zero.
    assert np.asarray(scaler.y_std) == 1
    back = scaler.unscale_y(scaler.scale_y(jnp.asarray(y)))
    np.testing.assert_array_equal(back, y)
    slopes = eqx.filter_grad(lambda s: jnp.sum(s.unscale_y(s.scale_y(jnp.asarray(y)))))(scaler)
    assert all(float(jnp.abs(leaf).max()) == 0 for leaf in jax.tree.leaves(slopes))


def test_weighted_mean_counts_what_has_weight():
    squares = jnp.asarray([[1.0, 3.0], [5.0, 5.0], [100.0, 100.0]])
    assert float(weighted_mean(squares, jnp.asarray([1.0, 1.0, 0.0]))) == pytest.approx(3.5)
    assert float(weighted_mean(squares, jnp.zeros(3))) == 0


@pytest.mark.parametrize(
    ("x", "y", "error", "message"),
    [
        (np.zeros(4), np.zeros((4, 1)), ShapeError, r"x has shape \(4,\).*Did you mean x\[:, None\]"),
        (np.zeros((4, 1)), np.zeros(4), ShapeError, r"y has shape \(4,\).*Did you mean y\[:, None\]"),
        (np.zeros((4, 2)), np.zeros((4, 1)), ShapeError, r"this model takes \(samples, 1\)"),
        (np.zeros((4, 1)), np.zeros((3, 1)), ShapeError, "same number of samples"),
        (np.zeros((2, 4, 1)), np.zeros((2, 4, 1)), ShapeError, "use adapt_many"),
        (np.zeros((0, 1)), np.zeros((0, 1)), DataError, "no samples to adapt to"),
        (np.array([[0.0], [NAN]]), np.zeros((2, 1)), DataError, r"x has NaN.*first at index \(1, 0\)"),
        (
            np.zeros((2, 1)),
            np.array([[-INF], [0]]),
            DataError,
            r"y has NaN, infinite.*first at index \(0, 0\)",
        ),
        (np.zeros((1, 1)), np.array([[1e300]]), DataError, "too large"),
        (np.array([["one"]]), np.zeros((1, 1)), DataError, "x is not an array of numbers"),
        (np.array([[{}]]), np.zeros((1, 1)), DataError, "x is not an array of numbers"),
        (np.zeros((1, 1)), np.array([[1j]]), DataError, "y is not an array of numbers: complex"),
        (np.zeros((1, 1)), np.array([[None]]), DataError, "y has NaN|y is not an array"),
    ],
)
def test_samples_that_cannot_be_adapted_to(model, x, y, error, message):
    with pytest.raises(error, match=message):
        model.adapt(x, y)


def test_arguments_that_cannot_be_meant(model, tasks, singles):
    x, y = tasks[0]
    with pytest.raises(FactorError, match=r"no factor 'phse'.*Did you mean 'phase'"):
        model.adapt(x, y, only="phse")
    with pytest.raises(FactorError, match="would move nothing"):
        model.adapt(x, y, only=())
    with pytest.raises(FactorError, match="no factor 'colour'"):
        model.adapt(x, y, given={"colour": np.ones(2)})
    for vector in (np.ones(3), 1.0):
        with pytest.raises(ContextMismatchError, match="in this model it has size 2"):
            model.adapt(x, y, given={"phase": vector})
    with pytest.raises(ContextMismatchError, match="it needs"):
        model.adapt(x, y, given={"phase": np.zeros((3, 2))})
    with pytest.raises(DataError, match="not a vector of numbers"):
        model.adapt(x, y, given={"phase": np.array(["one", "two"])})
    with pytest.raises(DataError, match="has NaN"):
        model.adapt(x, y, given={"phase": np.array([NAN, 1.0])})
    with pytest.raises(ShapeError, match="adapt_many takes"):
        model.adapt_many(x, y)
    for shape in ((3, 4, 1), (2, 3, 4, 1)):
        with pytest.raises(ShapeError, match="does not fit contexts of batch shape"):
            model.predict(singles[0], np.zeros(shape))
    with pytest.raises(DataError, match="x has NaN"):
        model.predict(singles[0], np.array([[NAN]]))
    with pytest.raises(FactorError, match="no context given for amplitude"):
        model.predict(singles[0].select("phase"), x)


def test_contexts_of_another_model_are_refused(model, tasks, singles):
    stranger = learner(seed=5)
    x, y = tasks[0]
    with pytest.raises(ContextMismatchError, match="different models"):
        stranger.predict(singles[0], x)
    with pytest.raises(ContextMismatchError, match="different models"):
        stranger.adapt(x, y, given=singles[0], only="phase")
    with pytest.raises(ContextMismatchError, match="different models"):
        share(amplitude=singles[0], phase=stranger.adapt(x, y))


def test_an_inner_loop_that_explodes_is_an_error(tasks):
    x, y = tasks[0]
    wild = learner(solver=solver("gradient_descent", steps=30, rate=1e6), network=network(normalise=False))
    with pytest.raises(DataError, match="inner loop exploded"):
        wild.adapt(x, y)
    with pytest.raises(DataError, match="inner loop exploded"):
        learner().adapt(x, 1e30 * y)


def test_fingerprint_follows_every_number(model):
    arrays, static = eqx.partition(model, eqx.is_array)
    leaves, structure = jax.tree.flatten(arrays)
    reference = model.fingerprint()
    assert len(reference) == 64
    assert len(leaves) > 5
    for i, leaf in enumerate(leaves):
        changed = [*leaves[:i], leaf.at[(0,) * leaf.ndim].add(1e-3), *leaves[i + 1 :]]
        one, other = (eqx.combine(jax.tree.unflatten(structure, changed), static) for _ in range(2))
        assert one.fingerprint() == other.fingerprint() != reference
    assert model.fingerprint() == reference
    assert copy.deepcopy(model).fingerprint() == reference


def test_fingerprint_follows_the_structure_even_if_numbers_are_the_same():
    """Parts that share arrays must not share a fingerprint because one of them was asked first."""
    prior, net = Prior(FACTORS), network()
    found = [
        learner(network=net, prior=prior, solver=solver(kind)).fingerprint() for kind in ("none", "oracle")
    ]
    bent = eqx.tree_at(lambda m: m.head, network(activation="silu"), net.head)
    bent = eqx.tree_at(lambda m: m.trunk, bent, net.trunk)
    loose = eqx.tree_at(lambda m: (m.head, m.trunk), network(normalise=False), (net.head, net.trunk))
    found += [learner(network=n, prior=prior, solver=solver("none")).fingerprint() for n in (bent, loose)]
    assert len(set(found)) == 4


def test_fingerprint_is_about_meaning_not_effort(model):
    """More inner steps, double precision and another process give contexts of the same meaning."""
    reference = learner(seed=3)
    more = learner(seed=3, solver=solver(steps=50))
    assert more.fingerprint() == reference.fingerprint()
    with double_precision():
        arrays, static = eqx.partition(reference, eqx.is_array)
        wide = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf), jnp.float64), arrays)
        assert eqx.combine(wide, static).fingerprint() == reference.fingerprint()
    code = "from tests.helpers import learner; print(learner(seed=3).fingerprint())"
    command = [sys.executable, "-c", code]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), *sys.path]))}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == reference.fingerprint()


def test_no_fingerprint_while_tracing(model):
    seen = []
    eqx.filter_jit(lambda m: seen.append(m.fingerprint()) or 0)(model)
    assert seen == [None]


def test_scalers_of_other_columns_are_refused():
    for sizes in ((2, 1), (1, 2)):
        with pytest.raises(ShapeError, match="the scaler has"):
            learner(scaler=Scaler.identity(*sizes))


class Own(ConcatNetwork):
    """A network of one's own that turns what its base gives into something else."""

    turn: Any = eqx.field(static=True, default=None)

    def decode(self, encoded, contexts):
        return self.turn(super().decode(encoded, contexts))


class Nameless(Own):
    kind = None


@pytest.mark.parametrize(
    ("turn", "shape"),
    [
        (lambda y: y[:, 0], r"\(2,\)"),
        (lambda y: jnp.concatenate([y, y], axis=1), r"\(2, 2\)"),
        (lambda y: jnp.mean(y, axis=0, keepdims=True), r"\(1, 1\)"),
        (lambda y: (y, y), "tuple"),
    ],
)
def test_outputs_that_would_be_broadcast_are_refused(turn, shape):
    def own(kind, turn):
        plain = kind(FACTORS, 1, 1, width=4, depth=1, key=jax.random.key(0))
        object.__setattr__(plain, "turn", turn)
        return plain

    with pytest.raises(ShapeError, match=rf"Own gives outputs of shape {shape}.*\(2, 1\)"):
        learner(network=own(Own, turn))
    with pytest.raises(ConfigError, match="Nameless has no name for its kind"):
        learner(network=own(Nameless, lambda y: y))
    assert learner(network=own(Own, lambda y: y)).outputs == 1


def test_a_learner_can_be_built_where_jax_traces():
    x, _ = sine()
    many = eqx.filter_vmap(lambda key: learner(network=build_network("concat", FACTORS, 1, 1, key)))(
        jax.random.split(jax.random.key(0), 3)
    )
    assert eqx.filter_vmap(lambda m: m.predict(m.prior_contexts(), x))(many).shape == (3, *x.shape)


def test_samples_are_checked_alike_for_one_and_many():
    assert as_samples(np.zeros((2, 3, 1)), np.zeros((2, 3, 2)), 1, 2).weight.shape == (2, 3)
    with pytest.raises(ShapeError, match="and tasks"):
        as_samples(np.zeros((2, 3, 1)), np.zeros((3, 3, 1)), 1, 1)


def test_outputs_of_another_unit_are_refused():
    x, y = sine(1, 0)
    model = learner(scaler=Scaler.from_samples(x, y))
    model.adapt(x, 1e3 * y)  # far, but seen
    pairs = ((model.adapt, (x, 1e8 * y)), (model.adapt_many, (x[None], 1e8 * y[None])))
    for adapt, data in pairs:
        with pytest.raises(DataError, match=r"standard deviations from their training mean.*another unit"):
            adapt(*data)
    with pytest.raises(DataError, match="another unit"):
        model.adapt_pooled([(x, y), (x, 1e8 * y)], shared=next(iter(model.factors)))
    with pytest.raises(DataError, match="inputs lie up to"):
        model.adapt(1e8 * x, y)
    with pytest.raises(DataError, match="inputs lie up to"):
        model.predict(model.prior_contexts(), 1e8 * x)
    assert jax.jit(lambda x: model.predict(model.prior_contexts(), x))(1e8 * x).shape == y.shape


def test_padding_is_no_data_however_far_zero_is():
    """Of constant columns far from zero, as pressures in pascal, padding must not look like another unit."""
    x, y = sine(1, 0)
    far = [np.concatenate([part, np.full_like(part, 2e7)], axis=1) for part in (x, y)]
    short = [part[:6] for part in far]
    data = FactorDataset.from_arrays([far[0], short[0]], [far[1], short[1]], {"f": ["a", "b"]}, shots=3)
    net = network(inputs=2, outputs=2)
    model = learner(network=net, solver=solver(inputs=2, outputs=2), scaler=data.scaler())
    many = model.adapt_samples(data.samples())
    pooled = model.adapt_pooled([tuple(far), tuple(short)], shared="phase")
    assert all(np.isfinite(value).all() for value in (*many.values.values(), *pooled.values.values()))
    alone = model.adapt(*short)
    np.testing.assert_allclose(many.at(1)["phase"], alone["phase"], atol=1e-3)


def test_samples_of_other_columns_are_refused(model, tasks):
    x, y = tasks[0]
    two = samples_of((x, np.concatenate([y, y], axis=1)))
    with pytest.raises(ShapeError, match="1 input and 2 output columns, but the learner takes 1 and 1"):
        model.adapt_samples(two)


def test_samples_that_do_not_fit_each_other_are_refused(model, tasks):
    good = samples_of(*tasks)
    for change in (
        lambda s: jax.tree.map(lambda leaf: leaf[0], s),
        lambda s: eqx.tree_at(lambda s: s.weight, s, s.weight[:, :1]),
        lambda s: eqx.tree_at(lambda s: s.y, s, s.y[:, :1]),
    ):
        with pytest.raises(ShapeError, match="adapt_samples takes x"):
            model.adapt_samples(change(good))
    with pytest.raises(DataError, match="no samples to adapt to"):
        model.adapt_samples(jax.tree.map(lambda leaf: leaf[:, :0], good))


def test_missing_values_and_dates_are_no_numbers(model, tasks):
    x, y = tasks[0]
    hidden = np.ma.masked_array(y, mask=np.arange(len(y))[:, None] == 2)
    with pytest.raises(DataError, match="masked values are missing"):
        model.adapt(x, hidden)
    same = model.adapt(x, np.ma.masked_array(y, mask=False))
    np.testing.assert_array_equal(same["amplitude"], model.adapt(x, y)["amplitude"])
    days = np.arange(len(x)).astype("datetime64[D]")[:, None]
    with pytest.raises(DataError, match="datetime64"):
        model.adapt(days, y)


def test_contexts_that_are_no_numbers_predict_nothing(model, singles):
    spoiled = Contexts({name: value * NAN for name, value in singles[0].values.items()}, singles[0].model)
    with pytest.raises(DataError, match="context of 'amplitude' has NaN"):
        model.predict(spoiled, np.zeros((3, 1)))
