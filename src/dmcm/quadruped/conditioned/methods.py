"""What a policy is told beside what it senses: the methods that are compared."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True)
class Told:
    """One method.

    Attributes:
        title: for tables.
        vectors: kinds of vectors that the policy is told, in order; see `vectors.VectorTable`.
        history: whether the policy reads its own past through an encoder that is trained with it.
    """

    title: str
    vectors: tuple[str, ...] = ()
    history: bool = False


METHODS: Mapping[str, Told] = {
    "vanilla": Told("told nothing"),
    "single": Told("one vector for robot and ground together", ("cell",)),
    "dmcm": Told("DMCM: a vector for the robot, one for the ground", ("robot", "terrain")),
    "history": Told("encoder of its own last second", history=True),
    "oracle": Told("true properties and ground", ("true_robot", "true_terrain")),
}
"""All methods by name. Same start, steps, rewards, bodies and grounds."""
