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
        exact: whether the vectors are the truth. Then they are inputs like what is sensed, also beyond what
            training told; estimates modulate a hidden layer and are cut (`walking.modulation`).
    """

    title: str
    vectors: tuple[str, ...] = ()
    history: bool = False
    exact: bool = False


METHODS: Mapping[str, Told] = {
    "vanilla": Told("told nothing"),
    "single": Told("one vector for robot and ground together", ("cell",)),
    "dmcm": Told("DMCM: a vector for the robot, one for the ground", ("robot", "terrain")),
    "history": Told("encoder of its own last second", history=True),
    "oracle": Told("true properties and ground", ("true_robot", "true_terrain"), exact=True),
}
"""All methods by name. Same start, steps, rewards, bodies and grounds."""
