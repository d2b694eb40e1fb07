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


def rotate_into_world(quaternion: np.ndarray, vector: np.ndarray) -> np.ndarray:
    """The body's vectors in the world; shapes as `rotate_into_body`."""
    return rotate_into_body(quaternion * np.array([1.0, -1.0, -1.0, -1.0]), vector)


def yaw_quaternion(yaw_rad: np.ndarray) -> np.ndarray:
    """Rotations about the vertical, shape (n, 4)."""
    zero = np.zeros_like(yaw_rad)
    return np.stack([np.cos(yaw_rad / 2), zero, zero, np.sin(yaw_rad / 2)], axis=-1)


def yaw_of(quaternion: np.ndarray) -> np.ndarray:
    """Headings, 0 along x, of rotations of shape (n, 4), shape (n,)."""
    w, x, y, z = quaternion.T
    return np.arctan2(2 * (w * z + x * y), 1 - 2 * (y**2 + z**2))
