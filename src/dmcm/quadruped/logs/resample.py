"""Channels of a log on the model's clock: one row a control step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from dmcm.quadruped.data.recording import COLUMNS, column
from dmcm.quadruped.logs.channels import Channel
from dmcm.quadruped.logs.clock import gap_s
from dmcm.quadruped.logs.quantities import QUANTITIES
from dmcm.quadruped.world.simulation import CONTROL_PERIOD_S

SAME_INSTANT_S = 1e-5
"""Times closer than this count as equal: it is more than rounding errors and too short for motion."""
_LATE_S, _LATE_SHARE = 2e-3, 0.1
"""A held value counts for a step if it came at most this much after its start, in seconds and in periods of
its own: a controller reads, computes and then publishes what it does in the same step."""
_STEADY = 0.1
"""Targets that change this nearly at the control period come from a controller of that rate."""
_FEW = 10
"""With this many changes of targets or fewer, the controller's steps cannot be told."""
_LATEST, _AROUND = 0.55, 8
"""A step that is later than this share of a period has left one out. Changes on either side of one that tell
when its step was."""

Interval = tuple[float, float]


def resample(parts: Sequence[Mapping[str, Channel]]) -> np.ndarray:
    """Rows of a recording wherever all channels have data.

    State, command, phase and targets are those at a step's start, torques those at its end. The grid starts
    with the controller's own steps where the targets tell them.

    Args:
        parts: stretches of the log with increasing times, each with a channel of every quantity measured.

    Returns:
        Shape (steps, columns), single precision; NaN where nothing was measured; `begins` is 1 in the first
        row and in each that does not follow the one before it by a control period.
    """
    rows = [np.empty((0, sum(COLUMNS.values())))]
    for part in parts:
        origin = min(int(channel.times_ns[0]) for channel in part.values() if len(channel))
        times = {name: (channel.times_ns - origin) * 1e-9 for name, channel in part.items()}
        # The torque of a step is that at its end.
        if "torques_nm" in times:
            times["torques_nm"] = times["torques_nm"] - CONTROL_PERIOD_S
        for interval in _covered(part, times):
            steps = _steps(interval, times["joint_targets_rad"], part["joint_targets_rad"].values)
            if len(steps):
                rows.append(_rows(part, times, steps))
    return np.concatenate(rows).astype(np.float32)


def _covered(part: Mapping[str, Channel], times: Mapping[str, np.ndarray]) -> list[Interval]:
    """Where every channel has a sample near enough."""
    common: list[Interval] = [(-np.inf, np.inf)]
    for name, channel in part.items():
        common = _both(common, _intervals(channel, times[name], held=QUANTITIES[name].held))
    return common


def _intervals(channel: Channel, times: np.ndarray, *, held: bool) -> list[Interval]:
    """Where one channel is known."""
    if not len(times):
        return []
    if channel.on_change:
        return [(float(times[0]), np.inf)]
    # A held value stays known until the next one may come: for a period less its lateness.
    beyond = (1 - 2 * _LATE_SHARE) * max(channel.period_s, CONTROL_PERIOD_S) if held else 0.0
    breaks = np.flatnonzero(np.diff(times) > gap_s(channel) + SAME_INSTANT_S)
    starts, ends = np.concatenate([[0], breaks + 1]), np.concatenate([breaks, [len(times) - 1]])
    return [(float(times[a]), float(times[b]) + beyond) for a, b in zip(starts, ends, strict=True)]


def _both(one: Sequence[Interval], other: Sequence[Interval]) -> list[Interval]:
    """Where both of two lists of intervals, each in order, overlap."""
    out, i, j = [], 0, 0
    while i < len(one) and j < len(other):
        start, end = max(one[i][0], other[j][0]), min(one[i][1], other[j][1])
        if start <= end + SAME_INSTANT_S:
            out.append((start, max(start, end)))
        if one[i][1] < other[j][1]:
            i += 1
        else:
            j += 1
    return out


