"""The state of a robot on flat ground, as far as it follows from its measurements."""

from __future__ import annotations

import numpy as np

from dmcm.quadruped.body.robot_table import LEGS, RobotTable
from dmcm.quadruped.data.recording import column
from dmcm.quadruped.world.rotations import rotate_into_world

GIVES_M = 0.002
"""How deep the feet of a walking robot sink into the simulation's soft contacts. Starting it on the surface
would begin every simulation with a drop."""


def measured_state(rows: np.ndarray, table: RobotTable) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Place and motion of robots that stand or walk on flat ground of height 0, at x = y = 0, yaw 0.

    What is not measured follows from the legs: feet that carry weight touch the ground and do not slide. Each
    foot counts by its share of the weight.

    Args:
        rows: moments of a log, in the columns of `data.recording.COLUMNS`, shape (n, columns); at least one
            foot carries weight in each.
        table: the robot's facts.

    Returns:
        Place, orientation (w, x, y, z) and joint angles, shape (n, 19); velocity in the world, turning rate
        in the trunk frame and joint speeds, shape (n, 18): as `qpos` and `qvel` of `Simulation`; and by how
        much the feet disagree on the trunk's velocity, because some slide, shape (n,), m/s.
    """
    rows = rows.astype(np.float64)
    angles, speeds = rows[:, column("joint_angles_rad")], rows[:, column("joint_speeds_rad_s")]
    gyro, gravity = rows[:, column("gyro_rad_s")], rows[:, column("gravity_direction")]
    gravity = gravity / np.linalg.norm(gravity, axis=1, keepdims=True)
    feet, feet_speed, turning = leg_kinematics(angles, speeds, table)
    carried = np.maximum(rows[:, column("foot_forces_n")], 0.0)
    share = (carried / carried.sum(axis=1, keepdims=True))[..., None]
    # Where the spherical foot touches the ground, in the trunk frame; this point turns with the calf.
    below = table.foot_radius_m * gravity[:, None]
    touching = feet_speed + np.cross(turning, below) + np.cross(gyro[:, None], feet + below)
    velocity = -(share * touching).sum(axis=1)
    disagreement = np.sqrt((share * (touching + velocity[:, None]) ** 2).sum(axis=(1, 2)))
    down = (share * (feet + below)).sum(axis=1)
    roll, pitch = np.arctan2(-gravity[:, 1], -gravity[:, 2]), np.arcsin(np.clip(gravity[:, 0], -1, 1))
    qpos, qvel = np.zeros((len(rows), 19)), np.zeros((len(rows), 18))
    qpos[:, 2] = (down * gravity).sum(axis=1) - GIVES_M
    qpos[:, 3:7] = _quaternion(roll, pitch)
    qpos[:, 7:], qvel[:, 3:6], qvel[:, 6:] = angles, gyro, speeds
    qvel[:, :3] = rotate_into_world(qpos[:, 3:7], velocity)
    return qpos, qvel, disagreement


def leg_kinematics(
    angles_rad: np.ndarray, speeds_rad_s: np.ndarray, table: RobotTable
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where the feet are, how they move, and how the calves turn, all relative to the trunk and in its frame.

    Args:
        angles_rad: shape (n, 12).
        speeds_rad_s: shape (n, 12).
        table: the robot's facts.

    Returns:
        Centres of the feet (m), their velocities (m/s), the calves' turning rates (rad/s), each of shape
        (n, 4, 3).
    """
    angles, speeds = angles_rad.reshape(-1, 4, 3), speeds_rad_s.reshape(-1, 4, 3)
    hip, thigh = angles[..., 0], angles[..., 1]
    calf = thigh + angles[..., 2]
    side = np.broadcast_to([table.side_offset_m(leg) for leg in LEGS], hip.shape)
    zero = np.zeros_like(hip)

    def about_hip(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        return np.stack([x, np.cos(hip) * y - np.sin(hip) * z, np.sin(hip) * y + np.cos(hip) * z], axis=-1)

    upper, lower = table.thigh_length_m, table.calf_length_m
    along, down = -upper * np.sin(thigh) - lower * np.sin(calf), upper * np.cos(thigh) + lower * np.cos(calf)
    from_axis = about_hip(along, side, -down)
    thigh_speed, calf_speed = speeds[..., 1], speeds[..., 1] + speeds[..., 2]
    upper_x, upper_z = -upper * np.cos(thigh), upper * np.sin(thigh)
    lower_x, lower_z = -lower * np.cos(calf), lower * np.sin(calf)
    bending = about_hip(
        upper_x * thigh_speed + lower_x * calf_speed, zero, upper_z * thigh_speed + lower_z * calf_speed
    )
    hip_turning = np.stack([speeds[..., 0], zero, zero], axis=-1)
    turning = hip_turning + about_hip(zero, calf_speed, zero)
    feet = from_axis + np.stack([table.hip_m(leg) for leg in LEGS])
    return feet, bending + np.cross(hip_turning, from_axis), turning


def _quaternion(roll: np.ndarray, pitch: np.ndarray) -> np.ndarray:
    """A turn about x, then about the old y, shape (n, 4)."""
    cr, sr, cp, sp = np.cos(roll / 2), np.sin(roll / 2), np.cos(pitch / 2), np.sin(pitch / 2)
    return np.stack([cp * cr, cp * sr, sp * cr, -sp * sr], axis=-1)
