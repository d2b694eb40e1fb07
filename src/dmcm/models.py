"""Build learners from plain settings; save and load trained ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
from jaxtyping import PRNGKeyArray

from dmcm.baselines import NoAdaptation, Oracle, ParameterNetwork
from dmcm.contexts import Factors
from dmcm.errors import ConfigError, DmcmError, StorageError, unknown_name
from dmcm.learner import Learner
from dmcm.networks import ConcatNetwork, FilmNetwork, Network, TensorProductNetwork
from dmcm.priors import Prior
from dmcm.scaling import Scaler
from dmcm.solvers import GradientDescent, LevenbergMarquardt, SetEncoder, Solver
from dmcm.storage import fill_tree, load_arrays, save_arrays, tree_arrays

NETWORKS: dict[str, type] = {
    cls.kind: cls for cls in (ConcatNetwork, FilmNetwork, TensorProductNetwork, ParameterNetwork)
}
SOLVERS: dict[str, type] = {
    cls.kind: cls for cls in (LevenbergMarquardt, GradientDescent, SetEncoder, NoAdaptation, Oracle)
}


def build_network(
    kind: str, factors: Factors, inputs: int, outputs: int, key: PRNGKeyArray, **settings: Any
) -> Network:
    """A network of the named kind.

    Raises:
        ConfigError: an unknown kind, or settings it does not have.
    """
    if kind not in NETWORKS:
        raise ConfigError(unknown_name("network", kind, NETWORKS))
    try:
        return NETWORKS[kind](factors, inputs, outputs, key=key, **settings)
    except TypeError as error:
        raise ConfigError(f"network '{kind}' cannot be built with {settings}: {error}.") from error


def build_solver(
    kind: str, factors: Factors, inputs: int, outputs: int, key: PRNGKeyArray, **settings: Any
) -> Solver:
    """A solver of the named kind; a set encoder and learned step sizes depend on the model's sizes.

    Raises:
        ConfigError: an unknown kind, or settings it does not have.
    """
    if kind not in SOLVERS:
        raise ConfigError(unknown_name("solver", kind, SOLVERS))
    cls = SOLVERS[kind]
    try:
        if cls is SetEncoder:
            return SetEncoder(factors, inputs, outputs, key=key, **settings)
        if cls is GradientDescent:
            return GradientDescent(factors, **settings)
        return cls(**settings)
    except TypeError as error:
        raise ConfigError(f"solver '{kind}' cannot be built with {settings}: {error}.") from error


def describe(learner: Learner) -> dict[str, Any]:
    """Everything about a learner except its numbers, as JSON values."""
    return {
        "factors": list(learner.factors.sizes.items()),
        "inputs": learner.inputs,
        "outputs": learner.outputs,
        "network": {"kind": learner.network.kind, **learner.network.spec()},
        "solver": {"kind": learner.solver.kind, **learner.solver.spec()},
        "prior": {"floor": learner.prior.floor, "learn_mean": learner.prior.learn_mean},
        "scaled": learner.scaler is not None,
    }


def from_description(about: Any) -> Learner:
    """A learner of the described structure with arbitrary numbers.

    Raises:
        StorageError: the description is incomplete or names kinds that do not exist.
    """
    key = jax.random.key(0)
    try:
        factors = Factors(**dict(about["factors"]))
        inputs, outputs = about["inputs"], about["outputs"]
        network = build_network(factors=factors, inputs=inputs, outputs=outputs, key=key, **about["network"])
        solver = build_solver(factors=factors, inputs=inputs, outputs=outputs, key=key, **about["solver"])
        prior = Prior(factors, floor=about["prior"]["floor"], learn_mean=about["prior"]["learn_mean"])
        scaler = Scaler.identity(inputs, outputs) if about["scaled"] else None
    except (KeyError, TypeError, ValueError, DmcmError) as error:
        raise StorageError(f"the stored description of the model cannot be used: {error}") from error
    return Learner(network, solver, factors, prior=prior, scaler=scaler)


def save_learner(path: Path | str, learner: Learner, **about: Any) -> None:
    """Write a learner into one safetensors file.

    Args:
        path: the file.
        learner: what to save.
        **about: more JSON values to store with it.

    Raises:
        StorageError: the file cannot be written.
    """
    description = {
        **about,
        "learner": describe(learner),
        "own_kinds": _own_kinds(learner),
        "fingerprint": learner.fingerprint(),
    }
    save_arrays(Path(path), tree_arrays(learner), description)


def _own_kinds(learner: Learner) -> list[str]:
    """Classes of the network and the solver that this library does not define."""
    parts = ((learner.network, NETWORKS), (learner.solver, SOLVERS))
    return [type(part).__name__ for part, known in parts if known.get(part.kind) is not type(part)]


def load_learner(path: Path | str, like: Learner | None = None) -> Learner:
    """Read a learner that `save_learner` wrote.

    Args:
        path: the file.
        like: a learner built in the same way as the saved one, with the same settings and any numbers. Needed
            if its network or solver is of a custom kind, which the library cannot build.

    Raises:
        StorageError: no such file, a damaged one, one that holds no learner or one that differs from `like`,
            or one with parts that cannot be built without `like`.
    """
    arrays, about = load_arrays(Path(path))
    if "learner" not in about:
        raise StorageError(f"{path} holds no learner.")
    if like is not None:
        _check_like(path, like, about)
        if like.scaler is None and about["learner"]["scaled"]:
            scaler = Scaler.identity(like.inputs, like.outputs)
            like = eqx.tree_at(lambda tree: tree.scaler, like, scaler, is_leaf=lambda leaf: leaf is None)
        learner = fill_tree(like, arrays)
    elif own := about.get("own_kinds"):
        raise StorageError(
            f"{path} holds a learner with {' and '.join(own)}, which this library does not define. Build one "
            "like it and pass it: load_learner(path, like=…)."
        )
    else:
        learner = fill_tree(eqx.filter_eval_shape(from_description, about["learner"]), arrays)
    if learner.fingerprint() != about.get("fingerprint"):
        raise StorageError(f"{path} holds a model that does not match its fingerprint.")
    return learner


def _check_like(path: Path | str, like: Learner, about: dict[str, Any]) -> None:
    """Raise unless `like` has the stored learner's settings and classes, whatever its numbers."""

    def plain(learner: Any, own_kinds: list[str]) -> dict[str, Any]:
        # A scaler comes with training.
        return {**{k: v for k, v in dict(learner).items() if k != "scaled"}, "own classes": own_kinds}

    try:
        stored = plain(about["learner"], about.get("own_kinds", []))
    except (TypeError, ValueError) as error:
        raise StorageError(f"the stored description of the model cannot be used: {error}") from error
    # JSON has no tuples.
    given = plain(json.loads(json.dumps(describe(like))), _own_kinds(like))
    wrong = [name for name in stored | given if stored.get(name) != given.get(name)]
    if wrong:
        told = "; ".join(f"{name}: {stored.get(name)} and not {given.get(name)}" for name in wrong)
        raise StorageError(
            f"{path} holds another model than `like`, with {told}. Build `like` with its settings."
        )
