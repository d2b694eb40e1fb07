"""What a policy is told beside what it senses: the methods that are compared."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True)
class Told:
    """One method.

    Attributes:
        title: for tables.
        vectors: kinds of vectors that the policy is told, in order; the first is the one that knows the
            robot.
        model: name of the dynamics model that makes the vectors; None for the truth, or nothing.
        history: whether the policy reads its own past through an encoder that is trained with it.
        matches: whether gains are read out of the vectors, and joint targets make up for them
            (`walking.known_gains`). The actor hears nothing of the vectors then: it is that of `vanilla`.
        exact: whether the vectors are the truth. An actor reads that as inputs like what is sensed, also
            beyond what training told; estimates modulate a hidden layer and are cut (`walking.modulation`).
    """

    title: str
    vectors: tuple[str, ...] = ()
    model: str | None = None
    history: bool = False
    matches: bool = False
    exact: bool = False


METHODS: Mapping[str, Told] = {
    "vanilla": Told("told nothing"),
    "single": Told(
        "one vector for robot and ground, targets matched to it", ("cell",), "single", matches=True
    ),
    "dmcm": Told("DMCM: the robot's vector, targets matched to it", ("robot",), "dmcm", matches=True),
    "history": Told("encoder of its own last second", history=True),
    "oracle": Told("true properties, targets matched to them", ("true_robot",), matches=True, exact=True),
    "single_told": Told("one vector for robot and ground, heard by the actor", ("cell",), "single"),
    "dmcm_told": Told(
        "DMCM: a vector for the robot, one for the ground, heard by the actor", ("robot", "terrain"), "dmcm"
    ),
    "oracle_told": Told(
        "true properties and ground, heard by the actor", ("true_robot", "true_terrain"), exact=True
    ),
}
"""All methods by name. Same start, steps, rewards, bodies and grounds."""
ACTOR = "vanilla"
"""The method whose actor those that match have."""
