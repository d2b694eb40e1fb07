"""The transfer study: policies on stand-in robots, given what a flat log and simulation tell."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from dmcm.commands import command_of
from dmcm.progress import piece_bar
from dmcm.quadruped.body.robot_table import RobotTable, load_robot
from dmcm.quadruped.conditioned.evaluation import CELL_LAYOUT, summarise_walk
from dmcm.quadruped.conditioned.methods import METHODS
from dmcm.quadruped.conditioned.study import guide_of, trained_policy
from dmcm.quadruped.conditioned.table import differences, mean_over_seeds, overall, together
from dmcm.quadruped.dynamics.cells import TERRAIN
from dmcm.quadruped.standin.gap import RealityGap
from dmcm.quadruped.standin.simulation import stand_in
from dmcm.quadruped.transfer.scenario import GROUNDS, WAYS, TransferConfig, stand_ins
from dmcm.quadruped.transfer.table import ALL
from dmcm.quadruped.transfer.vectors import VectorSource
from dmcm.quadruped.walking.evaluation import evaluate_walking
from dmcm.quadruped.walking.policy import Policy, load_walker
from dmcm.quadruped.walking.suite import OVER_GROUND
from dmcm.results import earlier_table, with_earlier
from dmcm.runs import environment
from dmcm.storage import digest, read_json, tree_arrays, write_json

SHORTENED = ("single", "dmcm", "identified", "single_gait", "dmcm_gait", "identified_gait")
"""Ways that are also evaluated with less data."""
GAPPED = (
    "vanilla", "history", "single", "dmcm", "dmcm_live", "identified", "oracle",
    "single_gait", "dmcm_gait", "dmcm_gait_live", "identified_gait", "oracle_gait",
)  # fmt: skip
"""Ways that are also evaluated with other reality gaps."""


@dataclasses.dataclass(frozen=True)
class _Case:
    """One policy, walking in one way, on all grounds."""

    way: str
    seed: int
    gap: float = 1.0
    data_s: float = 20.0

    @property
    def name(self) -> str:
        """Name of its file."""
        return f"{self.way}-seed-{self.seed}-gap-{self.gap:g}-data-{self.data_s:g}"


def run_transfer(config: TransferConfig, *, progress: bool = True) -> dict[str, Any]:
    """Evaluate and compare; returns the table in the layout of results/transfer.json.

    Can be stopped and started again at any time: logs and finished cases are stored in `config.out`.

    Raises:
        ConfigError: settings out of range, or a policy of another robot.
        StorageError: a policy or model that is missing, or a file for results that holds something else.
        BankError: a policy trained with vectors of other models than those in `dynamics`.
    """
    config = config.check()
    table = load_robot(config.robot)
    setting = {
        "seeds": config.seeds,
        "suite": {
            "robots": config.robots,
            "seconds": config.seconds,
            "seed": config.seed,
            "robot": table.digest,
            "layout": CELL_LAYOUT,
        },
    }
    earlier = earlier_table(config.results, setting)
    walker, _ = load_walker(config.walker, config.robot, table)
    cases, source = _cases(config), VectorSource(config, table, walker)
    policies = {
        (method, seed): trained_policy(config.policies, config.dynamics, method, seed, config.robot)[0]
        for method in {WAYS[name].policy: None for name in config.names()}
        for seed in range(config.seeds)
    }
    cells: dict[_Case, dict[str, Any]] = {}
    with piece_bar(show=progress) as bar:
        task = bar.add_task("stand-in robots", total=len(cases))
        for case in cases:
            bar.update(task, description=case.name)
            cells[case] = _evaluated(config, table, source, policies[WAYS[case.way].policy, case.seed], case)
            bar.advance(task)
    results = {**_table(config, cells), **setting}
    results = with_earlier(results, earlier, parts=("methods", "titles", "seconds", "gap"))
    results["differences"] = differences(results["methods"], ALL)
    results["gait_differences"] = differences(results["methods"], ALL, "dmcm_gait")
    if config.results is not None:
        write_json(config.results, results)
    return results


def _cases(config: TransferConfig) -> list[_Case]:
    """All cases, grouped by the seed of their vectors."""
    names, cases = config.names(), []
    for seed in range(config.seeds):
        cases += [_Case(name, seed) for name in names]
        cases += [
            _Case(name, seed, data_s=length)
            for length in config.data_s
            if length < 20
            for name in SHORTENED
            if name in names
        ]
        cases += [
            _Case(name, seed, gap=size)
            for size in config.gaps
            if size != 1
            for name in GAPPED
            if name in names
        ]
    return cases


def _evaluated(
    config: TransferConfig,
    table: RobotTable,
    source: VectorSource,
    policy: Policy,
    case: _Case,
) -> dict[str, Any]:
    """Outcomes of the episodes on each ground, from a file if they were evaluated before."""
    way, n = WAYS[case.way], config.robots
    values = source.told(way.parts, seed=case.seed, gap=case.gap, data_s=case.data_s)
    asked = {
        "layout": CELL_LAYOUT,
        "robots": n,
        "seconds": config.seconds,
        "seed": config.seed,
        "robot": table.digest,
        "policy": digest(tree_arrays(policy)),
        "parts": list(way.parts),
        "vectors": None if values is None else digest({"told": values}),
        "live": source.model(case.seed).learner.fingerprint() if way.live else None,
    }
    file = config.out / f"{case.name}.json"
    kept = read_json(file) if file.exists() else {}
    if kept.get("asked") == asked:
        return kept["cells"]
    robots = stand_ins(config)
    if way.live:
        live = source.live(seed=case.seed, tell_ground=TERRAIN in METHODS[way.policy].vectors)
        guide, watch = live.guide, live.watch
    else:
        guide, watch = guide_of(way.policy, values, n * len(GROUNDS)), None
    walk = evaluate_walking(
        policy,
        table,
        robots * len(GROUNDS),
        [ground for ground in GROUNDS.values() for _ in robots],
        seconds=config.seconds,
        commands=OVER_GROUND,
        guide=guide,
        watch=watch,
        physics=stand_in(RealityGap().scaled(case.gap), config.seed + 1),
        seed=config.seed,
    )
    cells = {name: summarise_walk(walk, slice(i * n, (i + 1) * n)) for i, name in enumerate(GROUNDS)}
    write_json(file, {"asked": asked, "cells": cells})
    return cells


def _table(config: TransferConfig, cells: Mapping[_Case, Mapping[str, Any]]) -> dict[str, Any]:
    names = config.names()

    def over_seeds(name: str, **changes: float) -> dict[str, Any]:
        runs = [cells[_Case(name, seed, **changes)] for seed in range(config.seeds)]
        found = {ground: mean_over_seeds([run[ground] for run in runs]) for ground in GROUNDS}
        return found | {ALL: overall([together(list(run.values())) for run in runs])}

    lengths = [length for length in config.data_s if length < 20]
    sizes = [size for size in config.gaps if size != 1]
    methods = {name: over_seeds(name) for name in names}
    return {
        "methods": methods,
        "titles": {name: WAYS[name].title for name in names},
        "seconds": {
            name: {f"{length:g}": over_seeds(name, data_s=length) for length in lengths}
            for name in SHORTENED
            if name in names and lengths
        },
        "gap": {
            name: {f"{size:g}": over_seeds(name, gap=size) for size in sizes}
            for name in GAPPED
            if name in names and sizes
        },
        "command": command_of("quadruped transfer", config),
        "environment": environment(),
    }
