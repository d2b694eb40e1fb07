"""Short pieces of a log that can be simulated from what the robot measured at their start."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from dmcm.errors import DataError
from dmcm.quadruped.body.robot_table import RobotTable
from dmcm.quadruped.data.recording import column
from dmcm.quadruped.identification.start import measured_state
from dmcm.quadruped.world.simulation import CONTROL_PERIOD_S

COMPARED: Mapping[str, float] = {
    "joint_angles_rad": 0.01,
    "joint_speeds_rad_s": 0.1,
    "torques_nm": 0.2,
    "gyro_rad_s": 0.02,
    "gravity_direction": 0.005,
}
"""Columns in which a simulated robot is compared with the log, in standard deviations of the log, and lower
bounds of these deviations for logs with hardly any motion: about the noise of sensors."""
NEEDED = (*COMPARED, "foot_forces_n", "joint_targets_rad")
"""Columns that a log must have."""
PAST = 2
"""Control steps before a segment whose targets may not have reached the motors at its start."""
LEAST_SEGMENTS = 8
"""Fewer segments say too little about a robot."""
_CARRIES_N = 15.0
"""A foot with more force than this is standing. A Go1 at rest has 30 N on each foot."""


@dataclasses.dataclass(frozen=True)
class Segments:
    """n pieces of a log, all with the same number of control steps."""

    qpos: np.ndarray
    """Place and joint angles at the start, shape (n, 19)."""
    qvel: np.ndarray
    """Motion at the start, shape (n, 18)."""
    targets_rad: np.ndarray
    """Joint targets, `PAST` steps before the start first, shape (n, PAST + steps, 12)."""
    sensed: dict[str, np.ndarray]
    """What was sensed at the end of each control step, by column, shape (n, steps, size)."""
    deviations: dict[str, float]
    """Standard deviation of each compared column in the log, mean of its numbers."""

    @property
    def count(self) -> int:
        """Number of segments."""
        return len(self.qpos)

    @property
    def steps(self) -> int:
        """Control steps of each."""
        return self.targets_rad.shape[1] - PAST


def cut_segments(data: np.ndarray, table: RobotTable, count: int, steps: int) -> Segments:
    """Cut pieces spread over a log, none across a fall or a gap.

    All possible starts are split in equal shares; of each share, the start where the feet agree best on the
    trunk's motion is taken.

    Args:
        data: a log, shape (steps, columns), see `data.recording.COLUMNS`.
        table: the robot's facts.
        count: how many pieces; fewer if there are fewer starts.
        steps: their length in control steps.

    Raises:
        DataError: a needed column is not finite, or there is too little to cut.
    """
    check_measured(data)
    starts = possible_starts(data, steps)
    if len(starts) < LEAST_SEGMENTS:
        raise DataError(
            f"only {len(starts)} of the log's {len(data)} steps have two feet or more standing on the ground "
            f"and {steps * CONTROL_PERIOD_S:.2g} s without a fall or gap ahead; {LEAST_SEGMENTS} are needed. "
            "Record a longer log of calmer walking, or use shorter segments."
        )
    qpos, qvel, disagreement = measured_state(data[starts], table)
    shares = np.array_split(np.arange(len(starts)), min(count, len(starts)))
    best = np.array([share[np.argmin(disagreement[share])] for share in shares])
    chosen, qpos, qvel = starts[best], qpos[best], qvel[best]
    rows = data[chosen[:, None] + np.arange(-PAST, steps + 1)].astype(np.float64)
    sensed = {}
    for name in COMPARED:
        # Torques are those at the end of a row's step, everything else is from its start.
        at_end = rows[:, PAST:-1] if name == "torques_nm" else rows[:, PAST + 1 :]
        sensed[name] = at_end[..., column(name)]
    deviations = {
        name: max(float(data[:, column(name)].std(axis=0).mean()), least) for name, least in COMPARED.items()
    }
    return Segments(qpos, qvel, rows[:, :-1, column("joint_targets_rad")], sensed, deviations)


def check_measured(data: np.ndarray) -> None:
    """Refuse a log that lacks what is needed.

    Raises:
        DataError: needed columns have numbers that are not finite, and all are named; or gravity is not a
            unit vector.
    """
    if lacking := [name for name in NEEDED if not np.isfinite(data[:, column(name)]).all()]:
        raise DataError(
            f"the log has numbers that are not finite in {', '.join(lacking)}. Properties are identified "
            f"from {', '.join(NEEDED)}: measure all of them, or cut the log where they are missing."
        )
    length = np.linalg.norm(data[:, column("gravity_direction")], axis=1)
    if (wrong := np.abs(length - 1) > 0.1).any():
        raise DataError(
            f"gravity_direction has length {length[wrong][0]:.3g} in step {np.flatnonzero(wrong)[0]}; it "
            "must be a unit vector, (0, 0, -1) when level. Divide accelerations by 9.81 m/s² and change "
            "their sign."
        )


def possible_starts(data: np.ndarray, steps: int) -> np.ndarray:
    """Rows at which a segment may start, shape (starts,).

    The same two or more feet must have stood for `PAST` steps, so that they do not slide or land, and nothing
    may interrupt the log from `PAST` rows before to `steps` rows after.
    """
    begins = np.nan_to_num(data[:, column("begins")][:, 0]) > 0
    ends = (np.nan_to_num(data[:, [column("falls").start, column("diverges").start]]) > 0).any(axis=1)
    part = np.cumsum(begins) + np.concatenate([[0], np.cumsum(ends)[:-1]])
    stands = data[:, column("foot_forces_n")] > _CARRIES_N
    starts = np.arange(PAST, len(data) - steps)
    fine = (part[starts - PAST] == part[starts + steps]) & (stands[starts].sum(axis=1) >= 2)
    for back in range(1, PAST + 1):
        fine &= (stands[starts - back] == stands[starts]).all(axis=1)
    return starts[fine]
