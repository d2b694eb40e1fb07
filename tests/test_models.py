"""Saving and loading learners: the same numbers, or an error; never code."""

import json

import equinox as eqx
import jax
import numpy as np
import pytest
from tests.helpers import FACTORS, learner, network, same_bits, sine, solver

from dmcm import Factors, Learner, Prior, load_learner, save_learner
from dmcm.baselines import parameter_factors
from dmcm.errors import ConfigError, StorageError
from dmcm.models import NETWORKS, SOLVERS, describe, from_description
from dmcm.networks import ConcatNetwork
from dmcm.scaling import Scaler
from dmcm.storage import load_arrays, save_arrays


def perturbed(model, seed=0):
    """Numbers that no constructor gives, as after training."""
    rng = np.random.default_rng(seed)
    trained, static = eqx.partition(model, eqx.is_inexact_array)
    moved = jax.tree.map(lambda leaf: leaf + 0.05 * rng.normal(size=leaf.shape).astype(np.float32), trained)
    return eqx.combine(moved, static)


def made_of(network_kind, solver_kind):
    factors = FACTORS
    if network_kind == "parameters":
        factors = parameter_factors(1, 1, width=8, depth=1)
    parts = network(network_kind, factors), solver(solver_kind, factors)
    prior = Prior(factors, floor=0.02, learn_mean=False)
    return Learner(*parts, factors, prior=prior, scaler=Scaler.identity(1, 1))


PAIRS = [
    ("tensor_product", "levenberg_marquardt"),
    ("film", "gradient_descent"),
    ("concat", "set_encoder"),
    ("parameters", "none"),
    ("tensor_product", "oracle"),
]


def test_every_kind_is_tried():
    assert {pair[0] for pair in PAIRS} == NETWORKS.keys()
    assert {pair[1] for pair in PAIRS} == SOLVERS.keys()


@pytest.mark.parametrize(("network_kind", "solver_kind"), PAIRS)
def test_learners_come_back_to_the_bit(tmp_path, network_kind, solver_kind):
    model = perturbed(made_of(network_kind, solver_kind))
    save_learner(tmp_path / "m", model, note="ü")
    again = load_learner(tmp_path / "m")
    assert same_bits(eqx.filter(again, eqx.is_array), eqx.filter(model, eqx.is_array))
    assert describe(again) == describe(model)
    assert again.fingerprint() == model.fingerprint()
    assert again.prior.floor == 0.02
    assert load_arrays(tmp_path / "m")[1]["note"] == "ü"
    json.dumps(describe(model))


def test_a_loaded_model_takes_over_contexts_of_the_saved_one(tmp_path):
    model, (x, y) = perturbed(learner()), sine()
    contexts = model.adapt(x, y)
    save_learner(tmp_path / "m", model)
    again = load_learner(tmp_path / "m")
    assert same_bits(again.adapt(x, y), contexts)
    assert same_bits(again.predict(contexts, x), model.predict(contexts, x))
    assert again.scaler is None


def test_notes_cannot_pass_for_the_model(tmp_path):
    save_learner(tmp_path / "m", learner(), fingerprint="mine")
    assert load_learner(tmp_path / "m").fingerprint() == learner().fingerprint()


def test_a_cut_model_is_refused(tmp_path):
    save_learner(tmp_path / "m", learner())
    content = (tmp_path / "m").read_bytes()
    for size in (0, 7, 100, len(content) // 2, len(content) - 1):
        (tmp_path / "m").write_bytes(content[:size])
        with pytest.raises(StorageError):
            load_learner(tmp_path / "m")


def saved(tmp_path, model):
    save_learner(tmp_path / "m", model)
    return load_arrays(tmp_path / "m")


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d["network"].update(kind="os.system"),
        lambda d: d["network"].update(kind="__import__"),
        lambda d: d["solver"].update(kind="builtins.eval"),
        lambda d: d["solver"].update(kind=None),
        lambda d: d["network"].update(activation="os.remove"),
        lambda d: d["network"].update(command="rm"),
        lambda d: d["network"].pop("width"),
        lambda d: d["network"].update(width="8"),
        lambda d: d["network"].update(width=10**9),
        lambda d: d.pop("prior"),
        lambda d: d["prior"].update(floor=-1),
        lambda d: d.update(factors=[]),
        lambda d: d.update(factors=[["../x", 2]]),
        lambda d: d.update(factors=5),
        lambda d: d.update(inputs=None),
        lambda d: d.update(scaled=True),
    ],
)
def test_a_description_builds_only_what_this_library_has(tmp_path, change):
    """Written with a right digest, as a stranger with this library could."""
    arrays, about = saved(tmp_path, learner())
    change(about["learner"])
    save_arrays(tmp_path / "m", arrays, about)
    with pytest.raises(StorageError):
        load_learner(tmp_path / "m")


