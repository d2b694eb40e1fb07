"""The stand-in's motors: a position controller whose torque lags, fades with speed and saturates."""

from __future__ import annotations

import numpy as np

from dmcm.quadruped.body.robot_table import LEGS, RobotTable
from dmcm.quadruped.standin.gap import RealityGap


class Motors:
    """Twelve motors of each of n robots.

    Attributes:
        torques_nm: what they give now, shape (n, 12).
    """

    def __init__(self, table: RobotTable, gap: RealityGap, count: int, timestep_s: float, longest_s: float):
        """Rest.

        Args:
            table: the robot's facts.
            gap: how motors differ from those of training.
            count: number of robots, n.
            timestep_s: time between two calls of `step`.
            longest_s: longest delay of a joint target.
        """
        self._table, self._gap, self._timestep_s = table, gap, timestep_s
        self._no_load_rad_s = np.tile(gap.no_load_speeds_rad_s, len(LEGS))
        self.torques_nm = np.zeros((count, 12))
        self._targets = np.tile(table.home_pose_rad, (round(longest_s / timestep_s) + 1, count, 1))

    def rest(self, ids: np.ndarray) -> None:
        """Reset some motors: they hold the home pose."""
        self.torques_nm[ids] = 0.0
        self._targets[:, ids] = self._table.home_pose_rad

    def step(
        self,
        targets_rad: np.ndarray,
        angles_rad: np.ndarray,
        speeds_rad_s: np.ndarray,
        properties: dict[str, np.ndarray],
    ) -> np.ndarray:
        """Torque on each joint for one step of the physics, shape (n, 12), N m: the motor's less damping.

        Args:
            targets_rad: newest joint targets, shape (n, 12).
            angles_rad: as the encoders read them, shape (n, 12).
            speeds_rad_s: of the joints, shape (n, 12).
            properties: gains, strength and delay of each robot, shape (n,) each.
        """
        table, gap = self._table, self._gap
        self._targets = np.concatenate([targets_rad[None], self._targets[:-1]])
        late = np.rint(properties["action_delay_s"] / self._timestep_s).astype(int)
        heard = self._targets[late, np.arange(len(late))]
        asked = properties["p_gain_nm_per_rad"][:, None] * (heard - angles_rad)
        asked -= properties["d_gain_nms_per_rad"][:, None] * speeds_rad_s
        peak = table.peak_torque_nm * properties["motor_strength"][:, None]
        limit = peak * torque_share(speeds_rad_s, self._no_load_rad_s, gap.full_torque_share)
        # A braking motor is helped by the voltage that its turning induces, so only driving torque fades.
        limit = np.where(asked * speeds_rad_s > 0, limit, peak)
        asked = np.clip(asked, -limit, limit)
        follows = 1.0 if gap.torque_lag_s == 0 else 1 - np.exp(-self._timestep_s / gap.torque_lag_s)
        self.torques_nm = self.torques_nm + follows * (asked - self.torques_nm)
        damping = table.joint_damping_nms_per_rad + gap.viscous_friction_nms_per_rad
        return self.torques_nm - damping * speeds_rad_s


def torque_share(speeds_rad_s: np.ndarray, no_load_rad_s: np.ndarray, full_share: float) -> np.ndarray:
    """Share of the peak torque that is left at a speed, the same shape.

    Args:
        speeds_rad_s: of the joints, shape (..., 12).
        no_load_rad_s: speed at which nothing is left, shape (12,).
        full_share: share of that speed up to which all is left; 1 is no limit at all.
    """
    if full_share == 1:
        return np.ones_like(speeds_rad_s)
    left = (1 - np.abs(speeds_rad_s) / no_load_rad_s) / (1 - full_share)
    return np.clip(left, 0.0, 1.0)
