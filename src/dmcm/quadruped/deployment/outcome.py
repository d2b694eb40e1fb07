"""The outcome of a walk: how it ended, every control step, and both as a recording."""

from __future__ import annotations

import dataclasses
from typing import Literal

import numpy as np

from dmcm.quadruped.data.recording import COLUMNS, column
from dmcm.quadruped.deployment.controller import Step
from dmcm.quadruped.deployment.robot import Reading

_MEASURED = ("joint_angles_rad", "joint_speeds_rad_s", "gyro_rad_s", "gravity_direction", "foot_forces_n")
_FOLLOWS = (0.5, 1.5)  # bounds of the time between a control step's two readings, in control periods


@dataclasses.dataclass(frozen=True, eq=False)
class StepRecord:
    """One control step of walking."""

    reading: Reading
    """What the robot measured before it."""
    step: Step
    """What the policy decided and the robot was sent."""
    loop_s: float
    """Time from reading to sending, by the computer's own clock."""

    def row(self) -> np.ndarray:
        """The step in the columns of `data.recording.COLUMNS`, shape (columns,), single precision.

        Marked as the first of an episode. Torques, which are not known yet, and what the robot does not
        measure are NaN.
        """
        out = np.full(sum(COLUMNS.values()), np.nan, np.float32)
        for name in _MEASURED:
            out[column(name)] = getattr(self.reading, name)
        out[column("command")], out[column("gait_phase")] = self.step.command, self.step.phase
        out[column("joint_targets_rad")] = self.step.joint_targets_rad
        out[column("begins")], out[column("falls")], out[column("diverges")] = 1, 0, 0
        return out


def follows(reading: Reading, following: Reading, period_s: float) -> bool:
    """Whether one control step lies between two readings."""
    return _FOLLOWS[0] <= (following.time_s - reading.time_s) / period_s <= _FOLLOWS[1]


@dataclasses.dataclass(frozen=True, eq=False)
class Outcome:
    """How a walk ended and what was recorded of it."""

    ended: Literal["finished", "stopped", "interrupted"]
    """After its time, by a limit, or by Ctrl-C. The robot is damped in each case."""
    reason: str
    """The same in words, with numbers."""
    steps: tuple[StepRecord, ...]
    """Control steps of walking, without standing up and settling."""
    after: Reading | None
    """The reading after the last of them, if there was one; it may have stopped the walk."""
    fell: bool
    """Whether it was stopped because of its tilt."""
    late_steps: int
    """Control steps that began late, including standing up and settling."""
    period_s: float
    """Time from one control step to the next."""

    def loop_times_s(self) -> dict[str, float]:
        """Median, 99th percentile and worst of the time from reading to sending; empty without steps."""
        times = [record.loop_s for record in self.steps]
        if not times:
            return {}
        return {
            "median": float(np.median(times)),
            "p99": float(np.quantile(times, 0.99)),
            "worst": float(np.max(times)),
        }

    def recording(self) -> np.ndarray:
        """The walk in the columns of `data.recording.COLUMNS`, shape (steps, columns), single precision.

        What the robot does not measure (velocity and height of the trunk) is NaN. Torques are those of the
        next reading, and NaN if that was taken less than half a control period later or more than one and a
        half. After such a stale reading or very late step, an episode `begins`, so that no sample spans the
        gap. Steps that were late by less are counted in `late_steps`, but not marked here.
        """
        if not self.steps:
            return np.zeros((0, sum(COLUMNS.values())), np.float32)
        out = np.stack([record.row() for record in self.steps])
        readings = [record.reading for record in self.steps]
        for row, following in enumerate([*readings[1:], self.after]):
            if following is not None and follows(readings[row], following, self.period_s):
                out[row, column("torques_nm")] = following.torques_nm
                if row + 1 < len(out):
                    out[row + 1, column("begins")] = 0
        out[-1, column("falls")] = self.fell
        return out