def test_files_without_a_learner(tmp_path):
    save_arrays(tmp_path / "m", {}, {"other": 1})
    with pytest.raises(StorageError, match="holds no learner"):
        load_learner(tmp_path / "m")
    arrays, about = saved(tmp_path, learner())
    about["learner"] = "text"
    save_arrays(tmp_path / "m", arrays, about)
    with pytest.raises(StorageError, match="cannot be used"):
        load_learner(tmp_path / "m")


def test_numbers_of_another_model_are_refused(tmp_path):
    arrays, about = saved(tmp_path, learner())
    name = next(iter(arrays))
    save_arrays(tmp_path / "m", {**arrays, name: arrays[name] + 1}, about)
    with pytest.raises(StorageError, match="a model that does not match its fingerprint"):
        load_learner(tmp_path / "m")
    save_arrays(tmp_path / "m", {k: v for k, v in arrays.items() if k != name}, about)
    with pytest.raises(StorageError, match="lack"):
        load_learner(tmp_path / "m")


class Mine(ConcatNetwork):
    """A network of one's own, which is called like one of the library's."""


def of_my_own(seed=0, width=4, **parts):
    return Learner(Mine(FACTORS, 1, 1, width=width, key=jax.random.key(seed)), solver(), FACTORS, **parts)


def test_kinds_of_ones_own_are_never_loaded_as_ours(tmp_path):
    saved_model = perturbed(of_my_own(scaler=Scaler.identity(1, 1)))
    save_learner(tmp_path / "m", saved_model)
    with pytest.raises(StorageError, match=r"Mine, which this library does not define.*like="):
        load_learner(tmp_path / "m")
    found = load_learner(tmp_path / "m", like=of_my_own(seed=1))
    assert type(found.network) is Mine
    assert same_bits(eqx.filter(found, eqx.is_array), eqx.filter(saved_model, eqx.is_array))
    assert found.fingerprint() == saved_model.fingerprint()
    with pytest.raises(StorageError, match=r"network: .*'width': 4.* and not .*'width': 5"):
        load_learner(tmp_path / "m", like=of_my_own(width=5))
    ours = learner(network=network("concat", width=4), scaler=Scaler.identity(1, 1))
    with pytest.raises(StorageError, match=r"own classes: \['Mine'\] and not \[\]"):
        load_learner(tmp_path / "m", like=ours)


def test_a_learner_like_the_saved_one_serves_library_kinds_too(tmp_path):
    saved_model = perturbed(learner())
    save_learner(tmp_path / "m", saved_model)
    assert load_learner(tmp_path / "m", like=learner(seed=3)).fingerprint() == saved_model.fingerprint()
    with pytest.raises(StorageError, match=r"solver: .*levenberg_marquardt.* and not .*none"):
        load_learner(tmp_path / "m", like=learner(solver=solver("none")))


def test_settings_of_the_learner_given_never_replace_the_stored_ones(tmp_path):
    save_learner(tmp_path / "m", learner(prior=Prior(FACTORS, floor=0.02)))
    with pytest.raises(StorageError, match=r"'steps': 4.* and not .*'steps': 1\b.*Build `like` with its"):
        load_learner(tmp_path / "m", like=learner(solver=solver(steps=1), prior=Prior(FACTORS, floor=0.02)))
    with pytest.raises(StorageError, match=r"prior: .*0\.02.* and not .*0\.5"):
        load_learner(tmp_path / "m", like=learner(prior=Prior(FACTORS, floor=0.5)))
    arrays, about = load_arrays(tmp_path / "m")
    save_arrays(tmp_path / "m", arrays, {**about, "learner": "text"})
    with pytest.raises(StorageError, match="cannot be used"):
        load_learner(tmp_path / "m", like=learner())


def test_unknown_kinds_are_configuration_errors():
    with pytest.raises(ConfigError, match=r"no solver 'levenberg'. Valid: levenberg_marquardt, gradient"):
        solver("levenberg")
    with pytest.raises(StorageError):
        from_description({})
    assert from_description(describe(learner())).factors == FACTORS == Factors(amplitude=2, phase=2)
