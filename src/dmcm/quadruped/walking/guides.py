"""What a policy may read besides the present observation: vectors it is given, or the robot's own past."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np

from dmcm.errors import ShapeError
from dmcm.quadruped.walking.observations import OBSERVATION, part


@runtime_checkable
class Guide(Protocol):
    """Adds columns to the observations of n robots."""

    @property
    def size(self) -> int:
        """Number of columns added."""
        ...

    def forget(self, ids: np.ndarray) -> None:
        """Restart robots: forget what was observed of them.

        Args:
            ids: which, shape (k,).
        """
        ...

    def read(self, observation: np.ndarray, ids: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Columns to add; called once per control step.

        Args:
            observation: present observations of some robots, shape (k, observations).
            ids: which robots.

        Returns:
            Shape (k, size), single precision.
        """
        ...


class Vectors:
    """One vector per robot, the same in all its episodes.

    Attributes:
        values: shape (n, size), single precision.
    """

    def __init__(self, values: np.ndarray):
        """Keep the vectors.

        Raises:
            ShapeError: the vectors are not one row of finite numbers per robot.
        """
        self.values = np.asarray(values, np.float32)
        if self.values.ndim != 2 or not np.all(np.isfinite(self.values)):
            raise ShapeError(f"one row of finite numbers per robot is needed, not {self.values.shape}.")

    @property
    def size(self) -> int:
        """Length of a vector."""
        return self.values.shape[1]

    def forget(self, ids: np.ndarray) -> None:
        """Do nothing: vectors are the same in every episode."""

    def read(self, observation: np.ndarray, ids: np.ndarray | slice = slice(None)) -> np.ndarray:
        """The robots' vectors, shape (k, size)."""
        return self.values[ids]


FRAME: tuple[str, ...] = (
    "gyro_rad_s",
    "gravity_direction",
    "joint_offsets_rad",
    "joint_speeds_rad_s",
    "previous_action",
)
"""Parts of an observation that are remembered."""
FRAMES, STRIDE = 16, 3
"""Frames remembered, and control steps from one to the next: 0.96 s, two and a half steps of the gait."""
_COLUMNS = np.concatenate([np.arange(sum(OBSERVATION.values()))[part(name)] for name in FRAME])


class History:
    """The last second of each robot, oldest frame first; times before an episode repeat its first frame."""

    def __init__(self, count: int):
        """Start without a past of `count` robots."""
        self._past = np.zeros((FRAMES * STRIDE, count, len(_COLUMNS)), np.float32)
        self._now = np.zeros(count, int)
        self._fresh = np.ones(count, bool)

    @property
    def size(self) -> int:
        """Numbers in all frames together."""
        return FRAMES * len(_COLUMNS)

    def forget(self, ids: np.ndarray) -> None:
        """Restart some robots."""
        self._fresh[ids] = True

    def read(self, observation: np.ndarray, ids: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Remember the present observations and return the past, shape (k, size)."""
        rows = np.arange(len(self._now))[ids]
        frame = observation[:, _COLUMNS]
        fresh = self._fresh[rows]
        self._past[:, rows[fresh]] = frame[fresh]
        self._fresh[rows] = False
        self._now[rows] = (self._now[rows] + 1) % len(self._past)
        now = self._now[rows]
        self._past[now, rows] = frame
        steps = (now + 1 + np.arange(STRIDE - 1, len(self._past), STRIDE)[:, None]) % len(self._past)
        return np.moveaxis(self._past[steps, rows], 0, 1).reshape(len(rows), self.size)


def history_columns() -> np.ndarray:
    """The column of an observation that each number of `History` comes from, shape (size,)."""
    return np.tile(_COLUMNS, FRAMES)
