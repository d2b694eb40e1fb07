"""What a policy is given besides what it senses: the compared methods."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True)
class Told:
    """One method.

    Attributes:
        title: for tables.
        vectors: kinds of vectors that the policy is given, in order; the first describes the robot, if any
            does.
        model: name of the dynamics model that makes the vectors; None for the truth or no vectors.
        history: whether the policy reads its own past through an encoder that is trained with it.
        actor: name of the method whose trained actor this one uses; None for methods that train their own.
            With another's actor, gains are estimated from the first vector, if any, and joint targets
            compensate for them (`walking.known_gains`); the actor reads only the vectors that it was trained
            with.
        gait: kinds of vectors that the gait is chosen by (`conditioned.gait_fit`), one gait for all if there
            are none; None for methods that keep the usual gait.
        exact: whether the vectors are the truth. An actor reads the truth as ordinary inputs, even beyond its
            range in training; estimates modulate a hidden layer and are clipped (`walking.modulation`).
    """

    title: str
    vectors: tuple[str, ...] = ()
    model: str | None = None
    history: bool = False
    actor: str | None = None
    gait: tuple[str, ...] | None = None
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
    "vanilla_gait": Told("told nothing, one gait for all", actor="vanilla", gait=()),
    "single_gait": Told(
        "one vector for robot and ground, targets matched to it, gait chosen by it",
        ("cell",),
        "single",
        actor="vanilla",
        gait=("cell",),
    ),
    "single_fixed": Told(
        "one vector for robot and ground, targets matched to it, one gait for all",
        ("cell",),
        "single",
        actor="vanilla",
        gait=(),
    ),
    "dmcm_gait": Told(
        "DMCM: targets matched to the robot's vector, gait chosen by the ground's",
        ("robot", "terrain"),
        "dmcm",
        actor="vanilla",
        gait=("terrain",),
    ),
    "oracle_gait": Told(
        "true properties and ground, targets matched to them, gait chosen by them",
        ("true_robot", "true_terrain"),
        actor="vanilla",
        gait=("true_terrain",),
        exact=True,
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
"""All methods by name. They share start, steps, rewards, bodies and grounds."""
