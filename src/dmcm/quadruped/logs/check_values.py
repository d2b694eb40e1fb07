"""Whether values of a log are plausible: units, limits, failing sensors."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from dmcm.quadruped.body.robot_table import RobotTable
from dmcm.quadruped.logs.channels import Channel
from dmcm.quadruped.logs.findings import Finding, Level
from dmcm.quadruped.logs.quantities import QUANTITIES, STANDARD_GRAVITY_M_S2
from dmcm.quadruped.logs.rows import Rows
from dmcm.quadruped.world.simulation import CONTROL_PERIOD_S

_SPARE_RAD: Mapping[str, float] = {"joint_angles_rad": 0.1, "joint_targets_rad": 0.7}
"""How far beyond its limit a joint may be, due to calibration, and its target, which a controller may put
there."""
_OUTSIDE_REFUSED = 0.05
"""Share of samples outside the limits that cannot be an accident."""
_MOST_TURN_RAD_S = 35.0
"""2000 deg/s, the widest range of usual gyros."""
_NORM_WARNED, _NORM_REFUSED = 0.01, 0.1
"""How far a direction's length may be from 1."""
_UPRIGHT = -0.5
"""Median downward part of gravity of a robot on its feet: it leans by less than 60 degrees."""
_MOST_SPEED_M_S = 10.0
"""No quadruped runs faster, or is commanded to."""
_MOST_CLIMB_M_S = 5.0
_STRONG = 3.0
"""Multiple of the peak torque that no motor gives."""
_WEAK_NM = 0.1
"""A moving robot's largest torque exceeds this; even the weight of its legs needs more."""
_WEIGHT_RANGE = (0.2, 5.0)
"""Plausible mean load on the feet, as a share of the robot's weight; feet may be uncalibrated or carry a
payload."""
_STUCK_STEPS = round(2.0 / CONTROL_PERIOD_S)
"""Two seconds of motion in which a reading is the same to the last bit."""
_OFTEN, _SATURATED_WARNED, _SATURATED_REFUSED = 3, 0.005, 0.05
"""Number of samples at the very extreme, which measured numbers reach once, and their share."""
_FAST: Mapping[str, float] = {"gyro_rad_s": 1.0, "joint_speeds_rad_s": 2.0}
"""Below this, an extreme that repeats shows a sensor's resolution and not its range."""


def check_values(rows: Rows, parts: list[dict[str, Channel]], table: RobotTable) -> list[Finding]:
    """Check each quantity by itself.

    Args:
        rows: the log on the model's clock.
        parts: the samples that it was made from.
        table: the robot.
    """
    samples = {name: np.concatenate([part[name].values for part in parts]) for name in parts[0]}
    findings = _limits(samples, table) + _gravity(samples["gravity_direction"]) + _phase(samples)
    findings += _sizes(samples, rows, table) + _stuck(rows, frozenset(samples)) + _saturated(parts)
    return findings


def _named(name: str, parts: np.ndarray) -> str:
    return ", ".join(np.array(QUANTITIES[name].parts)[parts].tolist())


def _limits(samples: Mapping[str, np.ndarray], table: RobotTable) -> list[Finding]:
    """Joints within their limits."""
    low, high = table.joint_limits_rad.T
    findings = []
    for name, spare in _SPARE_RAD.items():
        values = samples[name]

        def outside(values: np.ndarray, spare: float = spare) -> np.ndarray:
            return ((values < low - spare) | (values > high + spare)).mean(axis=0)

        share = outside(values)
        wrong = share > _OUTSIDE_REFUSED
        if wrong.any():
            guesses = {
                'are they degrees (unit = "deg")?': np.deg2rad(values),
                'are they radians already (unit = "rad")?': np.rad2deg(values),
                "is the sign wrong?": -values,
            }
            good = [text for text, guess in guesses.items() if not (outside(guess)[wrong] > 0.01).any()]
            hint = good[0] if good else "order, sign, offset or unit?"
            worst = int(np.argmax(share))
            text = (
                f"{name} lie outside the limits of {table.name}: {_named(name, wrong)}; {hint} "
                f"{QUANTITIES[name].parts[worst]} runs from {values[:, worst].min():.3g} to "
                f"{values[:, worst].max():.3g} rad, its limits are {low[worst]:.3g} and {high[worst]:.3g}."
            )
            findings.append(Finding("limits", "refused", text))
        elif (share > 0).any():
            text = f"{name} lie outside the limits of {table.name} now and then: {_named(name, share > 0)}."
            findings.append(Finding("limits", "warning", text))
    return findings


def _gravity(values: np.ndarray) -> list[Finding]:
    """A unit vector that points down."""
    norms, findings = np.linalg.norm(values, axis=1), []
    off = np.abs(norms - 1)
    middle = float(np.median(norms))
    if (off > _NORM_REFUSED).mean() > _OUTSIDE_REFUSED:
        asked = (
            'm/s2 (unit = "m/s2")?'
            if abs(middle / STANDARD_GRAVITY_M_S2 - 1) < _NORM_REFUSED
            else "what unit?"
        )
        text = f"gravity_direction has a length of {middle:.3g} and should have 1: {asked}"
        findings.append(Finding("units", "refused", text))
    elif (off > _NORM_WARNED).mean() > _OUTSIDE_REFUSED:
        text = f"gravity_direction has a length of {middle:.3g} and should have 1; it was rescaled to 1."
        findings.append(Finding("units", "warning", text))
    down = float(np.median(values[:, 2] / np.maximum(norms, 1e-9)))
    if down > _UPRIGHT:
        x, y, z = np.median(values, axis=0)
        text = (
            f"gravity_direction has the median ({x:.2f}, {y:.2f}, {z:.2f}), but is (0, 0, -1) for a robot "
            "that stands (x forward, y left, z up): sign, axes, or the order of the quaternion?"
        )
        findings.append(Finding("gravity", "refused", text))
    return findings