def _steps(interval: Interval, times: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Times at which control steps start."""
    start, end = interval
    changed = np.concatenate([[True], (np.diff(targets, axis=0) != 0).any(axis=1)])
    changes = times[changed & (times >= start - SAME_INSTANT_S) & (times <= end + SAME_INSTANT_S)]
    if len(changes) > _FEW and abs(np.median(np.diff(changes)) / CONTROL_PERIOD_S - 1) < _STEADY:
        half = CONTROL_PERIOD_S / 2
        own = (changes - changes[0] + half) % CONTROL_PERIOD_S - half
        if np.ptp(own) > SAME_INSTANT_S:
            return _followed(interval, changes)
        phase = changes[0] + float(np.median(own))
        start = phase + np.ceil((start - SAME_INSTANT_S - phase) / CONTROL_PERIOD_S) * CONTROL_PERIOD_S
    count = int(np.floor((end + SAME_INSTANT_S - start) / CONTROL_PERIOD_S)) + 1
    return start + np.arange(max(count, 0)) * CONTROL_PERIOD_S


def _followed(interval: Interval, changes: np.ndarray) -> np.ndarray:
    """Steps of a controller whose targets change at these times, although it drifts, trembles or is late."""
    start, end = interval
    # A change up to half a period late, and a little more, is still that of the next step.
    numbers = np.cumsum(np.concatenate([[0], np.ceil(np.diff(changes) / CONTROL_PERIOD_S - _LATEST)]))
    numbers, first = np.unique(numbers, return_index=True)
    behind = changes[first] - changes[0] - numbers * CONTROL_PERIOD_S
    # A median keeps what lasts, drift and lost time, and leaves out what trembles.
    windows = np.lib.stride_tricks.sliding_window_view(
        np.pad(behind, _AROUND, constant_values=np.nan), 2 * _AROUND + 1
    )
    before = np.ceil((changes[0] - start) / CONTROL_PERIOD_S) + 1
    after = np.ceil((end - changes[-1]) / CONTROL_PERIOD_S) + 1
    every = np.arange(-before, numbers[-1] + after + 1)
    steps = changes[0] + every * CONTROL_PERIOD_S + np.interp(every, numbers, np.nanmedian(windows, axis=1))
    return steps[(steps >= start - SAME_INSTANT_S) & (steps <= end + SAME_INSTANT_S)]


def _rows(part: Mapping[str, Channel], times: Mapping[str, np.ndarray], steps: np.ndarray) -> np.ndarray:
    rows = np.full((len(steps), sum(COLUMNS.values())), np.nan)
    for name, channel in part.items():
        held = QUANTITIES[name].held
        values = _held(channel, times[name], steps) if held else _between(channel, times[name], steps)
        if name == "gravity_direction":
            # Points on a straight line between two unit vectors are too short.
            values = values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-9)
        if name == "gait_phase":
            # In single precision, the end of the cycle may round to its beginning.
            values = values.astype(np.float32) % np.float32(1)
        rows[:, column(name)] = values
    rows[:, column("begins")] = (np.arange(len(steps)) == 0)[:, None]
    rows[:, column("falls")] = rows[:, column("diverges")] = 0.0
    return rows


def _held(channel: Channel, times: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """The latest values."""
    late = max(SAME_INSTANT_S, min(_LATE_S, _LATE_SHARE * channel.period_s))
    return channel.values[np.maximum(np.searchsorted(times, steps + late, side="right") - 1, 0)]


def _between(channel: Channel, times: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """Values on straight lines between samples; a sample of the same instant is taken as it is."""
    after = np.clip(np.searchsorted(times, steps), 0, len(times) - 1)
    before = np.maximum(after - 1, 0)
    near = np.where(abs(times[before] - steps) < abs(times[after] - steps), before, after)
    at = np.where(abs(times[near] - steps) <= SAME_INSTANT_S, times[near], steps)
    return np.stack([np.interp(at, times, values) for values in channel.values.T], axis=1)
