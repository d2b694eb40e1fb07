"""Factors, contexts, and mixing them."""

import copy

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.helpers import same_bits

from dmcm import Contexts, Factors, share, stack
from dmcm.contexts import check_compatible, same_model
from dmcm.errors import ContextMismatchError, FactorError, unknown_name

SIZES = {"zeta": 2, "alpha": 3, "mid": 1}


def contexts(seed=0, batch=(), sizes=SIZES, model="m1"):
    rng = np.random.default_rng(seed)
    values = {name: jnp.asarray(rng.normal(size=(*batch, size))) for name, size in sizes.items()}
    return Contexts(values, model)


def test_factors_keep_their_order():
    factors = Factors(**SIZES)
    assert factors.names == tuple(factors) == ("zeta", "alpha", "mid")
    assert factors.sizes == SIZES
    assert (factors.total, len(factors), factors["alpha"]) == (6, 3, 3)
    assert "mid" in factors
    assert "other" not in factors
    assert repr(factors) == "Factors(zeta=2, alpha=3, mid=1)"


def test_factors_equal_by_names_sizes_and_order():
    assert Factors(a=1, b=2) == Factors(a=1, b=2)
    assert hash(Factors(a=1, b=2)) == hash(Factors(a=1, b=2))
    for other in (Factors(b=2, a=1), Factors(a=1, b=3), Factors(a=1, c=2), {"a": 1, "b": 2}):
        assert Factors(a=1, b=2) != other


def test_factors_copy_but_do_not_change():
    factors = Factors(a=1, b=2)
    assert copy.deepcopy(factors) == copy.copy(factors) == factors
    for name in ("_sizes", "other"):
        with pytest.raises(FactorError, match="immutable"):
            setattr(factors, name, 1)


@pytest.mark.parametrize("name", ["hind leg", "robot.2", "self", "0", "_x", "a-b"])
def test_usable_factor_names(name):
    assert Factors(**{name: 2}).names == (name,)


@pytest.mark.parametrize("name", ["", " a", "a ", "a.", ".a", "-a", "a/b", "../a", "a\n", "é", "a\\b", "a:b"])
def test_unusable_factor_names(name):
    with pytest.raises(FactorError, match="cannot be used"):
        Factors(**{name: 2})


def test_sizes_of_numpy_are_sizes():
    assert Factors(a=np.prod([1, 2])) == Factors(a=2)


@pytest.mark.parametrize("size", [0, -1, True])
def test_impossible_context_sizes(size):
    with pytest.raises(FactorError, match="at least 1"):
        Factors(a=size)


def test_no_factor_at_all():
    with pytest.raises(FactorError, match="at least one factor"):
        Factors()


def test_unknown_factor_lists_the_valid_ones_and_guesses():
    with pytest.raises(
        FactorError, match=r"no factor 'alpah'. Valid: zeta, alpha, mid. Did you mean 'alpha'"
    ):
        Factors(**SIZES)["alpah"]
    assert unknown_name("factor", "qqq", []) == "there is no factor 'qqq'. Valid: none."
    assert "Did you mean" not in unknown_name("factor", "qqq", ["alpha"])


@given(st.data(), st.integers(0, 99))
def test_sharing_takes_each_vector_from_its_source(data, seed):
    sources = [contexts(seed + i) for i in range(3)]
    chosen = {name: data.draw(st.integers(0, 2)) for name in SIZES}
    order = data.draw(st.permutations(list(SIZES)))
    mixed = share(**{name: sources[chosen[name]] for name in order})
    for name in SIZES:
        assert same_bits(mixed[name], sources[chosen[name]][name])
    assert mixed.model == "m1"


@given(st.permutations(list(SIZES)), st.sampled_from([(), (4,)]))
def test_sharing_with_oneself_changes_nothing(order, batch):
    own = contexts(batch=batch)
    mixed = share(**dict.fromkeys(order, own))
    assert same_bits(mixed, own)
    assert mixed.sizes == own.sizes
    assert mixed.batch_shape == batch


def test_sharing_refuses_what_does_not_go_together():
    one = contexts()
    with pytest.raises(ContextMismatchError, match=r"different models \(m1, m2\)"):
        share(alpha=one, mid=contexts(model="m2"))
    with pytest.raises(ContextMismatchError, match="share a batch shape"):
        share(alpha=one, mid=contexts(batch=(3,)))
    with pytest.raises(FactorError, match=r"no context 'beta'. Valid: zeta, alpha, mid"):
        share(beta=one)
    with pytest.raises(FactorError, match="needs a source per factor"):
        share()


