"""Teach robots to walk, on ground that gets harder as they get better."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from dmcm.quadruped.body.properties import draw_robots
from dmcm.quadruped.body.robot_table import RobotTable, load_robot
from dmcm.quadruped.walking.environment import WalkEnvironment
from dmcm.quadruped.walking.loop import Schedule, train_in_phases, training_walk
from dmcm.quadruped.walking.observations import OBSERVATION, PRIVILEGED
from dmcm.quadruped.walking.policy import Policy, load_walker
from dmcm.quadruped.walking.ppo import Ends
from dmcm.quadruped.world.arena import Arena
from dmcm.quadruped.world.terrain import Terrain

LADDERS: tuple[tuple[Terrain, ...], ...] = (
    (Terrain("flat"), Terrain("flat", friction=0.5)),
    tuple(Terrain("rough", size, 0.2) for size in (0.02, 0.04, 0.06, 0.08)),
    tuple(Terrain("slope_up", grade) for grade in (0.06, 0.12, 0.18, 0.24, 0.28)),
    tuple(Terrain("slope_down", grade) for grade in (0.06, 0.12, 0.18, 0.24, 0.28)),
    tuple(Terrain("stairs_up", rise) for rise in (0.02, 0.04, 0.06, 0.08, 0.09)),
    tuple(Terrain("stairs_up", rise, friction=0.9) for rise in (0.03, 0.05, 0.07, 0.08, 0.09)),
    tuple(Terrain("stairs_down", rise) for rise in (0.02, 0.04, 0.06, 0.08, 0.09)),
    tuple(Terrain("waves", height, 1.0) for height in (0.03, 0.06, 0.09, 0.12, 0.14)),
)
"""Grounds of the curriculum, each kind from easy to hard, with the hardest kind twice. None is as hard as the
held-out grounds, or of a held-out kind."""

_ENOUGH, _TOO_LITTLE = 0.6, 0.3
"""Shares of the commanded distance above which a robot climbs its ladder, and below which it steps down."""


@dataclasses.dataclass(frozen=True)
class WalkTraining(Schedule):
    """How a policy is trained."""

    robot: str = "go1"
    """Name of a robot, or path of its table."""
    rough_ground: bool = False
    """Climb the ladders of harder ground; by default all ground is flat."""
    start: Path | None = None
    """Policy to start from, a `policy.safetensors`; a new one by default."""

    def check(self) -> WalkTraining:
        """Return self, or raise `ConfigError` for settings out of range."""
        self.check_schedule()
        return self


class Curriculum:
    """Which ground each robot is on: up a ladder after a good walk, down after a fall or little progress.

    Attributes:
        ladder: of each robot, shape (n,).
        rung: how far up, shape (n,).
    """

    def __init__(
        self, ladders: tuple[tuple[Terrain, ...], ...], table: RobotTable, robots: int, *, threads: int = 0
    ):
        """Spread robots over the ladders, all on the lowest rung.

        Args:
            ladders: grounds of each kind, from easy to hard.
            table: the robot's facts.
            robots: how many.
            threads: physics threads; 0 means one per core.
        """
        self._table, self._threads = table, threads
        self.arena = Arena([terrain for ladder in ladders for terrain in ladder])
        self._lengths = np.array([len(ladder) for ladder in ladders])
        self._first = np.cumsum([0, *self._lengths[:-1]])
        self.ladder = np.arange(robots) % len(ladders)
        self.rung = np.zeros(robots, int)

    @property
    def tiles(self) -> np.ndarray:
        """Numbers of the robots' grounds, shape (n,)."""
        return self._first[self.ladder] + self.rung

    def environment(self, rng: np.random.Generator) -> WalkEnvironment:
        """Robots with new bodies on the grounds they have reached."""
        return WalkEnvironment(
            self._table,
            self.arena,
            draw_robots(rng, len(self.rung)),
            self.tiles,
            training_walk(),
            threads=self._threads,
        )

    def state(self) -> dict[str, Any]:
        """How far up each robot is."""
        return {"rung": self.rung.tolist()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Put each robot where it was."""
        self.rung[:] = state["rung"]

    def measures(self) -> dict[str, float]:
        """How far up robots are on average."""
        return {"rung": float(self.rung.mean())}

    def ended(self, ends: Ends, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Up after a good walk, down after a fall or little progress.

        Args:
            ends: which robots fell and which walked until time ran out, and how far.
            rng: random generator.

        Returns:
            Robots whose ground changed, and numbers of their new grounds.
        """
        before = self.rung.copy()
        walked = ends.cut & ~ends.fell
        self.rung += walked & (ends.progress > _ENOUGH)
        self.rung -= ends.fell | (walked & (ends.progress < _TOO_LITTLE))
        # A robot that passes the top is sent to a random rung, so that nothing is forgotten.
        top = self.rung >= self._lengths[self.ladder]
        self.rung[top] = rng.integers(0, self._lengths[self.ladder[top]])
        self.rung = np.maximum(self.rung, 0)
        moved = np.flatnonzero(self.rung != before)
        return moved, self.tiles[moved]


def train_walking(config: WalkTraining, out: Path, *, resume: bool = False, progress: bool = True) -> Policy:
    """Train a policy on flat ground or up the ladders, as `loop.train_in_phases`.

    Raises:
        ConfigError: settings out of range.
        CheckpointError: the robot's table was edited since the run that is resumed; as `train_in_phases`.
        DmcmError: as `train_in_phases`.
    """
    config = config.check()
    table = load_robot(config.robot)
    about = {"kind": "quadruped walking", **dataclasses.asdict(config), "start": str(config.start or "")}
    about["robot_table"] = table.digest
    del about["threads"]
    first = _first_policy(config, table, jax.random.key(config.seed))
    ladders = LADDERS if config.rough_ground else (LADDERS[0][:1],)
    scene = Curriculum(ladders, table, config.robots, threads=config.threads)
    return train_in_phases(first, scene, config, out, about, resume=resume, progress=progress)


def _first_policy(config: WalkTraining, table: RobotTable, key: Any) -> Policy:
    if config.start is None:
        return Policy(sum(OBSERVATION.values()), sum(PRIVILEGED.values()), 12, key=key)
    return load_walker(config.start, config.robot, table)[0]
