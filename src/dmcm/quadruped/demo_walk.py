"""The demonstration's walk: the unseen robot on stairs, told its own vector and one of the stairs."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from dmcm.errors import DataError
from dmcm.quadruped.body.properties import nominal
from dmcm.quadruped.body.robot_table import load_robot
from dmcm.quadruped.conditioned.films import Walker, encode_gif, film
from dmcm.quadruped.conditioned.logs import SECONDS, log_samples
from dmcm.quadruped.conditioned.models import Model
from dmcm.quadruped.conditioned.shipped import PLAIN_POLICY, TOLD_POLICY
from dmcm.quadruped.conditioned.suite import ENOUGH
from dmcm.quadruped.demo import ROBOT_NAME, UNSEEN
from dmcm.quadruped.dynamics.cells import LEAST_SAMPLES, ROBOT, TERRAIN
from dmcm.quadruped.walking.evaluation import Walk, evaluate_walking
from dmcm.quadruped.walking.guides import Vectors
from dmcm.quadruped.walking.policy import Policy, load_policy
from dmcm.quadruped.walking.suite import OVER_GROUND
from dmcm.quadruped.world.terrain import Terrain

STAIRS = Terrain("stairs_up", 0.06)
"""Between the steps of training, 4 and 8 cm; the unseen robot has no data of any stairs."""
EPISODES, EPISODE_S, FILM_S = 32, 8.0, 5.0

TOLD: Mapping[str, str] = {
    "nothing": "told nothing",
    "flat": "told robot and flat ground",
    "mixed": "told robot and stairs",
}
"""What the policies are told. The first is one that was trained the same without vectors."""


@dataclasses.dataclass(frozen=True, eq=False)
class WalkDemo:
    """The unseen robot on the stairs.

    Attributes:
        seconds: length of the logs that the vectors are made of.
        walks: per way of `TOLD`, what came of the episodes.
        gif: the first episode of the policies told nothing and told both, the bytes of a GIF file; None where
            this machine cannot draw.
    """

    seconds: float
    walks: Mapping[str, Walk]
    gif: bytes | None

    def climbed(self, way: str) -> int:
        """Episodes that ended on foot, with enough of the commanded way."""
        return int(self.walks[way].success(ENOUGH).sum())


def run_walk_demo(
    model: Model, start: Policy, *, seed: int = 0, episodes: int = EPISODES, film_s: float = FILM_S
) -> WalkDemo:
    """Make the vectors, walk, film.

    Args:
        model: makes the vectors; the one that `TOLD_POLICY` was trained with.
        start: how robots walk while their logs are made.
        seed: of logs and episodes.
        episodes: with each policy.
        film_s: length of the film.

    Raises:
        DataError: a robot fell all the time while its log was made.
    """
    table = load_robot(ROBOT_NAME)
    robots, grounds = [UNSEEN, nominal(table)], [Terrain(), STAIRS]
    windows = log_samples(start, table, robots, grounds, seed=(seed,))
    if windows.count.min() < LEAST_SAMPLES:
        raise DataError("a robot fell too often to make a vector of its log; use another seed.")
    vectors = model.vectors(windows)
    own, (flat, stairs) = vectors[ROBOT][0], vectors[TERRAIN]
    told = {"flat": np.concatenate([own, flat]), "mixed": np.concatenate([own, stairs])}
    plain, knowing = load_policy(PLAIN_POLICY)[0], load_policy(TOLD_POLICY)[0]

    def guide(way: str, count: int) -> Vectors | None:
        return Vectors(np.tile(told[way], (count, 1))) if way in told else None

    policies = {way: knowing if way in told else plain for way in TOLD}
    walks = {
        way: evaluate_walking(
            policy,
            table,
            [UNSEEN] * episodes,
            [STAIRS] * episodes,
            seconds=EPISODE_S,
            commands=OVER_GROUND,
            guide=guide(way, episodes),
            seed=seed,
        )
        for way, policy in policies.items()
    }
    panes = [Walker(TOLD[way], policies[way], guide(way, 1)) for way in ("nothing", "mixed")]
    frames = film(panes, table, UNSEEN, STAIRS, seconds=film_s, commands=OVER_GROUND, seed=seed)
    return WalkDemo(SECONDS, walks, None if frames is None else encode_gif(frames))
