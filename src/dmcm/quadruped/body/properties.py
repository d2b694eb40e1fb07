"""How robots of one kind differ: gains, payload, motors, friction, mass, delay."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from dmcm.errors import ConfigError
from dmcm.quadruped.body.robot_table import RobotTable

MAX_DELAY_S = 0.04
"""Longest action delay that the simulation supports."""


@dataclasses.dataclass(frozen=True)
class RobotProperties:
    """One robot: how it differs from the published table."""

    p_gain_nm_per_rad: float = 35.0
    """Position gain of every joint controller."""
    d_gain_nms_per_rad: float = 0.8
    """Velocity gain of every joint controller."""
    payload_kg: float = 0.0
    """Mass of a point load fixed to the trunk."""
    payload_x_m: float = 0.0
    """Where the load is in the trunk frame, forward."""
    payload_y_m: float = 0.0
    """Where the load is in the trunk frame, to the left."""
    payload_z_m: float = 0.1
    """Where the load is in the trunk frame, upward; on the back by default."""
    motor_strength: float = 1.0
    """Fraction of the published peak torque at which the motors saturate."""
    joint_friction_nm: float = 0.2
    """Dry friction of every joint."""
    leg_mass_scale: float = 1.0
    """Factor on mass and inertia of all leg links."""
    action_delay_s: float = 0.005
    """Time from a new joint target to the motors. MuJoCo rounds it up to substeps of 5 ms, at least one;
    Bullet rounds it to the nearest 2 ms."""

    def check(self) -> RobotProperties:
        """Return self, or raise `ConfigError` for values no robot can have."""
        values = dataclasses.asdict(self)
        if bad := [name for name, value in values.items() if not np.isfinite(value)]:
            raise ConfigError(f"robot property {bad[0]} = {values[bad[0]]} must be a finite number.")
        for name in ("p_gain_nm_per_rad", "motor_strength", "leg_mass_scale"):
            if values[name] <= 0:
                raise ConfigError(f"robot property {name} = {values[name]} must be above 0.")
        for name in ("d_gain_nms_per_rad", "payload_kg", "joint_friction_nm", "action_delay_s"):
            if values[name] < 0:
                raise ConfigError(f"robot property {name} = {values[name]} must not be negative.")
        if self.action_delay_s > MAX_DELAY_S:
            raise ConfigError(
                f"robot property action_delay_s = {self.action_delay_s} exceeds the simulation's limit of "
                f"{MAX_DELAY_S} s."
            )
        return self


PROPERTY_NAMES = tuple(field.name for field in dataclasses.fields(RobotProperties))
"""All properties in order."""

TRAINING_RANGES: Mapping[str, tuple[float, float]] = {
    "p_gain_nm_per_rad": (25.0, 45.0),
    "d_gain_nms_per_rad": (0.5, 1.1),
    "payload_kg": (0.0, 3.0),
    "payload_x_m": (-0.1, 0.1),
    "payload_y_m": (-0.05, 0.05),
    "motor_strength": (0.8, 1.0),
    "joint_friction_nm": (0.05, 0.4),
    "leg_mass_scale": (0.9, 1.1),
    "action_delay_s": (0.0, 0.015),
}
"""Training robots are drawn uniformly from these; properties not listed keep their nominal values."""

OOD_RANGES: Mapping[str, tuple[float, float]] = {
    "p_gain_nm_per_rad": (14.0, 24.0),
    "d_gain_nms_per_rad": (0.3, 0.45),
    "payload_kg": (3.5, 6.0),
    "payload_x_m": (-0.15, 0.15),
    "motor_strength": (0.5, 0.75),
    "joint_friction_nm": (0.45, 0.8),
    "leg_mass_scale": (1.15, 1.4),
    "action_delay_s": (0.02, 0.03),
}
"""Ranges outside training; an out-of-distribution robot draws at least its P gain or its payload from
here."""


def nominal(table: RobotTable) -> RobotProperties:
    """The robot as published, without payload."""
    return RobotProperties(
        p_gain_nm_per_rad=table.p_gain_nm_per_rad,
        d_gain_nms_per_rad=table.d_gain_nms_per_rad,
        joint_friction_nm=table.joint_friction_nm,
    )


def draw_robots(rng: np.random.Generator, count: int) -> list[RobotProperties]:
    """Draw robots from the training ranges."""
    return [_draw(rng, TRAINING_RANGES) for _ in range(count)]


def draw_ood_robots(rng: np.random.Generator, count: int) -> list[RobotProperties]:
    """Draw robots from outside training: P gain, payload or both outside, any other in one of four."""
    robots = []
    for _ in range(count):
        which = rng.choice(3)
        outside = {name for name in OOD_RANGES if rng.random() < 0.25}
        outside -= {"p_gain_nm_per_rad", "payload_kg"}
        outside |= {"p_gain_nm_per_rad"} if which in (0, 2) else set()
        outside |= {"payload_kg"} if which in (1, 2) else set()
        ranges = {
            name: OOD_RANGES[name] if name in outside else TRAINING_RANGES[name] for name in TRAINING_RANGES
        }
        robots.append(_draw(rng, ranges))
    return robots


def as_columns(robots: Sequence[RobotProperties]) -> dict[str, np.ndarray]:
    """Each property of several robots as an array, shape (robots,)."""
    return {name: np.array([getattr(robot, name) for robot in robots], np.float64) for name in PROPERTY_NAMES}


def _draw(rng: np.random.Generator, ranges: Mapping[str, tuple[float, float]]) -> RobotProperties:
    return RobotProperties(**{name: float(rng.uniform(*limits)) for name, limits in ranges.items()})
