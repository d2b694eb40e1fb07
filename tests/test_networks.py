"""Networks against independent NumPy implementations and their own invariances."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests.helpers import double_precision, network, same_bits

from dmcm import Factors
from dmcm.errors import ConfigError
from dmcm.models import NETWORKS, build_network
from dmcm.networks import ACTIVATIONS, TensorProductNetwork

ONE = Factors(robot=3)
TWO = Factors(zeta=2, alpha=3)
THREE = Factors(c=2, b=1, a=2)
KINDS = ["concat", "film", "tensor_product"]
ACT = {
    "tanh": np.tanh,
    "silu": lambda z: z / (1 + np.exp(-z)),
    "relu": lambda z: np.maximum(z, 0),
    # JAX's gelu is the tanh approximation.
    "gelu": lambda z: z / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (z + 0.044715 * z**3))),
    "sin": np.sin,
}


def draw(factors, rows=7, inputs=2, seed=0):
    rng = np.random.default_rng(seed)
    values = {name: jnp.asarray(rng.normal(size=size), jnp.float32) for name, size in factors.sizes.items()}
    return jnp.asarray(rng.normal(size=(rows, inputs)), jnp.float32), values


@eqx.filter_jit
def run(net, x, values):
    return net(x, values)


def affine(layer, rows):
    return rows @ np.asarray(layer.weight, np.float64).T + np.asarray(layer.bias, np.float64)


def direction(c, normalise):
    """A context's vector in the tensor product: on the sphere by the angle from its pole."""
    if not normalise:
        return np.append(c, 1.0)
    length = np.linalg.norm(c)
    angle = 2 * np.arctan(length / 2)
    return np.append(np.sin(angle) * c / length, np.cos(angle))


def by_hand(net, x, values):
    """The formulas of the docstrings, sample by sample, in float64."""
    x = np.asarray(x, np.float64)
    c = {name: np.asarray(value, np.float64) for name, value in values.items()}
    act = ACT[net.activation]
    if net.kind == "concat":
        rows = np.stack([np.concatenate([row, *(c[name] for name in net.factors)]) for row in x])
        for layer in net.perceptron.layers[:-1]:
            rows = act(affine(layer, rows))
        return affine(net.perceptron.layers[-1], rows)
    if net.kind == "film":
        rows = x
        for depth, layer in enumerate(net.layers):
            gate, shift = np.ones(net.width), np.zeros(net.width)
            for name in net.factors:
                gate *= 1 + np.asarray(net.gates[name], np.float64)[depth] @ c[name]
                shift += np.asarray(net.shifts[name], np.float64)[depth] @ c[name]
            rows = act(affine(layer, rows) * gate + shift)
        return affine(net.head, rows)
    features = x
    for layer in net.trunk.layers:
        features = act(affine(layer, features))
    features = np.concatenate([features, np.ones((len(x), 1))], axis=1)
    product = np.ones(())
    for name in net.factors:
        product = np.multiply.outer(product, direction(c[name], net.normalise))
    head = np.asarray(net.head, np.float64)
    return np.array([[np.sum(weights * np.multiply.outer(h, product)) for weights in head] for h in features])


@pytest.mark.parametrize("factors", [ONE, TWO, THREE], ids=len)
@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("concat", {}),
        ("film", {}),
        ("tensor_product", {"normalise": True}),
        ("tensor_product", {"normalise": False}),
    ],
)
def test_networks_compute_what_their_formulas_say(kind, settings, factors):
    net = network(kind, factors, inputs=2, outputs=3, depth=2, width=5, **settings)
    x, values = draw(factors)
    np.testing.assert_allclose(run(net, x, values), by_hand(net, x, values), rtol=2e-5, atol=2e-5)


