"""Rows of a log as the checks need them: by name, in motion, and as changes over a short time."""

from __future__ import annotations

import dataclasses

import numpy as np

from dmcm.quadruped.data.recording import column
from dmcm.quadruped.world.simulation import CONTROL_PERIOD_S

MOVING_RAD_S = 0.2
"""Mean speed of the joints above which a robot moves; encoders of a standing robot read a tenth of it, those
of a walking one ten times as much."""


@dataclasses.dataclass(frozen=True, eq=False)
class Rows:
    """A log on the model's clock."""

    data: np.ndarray
    """Shape (steps, columns)."""

    def __getitem__(self, name: str) -> np.ndarray:
        """A quantity, shape (steps, parts), double precision."""
        return self.data[:, column(name)].astype(np.float64)

    @property
    def moving(self) -> np.ndarray:
        """Which steps the robot moves in, shape (steps,)."""
        angles = self["joint_angles_rad"]
        change = np.abs(np.diff(angles, axis=0, prepend=angles[:1])) / CONTROL_PERIOD_S
        change[self["begins"][:, 0] > 0] = 0.0
        speeds = np.abs(self["joint_speeds_rad_s"])
        return np.maximum(change.mean(axis=1), speeds.mean(axis=1)) > MOVING_RAD_S

    def unbroken(self, steps: int) -> np.ndarray:
        """Rows from which the log continues for so many steps without a cut, shape (rows − steps,)."""
        begun = np.cumsum(self["begins"][:, 0])
        return begun[steps:] == begun[: max(len(begun) - steps, 0)]

    def changes(self, name: str, steps: int) -> np.ndarray:
        """How a quantity changes over so many steps, from rows in motion; shape (n, parts)."""
        values = self[name]
        return (values[steps:] - values[:-steps])[self._wanted(steps)]

    def integrals(self, values: np.ndarray, steps: int) -> np.ndarray:
        """Integrals of rates over the same steps as `changes`, by the trapezoid rule."""
        total = np.zeros_like(values)
        total[1:] = np.cumsum((values[1:] + values[:-1]) / 2 * CONTROL_PERIOD_S, axis=0)
        return (total[steps:] - total[:-steps])[self._wanted(steps)]

    def _wanted(self, steps: int) -> np.ndarray:
        return self.unbroken(steps) & self.moving[:-steps]


def correlations(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Between all parts of two quantities, shapes (n, a) and (n, b): shape (a, b); 0 for what is constant."""
    one, other = one - one.mean(axis=0), other - other.mean(axis=0)
    size = np.linalg.norm(one, axis=0)[:, None] * np.linalg.norm(other, axis=0)
    return np.where(size > 0, one.T @ other / np.where(size > 0, size, 1.0), 0.0)
