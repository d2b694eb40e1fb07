"""What policies are given in the suite: the vectors of their method, or wrong or partial ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from dmcm.quadruped.dynamics.cells import ROBOT


@dataclasses.dataclass(frozen=True)
class Source:
    """What a policy is given in the suite.

    Attributes:
        method: how the policy was trained, name in `methods.METHODS`.
        title: where the vectors are from.
        parts: names of the vectors, see `suite_vectors.PARTS`; "~" takes another robot's or ground's.
    """

    method: str
    title: str
    parts: tuple[str, ...] = ()


SOURCES: Mapping[str, Source] = {
    "vanilla": Source("vanilla", "nothing"),
    "single": Source("single", "its flat log", ("cell_near",)),
    "dmcm": Source("dmcm", "its flat log", ("robot_near",)),
    "history": Source("history", "its own last second"),
    "oracle": Source("oracle", "the truth", ("true_robot",)),
    "dmcm_wrong_robot": Source("dmcm", "another robot's vector", ("~robot_near",)),
    "dmcm_ground": Source(
        "dmcm_ground", "its flat log, a nominal robot's log of the ground", ("robot_near", "terrain")
    ),
    "vanilla_gait": Source("vanilla_gait", "nothing"),
    "single_gait": Source("single_gait", "its flat log", ("cell_near",)),
    "single_gait_in_place": Source("single_gait", "log of this robot on this ground", ("cell_near_here",)),
    "single_fixed": Source("single_fixed", "its flat log", ("cell_near",)),
    "dmcm_gait": Source(
        "dmcm_gait", "its flat log, a nominal robot's log of the ground", ("robot_near", "terrain")
    ),
    "dmcm_gait_wrong_terrain": Source("dmcm_gait", "another ground's vector", ("robot_near", "~terrain")),
    "oracle_gait": Source("oracle_gait", "the truth", ("true_robot", "true_terrain")),
    "single_told": Source("single_told", "its flat log", ("cell",)),
    "dmcm_told": Source(
        "dmcm_told", "its flat log, a nominal robot's log of the ground", ("robot", "terrain")
    ),
    "oracle_told": Source("oracle_told", "the truth", ("true_robot", "true_terrain")),
    "single_told_in_place": Source("single_told", "log of this robot on this ground", ("cell_here",)),
    "dmcm_told_in_place": Source(
        "dmcm_told", "log of this robot on this ground", ("robot_here", "terrain_here")
    ),
    "dmcm_told_wrong_robot": Source("dmcm_told", "another robot's vector", ("~robot", "terrain")),
    "dmcm_told_wrong_terrain": Source("dmcm_told", "another ground's vector", ("robot", "~terrain")),
    "dmcm_told_robot_only": Source("dmcm_told", "its flat log, no ground's vector", ("robot", "no_terrain")),
    "dmcm_told_terrain_only": Source("dmcm_told", "no robot's vector, the ground's", ("no_robot", "terrain")),
    "dmcm_told_unknown": Source("dmcm_told", "neither vector: the prior's mean", ("no_robot", "no_terrain")),
}
"""The methods, and variants of what their policies are given."""


def told(source: Source, vectors: Mapping[str, np.ndarray], episodes: int) -> np.ndarray | None:
    """What the policy is given in each episode, shape (n, size); None for nothing.

    Args:
        source: where the vectors come from.
        vectors: by name, one row per episode.
        episodes: robots of a condition.
    """
    if not source.parts:
        return None
    rows = np.arange(len(next(iter(vectors.values()))))
    other_robot = rows - rows % episodes + (rows + 1) % episodes
    other_terrain = (rows + episodes) % len(rows)
    columns = []
    for part in source.parts:
        name = part.removeprefix("~")
        swapped = other_robot if name.startswith(ROBOT) else other_terrain
        columns.append(vectors[name][swapped if part != name else rows])
    return np.concatenate(columns, axis=1)
