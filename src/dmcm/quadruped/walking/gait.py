"""A trot as joint targets: feet on a cycle that the command sets, joints by inverse kinematics."""

from __future__ import annotations

import dataclasses

import numpy as np

from dmcm.errors import ConfigError
from dmcm.quadruped.body.robot_table import LEGS, RobotTable

LEG_OFFSET = np.array([0.0, 0.5, 0.5, 0.0])
"""Phase offset of each leg, as a share of the cycle: diagonal legs step together."""
SETTINGS = ("swing_height_m", "stance_height_m", "shift_m", "forward_share")
"""Settings of a gait that may differ from ground to ground, in the order of arrays of them."""


@dataclasses.dataclass(frozen=True)
class Gait:
    """A trot."""

    frequency_hz: float = 2.5
    """Cycles per second."""
    swing_height_m: float = 0.14
    """How high a foot is lifted; with 0.08 a robot gets stuck at steps of 0.08."""
    stance_height_m: float = 0.29
    """Height of the hip above the foot in stance."""
    shift_m: float = 0.0
    """How far in front of the hips the feet are placed."""
    forward_share: float = 1.0
    """Forward speed of the feet as a share of the commanded one."""

    def check(self) -> Gait:
        """Return self, or raise `ConfigError` for settings out of range."""
        for name in ("frequency_hz", "stance_height_m", "swing_height_m", "forward_share"):
            value = getattr(self, name)
            if not 0 < value < np.inf:
                raise ConfigError(f"gait.{name}={value} must be a finite number above 0.")
        if not np.isfinite(self.shift_m):
            raise ConfigError(f"gait.shift_m={self.shift_m} must be a finite number.")
        return self

    @property
    def settings(self) -> np.ndarray:
        """What may differ from ground to ground, in the order of `SETTINGS`, shape (4,)."""
        return np.array([getattr(self, name) for name in SETTINGS])

    def foot_targets(
        self, command: np.ndarray, phase: np.ndarray, table: RobotTable, settings: np.ndarray | None = None
    ) -> np.ndarray:
        """Where the feet should be, in the frame of each leg's abduction axis.

        For half of the cycle a foot stands and moves back as fast as the trunk should move over it; for the
        other half it swings forward.

        Args:
            command: forward and left speed (m/s) and yaw rate (rad/s) of the trunk, shape (n, 3).
            phase: share of the cycle that has passed, in [0, 1), shape (n,).
            table: the robot.
            settings: those of each robot's gait, in the order of `SETTINGS`, shape (n, 4); by default this
                gait's own.

        Returns:
            Shape (n, 4, 3), metres.
        """
        given = np.broadcast_to(self.settings if settings is None else settings, (len(phase), len(SETTINGS)))
        swing_height, stance_height, shift, forward = given.T[:, :, None]
        hips = np.stack([table.hip_m(leg) for leg in LEGS])[:, :2]
        hips[:, 1] += [table.side_offset_m(leg) for leg in LEGS]
        turning = command[:, 2, None, None] * np.stack([-hips[:, 1], hips[:, 0]], axis=1)
        speed = command[:, None, :2] * np.stack([forward, np.ones_like(forward)], axis=-1)
        stride = (speed + turning) * 0.5 / self.frequency_hz
        cycle = (phase[:, None] + LEG_OFFSET) % 1.0
        swings = cycle < 0.5
        share = np.where(swings, cycle, cycle - 0.5) * 2.0
        # Swing starts and ends at rest relative to the trunk; stance has a constant speed.
        along = np.where(swings, 0.5 - 0.5 * np.cos(np.pi * share), 1.0 - share) - 0.5
        lift = np.where(swings, swing_height * np.sin(np.pi * share), 0.0)
        feet = np.empty((*cycle.shape, 3))
        feet[..., :2] = along[..., None] * stride
        feet[..., 0] += shift
        feet[..., 1] += [table.side_offset_m(leg) for leg in LEGS]
        feet[..., 2] = lift - stance_height
        return feet

    def joint_targets(
        self, command: np.ndarray, phase: np.ndarray, table: RobotTable, settings: np.ndarray | None = None
    ) -> np.ndarray:
        """Joint angles of `foot_targets`, shape (n, 12), rad, within the joints' limits."""
        angles = inverse_kinematics(self.foot_targets(command, phase, table, settings), table)
        limits = table.joint_limits_rad
        return np.clip(angles.reshape(-1, 12), limits[:, 0], limits[:, 1])


def inverse_kinematics(feet_m: np.ndarray, table: RobotTable) -> np.ndarray:
    """Joint angles that put the feet in place; feet out of reach are placed as near as possible.

    Args:
        feet_m: centres of the feet in the frame of each leg's abduction axis, shape (n, 4, 3).
        table: the robot.

    Returns:
        Hip, thigh and calf angles, shape (n, 4, 3), rad; the knee points backward.
    """
    side = np.array([table.side_offset_m(leg) for leg in LEGS])
    thigh, calf = table.thigh_length_m, table.calf_length_m
    x, y, z = np.moveaxis(feet_m, -1, 0)
    down = np.sqrt(np.maximum(y**2 + z**2 - side**2, 1e-6))
    hip = np.arctan2(z, y) - np.arctan2(-down, side)
    cosine = (x**2 + down**2 - thigh**2 - calf**2) / (2 * thigh * calf)
    knee = -np.arccos(np.clip(cosine, -1.0, 1.0))
    flexion = np.arctan2(-x, down) - np.arctan2(calf * np.sin(knee), thigh + calf * np.cos(knee))
    return np.stack([(hip + np.pi) % (2 * np.pi) - np.pi, flexion, knee], axis=-1)
