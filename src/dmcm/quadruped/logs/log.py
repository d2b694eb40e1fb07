"""Logs of a real quadruped, as recordings that contexts are made from."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from dmcm.errors import DataError, StorageError
from dmcm.quadruped.body.robot_table import RobotTable
from dmcm.quadruped.data.recording import COLUMNS, column
from dmcm.quadruped.data.windows import SECOND, WindowConfig
from dmcm.quadruped.logs.channels import Channel, with_gravity
from dmcm.quadruped.logs.check_motion import check_motion
from dmcm.quadruped.logs.check_values import check_values
from dmcm.quadruped.logs.clock import gap_s, sort_out
from dmcm.quadruped.logs.findings import Finding, refuse_if_any, worst_first
from dmcm.quadruped.logs.mapping import LogMapping
from dmcm.quadruped.logs.mcap_read import read_mcap
from dmcm.quadruped.logs.resample import resample
from dmcm.quadruped.logs.rows import Rows
from dmcm.quadruped.logs.table_file import read_table_log
from dmcm.quadruped.world.simulation import CONTROL_PERIOD_S
from dmcm.tables import PARQUET, SEPARATORS

LEAST_STEPS = SECOND + WindowConfig().history
"""Control steps in a row that make one sample of a dynamics model: its past, and the coming second."""
_LOST_WARNED = 0.05
"""Share of a log's time that is worth a warning if it cannot be used."""


@dataclasses.dataclass(frozen=True, eq=False)
class RobotLog:
    """A robot's log in the form of a recording."""

    data: np.ndarray
    """Shape (steps, columns), single precision: the columns of `data.recording.COLUMNS`, at the control rate.
    What was not measured is NaN. `begins` is 1 at the first step and after every gap; `falls` and `diverges`
    are 0, because logs do not say."""
    measured: frozenset[str]
    """Names of the columns that the log has."""
    findings: tuple[Finding, ...]
    """What the check found, worst first."""
    source: str
    """Name of the file."""

    @classmethod
    def of_recording(cls, data: np.ndarray, source: str) -> RobotLog:
        """A recording that is already at the control rate, such as `deployment.outcome.Outcome.recording`.

        Args:
            data: shape (steps, columns); a column that is NaN all the time was not measured.
            source: what to call it.

        Raises:
            DataError: another number of columns, or no step.
        """
        if data.ndim != 2 or data.shape[1] != sum(COLUMNS.values()) or not len(data):
            raise DataError(
                f"{source} has shape {data.shape}; a recording is (steps, {sum(COLUMNS.values())}), with one "
                "step at least."
            )
        measured = frozenset(name for name in COLUMNS if not np.all(np.isnan(data[:, column(name)])))
        return cls(data.astype(np.float32), measured, (), source)

    @property
    def seconds(self) -> float:
        """Length of the usable part."""
        return len(self.data) * CONTROL_PERIOD_S


def load_log(path: Path | str, mapping: LogMapping, table: RobotTable) -> RobotLog:
    """Read a log, check it, and resample it to the control rate.

    Args:
        path: `.mcap`, a folder of rosbag2 with such files, `.csv`, `.tsv`, `.tab`, `.parquet` or `.pq`.
        mapping: which topics or columns hold what; see `load_mapping`.
        table: the robot that the log is of.

    Raises:
        StorageError: no such file, one of another kind, or one that is damaged.
        DataError: the mapping is for another robot, needed quantities are missing, or the check refuses the
            log; the message lists everything that was refused.
        DmcmError: the library that reads MCAP files is not installed.
    """
    path = Path(path)
    if mapping.robot is not None and mapping.robot != table.name:
        raise DataError(
            f"the mapping is for the robot {mapping.robot}, but the table is of {table.name}. Use the table "
            f"of {mapping.robot}, or correct robot in the mapping."
        )
    suffix = path.suffix.lower()
    if suffix == ".mcap" or path.is_dir():
        channels, findings = read_mcap(path, mapping)
    elif suffix in SEPARATORS or suffix in PARQUET:
        channels, findings = read_table_log(path, mapping)
    else:
        more = " `ros2 bag convert` turns it into MCAP." if suffix in (".db3", ".bag") else ""
        valid = ", ".join((".mcap", *SEPARATORS, *PARQUET))
        raise StorageError(
            f"{path.name} does not have a log's suffix. Valid: {valid}, or a folder of rosbag2.{more}"
        )
    parts, about_clock = sort_out(with_gravity(channels))
    findings += about_clock
    refuse_if_any(path.name, findings)
    data = resample(parts)
    rows = Rows(data)
    findings += _usable(data, parts)
    refuse_if_any(path.name, findings)
    measured = frozenset(parts[0])
    findings += check_values(rows, parts, table) + check_motion(rows, measured)
    refuse_if_any(path.name, findings)
    return RobotLog(data, measured, worst_first(findings), path.name)


def _usable(data: np.ndarray, parts: list[dict[str, Channel]]) -> list[Finding]:
    """Whether enough is left where all channels overlap, and whether much is lost."""
    starts = np.flatnonzero(data[:, column("begins")][:, 0])
    longest = int(np.diff(np.append(starts, len(data))).max(initial=0))
    spans = {name: sum(_span_s(part[name]) for part in parts) for name in parts[0]}
    if longest < LEAST_STEPS:
        listing = ", ".join(f"{name} {span:.3g} s" for name, span in spans.items())
        text = (
            f"all quantities together last for {longest * CONTROL_PERIOD_S:.3g} s without a gap, but a "
            f"sample takes {LEAST_STEPS * CONTROL_PERIOD_S:.3g} s. Separately they last: {listing}. Are "
            "their times from one clock? An optional quantity that covers little can be left out of the "
            "mapping."
        )
        return [Finding("short", "refused", text)]
    lost = 1 - len(data) * CONTROL_PERIOD_S / max(max(spans.values()), CONTROL_PERIOD_S)
    if lost > _LOST_WARNED:
        text = f"{lost:.0%} of the log cannot be used: some quantities are missing at times."
        return [Finding("gaps", "warning", text)]
    return []


def _span_s(channel: Channel) -> float:
    """How long a channel lasts, without gaps."""
    steps = np.diff(channel.times_ns) * 1e-9
    return float(steps[steps <= gap_s(channel)].sum())
