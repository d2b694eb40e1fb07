"""Times of a log: put in order, cut where a clock was set back, and compared with expected rates."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np

from dmcm.quadruped.logs.channels import Channel
from dmcm.quadruped.logs.findings import Finding, about_all
from dmcm.quadruped.logs.quantities import QUANTITIES
from dmcm.quadruped.world.simulation import CONTROL_PERIOD_S

LEAST_GAP_S = 3 * CONTROL_PERIOD_S
"""A silence longer than this, and longer than three periods, is a gap and is not bridged: a foot swings in
200 ms, so a straight line over more than 60 ms would be made up."""
GAP_PERIODS = 3
_LEAST_RATE_HZ = 25.0
"""Half the model's rate: below it, every second step would be made up."""
_MOST_RATE_HZ = 20_000.0
"""No robot logs faster; a clock read in a unit a thousand times too small seems to."""
_SLOW = 0.95
"""Share of the model's rate that still counts as the model's rate, because clocks differ by less."""
_RATE_WARNED, _RATE_REFUSED = 1.2, 2.0
"""Factors between a rate and the one that the mapping expects."""
_BAD_SHARE_REFUSED = 0.2
"""Fraction of non-finite or duplicate samples above which a log is rejected."""
_DROPPED_SHARE_WARNED = 0.01
_IN_ORDER_AGAIN = 0.6
"""Share of a period: samples that only came late are at least this far apart once sorted; two runs of a clock
that was set back interleave, somewhere at most half a period apart."""
_LATEST_NS = 1_000_000_000
"""No message is a second late."""
_MOST_CUTS = 10
"""A clock that runs back more often is unusable."""


def sort_out(channels: Mapping[str, Channel]) -> tuple[list[dict[str, Channel]], list[Finding]]:
    """Make times increase, and cut the log where that is impossible.

    Args:
        channels: as read, by names of `QUANTITIES`.

    Returns:
        Parts of the log, each with a channel of every quantity with finite values and increasing times, and
        findings. Parts are usable only if no finding is a refusal.
    """
    found: list[tuple[str, Finding]] = []
    parts: dict[str, list[Channel]] = {}
    for name, channel in channels.items():
        kept, findings = _finite(channel)
        kept, more = _once(kept)
        parts[name], cuts = _cut(kept)
        about = [*findings, *more, *cuts]
        if not any(finding.level == "refused" for finding in about):
            about += _rate(name, parts[name], channel) + _silences(parts[name])
        found += [(name, finding) for finding in about]
    counts = {len(own) for own in parts.values()}
    if len(counts) > 1:
        listing = ", ".join(f"{name} {len(own) - 1}" for name, own in parts.items())
        cause = f"times run back at different places (times of each: {listing}): split the file there."
        return [], [*about_all(found), Finding("clock", "refused", cause)]
    return [
        {name: own[number] for name, own in parts.items()} for number in range(counts.pop() if counts else 0)
    ], about_all(found)


def gap_s(channel: Channel) -> float:
    """Silence beyond which a channel has a gap."""
    return max(GAP_PERIODS * channel.period_s, LEAST_GAP_S)


def _finite(channel: Channel) -> tuple[Channel, list[Finding]]:
    """Samples whose values are all numbers."""
    good = np.asarray(np.isfinite(channel.values).all(axis=1))
    bad = int((~good).sum())
    if not bad:
        return channel, []
    share = bad / len(channel)
    level = "refused" if share > _BAD_SHARE_REFUSED else "warning"
    text = f"{bad} of {len(channel)} samples hold NaN or infinite values and were dropped."
    return channel.take(good), [Finding("not finite", level, text)]


def _once(channel: Channel) -> tuple[Channel, list[Finding]]:
    """Samples without those that repeat the time of the one before."""
    first = np.ones(len(channel), bool)
    first[1:] = np.diff(channel.times_ns) != 0
    twice = int((~first).sum())
    if not twice:
        return channel, []
    level = "refused" if twice / len(channel) > _BAD_SHARE_REFUSED else "warning"
    asked = " Is clock.unit right? Are the times rounded, or stored in single precision?"
    advice = asked if level == "refused" else ""
    text = f"{twice} of {len(channel)} samples repeat the previous time and were dropped.{advice}"
    return channel.take(first), [Finding("duplicates", level, text)]


