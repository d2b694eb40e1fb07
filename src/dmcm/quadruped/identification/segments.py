"""Short pieces of a log that can be simulated again from what the robot measured at their start."""

from __future__ import annotations

import dataclasses

import numpy as np

from dmcm.errors import DataError
from dmcm.quadruped.body.robot_table import RobotTable
from dmcm.quadruped.data.recording import column
from dmcm.quadruped.identification.start import measured_state
from dmcm.quadruped.world.simulation import CONTROL_PERIOD_S

COMPARED = ("joint_angles_rad", "joint_speeds_rad_s", "torques_nm", "gyro_rad_s", "gravity_direction")
"""What a simulated robot senses is compared with the log in these columns."""
NEEDED = (*COMPARED, "foot_forces_n", "joint_targets_rad")
"""Columns that a log must have."""
PAST = 2
"""Control steps before a segment whose targets may still be on their way to the motors at its start."""
LEAST_SEGMENTS = 8
"""Fewer say too little about a robot."""
_CARRIES_N = 15.0
"""A foot with more force than this stands. A Go1 at rest has 30 N on each foot."""


@dataclasses.dataclass(frozen=True)
class Segments:
    """n pieces of a log, of as many control steps each."""

    qpos: np.ndarray
    """Place and joint angles at the start, shape (n, 19)."""
    qvel: np.ndarray
    """Motion at the start, shape (n, 18)."""
    targets_rad: np.ndarray
    """Joint targets, `PAST` steps before the start first, shape (n, PAST + steps, 12)."""
    sensed: dict[str, np.ndarray]
    """What was sensed at the end of each control step, by column, shape (n, steps, size)."""
    deviations: dict[str, float]
    """Standard deviation of each compared column in the log, all its numbers together."""

    @property
    def count(self) -> int:
        """Number of segments."""
        return len(self.qpos)

    @property
    def steps(self) -> int:
        """Control steps of each."""
        return self.targets_rad.shape[1] - PAST


def cut_segments(data: np.ndarray, table: RobotTable, count: int, steps: int, seed: int) -> Segments:
    """Pieces spread over a log, none across a fall or a gap; one per equal share of all possible starts.

    Args:
        data: a log, shape (steps, columns), see `data.recording.COLUMNS`.
        table: the robot's facts.
        count: how many pieces, fewer if there are fewer starts.
        steps: their length in control steps.
        seed: which.

    Raises:
        DataError: a needed column is not finite, or there is too little to cut.
    """
    check_measured(data)
    starts = possible_starts(data, steps)
    if len(starts) < LEAST_SEGMENTS:
        raise DataError(
            f"only {len(starts)} moments of the log's {len(data)} steps are followed by "
            f"{steps * CONTROL_PERIOD_S:.2g} s without a fall or gap while two feet or more stand still on the "
            f"ground; at least {LEAST_SEGMENTS} are needed. Record a longer log of calmer walking, or use "
            "shorter segments."
        )
    shares = np.array_split(starts, min(count, len(starts)))
    rng = np.random.default_rng(seed)
    chosen = np.array([rng.choice(share) for share in shares])
    qpos, qvel = measured_state(data[chosen], table)
    rows = data[chosen[:, None] + np.arange(-PAST, steps + 1)].astype(np.float64)
    sensed = {}
    for name in COMPARED:
        # Torques are those at the end of a row's step, all else is of its start.
        at_end = rows[:, PAST:-1] if name == "torques_nm" else rows[:, PAST + 1 :]
        sensed[name] = at_end[..., column(name)]
    deviations = {name: max(float(data[:, column(name)].std(axis=0).mean()), 1e-6) for name in COMPARED}
    return Segments(qpos, qvel, rows[:, :-1, column("joint_targets_rad")], sensed, deviations)


def check_measured(data: np.ndarray) -> None:
    """Refuse a log that lacks what is needed.

    Raises:
        DataError: a needed column has numbers that are not finite; all such columns are named.
    """
    if lacking := [name for name in NEEDED if not np.isfinite(data[:, column(name)]).all()]:
        raise DataError(
            f"the log has numbers that are not finite in {', '.join(lacking)}. Properties are identified from "
            f"{', '.join(NEEDED)}: measure all of them, or cut the log where they are missing."
        )


def possible_starts(data: np.ndarray, steps: int) -> np.ndarray:
    """Rows at which a segment may start, shape (starts,).

    The same two feet or more have stood for `PAST` steps, so that they do not slide or land, and nothing
    interrupts the log from `PAST` rows before to `steps` rows after.
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