def _phase(samples: Mapping[str, np.ndarray]) -> list[Finding]:
    """The phase is a share of the cycle, and covers all of it."""
    phase = samples["gait_phase"][:, 0]
    low, high = float(phase.min()), float(phase.max())
    if low < -1.0 or high > 1.0:
        text = (
            f'gait_phase runs from {low:.3g} to {high:.3g} but should run from 0 to 1: unit = "rad" or "deg"?'
        )
        return [Finding("units", "refused", text)]
    falls_back = (np.diff(phase) < -0.5 * (high - low)).sum()
    if falls_back > 1 and high - low < 0.5:
        text = (
            f"gait_phase runs from {low:.3g} to {high:.3g} again and again but should run from 0 to 1: unit?"
        )
        return [Finding("units", "refused", text)]
    return []


def _sizes(samples: Mapping[str, np.ndarray], rows: Rows, table: RobotTable) -> list[Finding]:
    """Magnitudes that reveal a unit."""
    findings = []

    def add(level: Level, text: str) -> None:
        findings.append(Finding("units", level, text))

    moves = bool(rows.moving.any())
    turn = float(np.quantile(np.abs(samples["gyro_rad_s"]), 0.99))
    if turn > _MOST_TURN_RAD_S:
        add("refused", f'gyro_rad_s reaches {turn:.3g} rad/s: deg/s (unit = "deg/s")?')
    for name in ("command", "trunk_velocity_m_s"):
        if name in samples and (most := float(np.abs(samples[name]).max())) > _MOST_SPEED_M_S:
            add("refused", f"{name} reaches {most:.3g} m/s or rad/s: cm/s, km/h or deg/s?")
    if "height_m" in samples:
        rise = np.diff(rows["height_m"][:, 0])[rows.unbroken(1)]
        if len(rise) and float(np.quantile(np.abs(rise), 0.99)) / CONTROL_PERIOD_S > _MOST_CLIMB_M_S:
            add("refused", f"height_m changes by more than {_MOST_CLIMB_M_S:g} m/s: cm or mm?")
    if "torques_nm" in samples:
        torques = np.abs(samples["torques_nm"])
        if ((torques > _STRONG * table.peak_torque_nm).any(axis=1)).mean() > _OUTSIDE_REFUSED:
            add(
                "refused",
                f'torques_nm reach {torques.max():.3g} N m, far above the motors\' peak: unit = "mN m"?',
            )
        elif (torques > 1.2 * table.peak_torque_nm).any():
            findings.append(
                Finding(
                    "torques", "note", f"torques_nm reach {torques.max():.3g} N m, above the motors' peak."
                )
            )
        if moves and torques.max() < _WEAK_NM:
            add("refused", f"torques_nm stay below {_WEAK_NM} N m though the robot moves: unit?")
    if "foot_forces_n" in samples:
        share = samples["foot_forces_n"].sum(axis=1).mean() / (table.mass_kg * STANDARD_GRAVITY_M_S2)
        if not _WEIGHT_RANGE[0] <= share <= _WEIGHT_RANGE[1]:
            add("warning", f"foot_forces_n carry {share:.3g} times the robot's weight on average: unit?")
    return findings


def _stuck(rows: Rows, measured: frozenset[str]) -> list[Finding]:
    """Readings that stay the same to the last bit while the robot moves."""
    moving, findings = rows.moving, []
    names = ("joint_angles_rad", "joint_speeds_rad_s", "gyro_rad_s", "gravity_direction", "gait_phase")
    for name in (*names, "torques_nm", "foot_forces_n"):
        if name not in measured:
            continue
        values = rows[name]
        longest = np.zeros(values.shape[1], int)
        current = np.zeros(values.shape[1], int)
        for step in np.flatnonzero(moving[1:]) + 1:
            current = np.where(values[step] == values[step - 1], current + 1, 0)
            longest = np.maximum(longest, current)
        stuck = longest >= _STUCK_STEPS
        if stuck.any():
            level = "refused" if QUANTITIES[name].needed and name != "gait_phase" else "warning"
            seconds = float(longest.max()) * CONTROL_PERIOD_S
            text = f"{name}: {_named(name, stuck)} did not change for {seconds:.3g} s while the robot moved."
            findings.append(Finding("stuck", level, text))
    return findings


def _saturated(parts: list[dict[str, Channel]]) -> list[Finding]:
    """Readings cut off at the end of a sensor's range."""
    findings = []
    for name, fast in _FAST.items():
        values = np.concatenate([part[name].values for part in parts])
        share = np.zeros(values.shape[1])
        for extreme in (values.max(axis=0), values.min(axis=0)):
            at = (values == extreme) & (np.abs(extreme) > fast)
            share += np.where(at.sum(axis=0) >= _OFTEN, at.mean(axis=0), 0.0)
        cut = share > _SATURATED_WARNED
        if cut.any():
            level = "refused" if share.max() > _SATURATED_REFUSED else "warning"
            text = (
                f"{name}: {_named(name, cut)} stay at their extreme for {share.max():.1%} of the samples: "
                "the sensor's range is too small, or the values were clipped."
            )
            findings.append(Finding("saturated", level, text))
    return findings