def test_a_context_of_unknown_origin_fits_any_model():
    assert share(alpha=contexts(), mid=contexts(model=None)).model == "m1"
    assert share(alpha=contexts(model=None), mid=contexts(model=None)).model is None
    assert same_model([None, "a", None, "a"]) == "a"


def test_stacking_and_picking_are_inverse():
    singles = [contexts(seed) for seed in range(4)]
    many = stack(singles)
    assert many.batch_shape == (4,)
    assert many.model == "m1"
    for i, one in enumerate(singles):
        assert same_bits(many.at(i), one)
        assert same_bits(many.at(i - 4), one)
    assert same_bits(many.at(slice(1, 3)), stack(singles[1:3]))
    for index in ([3, 1], np.array([3, 1]), jnp.array([3, 1])):
        assert same_bits(many.at(index), stack([singles[3], singles[1]]))
    mask = np.array([True, False, True, False])
    assert same_bits(many.at(mask), stack([singles[0], singles[2]]))
    traced = jax.jit(lambda all_, i: all_.at(i))(many, jnp.asarray(2))
    assert same_bits(traced.values, singles[2].values)


@pytest.mark.parametrize("index", [4, -5, [0, 4], slice, "a", (0, 0), 1.5])
def test_picking_a_task_that_does_not_exist(index):
    with pytest.raises(ContextMismatchError, match=r"no such task in contexts of batch shape \(4,\)"):
        contexts(batch=(4,)).at(index)


def test_picking_from_a_single_task():
    with pytest.raises(ContextMismatchError, match="no batch axis"):
        contexts().at(0)


def test_stacking_refuses_what_does_not_go_together():
    with pytest.raises(ContextMismatchError, match="nothing to stack"):
        stack([])
    with pytest.raises(ContextMismatchError, match="different models"):
        stack([contexts(), contexts(model="m2")])
    others = [contexts(sizes={**SIZES, "mid": 2}), contexts(sizes={"zeta": 2}), contexts(batch=(2,))]
    for other in others:
        with pytest.raises(ContextMismatchError, match="cannot be stacked"):
            stack([contexts(), other])


def test_selecting_factors():
    one = contexts()
    assert one.select("mid", "zeta").sizes == {"mid": 1, "zeta": 2}
    with pytest.raises(FactorError, match="no context 'x'"):
        one.select("x")
    with pytest.raises(ContextMismatchError, match="at least one factor"):
        one.select()


@pytest.mark.parametrize("values", [{}, {"a": jnp.asarray(1.0)}])
def test_contexts_without_vectors(values):
    with pytest.raises(ContextMismatchError):
        Contexts(values)


def test_contexts_are_a_pytree():
    one, many = contexts(), contexts(batch=(5,))
    doubled = jax.tree.map(lambda leaf: 2 * leaf, one)
    assert isinstance(doubled, Contexts)
    assert doubled.model == "m1"
    np.testing.assert_array_equal(doubled["alpha"], 2 * one["alpha"])

    passed = jax.jit(lambda c: c)(one)
    assert same_bits(passed, one)

    def norm(c):
        return sum(jnp.sum(c[name] ** 2) for name in SIZES)

    slope = jax.grad(norm)(one)
    for name in SIZES:
        np.testing.assert_allclose(slope[name], 2 * one[name], rtol=1e-6)
    mapped = jax.vmap(norm)(many)
    np.testing.assert_allclose(mapped, [norm(many.at(i)) for i in range(5)], rtol=1e-5)


def test_contexts_of_another_structure_are_not_compatible():
    factors = Factors(**SIZES)
    check_compatible(contexts(), factors, "m1")
    check_compatible(contexts(batch=(2,)), factors, None)
    with pytest.raises(
        FactorError, match=r"no context given for alpha, mid. Complete it with share\(zeta=…, "
    ):
        check_compatible(contexts().select("zeta"), factors, "m1")
    with pytest.raises(FactorError, match="no factor 'extra'"):
        check_compatible(contexts(sizes={**SIZES, "extra": 1}), factors, "m1")
    with pytest.raises(ContextMismatchError, match=r"'mid' has shape \(2,\); in this model it has size 1"):
        check_compatible(contexts(sizes={**SIZES, "mid": 2}), factors, "m1")
    with pytest.raises(ContextMismatchError, match="different models"):
        check_compatible(contexts(), factors, "m2")
