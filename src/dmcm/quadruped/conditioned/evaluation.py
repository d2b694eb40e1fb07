"""One policy on the whole suite, given whatever is known about a robot and a ground."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from dmcm.errors import ConfigError
from dmcm.quadruped.body.properties import RobotProperties
from dmcm.quadruped.body.robot_table import RobotTable
from dmcm.quadruped.conditioned.suite import CONDITIONS, ENOUGH, GROUNDS
from dmcm.quadruped.walking.evaluation import Walk, evaluate_walking
from dmcm.quadruped.walking.guides import Guide
from dmcm.quadruped.walking.policy import Policy
from dmcm.quadruped.walking.suite import OVER_GROUND
from dmcm.quadruped.world.terrain import Terrain


@dataclasses.dataclass(frozen=True)
class SuiteConfig:
    """Size of the suite."""

    episodes: int = 200
    """Robots per condition; each walks once on each ground."""
    seconds: float = 8.0
    """Length of an episode."""
    seed: int = 0
    """Seed for bodies, starts, commands and logs."""
    threads: int = 0
    """Physics threads; 0 means one per core."""

    def check(self) -> SuiteConfig:
        """Return self, or raise `ConfigError` for settings out of range."""
        if self.episodes < 1 or not 2 <= self.seconds < np.inf or self.seed < 0:
            raise ConfigError(
                f"episodes={self.episodes} must be at least 1, seconds={self.seconds} finite and at least 2, "
                f"seed={self.seed} not negative."
            )
        return self


def bodies(config: SuiteConfig, condition: str) -> list[RobotProperties]:
    """The robots of a condition, always the same."""
    number = list(CONDITIONS).index(condition)
    return CONDITIONS[condition].draw(np.random.default_rng([config.seed, number]), config.episodes)


def grounds(condition: str) -> list[Terrain]:
    """The grounds of a condition, in the order of `GROUNDS`."""
    return [CONDITIONS[condition].on(ground) for ground in GROUNDS.values()]


def evaluate_condition(
    policy: Policy, table: RobotTable, condition: str, config: SuiteConfig, guide: Guide | None
) -> dict[str, dict[str, Any]]:
    """Evaluate all robots of a condition on all its grounds, by the mean action.

    Args:
        policy: chooses the actions.
        table: the robot's facts.
        condition: name in `CONDITIONS`.
        config: size of the suite.
        guide: for the episodes, ground by ground with all robots on each.

    Returns:
        Outcomes of the episodes, per ground of `GROUNDS`.
    """
    n = config.episodes
    robots = bodies(config, condition)
    walk = evaluate_walking(
        policy,
        table,
        robots * len(GROUNDS),
        [ground for ground in grounds(condition) for _ in range(n)],
        seconds=config.seconds,
        commands=OVER_GROUND,
        guide=guide,
        seed=config.seed,
        threads=config.threads,
    )
    return {name: summarise_walk(walk, slice(i * n, (i + 1) * n)) for i, name in enumerate(GROUNDS)}


CELL_LAYOUT = 3
"""Version of what `summarise_walk` returns and of how policies walk; finished cells of other versions are
evaluated again, and tables of others are not added to."""


def summarise_walk(walk: Walk, which: slice) -> dict[str, Any]:
    """One cell of a table: the outcome of some episodes.

    A success is an episode without a fall and with `ENOUGH` of the commanded distance. The velocity error is
    over robots that walked for more than a second, None if there are none; distances are path lengths;
    "per_robot" is 1 for robots that succeeded, else 0.
    """
    fine, missed = walk.success(ENOUGH), walk.velocity_error_m_s[which]
    known = missed[np.isfinite(missed)]
    return {
        "success": float(fine[which].mean()),
        "falls": int(walk.fell[which].sum()),
        "distance_m": float(walk.path_m[which].mean()),
        "velocity_rmse": float(np.sqrt(np.mean(known**2))) if len(known) else None,
        "energy_j_per_m": float(np.sum(walk.energy_j[which]) / max(np.sum(walk.path_m[which]), 1e-9)),
        "episodes": int(fine[which].size),
        "per_robot": fine[which].astype(int).tolist(),
    }
