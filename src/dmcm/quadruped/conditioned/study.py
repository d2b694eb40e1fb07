"""The comparison of policies: every method and seed on the fixed suite."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dmcm.checks import chosen_names
from dmcm.commands import command_of
from dmcm.errors import BankError, ConfigError, StorageError
from dmcm.progress import piece_bar
from dmcm.quadruped.body.robot_table import RobotTable, load_robot
from dmcm.quadruped.conditioned.evaluation import CELL_LAYOUT, SuiteConfig, evaluate_condition
from dmcm.quadruped.conditioned.influence import SHARES, gait_along
from dmcm.quadruped.conditioned.methods import METHODS
from dmcm.quadruped.conditioned.sources import SOURCES, told
from dmcm.quadruped.conditioned.suite import CONDITIONS, ENOUGH, GROUNDS, TRAINING
from dmcm.quadruped.conditioned.suite_vectors import PARTS, VectorMaker
from dmcm.quadruped.conditioned.table import OUTSIDE, differences, over_seeds
from dmcm.quadruped.dynamics.model import trained_model
from dmcm.quadruped.walking.guides import Guide, History, Vectors
from dmcm.quadruped.walking.policy import (
    POLICY,
    POLICY_FILE,
    Policy,
    check_trained_for,
    load_policy,
    load_walker,
)
from dmcm.results import earlier_table, with_earlier
from dmcm.runs import environment
from dmcm.storage import digest, read_json, tree_arrays, write_json

SHOWN = "dmcm_gait"
"""The method whose gait is measured along its two vectors."""


@dataclasses.dataclass(frozen=True)
class PolicyStudy:
    """Which policies to evaluate."""

    robot: str = "go1"
    """Name of a robot, or path of its table."""
    policies: Path = Path("runs/quadruped-policies")
    """Output folder of `dmcm quadruped train-policy`."""
    dynamics: Path = Path("runs/quadruped-dynamics")
    """Output folder of `dmcm quadruped dynamics`: the models that the policies were trained with."""
    walker: Path = POLICY
    """File of the policy that collected the training data; robots are logged while they walk by it."""
    sources: tuple[str, ...] = ("all",)
    """What policies are given: names of methods and their variants; `all` for every one."""
    seeds: int = 3
    """Number of seeds (0, 1, …) of policies."""
    suite: SuiteConfig = dataclasses.field(default_factory=SuiteConfig)
    """Size of the suite."""
    results: Path | None = None
    """File for the table, e.g. results/policy.json. Rows that it already has and that are not evaluated now
    are kept with the command that made them; a table of another suite or other seeds is refused."""


def run_policy_study(config: PolicyStudy, *, progress: bool = True) -> dict[str, Any]:
    """Evaluate and compare; returns the table in the layout of results/policy.json.

    Can be stopped and started again at any time: results are stored beside each policy.

    Raises:
        ConfigError: settings out of range, or a policy of another robot.
        StorageError: a policy or model that is missing, or a file for results that holds something else.
        BankError: a policy trained with vectors of other models than those in `dynamics`.
    """
    names = _chosen(config)
    suite, table = config.suite.check(), load_robot(config.robot)
    swapped = [name for name in names if any(part.startswith("~") for part in SOURCES[name].parts)]
    if swapped and suite.episodes < 2:
        raise ConfigError(f"{swapped[0]} takes another robot's vector: episodes must be at least 2.")
    setting = {
        "suite": {**_frozen(suite), "robot": table.digest, "layout": CELL_LAYOUT},
        "seeds": config.seeds,
    }
    earlier = earlier_table(config.results, setting)
    # Before the vectors, which take minutes: a policy that cannot walk is reported at once.
    policies = {
        (method, seed): trained_policy(config.policies, config.dynamics, method, seed, config.robot)[0]
        for method in {SOURCES[name].method: None for name in names}
        for seed in range(config.seeds)
    }
    maker = vector_maker(config)
    cells: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    with piece_bar(show=progress) as bar:
        parts = parts_of(names)
        logs = sum(bool(parts & {*found}) for origin, found in PARTS.items() if origin != "truth")
        total = len(CONDITIONS) * (logs + len(names) * config.seeds)
        task = bar.add_task("vectors of the suite", total=total)
        vectors = maker.make(parts, lambda: bar.advance(task))
        for seed in range(config.seeds):
            for name in names:
                bar.update(task, description=f"{name}, seed {seed}")
                policy = policies[SOURCES[name].method, seed]
                cells[name].append(
                    _evaluated(config, table, name, seed, policy, vectors[seed], lambda: bar.advance(task))
                )
    methods = {name: over_seeds(rows) for name, rows in cells.items()}
    results = {
        "methods": methods,
        "titles": {name: f"{METHODS[SOURCES[name].method].title}: {SOURCES[name].title}" for name in names},
        "conditions": {name: condition.title for name, condition in CONDITIONS.items()},
        **setting,
        "gait": _gaits(config, table, vectors[0]) if SHOWN in names else {},
        "command": command_of("quadruped evaluate-policy", config),
        "environment": environment(),
    }
    results = with_earlier(results, earlier, parts=("methods", "titles", "gait"))
    results["differences"] = differences(results["methods"], OUTSIDE)
    results["gait_differences"] = differences(results["methods"], OUTSIDE, "dmcm_gait")
    if config.results is not None:
        write_json(config.results, results)
    return results


def _frozen(suite: SuiteConfig) -> dict[str, Any]:
    """Settings of the suite that change a result."""
    settings = {name: value for name, value in dataclasses.asdict(suite).items() if name != "threads"}
    return {**settings, "enough": ENOUGH}


def _chosen(config: PolicyStudy) -> tuple[str, ...]:
    if config.seeds < 1:
        raise ConfigError(f"seeds={config.seeds} must be at least 1.")
    return chosen_names("source", config.sources, SOURCES)


def vector_maker(config: PolicyStudy) -> VectorMaker:
    """Set up the vectors of a comparison.

    Raises:
        StorageError: a walking policy that is missing or damaged.
        ConfigError: a walking policy of another robot, or one that reads vectors.
    """
    table, folder = load_robot(config.robot), config.policies / "suite"
    walker, _ = load_walker(config.walker, config.robot, table)
    return VectorMaker(table, walker, config.suite, config.dynamics, config.seeds, folder)


def parts_of(names: Sequence[str]) -> set[str]:
    """Names of the vectors that sources need."""
    return {part.removeprefix("~") for name in names for part in SOURCES[name].parts}


def _evaluated(
    config: PolicyStudy,
    table: RobotTable,
    name: str,
    seed: int,
    policy: Policy,
    vectors: Mapping[str, Mapping[str, np.ndarray]],
    advance: Callable[[], None],
) -> dict[str, Any]:
    """All cells of one policy, from its folder if they were evaluated before."""
    source, suite = SOURCES[name], config.suite
    folder = config.policies / source.method / f"seed-{seed}"
    values = {name: told(source, vectors[name], suite.episodes) for name in CONDITIONS}
    asked = {
        "layout": CELL_LAYOUT,
        "suite": _frozen(suite),
        "robot": table.digest,
        "policy": digest(tree_arrays(policy)),
        "source": list(source.parts),
        "vectors": digest({name: value for name, value in values.items() if value is not None}),
    }
    file = folder / f"suite-{name}.json"
    kept = read_json(file) if file.exists() else {}
    cells = kept["cells"] if kept.get("asked") == asked else {}
    for condition in CONDITIONS:
        if condition not in cells:
            count = len(next(iter(vectors[condition].values())))
            guide = guide_of(source.method, values[condition], count)
            cells[condition] = evaluate_condition(policy, table, condition, suite, guide)
            write_json(file, {"asked": asked, "cells": cells})
        advance()
    return cells


def _gaits(
    config: PolicyStudy, table: RobotTable, vectors: Mapping[str, Mapping[str, np.ndarray]]
) -> dict[str, Any]:
    """How the gait of the policy of seed 0 that is given both vectors changes with either."""
    policy, _ = _policy(config.policies / SHOWN / "seed-0" / POLICY_FILE, SHOWN, 0)
    (robot, terrain), n = SOURCES[SHOWN].parts, config.suite.episodes
    usual, first = vectors[TRAINING], {name: row * n for row, name in enumerate(GROUNDS)}
    own, flat = usual[robot][:n].mean(axis=0), usual[terrain][first["flat"]]
    ends = {
        "ground's vector, flat to stairs up": (own, usual[terrain][first["stairs_up"]]),
        "robot's vector, training to soft": (vectors["soft"][robot][:n].mean(axis=0), flat),
    }
    start = np.concatenate([own, flat])
    threads = config.suite.threads
    return {
        "method": SHOWN,
        "shares": list(SHARES),
        "directions": {
            name: gait_along(policy, table, start, np.concatenate(end), threads=threads)
            for name, end in ends.items()
        },
    }


def trained_policy(
    policies: Path, dynamics: Path, method: str, seed: int, robot: str
) -> tuple[Policy, dict[str, Any]]:
    """A policy of a comparison, and what its file says about it.

    Args:
        policies: folder of `dmcm quadruped train-policy`.
        dynamics: folder of the dynamics models.
        method: name in `METHODS`.
        seed: for the policy and its model.
        robot: the robot that walks.

    Raises:
        StorageError: a policy or model that is missing.
        ConfigError: a policy of another robot.
        BankError: a policy trained with vectors of another model than that in `dynamics`.
    """
    folder = policies / method / f"seed-{seed}"
    policy, about = _policy(folder / POLICY_FILE, method, seed)
    if "data" not in about.get("training", {}):
        raise ConfigError(f"{folder} holds no policy of `dmcm quadruped train-policy`.")
    check_trained_for(folder / POLICY_FILE, about, robot, load_robot(robot))
    _check_model(folder, about, dynamics, method, seed)
    return policy, about


def _policy(path: Path, method: str, seed: int) -> tuple[Policy, dict[str, Any]]:
    if not path.exists():
        raise StorageError(
            f"there is no policy {path}. Train it: dmcm quadruped train-policy --methods {method} --seeds "
            f"{seed + 1} --out {path.parents[2]}"
        )
    return load_policy(path)


def _check_model(folder: Path, about: Mapping[str, Any], dynamics: Path, method: str, seed: int) -> None:
    """Refuse a policy that was trained with vectors of another model: they mean something else."""
    told = about["training"]["told"]
    if told["model"] is None:
        return
    name = METHODS[method].model
    assert name is not None  # otherwise there would be no vectors
    here = trained_model(dynamics, name, seed).learner.fingerprint()
    if told["model"] != here:
        raise BankError(
            f"{folder} was trained with vectors of model {told['model'][:12]}; the one in {dynamics} is "
            f"{str(here)[:12]}. Give the folder of the models it was trained with, or train it again."
        )


def guide_of(method: str, values: np.ndarray | None, episodes: int) -> Guide | None:
    """The guide that adds to the observations of a method's policy.

    Args:
        method: name in `METHODS`.
        values: what it is given in each episode, shape (episodes, size).
        episodes: how many robots walk.
    """
    if METHODS[method].history:
        return History(episodes)
    return None if values is None else Vectors(values)
