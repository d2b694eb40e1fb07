"""The properties that are identified, as points of a unit cube."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from dmcm.quadruped.body.properties import OOD_RANGES, TRAINING_RANGES, RobotProperties

LIMITS: Mapping[str, tuple[float, float]] = {
    name: (
        min(low, OOD_RANGES.get(name, (low, high))[0]),
        max(high, OOD_RANGES.get(name, (low, high))[1]),
    )
    for name, (low, high) in TRAINING_RANGES.items()
}
"""The box that is searched: all robots in and outside training."""
_BY_RATIO = ("p_gain_nm_per_rad", "d_gain_nms_per_rad", "motor_strength", "joint_friction_nm")
"""Properties whose ratios matter, not their differences; their coordinates are logarithms."""


def to_unit(robot: RobotProperties) -> np.ndarray:
    """Coordinates of a robot, 0 to 1 within the box, shape (properties,), in the order of `LIMITS`."""
    return np.array([_unit(name, getattr(robot, name)) for name in LIMITS])


def from_unit(point: np.ndarray) -> RobotProperties:
    """The robot at a point; other properties keep their nominal values.

    Args:
        point: shape (properties,); coordinates below 0 or above 1 are moved to the box's edge.
    """
    values = {}
    for (name, (low, high)), share in zip(LIMITS.items(), np.clip(point, 0.0, 1.0), strict=True):
        if name in _BY_RATIO:
            values[name] = float(low * (high / low) ** share)
        else:
            values[name] = float(low + (high - low) * share)
    return RobotProperties(**values)


def _unit(name: str, value: float) -> float:
    low, high = LIMITS[name]
    if name in _BY_RATIO:
        return float(np.log(value / low) / np.log(high / low))
    return (value - low) / (high - low)