def _cut(channel: Channel) -> tuple[list[Channel], list[Finding]]:
    """Runs of increasing times."""
    steps = np.diff(channel.times_ns)
    back = np.flatnonzero(steps < 0) + 1
    if not len(back):
        return [channel], []
    in_time = channel.take(np.argsort(channel.times_ns, kind="stable"))
    usual = np.median(steps[steps > 0]) if (steps > 0).any() else 0.0
    if -steps.min() <= _LATEST_NS and np.diff(in_time.times_ns).min() >= _IN_ORDER_AGAIN * usual > 0:
        text = f"{len(back)} samples came late; they were put in order."
        return [in_time], [Finding("clock", "warning", text)]
    most = float(-steps.min()) * 1e-9
    if len(back) > _MOST_CUTS:
        text = f"times run back {len(back)} times, by up to {most:.3g} s. Record with one steady clock."
        return [channel], [Finding("clock", "refused", text)]
    bounds = [0, *back.tolist(), len(channel)]
    runs = [channel.take(slice(a, b)) for a, b in itertools.pairwise(bounds)]
    text = f"the clock was set back {len(back)} times, by up to {most:.3g} s; the log is cut there."
    return runs, [Finding("clock", "warning", text)]


def _rate(name: str, runs: list[Channel], channel: Channel) -> list[Finding]:
    """Whether samples come as fast as the model and the mapping expect."""
    if channel.on_change:
        return []
    steps = np.concatenate([np.diff(run.times_ns) for run in runs])
    if not len(steps):
        return [Finding("rate", "refused", f"there are only {len(channel)} samples.")]
    rate = 1e9 / float(np.median(steps))
    expected, findings = channel.rate_hz, []
    if expected is not None and max(rate / expected, expected / rate) > _RATE_WARNED:
        far = max(rate / expected, expected / rate) > _RATE_REFUSED
        level = "refused" if far else "warning"
        text = f"comes at {rate:.4g} Hz, but the mapping says {expected:g} Hz. Is clock.unit right?"
        findings.append(Finding("rate", level, text))
    if rate > _MOST_RATE_HZ:
        text = f"comes at {rate:.4g} Hz, faster than any robot logs. Is clock.unit right?"
        findings.append(Finding("rate", "refused", text))
    # Commands are often sent slowly, and hold until the next.
    elif rate < _LEAST_RATE_HZ and name != "command":
        text = (
            f"comes at {rate:.4g} Hz; the model steps at {1 / CONTROL_PERIOD_S:g} Hz and needs at least "
            f"{_LEAST_RATE_HZ:g} Hz. Record faster, or correct clock.unit."
        )
        findings.append(Finding("rate", "refused", text))
    elif rate < _SLOW / CONTROL_PERIOD_S and name != "command":
        how = "held" if QUANTITIES[name].held else "interpolated"
        text = f"comes at {rate:.4g} Hz, slower than the model's {1 / CONTROL_PERIOD_S:g} Hz, and is {how}."
        findings.append(Finding("rate", "warning", text))
    return findings


def _silences(runs: list[Channel]) -> list[Finding]:
    """Missing samples between others, and gaps."""
    findings: list[Finding] = []
    lost, total, longest, gaps, longest_gap = 0, 0, 0.0, 0, 0.0
    for run in runs:
        if run.on_change or len(run) < 2:
            continue
        steps = np.diff(run.times_ns) * 1e-9
        bridged = steps <= gap_s(run)
        missing = np.round(steps[bridged] / run.period_s).astype(int) - 1
        lost += int(missing[missing > 0].sum())
        total += int(missing[missing > 0].sum()) + len(run)
        if (missing > 0).any():
            longest = max(longest, float(steps[bridged][missing > 0].max()))
        gaps += int((~bridged).sum())
        longest_gap = max(longest_gap, float(steps[~bridged].max(initial=0.0)))
    if lost:
        level = "warning" if lost / total > _DROPPED_SHARE_WARNED else "note"
        text = (
            f"{lost} of {total} samples were dropped ({lost / total:.1%}), the longest silence {longest:.3g} "
            "s; bridged."
        )
        findings.append(Finding("dropped samples", level, text))
    if gaps:
        text = (
            f"{gaps} gaps that are too long to bridge, the longest {longest_gap:.3g} s (a pause, lost "
            "samples or a clock that jumped); the log is cut there."
        )
        findings.append(Finding("gaps", "warning", text))
    return findings
