"""What walking needs from a physics engine, so that any engine may simulate robots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from dmcm.quadruped.body.properties import RobotProperties
from dmcm.quadruped.body.robot_table import RobotTable
from dmcm.quadruped.world.arena import Arena

SENSED: Mapping[str, int] = {
    "joint_angles_rad": 12,
    "joint_speeds_rad_s": 12,
    "torques_nm": 12,
    "gyro_rad_s": 3,
    "gravity_direction": 3,
    "foot_forces_n": 4,
}
"""What a robot senses of itself, and the size of each quantity."""


@runtime_checkable
class Physics(Protocol):
    """n robots of one table in one arena; `Simulation` says what each part means.

    What a robot senses (`SENSED`) may be as wrong as its sensors; all else is the truth.
    """

    table: RobotTable
    arena: Arena
    qpos: np.ndarray
    qvel: np.ndarray
    tile: np.ndarray
    diverged: np.ndarray
    divergences: int
    properties: dict[str, np.ndarray]

    def set_robots(self, ids: np.ndarray, robots: Sequence[RobotProperties]) -> None:
        """Give robots other bodies; their pose and motion stay."""

    def place(
        self,
        ids: np.ndarray,
        tile: np.ndarray,
        *,
        yaw_rad: np.ndarray | float = 0.0,
        share: np.ndarray | float = 0.5,
    ) -> None:
        """Stand robots on a ground at rest, in the home pose."""

    def step(self, targets_rad: np.ndarray) -> None:
        """One control step."""

    @property
    def travelled_m(self) -> np.ndarray:
        """Position in a world whose ground never ends, shape (n, 3)."""
        ...

    @property
    def joint_angles_rad(self) -> np.ndarray:
        """Joint angles, shape (n, 12)."""
        ...

    @property
    def joint_speeds_rad_s(self) -> np.ndarray:
        """Joint speeds, shape (n, 12)."""
        ...

    @property
    def torques_nm(self) -> np.ndarray:
        """Motor torques, shape (n, 12)."""
        ...

    @property
    def gyro_rad_s(self) -> np.ndarray:
        """Turning rates in the trunk frame, shape (n, 3)."""
        ...

    @property
    def gravity_direction(self) -> np.ndarray:
        """Unit vector of gravity in the trunk frame, shape (n, 3)."""
        ...

    @property
    def foot_forces_n(self) -> np.ndarray:
        """Normal force on each foot, shape (n, 4)."""
        ...

    @property
    def trunk_velocity_m_s(self) -> np.ndarray:
        """Velocity of the trunk in its own frame, shape (n, 3)."""
        ...

    @property
    def yaw_rad(self) -> np.ndarray:
        """Heading, shape (n,)."""
        ...

    @property
    def clearance_m(self) -> np.ndarray:
        """Height of the trunk above the ground below it, shape (n,)."""
        ...


@runtime_checkable
class PhysicsMaker(Protocol):
    """Creates n robots, as published, on the first ground."""

    def __call__(self, table: RobotTable, arena: Arena, count: int, *, threads: int = 0) -> Physics:
        """Arguments as for `Simulation`."""
        ...
