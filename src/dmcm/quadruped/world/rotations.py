"""Rotations of many bodies at once; quaternions are (w, x, y, z) and turn body into world."""

from __future__ import annotations

import numpy as np


def rotate_into_body(quaternion: np.ndarray, vector: np.ndarray) -> np.ndarray:
    """World vectors in the body's frame.

    Args:
        quaternion: shape (n, 4).
        vector: shape (n, 3) or (3,).

    Returns:
        Shape (n, 3).
    """
    w, axis = quaternion[:, :1], -quaternion[:, 1:]
    twice = 2.0 * np.cross(axis, np.broadcast_to(vector, axis.shape))
    return vector + w * twice + np.cross(axis, twice)


def yaw_quaternion(yaw_rad: np.ndarray) -> np.ndarray:
    """Rotations about the vertical, shape (n, 4)."""
    zero = np.zeros_like(yaw_rad)
    return np.stack([np.cos(yaw_rad / 2), zero, zero, np.sin(yaw_rad / 2)], axis=-1)