def test_activations():
    z = np.linspace(-3, 3, 13)
    assert ACTIVATIONS.keys() == ACT.keys()
    for name, function in ACTIVATIONS.items():
        np.testing.assert_allclose(function(jnp.asarray(z)), ACT[name](z), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_networks_treat_each_sample_alike_and_encode_once(kind):
    net = network(kind, TWO, inputs=2, outputs=3, depth=2)
    x, values = draw(TWO)
    whole = run(net, x, values)
    np.testing.assert_allclose(net.decode(net.encode(x), values), whole, rtol=1e-5, atol=1e-6)
    order = np.random.default_rng(1).permutation(len(x))
    np.testing.assert_allclose(run(net, x[order], values), whole[order], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(run(net, x[2:3], values), whole[2:3], rtol=1e-5, atol=1e-6)
    assert jax.tree.all(jax.tree.map(lambda leaf: leaf.shape[0] == len(x), net.encode(x)))
    assert run(net, x[:0], values).shape == (0, 3)


@pytest.mark.parametrize("kind", KINDS)
def test_every_factor_matters(kind):
    net = network(kind, THREE, inputs=2)
    x, values = draw(THREE)
    for name in THREE:
        moved = {**values, name: values[name] + 1}
        assert np.abs(run(net, x, moved) - run(net, x, values)).max() > 1e-3


def test_tensor_product_of_one_layer_still_bends():
    net = network("tensor_product", ONE, depth=1)
    line = jnp.linspace(-1, 1, 3)[:, None]
    low, middle, high = run(net, line, {"robot": jnp.ones(3)})[:, 0]
    assert abs(low + high - 2 * middle) > 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_specification_builds_the_same_network_again(kind):
    net = network(kind, TWO, inputs=2, outputs=3, depth=2, width=5, activation="silu")
    again = build_network(kind, TWO, 2, 3, jax.random.key(0), **net.spec())
    assert same_bits(again, net)
    assert not same_bits(build_network(kind, TWO, 2, 3, jax.random.key(1), **net.spec()), net)


def test_unnormalised_tensor_product_is_affine_in_each_context():
    net = network("tensor_product", TWO, inputs=2, outputs=2, normalise=False)
    x, values = draw(TWO)
    _, others = draw(TWO, seed=1)
    for name in TWO:
        middle = {**values, name: 0.3 * values[name] + 0.7 * others[name]}
        mixed = 0.3 * run(net, x, values) + 0.7 * run(net, x, {**values, name: others[name]})
        np.testing.assert_allclose(run(net, x, middle), mixed, rtol=1e-4, atol=1e-4)


def test_normalised_tensor_product_puts_contexts_on_the_sphere():
    net = network("tensor_product", TWO, inputs=2)
    x, values = draw(TWO)

    def opposite(c):
        return -4 * c / jnp.sum(c**2)

    turned = {**values, "zeta": opposite(values["zeta"])}
    np.testing.assert_allclose(run(net, x, turned), -run(net, x, values), rtol=1e-4, atol=1e-5)
    both = {name: opposite(value) for name, value in values.items()}
    np.testing.assert_allclose(run(net, x, both), run(net, x, values), rtol=1e-4, atol=1e-5)
    # Far out in any direction lies the point opposite to the origin.
    origin = run(net, x, {**values, "zeta": jnp.zeros(2)})
    for far in ([1e4, 0.0], [-3e3, 1e4]):
        np.testing.assert_allclose(
            run(net, x, {**values, "zeta": jnp.asarray(far)}), -origin, rtol=1e-2, atol=1e-2
        )


def pure_product(**settings):
    """A network without weight on the last numbers of the vectors: amplitude times wave, and no more."""
    net = network("tensor_product", TWO, inputs=2, width=16, **settings)
    head = net.head.at[:, :, -1, :].set(0).at[:, :, :, -1].set(0)
    return eqx.tree_at(lambda tree: tree.head, net, head)


def test_normalising_ends_the_exchange_of_scale_between_contexts():
    x, values = draw(TWO)
    change = {}
    for normalise in (True, False):
        pure = pure_product(normalise=normalise)
        exchanged = {"zeta": values["zeta"] * 8, "alpha": values["alpha"] / 8}
        reference = np.abs(run(pure, x, values)).max()
        change[normalise] = np.abs(run(pure, x, exchanged) - run(pure, x, values)).max() / reference
    assert change[False] < 1e-5
    assert change[True] > 0.1


def rank_of_jacobian(net, values):
    """Number of directions in which all contexts together move the outputs on many inputs."""
    x = jnp.asarray(np.random.default_rng(3).normal(size=(60, 2)))
    flat, unravel = jax.flatten_util.ravel_pytree(values)
    jacobian = np.asarray(jax.jit(jax.jacfwd(lambda c: net(x, unravel(c)).reshape(-1)))(flat))
    return np.linalg.matrix_rank(jacobian, tol=1e-9 * np.linalg.norm(jacobian))


def test_all_context_directions_of_a_normalised_tensor_product_are_visible():
    with double_precision():
        values = {name: jnp.asarray(np.random.default_rng(1).normal(size=n)) for name, n in TWO.sizes.items()}
        full = network("tensor_product", TWO, inputs=2, width=16, normalise=True)
        assert rank_of_jacobian(full, values) == TWO.total
        # What an exchange of scale looks like to the same measure: one direction is lost.
        assert rank_of_jacobian(pure_product(normalise=False), values) == TWO.total - 1


@pytest.mark.parametrize("kind", KINDS)
def test_impossible_networks(kind):
    with pytest.raises(ConfigError, match=r"no activation 'tanhh'.*Did you mean 'tanh'"):
        network(kind, activation="tanhh")
    for name in ("width", "depth", "inputs", "outputs"):
        for value in (0, True):
            with pytest.raises(ConfigError, match=f"{name}={value}"):
                network(kind, **{name: value})
    with pytest.raises(ConfigError, match=f"network '{kind}' cannot be built"):
        network(kind, widht=3)


def test_unknown_kind_lists_the_valid_ones():
    with pytest.raises(ConfigError, match=r"no network 'flim'. Valid: .*film.*Did you mean 'film'"):
        network("flim")
    assert set(KINDS) < set(NETWORKS)


def test_tensor_product_too_large_to_hold():
    many = Factors(**{f"f{i}": 9 for i in range(7)})
    with pytest.raises(ConfigError, match="Use smaller contexts, or the 'film' network"):
        TensorProductNetwork(many, 1, 1, key=jax.random.key(0))
