"""A controller's gains by least squares: the search for a robot's properties starts there and stays near."""

from __future__ import annotations

import numpy as np

from dmcm.quadruped.body.robot_table import RobotTable
from dmcm.quadruped.data.recording import column
from dmcm.quadruped.world.model import TIMESTEP_S

_FREE = 0.45
"""Share of the peak torque below which no motor saturates."""


def regressed_gains(data: np.ndarray, table: RobotTable) -> tuple[float, float]:
    """P gain (N m/rad) and D gain (N m s/rad), common to all joints.

    Torque at the end of a step = P (target − angle) − D speed, where the angle is that at the start of the
    last substep. The action delay decides how much of the previous step's target still acts, so both targets
    are regressors, and their coefficients add up to P.

    Args:
        data: a log, shape (steps, columns), see `data.recording.COLUMNS`, without gaps in the columns used.
        table: the robot's facts.
    """
    data = data.astype(np.float64)
    names = ("torques_nm", "joint_targets_rad", "joint_angles_rad", "joint_speeds_rad_s")
    torques, targets, angles, speeds = (data[:, column(name)] for name in names)
    torque, speed = torques[1:-1], speeds[2:]
    angle = angles[2:] - TIMESTEP_S * speed
    columns = np.stack([targets[1:-1] - angle, targets[:-2] - angle, -speed], axis=-1)
    free = np.abs(torque) < _FREE * table.peak_torque_nm
    begins = np.nan_to_num(data[:, column("begins")]) > 0
    free &= ~(begins[1:-1] | begins[2:])
    now, before, d_gain = np.linalg.lstsq(columns[free], torque[free], rcond=None)[0]
    return float(now + before), float(d_gain)
