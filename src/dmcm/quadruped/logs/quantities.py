"""What a log may hold: the numbers of each quantity, the units they may come in, how they are resampled."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

from dmcm.quadruped.body.robot_table import JOINT_NAMES, LEGS

STANDARD_GRAVITY_M_S2 = 9.80665

_ANGLE = {"rad": 1.0, "deg": math.pi / 180}
_ANGULAR_SPEED = {"rad/s": 1.0, "deg/s": math.pi / 180, "rpm": math.pi / 30}
_TORQUE = {"N m": 1.0, "mN m": 1e-3}
_FORCE = {"N": 1.0, "kgf": STANDARD_GRAVITY_M_S2}
_SPEED = {"m/s": 1.0, "cm/s": 1e-2, "km/h": 1 / 3.6}
_LENGTH = {"m": 1.0, "cm": 1e-2, "mm": 1e-3}
_PHASE = {"cycle": 1.0, "rad": 0.5 / math.pi, "deg": 1 / 360}
_DIRECTION = {"1": 1.0, "g": 1.0, "m/s2": 1 / STANDARD_GRAVITY_M_S2}
_PLAIN = {"1": 1.0}


@dataclasses.dataclass(frozen=True)
class Quantity:
    """One quantity of a log."""

    parts: tuple[str, ...]
    """Names of its numbers, in the order of the recording's columns."""
    units: tuple[Mapping[str, float], ...]
    """For each part, the units it may come in, and their sizes in the library's unit, which is the first."""
    needed: bool
    """Whether a log without it is refused."""
    held: bool = False
    """Whether the latest value holds until the next; all others are interpolated."""


def _same(parts: tuple[str, ...], unit: Mapping[str, float], needed: bool, held: bool = False) -> Quantity:
    return Quantity(parts, (unit,) * len(parts), needed, held)


_XYZ = ("x", "y", "z")

QUANTITIES: Mapping[str, Quantity] = {
    "joint_angles_rad": _same(JOINT_NAMES, _ANGLE, True),
    "joint_speeds_rad_s": _same(JOINT_NAMES, _ANGULAR_SPEED, True),
    "gyro_rad_s": _same(_XYZ, _ANGULAR_SPEED, True),
    "gravity_direction": _same(_XYZ, _DIRECTION, True),
    "foot_forces_n": _same(LEGS, _FORCE, False),
    "trunk_velocity_m_s": _same(_XYZ, _SPEED, False),
    "height_m": _same(("height",), _LENGTH, False),
    "command": Quantity(("forward", "left", "yaw"), (_SPEED, _SPEED, _ANGULAR_SPEED), True, True),
    "gait_phase": _same(("phase",), _PHASE, True, True),
    "joint_targets_rad": _same(JOINT_NAMES, _ANGLE, True, True),
    "torques_nm": _same(JOINT_NAMES, _TORQUE, False),
}
"""The measured columns of a recording, by name and in order. All but torques are those of a step's start;
trunk velocity and gravity direction are in the trunk's frame (x forward, y left, z up)."""

ORIENTATION = "orientation"
"""A quaternion that turns trunk into world, from which the gravity direction follows."""

MAPPED: Mapping[str, Quantity] = {**QUANTITIES, ORIENTATION: _same(("x", "y", "z", "w"), _PLAIN, False)}
"""What a mapping may map."""
