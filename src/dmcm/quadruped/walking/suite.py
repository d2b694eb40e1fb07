"""The walking figures: a fixed set of commands, grounds and bodies, evaluated with the mean action."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from dmcm.commands import command_of
from dmcm.errors import ConfigError
from dmcm.quadruped.body.properties import draw_ood_robots, draw_robots, nominal
from dmcm.quadruped.body.robot_table import load_robot
from dmcm.quadruped.walking.commands import CommandRanges
from dmcm.quadruped.walking.evaluation import Walk, evaluate_walking
from dmcm.quadruped.walking.policy import POLICY, load_walker
from dmcm.quadruped.world.terrain import OOD_TERRAINS, TRAINING_TERRAINS, Terrain
from dmcm.results import earlier_table
from dmcm.runs import environment
from dmcm.storage import write_json
from dmcm.summaries import wilson

_STILL = (0.0, 0.0)
_FOREVER_S = 60.0
ON_FLAT = {
    "forward": CommandRanges((0.0, 1.0), _STILL, _STILL, (-0.1, 0.1), 1.0, _FOREVER_S),
    "sideways": CommandRanges(_STILL, (-0.4, 0.4), _STILL, (-0.1, 0.1), 1.0, _FOREVER_S),
    "turning": CommandRanges(_STILL, _STILL, (-0.8, 0.8), _STILL, 0.0, _FOREVER_S),
    "all": CommandRanges(),
}
"""Commands on flat ground, for the robot as published."""
OVER_GROUND = CommandRanges((0.3, 0.8), (-0.1, 0.1), (-0.8, 0.8), (-0.1, 0.1), 1.0, _FOREVER_S)
"""Commands on all grounds, for robots of the training ranges."""
ENOUGH = 0.5
"""Smallest fraction of the commanded distance that counts as success."""


@dataclasses.dataclass(frozen=True)
class WalkingSuite:
    """What to evaluate."""

    robot: str = "go1"
    """Name of a robot, or path of its table."""
    policy: Path = POLICY
    """The policy; by default that of the package."""
    episodes: int = 64
    """Episodes per cell."""
    seconds: float = 8.0
    """Length of an episode."""
    seed: int = 0
    """Seed for bodies, starts and commands."""
    results: Path | None = None
    """File for the table."""


def run_suite(config: WalkingSuite) -> dict[str, Any]:
    """Evaluate all cells; returns them by name.

    Raises:
        ConfigError: settings out of range, or a policy of another robot.
        DmcmError: a robot or policy that cannot be used.
    """
    if config.episodes < 1 or not 2 <= config.seconds < np.inf or config.seed < 0:
        raise ConfigError(
            f"episodes={config.episodes} must be at least 1, seconds={config.seconds} at least 2, "
            f"seed={config.seed} not negative."
        )
    table = load_robot(config.robot)
    policy, about = load_walker(config.policy, config.robot, table)
    setting = {
        "robot": table.title,
        "policy": about.get("training", {}),
        "episodes": config.episodes,
        "seconds": config.seconds,
        "seed": config.seed,
    }
    earlier_table(config.results, setting)
    n, rng = config.episodes, np.random.default_rng(config.seed)
    flat = [Terrain()] * n
    cells: dict[str, Any] = {}

    def walk(name: str, robots: list[Any], terrains: list[Terrain], commands: CommandRanges) -> None:
        walked = evaluate_walking(
            policy, table, robots, terrains, seconds=config.seconds, commands=commands, seed=config.seed
        )
        cells[name] = _cell(walked)

    for name, commands in ON_FLAT.items():
        walk(f"flat, {name}", [nominal(table)] * n, flat, commands)
    walk("flat, robots outside training", draw_ood_robots(rng, n), flat, OVER_GROUND)
    for terrain in TRAINING_TERRAINS + OOD_TERRAINS:
        walk(terrain.label, draw_robots(rng, n), [terrain] * n, OVER_GROUND)
    results = {
        **setting,
        "cells": cells,
        "command": command_of("quadruped evaluate-walking", config),
        "environment": environment(),
    }
    if config.results is not None:
        write_json(config.results, results)
    return results


def _cell(walk: Walk) -> dict[str, Any]:
    success = walk.success(ENOUGH)
    share = float(success.mean())
    return {
        "success": share,
        "ci95": wilson(int(success.sum()), len(success)),
        "falls": int(walk.fell.sum()),
        "divergences": int(walk.diverged.sum()),
        "progress": float(np.median(walk.progress)),
        "distance_m": float(walk.distance_m.mean()),
        "velocity_error_m_s": _median(walk.velocity_error_m_s),
        "yaw_error_rad_s": _median(walk.yaw_error_rad_s),
        "energy_j_per_m": float(np.sum(walk.energy_j) / max(np.sum(walk.path_m), 1e-9)),
    }


def _median(values: np.ndarray) -> float | None:
    """Median over the robots that walked long enough to be measured."""
    known = values[np.isfinite(values)]
    return float(np.median(known)) if len(known) else None
