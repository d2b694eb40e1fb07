"""Studies: methods as values, and cells (a method and a seed) that are trained once and stored."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import equinox as eqx
import jax

from dmcm.baselines import parameter_factors
from dmcm.checks import chosen_names
from dmcm.contexts import Factors
from dmcm.errors import ConfigError
from dmcm.fit_config import FitConfig
from dmcm.learner import Learner
from dmcm.models import build_network, build_solver
from dmcm.priors import Prior
from dmcm.samplers import Sampler
from dmcm.storage import read_json, write_json
from dmcm.training import fit


@dataclasses.dataclass(frozen=True)
class Method:
    """How one method is built and trained.

    Attributes:
        title: description, for a row of a table.
        network: kind and settings of the network.
        solver: kind and settings of the inner loop.
        factors: context sizes; empty for the weights of the network itself (MAML, ANIL).
        recombination: weight of the recombined loss.
        dependence: weight of the dependence penalty.
        omission: weight of the loss with one context left out.
        optimiser: as in `FitConfig`; tuned on validation tasks, as are the next three.
        learning_rate: as in `FitConfig`.
        outlier_scale: as in `FitConfig`.
        clip: as in `FitConfig`.
    """

    title: str
    network: Mapping[str, Any]
    solver: Mapping[str, Any]
    factors: Mapping[str, int]
    recombination: float = 4.0
    dependence: float = 0.0
    optimiser: str = "adam"
    learning_rate: float = 6e-3
    outlier_scale: float | None = 1e-5
    clip: float = 0.01
    omission: float = 0.0


def chosen_methods(
    asked: Sequence[str], methods: Mapping[str, Method], *, seeds: int, steps: int
) -> tuple[str, ...]:
    """Names of the methods a study runs; `all` stands for every one.

    Raises:
        ConfigError: an unknown method or none, or fewer than one seed or step.
    """
    if seeds < 1 or steps < 1:
        raise ConfigError(f"seeds={seeds} and steps={steps} must be at least 1.")
    return chosen_names("method", asked, methods)


def build(
    method: Method, seed: int, *, inputs: int = 1, outputs: int = 1, precision: float = 1e-3
) -> Learner:
    """An untrained learner of a method with random weights from a seed.

    Args:
        method: what to build.
        seed: seed of the weights.
        inputs: number of input columns.
        outputs: number of output columns.
        precision: initial precision of the contexts' prior. The harder the data, the more a higher one
            helps: with a weak prior, contexts fit the support points before there are features.

    Raises:
        ConfigError: a network or solver that does not exist, or settings it does not have.
    """
    network_key, solver_key = jax.random.split(jax.random.key(seed))
    if method.factors:
        factors = Factors(**method.factors)
    else:
        factors = parameter_factors(
            inputs,
            outputs,
            width=method.network["width"],
            last_layer_only=method.network.get("last_layer_only", False),
        )
    sizes = {"factors": factors, "inputs": inputs, "outputs": outputs}
    network = build_network(key=network_key, **sizes, **method.network)
    solver = build_solver(key=solver_key, **sizes, **method.solver)
    # A shift of network weights starts at zero and must not be pulled back to it.
    floor, precision = (1e-6, precision) if method.factors else (1e-12, 1e-12)
    learn_mean = method.solver["kind"] in ("none", "set_encoder")
    prior = Prior(factors, floor=floor, precision=precision, learn_mean=learn_mean)
    return Learner(network, solver, factors, prior=prior)


def fit_config(method: Method, seed: int, steps: int) -> FitConfig:
    """Settings of the outer loop of a method."""
    return FitConfig(
        steps=steps,
        optimiser=method.optimiser,
        learning_rate=method.learning_rate,
        prior_rate=10.0,
        recombination=method.recombination,
        dependence=method.dependence,
        omission=method.omission,
        outlier_scale=method.outlier_scale,
        clip=method.clip,
        seed=seed,
        chunk=1_000,
    )


def run_cell(
    method: Method,
    seed: int,
    sampler: Sampler,
    folder: Path,
    measure: Callable[[Learner], dict[str, Any]],
    *,
    steps: int,
    precision: float = 1e-3,
    about: Sequence[Any] = (),
    progress: bool = True,
) -> dict[str, Any]:
    """One method and seed: read the finished cell, or train, measure and store it in `folder`.

    Can be stopped at any time; the next call resumes the training.

    Args:
        method: what to train.
        seed: seed of initial weights and training batches.
        sampler: training batches.
        folder: run folder of the cell; its `cell.json` holds the measures.
        measure: gives the JSON values to store for a trained learner.
        steps: outer steps.
        precision: as in `build`.
        about: JSON values that data and measures depend on; if they change, the cell is measured again.
        progress: show a progress bar.

    Raises:
        DmcmError: as for `build` and `fit`.
    """
    training = [dataclasses.asdict(method), steps, seed, precision]
    training_mark, mark = _hash(training), _hash([training, *about])
    file = folder / "cell.json"
    earlier = read_json(file) if file.exists() else {}
    if earlier.get("mark") == mark:
        return earlier
    batch = jax.eval_shape(sampler.sample, jax.random.key(0))
    columns = {"inputs": batch.support.x.shape[-1], "outputs": batch.support.y.shape[-1]}
    config = fit_config(method, seed, steps)
    result = fit(
        build(method, seed, precision=precision, **columns),
        sampler,
        config,
        run_dir=folder,
        resume=True,
        progress=progress,
    )
    weights = jax.tree.leaves(eqx.filter(result.learner, eqx.is_inexact_array))
    cell = {
        "mark": mark,
        "training_mark": training_mark,
        "seed": seed,
        # Measuring again only loads a finished training, so keep the time that it took.
        "training_seconds": earlier["training_seconds"]
        if earlier.get("training_mark") == training_mark
        else result.seconds,
        "weights": sum(leaf.size for leaf in weights),
        **measure(result.learner),
    }
    write_json(file, cell)
    return read_json(file)


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
