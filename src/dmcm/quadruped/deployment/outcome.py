"""What came of a walk: how it ended, every control step, and both as a recording."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Literal

import numpy as np

from dmcm.quadruped.data.recording import COLUMNS, column
from dmcm.quadruped.deployment.controller import Step
from dmcm.quadruped.deployment.robot import Reading

_MEASURED = ("joint_angles_rad", "joint_speeds_rad_s", "gyro_rad_s", "gravity_direction", "foot_forces_n")
_FOLLOWS = (0.5, 1.5)  # control periods between two readings that one control step lies between


@dataclasses.dataclass(frozen=True, eq=False)
class StepRecord:
    """One control step of walking."""

    reading: Reading
    """What the robot measured before it."""
    step: Step
    """What the policy decided, and was sent."""
    loop_s: float
    """Work between reading and sending, by the computer's own clock."""


@dataclasses.dataclass(frozen=True, eq=False)
class Outcome:
    """How a walk ended and what was recorded of it."""

    ended: Literal["finished", "stopped", "interrupted"]
    """After its time; by a limit; or by Ctrl-C. The robot is damped in each case."""
    reason: str
    """The same in words, with numbers."""
    steps: tuple[StepRecord, ...]
    """Control steps of walking; not those of standing up and settling."""
    after: Reading | None
    """The reading that followed the last of them, if there was one: it may be the one that stopped it."""
    fell: bool
    """Whether it was stopped for its tilt."""
    late_steps: int
    """Control steps that began late, standing up and settling included."""
    period_s: float
    """Time from one control step to the next."""

    def loop_times_s(self) -> dict[str, float]:
        """Median, 99th percentile and worst of the work between reading and sending; empty without steps."""
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
        next reading, and NaN where none was made a control step later. There, after a stale reading or a late
        step, an episode `begins`, so that no window of time spans the gap.
        """
        out = np.full((len(self.steps), sum(COLUMNS.values())), np.nan, np.float32)
        if not len(out):
            return out
        readings = [record.reading for record in self.steps]
        for name in _MEASURED:
            out[:, column(name)] = [getattr(reading, name) for reading in readings]
        out[:, column("command")] = [record.step.command for record in self.steps]
        out[:, column("gait_phase")] = [[record.step.phase] for record in self.steps]
        out[:, column("joint_targets_rad")] = [record.step.joint_targets_rad for record in self.steps]
        follows = np.array([self._follows(*pair) for pair in itertools.pairwise(readings)], bool)
        out[:, column("begins")] = ~np.concatenate([[False], follows])[:, None]
        out[:, column("falls")] = out[:, column("diverges")] = 0
        out[-1, column("falls")] = self.fell
        for row, (reading, following) in enumerate(zip(readings, [*readings[1:], self.after], strict=True)):
            if following is not None and self._follows(reading, following):
                out[row, column("torques_nm")] = following.torques_nm
        return out

    def _follows(self, reading: Reading, following: Reading) -> bool:
        """Whether one control step lies between two readings."""
        return _FOLLOWS[0] <= (following.time_s - reading.time_s) / self.period_s <= _FOLLOWS[1]
