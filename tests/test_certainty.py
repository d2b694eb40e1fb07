"""Tests of the certainty of fitted contexts: against closed forms and many simulated data sets."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest

from dmcm import Prior
from dmcm.certainty import LEAST_BLOCKS, _slopes, context_deviations
from dmcm.contexts import Contexts
from dmcm.errors import ContextMismatchError, DataError, FactorError, ShapeError
from dmcm.samples import as_samples
from helpers import FACTORS, learner, network

FIRST = next(iter(FACTORS))


@pytest.fixture(scope="module")
def model():
    """A learner that is linear in one factor while the others are held."""
    return learner(network=network(normalise=False))


def noisy(model, seed, *, clusters=40, size=5, within=0.0):
    """Samples whose noise is partly shared within clusters, and their clusters."""
    rng = np.random.default_rng(seed)
    # Neighbours in time are alike.
    x = np.sort(rng.uniform(-2, 2, (clusters * size, model.inputs)), axis=0)
    cluster = np.repeat(np.arange(clusters), size)
    truth = Contexts({name: 0.3 * jnp.ones(n) for name, n in model.factors.sizes.items()}, None)
    y = np.asarray(model.predict(truth, x))
    y = y + 0.1 * rng.normal(size=y.shape) + within * rng.normal(size=(clusters, y.shape[1]))[cluster]
    return x, y, cluster


@pytest.mark.parametrize("within", [0.0, 0.3])
def test_deviations_are_the_scatter_over_data_sets(model, within):
    given = {name: value for name, value in model.prior_contexts().values.items() if name != FIRST}
    found, claimed = [], []
    for seed in range(60):
        x, y, cluster = noisy(model, seed, within=within)
        contexts = model.adapt(x, y, given=given)
        found.append(np.asarray(contexts[FIRST]))
        claimed.append(np.asarray(context_deviations(model, contexts, x, y, cluster, only=[FIRST])[FIRST]))
    ratio = np.std(found, axis=0) / np.mean(claimed, axis=0)
    assert np.all((ratio > 0.7) & (ratio < 1.4)), ratio


def test_counting_shared_noise_as_independent_would_claim_too_much(model):
    x, y, cluster = noisy(model, 0, within=0.3)
    contexts = model.adapt(x, y)
    blocks, alone = (context_deviations(model, contexts, x, y, b) for b in (cluster, np.arange(len(x))))
    assert all(np.mean(blocks[name]) > 1.3 * np.mean(alone[name]) for name in model.factors)


def test_order_and_names_of_blocks_do_not_matter(model):
    x, y, cluster = noisy(model, 1)
    contexts = model.adapt(x, y)
    order = np.random.default_rng(0).permutation(len(x))
    one = context_deviations(model, contexts, x, y, cluster)
    other = context_deviations(model, contexts, x[order], y[order], 7 * cluster[order] - 3)
    for name in model.factors:
        np.testing.assert_allclose(one[name], other[name], rtol=1e-3)
        assert one[name].shape == (model.factors[name],)


def test_a_factor_named_twice_is_one(model):
    x, y, cluster = noisy(model, 2)
    contexts = model.adapt(x, y)
    name = next(iter(model.factors))
    once, twice = (context_deviations(model, contexts, x, y, cluster, only=[name] * n) for n in (1, 2))
    assert once.keys() == twice.keys() == {name}
    np.testing.assert_array_equal(once[name], twice[name])


def test_refuses(model):
    x, y, cluster = noisy(model, 2)
    contexts = model.adapt(x, y)
    with pytest.raises(DataError, match=f"at least {LEAST_BLOCKS} are needed"):
        context_deviations(model, contexts, x, y, cluster % (LEAST_BLOCKS - 1))
    with pytest.raises(ShapeError, match="a block for each"):
        context_deviations(model, contexts, x, y, cluster[1:])
    with pytest.raises(FactorError):
        context_deviations(model, contexts, x, y, cluster, only=["weather"])
    with pytest.raises(FactorError, match="moved nothing"):
        context_deviations(model, contexts, x, y, cluster, only=[])
    with pytest.raises(ContextMismatchError):
        context_deviations(learner(seed=5), contexts, x, y, cluster)


def test_numbers_that_the_data_hardly_tell_apart_are_not_rounded_away(model):
    """Against the same estimator of the same slopes, in double precision and by pseudo-inverses."""
    rng = np.random.default_rng(0)
    x = 0.5 + 1e-4 * rng.normal(size=(120, model.inputs))  # nearly one input: the slopes are nearly one line
    block = np.repeat(np.arange(12), 10)
    contexts = model.prior_contexts()
    y = np.asarray(model.predict(contexts, x)) + 0.1 * rng.normal(size=(120, model.outputs))
    loose = eqx.tree_at(lambda tree: tree.prior, model, Prior(model.factors, precision=1e-6, floor=1e-7))
    own = Contexts(contexts.values, loose.fingerprint())
    found = np.asarray(context_deviations(loose, own, x, y, block, only=[FIRST])[FIRST], float)

    parts = _slopes(loose, own.values, as_samples(x, y, model.inputs, model.outputs), (FIRST,))
    slopes, errors, precision = (np.asarray(part, float) for part in parts)
    rows = slopes.reshape(errors.size, -1) / np.sqrt(errors.size)
    root = np.vstack([rows, np.diag(np.sqrt(precision))])
    inverse = np.linalg.pinv(root) @ np.linalg.pinv(root).T
    pulls = (
        np.stack([np.einsum("nod,no->d", slopes[block == b], errors[block == b]) for b in range(12)])
        / errors.size
    )
    scatter = 12 * np.cov(pulls.T)
    np.testing.assert_allclose(found, np.sqrt(np.diag(inverse @ scatter @ inverse)), rtol=1e-3)
