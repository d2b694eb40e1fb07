"""What was read from a log, before resampling: times and values of each quantity."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from dmcm.errors import DataError
from dmcm.quadruped.logs.findings import Finding
from dmcm.quadruped.logs.mapping import LogMapping
from dmcm.quadruped.logs.quantities import MAPPED, ORIENTATION, QUANTITIES
from dmcm.quadruped.world.rotations import rotate_into_body

_LEAST_NORM = 0.5
"""A quaternion shorter than this is not a rotation: it was not filled in, or has another unit."""


@dataclasses.dataclass(frozen=True, eq=False)
class Channel:
    """Samples of one quantity, in the order in which they arrived."""

    times_ns: np.ndarray
    """Shape (n,), int64."""
    values: np.ndarray
    """Shape (n, parts), in the library's units, signs and order."""
    rate_hz: float | None = None
    """Expected samples per second, if known."""
    on_change: bool = False
    """Whether a long silence is not a gap."""

    def __len__(self) -> int:
        return len(self.times_ns)

    @property
    def period_s(self) -> float:
        """Median time from one sample to the next; 0 if there are fewer than two."""
        return float(np.median(np.diff(self.times_ns))) * 1e-9 if len(self) > 1 else 0.0

    def take(self, rows: np.ndarray | slice) -> Channel:
        """Some of the samples."""
        return dataclasses.replace(self, times_ns=self.times_ns[rows], values=self.values[rows])


def check_complete(
    source: str, mapping: LogMapping, absent: Mapping[str, str], existing: Sequence[str], kind: str
) -> list[Finding]:
    """Report everything that is missing in a log at once.

    Args:
        source: the log's name.
        mapping: how it is read.
        absent: quantities that are mapped but not in the log, and why.
        existing: names of the topics or columns in the log.
        kind: "topic" or "column".

    Returns:
        Notes on optional quantities that are mapped but not in the log.

    Raises:
        DataError: a needed quantity is missing.
    """
    reasons = dict(absent)
    for name, quantity in QUANTITIES.items():
        if quantity.needed and name not in mapping.sources:
            reasons[name] = f"the mapping has no [{name}]"
    if "gravity_direction" not in mapping.sources and ORIENTATION in mapping.sources:
        del reasons["gravity_direction"]
    needed = [name for name in reasons if MAPPED[name].needed or name == ORIENTATION]
    if needed:
        listing = "\n".join(f"- {name}: {reasons[name]}" for name in needed)
        raise DataError(
            f"{source} lacks what a log needs:\n{listing}\nThe {kind}s that exist: "
            f"{', '.join(existing) or 'none'}. Correct the mapping; without these quantities a log cannot be "
            "used."
        )
    return [
        Finding("missing", "note", f"{name} is mapped but not in the log: {reason.rstrip('.')}.")
        for name, reason in absent.items()
    ]


def with_gravity(channels: Mapping[str, Channel]) -> dict[str, Channel]:
    """Channels with the orientation, if there is one, converted to the gravity direction.

    Quaternions that are far from unit length become NaN, which a check reports.
    """
    out = dict(channels)
    if ORIENTATION in out:
        given = out.pop(ORIENTATION)
        norm = np.linalg.norm(given.values, axis=1, keepdims=True)
        with np.errstate(invalid="ignore", divide="ignore"):
            unit = np.where(abs(norm - 1.0) < _LEAST_NORM, given.values / norm, np.nan)
        down = rotate_into_body(unit[:, [3, 0, 1, 2]], np.array([0.0, 0.0, -1.0]))
        out["gravity_direction"] = dataclasses.replace(given, values=down)
    return out
