"""The demonstration's walk: a robot from outside training on stairs, given its and the stairs' vectors."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from dmcm.quadruped.body.properties import RobotProperties, nominal
from dmcm.quadruped.body.robot_table import load_robot
from dmcm.quadruped.conditioned.films import Walker, encode_gif, film
from dmcm.quadruped.conditioned.logs import SECONDS, log_recording
from dmcm.quadruped.conditioned.shipped import GAIT_POLICY, MATCHED_POLICY, PLAIN_POLICY
from dmcm.quadruped.conditioned.suite import ENOUGH
from dmcm.quadruped.data.recording import without_truth
from dmcm.quadruped.demo import ROBOT_NAME
from dmcm.quadruped.dynamics.cells import ROBOT, TERRAIN
from dmcm.quadruped.dynamics.log_fit import log_vectors, near_vectors
from dmcm.quadruped.dynamics.model import DynamicsModel
from dmcm.quadruped.walking.evaluation import Walk, evaluate_walking
from dmcm.quadruped.walking.guides import Vectors
from dmcm.quadruped.walking.policy import Policy, load_policy
from dmcm.quadruped.walking.suite import OVER_GROUND
from dmcm.quadruped.world.terrain import Terrain

SOFT = RobotProperties(
    p_gain_nm_per_rad=18.0,
    d_gain_nms_per_rad=0.5,
    payload_kg=4.0,
    payload_x_m=-0.05,
    payload_y_m=0.02,
    motor_strength=0.9,
    joint_friction_nm=0.3,
    action_delay_s=0.01,
)
"""Softer and heavier than any robot of training, where P gains are 25 or more and loads 3 kg or less."""
STAIRS = Terrain("stairs_up", 0.08)
"""A training ground on which this robot has no data."""
EPISODES, EPISODE_S, FILM_S = 32, 8.0, 5.0

TOLD: Mapping[str, str] = {
    "nothing": "told nothing",
    "published": "given the vector of the published robot",
    "own": "given the vector of its flat log",
    "both": "given its vector and that of the stairs",
}
"""What the policies are given. All have the same actor."""
FILMED: Mapping[str, str] = {
    "nothing": "told nothing",
    "own": "its vector",
    "both": "its vector, the stairs' vector",
}
"""Titles of the film's panes, which are narrow."""


@dataclasses.dataclass(frozen=True, eq=False)
class WalkDemo:
    """The soft robot on the stairs.

    Attributes:
        seconds: length of the log that its vector is made from.
        gains: P gain (N m/rad) and D gain (N m s/rad) that the vector gives, shape (2,).
        gait: settings of the gait that the vector of the stairs chooses, in the order of `gait.SETTINGS`,
            shape (4,).
        walks: outcomes of the episodes, per way of `TOLD`.
        gif: the first episode of the ways of `FILMED`, as bytes of a GIF file; None where this machine
            cannot draw.
    """

    seconds: float
    gains: np.ndarray
    gait: np.ndarray
    walks: Mapping[str, Walk]
    gif: bytes | None

    def climbed(self, way: str) -> int:
        """Episodes without a fall that covered enough of the commanded distance."""
        return int(self.walks[way].success(ENOUGH).sum())


def run_walk_demo(model: DynamicsModel, start: Policy, *, episodes: int = EPISODES) -> WalkDemo:
    """Make the vectors, walk, film.

    Args:
        model: makes the vectors; the one whose vectors the policies of `conditioned.shipped` read.
        start: walks robots while their logs are recorded.
        episodes: with each policy.
    """
    table = load_robot(ROBOT_NAME)
    published = nominal(table)
    logs = log_recording(
        start, table, [SOFT, published, published], [Terrain(), Terrain(), STAIRS], seed=(0,)
    )
    flat, stairs = log_vectors(model, logs[1:])[TERRAIN]
    own, usual = near_vectors(model, without_truth(logs[:2]), given={TERRAIN: flat})[ROBOT]
    told = {"published": usual, "own": own, "both": np.concatenate([own, stairs])}
    files = {"nothing": PLAIN_POLICY, "published": MATCHED_POLICY, "own": MATCHED_POLICY, "both": GAIT_POLICY}
    policies = {way: load_policy(path)[0] for way, path in files.items()}
    gains, gait = policies["own"].gains, policies["both"].gait
    assert gains is not None
    assert gait is not None
    read = gains(own[None])[0] * [table.p_gain_nm_per_rad, table.d_gain_nms_per_rad]

    def guide(way: str, count: int) -> Vectors | None:
        return Vectors(np.tile(told[way], (count, 1))) if way in told else None

    walks = {
        way: evaluate_walking(
            policy,
            table,
            [SOFT] * episodes,
            [STAIRS] * episodes,
            seconds=EPISODE_S,
            commands=OVER_GROUND,
            guide=guide(way, episodes),
            seed=0,
        )
        for way, policy in policies.items()
    }
    panes = [Walker(title, policies[way], guide(way, 1)) for way, title in FILMED.items()]
    frames = film(panes, table, SOFT, STAIRS, seconds=FILM_S, commands=OVER_GROUND, seed=0)
    gif = None if frames is None else encode_gif(frames)
    return WalkDemo(SECONDS, read, gait(told["both"][None])[0], walks, gif)
