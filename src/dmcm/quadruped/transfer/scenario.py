"""The transfer study's scenario: stand-in robots, hard grounds, and what policies are given about them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from dmcm.checks import chosen_names
from dmcm.errors import ConfigError
from dmcm.quadruped.body.properties import RobotProperties, draw_ood_robots
from dmcm.quadruped.walking.policy import POLICY
from dmcm.quadruped.world.terrain import Terrain

GROUNDS: Mapping[str, Terrain] = {
    "rough": Terrain("rough", 0.06, 0.2),
    "waves": Terrain("waves", 0.12, 1.0),
    "stairs_up": Terrain("stairs_up", 0.08),
    "slope_up": Terrain("slope_up", 0.24),
}
"""Hard grounds that were in training in simulation, and on which the stand-in has no data."""


@dataclasses.dataclass(frozen=True)
class Way:
    """One way to walk a new robot.

    Attributes:
        policy: name of the policy's method.
        title: what it is given.
        parts: names of vectors, see `transfer.vectors`.
        live: whether the robot's vector is filtered while it walks, starting from the prior.
    """

    policy: str
    title: str
    parts: tuple[str, ...] = ()
    live: bool = False


WAYS: Mapping[str, Way] = {
    "vanilla": Way("vanilla", "nothing"),
    "history": Way("history", "its own last second"),
    "single": Way("single", "one vector, of its flat log; targets matched to it", ("cell_near",)),
    "dmcm": Way("dmcm", "the robot's vector, of its flat log; targets matched to it", ("robot_near",)),
    "dmcm_live": Way("dmcm", "the robot's vector, filtered as it walks; targets matched to it", live=True),
    "identified": Way(
        "oracle",
        "its properties as an evolution strategy finds them in its flat log; targets matched to them",
        ("identified_robot",),
    ),
    "oracle": Way("oracle", "its properties as they are; targets matched to them", ("true_robot",)),
    "single_in_place": Way(
        "single", "one vector, of a log on this very ground; targets matched to it", ("cell_near_here",)
    ),
    "dmcm_in_place": Way(
        "dmcm",
        "the robot's vector, of a log on this very ground; targets matched to it",
        ("robot_near_here",),
    ),
    "dmcm_nominal": Way("dmcm", "the nominal robot's vector; targets matched to it", ("robot_nominal",)),
    "dmcm_ground": Way(
        "dmcm_ground",
        "its flat log's vector, targets matched to it; the ground's from simulation, heard by the actor",
        ("robot_near", "terrain"),
    ),
    "vanilla_gait": Way("vanilla_gait", "nothing; one gait for all"),
    "single_fixed": Way(
        "single_fixed", "one vector, of its flat log; targets matched to it; one gait for all", ("cell_near",)
    ),
    "single_gait": Way(
        "single_gait", "one vector, of its flat log; targets matched to it; gait chosen by it", ("cell_near",)
    ),
    "single_gait_in_place": Way(
        "single_gait",
        "one vector, of a log on this very ground; targets matched to it; gait chosen by it",
        ("cell_near_here",),
    ),
    "dmcm_gait": Way(
        "dmcm_gait",
        "its flat log's vector, targets matched to it; the ground's from simulation, gait chosen by it",
        ("robot_near", "terrain"),
    ),
    "dmcm_gait_in_place": Way(
        "dmcm_gait",
        "vectors of a log on this very ground; targets matched to the robot's, gait chosen by the ground's",
        ("robot_near_here", "terrain_here"),
    ),
    "dmcm_gait_live": Way(
        "dmcm_gait",
        "the robot's vector, filtered as it walks, targets matched to it; the ground's from simulation, gait "
        "chosen by it",
        live=True,
    ),
    "oracle_gait": Way(
        "oracle_gait",
        "its properties and the ground as they are; targets matched to them, gait chosen by them",
        ("true_robot", "true_terrain"),
    ),
    "identified_gait": Way(
        "oracle_gait",
        "its properties as an evolution strategy finds them in its flat log, targets matched to them; the "
        "ground as it is, gait chosen by it",
        ("identified_robot", "true_terrain"),
    ),
    "single_told": Way("single_told", "one vector, of its flat log; heard by the actor", ("cell_flat",)),
    "dmcm_told": Way(
        "dmcm_told",
        "its flat log's vector, the ground's from simulation; heard by the actor",
        ("robot_flat", "terrain"),
    ),
    "oracle_told": Way(
        "oracle_told", "its properties and the ground; heard by the actor", ("true_robot", "true_terrain")
    ),
}
"""The table's rows. "In place" rows use data that exist only once the robot is on that ground."""


@dataclasses.dataclass(frozen=True)
class TransferConfig:
    """Stand-in robots × hard grounds × what policies are given."""

    robot: str = "go1"
    """Name of a robot, or path of its table."""
    policies: Path = Path("runs/quadruped-policies")
    """Output folder of `dmcm quadruped train-policy`."""
    dynamics: Path = Path("runs/quadruped-dynamics")
    """Output folder of `dmcm quadruped dynamics`: the models that the policies were trained with."""
    walker: Path = POLICY
    """File of the policy that collected the training data; robots are logged while they walk by it."""
    ways: tuple[str, ...] = ("all",)
    """What policies are given (see the documentation); `all` for every way."""
    seeds: int = 3
    """Number of seeds (0, 1, …) of policies and their dynamics models."""
    robots: int = 20
    """Stand-in robots, all outside training; each walks once on each ground."""
    seconds: float = 8.0
    """Length of an episode."""
    data_s: tuple[float, ...] = (1.0, 5.0, 10.0)
    """Shorter lengths of the flat log that vectors are also made from, besides all 20 seconds."""
    gaps: tuple[float, ...] = (0.0, 2.0)
    """Sizes of the reality gap besides 1."""
    seed: int = 0
    """Seed for bodies, sensors, starts and commands."""
    out: Path = Path("runs/quadruped-transfer")
    """Folder for logs and evaluations; existing ones are reused."""
    results: Path | None = None
    """File for the table, e.g. results/transfer.json. Rows that it already has and that are not evaluated now
    are kept with the command that made them; a table of other robots or seeds is refused."""

    def check(self) -> TransferConfig:
        """Return self, or raise `ConfigError` for settings out of range."""
        self.names()
        if self.seeds < 1 or self.robots < 1 or not 2 <= self.seconds < np.inf or self.seed < 0:
            raise ConfigError(
                f"seeds={self.seeds} and robots={self.robots} must be at least 1, seconds={self.seconds} "
                f"finite and at least 2, seed={self.seed} not negative."
            )
        if any(not 1 <= length <= 20 for length in self.data_s):
            raise ConfigError(f"data_s={self.data_s} must lie between 1 and 20 seconds.")
        if any(not 0 <= size < np.inf for size in self.gaps):
            raise ConfigError(f"gaps={self.gaps} must not be negative.")
        return self

    def names(self) -> tuple[str, ...]:
        """Names of the ways, each once, or `ConfigError` for an unknown one or none."""
        return chosen_names("way", self.ways, WAYS)


def stand_ins(config: TransferConfig) -> list[RobotProperties]:
    """The robots, always the same."""
    return draw_ood_robots(np.random.default_rng([config.seed, 5]), config.robots)
