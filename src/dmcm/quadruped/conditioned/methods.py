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
            robot, where one does.
        model: name of the dynamics model that makes the vectors; None for the truth, or nothing.
        history: whether the policy reads its own past through an encoder that is trained with it.
        actor: name of the method whose trained actor this one has. Gains are read out of the first of the
            vectors then, and joint targets make up for them (`walking.known_gains`); the actor hears the
            vectors that it was trained with and none beside. None for methods that train their own.
        exact: whether the vectors are the truth. An actor reads that as inputs like what is sensed, also
            beyond what training told; estimates modulate a hidden layer and are cut (`walking.modulation`).
    """

    title: str
    vectors: tuple[str, ...] = ()
    model: str | None = None
    history: bool = False
    actor: str | None = None
    exact: bool = False


METHODS: Mapping[str, Told] = {
    "vanilla": Told("told nothing"),
    "single": Told(
        "one vector for robot and ground, targets matched to it", ("cell",), "single", actor="vanilla"
    ),
    "dmcm": Told("DMCM: the robot's vector, targets matched to it", ("robot",), "dmcm", actor="vanilla"),
    "history": Told("encoder of its own last second", history=True),
    "oracle": Told("true properties, targets matched to them", ("true_robot",), actor="vanilla", exact=True),
    "dmcm_ground": Told(
        "DMCM: targets matched to the robot's vector, the ground's heard by the actor",
        ("robot", "terrain"),
        "dmcm",
        actor="ground_told",
    ),
    "single_told": Told("one vector for robot and ground, heard by the actor", ("cell",), "single"),
    "ground_told": Told("DMCM: a vector for the ground, heard by the actor", ("terrain",), "dmcm"),
    "dmcm_told": Told(
        "DMCM: a vector for the robot, one for the ground, heard by the actor", ("robot", "terrain"), "dmcm"
    ),
    "oracle_told": Told(
        "true properties and ground, heard by the actor", ("true_robot", "true_terrain"), exact=True
    ),
}
"""All methods by name. Same start, steps, rewards, bodies and grounds."""
