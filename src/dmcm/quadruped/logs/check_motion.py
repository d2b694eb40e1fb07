"""Whether quantities of a log fit each other: order, signs and units that one alone does not reveal."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from dmcm.quadruped.body.robot_table import JOINT_NAMES, LEGS
from dmcm.quadruped.logs.findings import Finding, Level
from dmcm.quadruped.logs.rows import Rows, correlations
from dmcm.quadruped.walking.gait import LEG_OFFSET

_LEAST_ROWS = 50
"""A second of motion; with less, order and signs are not checked."""
_SPEED_STEPS, _TILT_STEPS, _LAG_STEPS = 3, 5, 2
"""60 ms, short against a gait's 400; 100 ms, because a trunk shakes faster than it tilts; 40 ms, the lag of
joints behind their targets."""
_LEAST_CHANGE_RAD = 0.01
"""Standard deviation of a joint's change in 60 ms; with less, an encoder's steps matter."""
_SURE, _BELONGS = 0.8, 0.5
"""Correlations of an angle's changes with its speed: 0.99 in simulation, 0.8 with a speed 40 ms late."""
_CLEARLY_NEARER = 0.25
"""Another joint is the right one if it leaves less than this share of what the joint itself leaves
unexplained."""
_SLOPE_WARNED, _SLOPE_REFUSED = 1.25, 2.0
"""Factors between a rate and the real change. Wrong units differ by ten or more."""
_LEAST_TILT = 0.005
"""Standard deviation of the gravity direction's change in 100 ms that can be told from noise."""
_LEAST_TURN = 0.03
"""Standard deviation of the gyro's turn in 100 ms that cannot be noise."""
_TARGETS_BETTER = 0.6
"""Another order is accepted if it leaves less than this share of the distance between targets and angles."""
_LEAST_DISTANCE_RAD = 0.1
"""Targets nearer to their angles than this are in order."""
_OPPOSED = -0.4
"""Correlation below which a joint moves away from its target."""
_OFFSET_WARNED_RAD, _OFFSET_REFUSED_RAD = 0.5, 1.0
"""Mean distance of a joint from its target: a gain of 35 N m/rad and half the peak torque give 0.3 to 0.5."""
_SWING_CENTRE, _SWING_OFF, _LEAST_SWING_RAD = 0.25, 0.2, 0.1
"""Middle of a foot's swing in the gait's cycle, and how far off it may be: the policy moves it by less than
0.05, a wrong order of legs by half a cycle. Smallest swing of a joint to judge by."""
_AGAINST_WARNED, _AGAINST_REFUSED, _TOLD_ENOUGH = -0.5, -0.8, 0.15
"""Correlations of commands and motion over half a second; smallest spread of commands to judge by. Stumbling
robots have had -0.7, and a wrong sign in a good walk gives -0.9."""
_TORQUE_FITS = 0.3
"""Correlation of a torque with the joint's distance from its target; 0.8 and more in simulation."""
_FEET = 0.5
"""Standard deviations of a foot's force by which its mean in swing may exceed that in stance: noise alone is
less, and exchanged feet are off by one and more."""
_FACTORS = {
    "deg/s and not rad/s": np.pi / 180,
    "rad/s and not deg/s": 180 / np.pi,
    "rpm and not rad/s": np.pi / 30,
    "rad/s and not rpm": 30 / np.pi,
}


def check_motion(rows: Rows, measured: frozenset[str]) -> list[Finding]:
    """Compare quantities of a log while the robot moves.

    Args:
        rows: the log on the model's clock.
        measured: names of the columns that it has.
    """
    if (rows.unbroken(_TILT_STEPS) & rows.moving[:-_TILT_STEPS]).sum() < _LEAST_ROWS:
        text = "the robot hardly moves, so the order of joints, signs and speeds could not be checked."
        return [Finding("stands still", "note", text)]
    findings = _speeds(rows) + _gyro(rows) + _targets(rows) + _gait(rows) + _told(rows, measured)
    findings += _feet(rows) if "foot_forces_n" in measured else []
    return findings + (_torques(rows) if "torques_nm" in measured else [])


def _speeds(rows: Rows) -> list[Finding]:
    """Angles must change as their speeds say."""
    change = rows.changes("joint_angles_rad", _SPEED_STEPS)
    told = rows.integrals(rows["joint_speeds_rad_s"], _SPEED_STEPS)
    fit, findings, slopes = correlations(change, told), [], {}
    for joint in np.flatnonzero(change.std(axis=0) > _LEAST_CHANGE_RAD).tolist():
        name, own = JOINT_NAMES[joint], float(fit[joint, joint])
        best = int(np.argmax(np.abs(fit[joint])))
        left, left_by_best = 1 - abs(own), 1 - abs(fit[joint, best])
        if best != joint and abs(own) < 0.9 and left_by_best < _CLEARLY_NEARER * left:
            text = f"the speed of {name} looks like that of {JOINT_NAMES[best]}: order?"
            findings.append(Finding("order", "refused", text))
        elif own < -_BELONGS:
            text = f"{name} turns against its speed: sign of the angle, or of the speed?"
            findings.append(Finding("sign", "refused", text))
        elif own < _SURE:
            level = "refused" if own < _BELONGS else "warning"
            text = f"{name} does not turn as its speed says (correlation {own:.2f}): order, or time stamps?"
            findings.append(Finding("order", level, text))
        else:
            slopes[name] = float(change[:, joint] @ told[:, joint] / (told[:, joint] @ told[:, joint]))
    return findings + _slopes("speeds", slopes)


def _slopes(what: str, slopes: dict[str, float]) -> list[Finding]:
    """Rates that are too large or too small for what changes."""
    findings = []
    bounds: Sequence[tuple[Level, float, float]] = (
        ("refused", np.inf, _SLOPE_REFUSED),
        ("warning", _SLOPE_REFUSED, _SLOPE_WARNED),
    )
    for level, most, least in bounds:
        wrong = {name: s for name, s in slopes.items() if least <= max(s, 1 / s) < most}
        if wrong:
            middle = float(np.median(list(wrong.values())))
            guess = [text for text, factor in _FACTORS.items() if 1 / 1.5 < middle / factor < 1.5]
            asked = f"are they {guess[0]}?" if guess else "is its unit right, or that of the angles?"
            text = f"{what} of {', '.join(wrong)} are {1 / middle:.3g} times what really changes: {asked}"
            findings.append(Finding("units", level, text))
    return findings


def _gyro(rows: Rows) -> list[Finding]:
    """Gravity must turn in the trunk frame as the gyro says."""
    change = rows.changes("gravity_direction", _TILT_STEPS)[:, :2]
    gravity, gyro = rows["gravity_direction"], rows["gyro_rad_s"]
    told = rows.integrals(np.cross(gravity, gyro), _TILT_STEPS)[:, :2]
    fit = np.diag(correlations(change, told))
    shaken = told.std(axis=0) > _LEAST_TURN
    wanted = (change.std(axis=0) > _LEAST_TILT) & (told.std(axis=0) > 0) | shaken
    findings, slopes = [], {}
    # Pitch moves gravity forward, and roll moves it to the left.
    for axis in np.flatnonzero(wanted).tolist():
        name, own = ("pitch (gyro y)", "roll (gyro x)")[axis], float(fit[axis])
        if own < -_BELONGS:
            text = (
                f"gravity turns against the gyro in {name}: sign or axes of one, or a quaternion that turns "
                "world into trunk?"
            )
            findings.append(Finding("sign", "refused", text))
        elif own < _BELONGS:
            text = (
                f"gravity does not turn as the gyro says in {name} (correlation {own:.2f}): axes, unit or "
                "time stamps?"
            )
            findings.append(Finding("gyro", "refused", text))
        else:
            slopes[name] = float(change[:, axis] @ told[:, axis] / (told[:, axis] @ told[:, axis]))
    return findings + _slopes("turns", slopes)


def _targets(rows: Rows) -> list[Finding]:
    """Joints must be near their targets, and nearer to them than to others."""
    wanted = rows.unbroken(_LAG_STEPS) & rows.moving[:-_LAG_STEPS]
    targets = rows["joint_targets_rad"][:-_LAG_STEPS][wanted]
    angles = rows["joint_angles_rad"][_LAG_STEPS:][wanted]
    findings = []
    offset = targets.mean(axis=0) - angles.mean(axis=0)
    for joint in np.flatnonzero(np.abs(offset) > _OFFSET_WARNED_RAD).tolist():
        level = "refused" if abs(offset[joint]) > _OFFSET_REFUSED_RAD else "warning"
        text = (
            f"the target of {JOINT_NAMES[joint]} is {offset[joint]:.2g} rad from its angle on average: "
            "offset, order or unit?"
        )
        findings.append(Finding("targets", level, text))
    follows = np.diag(correlations(targets, angles))
    swings = np.minimum(targets.std(axis=0), angles.std(axis=0)) > _LEAST_CHANGE_RAD
    for joint in np.flatnonzero((follows < _OPPOSED) & swings).tolist():
        text = f"{JOINT_NAMES[joint]} turns against its target (correlation {follows[joint]:.2f}): sign?"
        findings.append(Finding("sign", "refused", text))
    apart = ((targets[:, :, None] - angles[:, None, :]) ** 2).mean(axis=0)
    order = _better_order(apart)
    if order:
        listing = ", ".join(f"{JOINT_NAMES[a]} follows the target of {JOINT_NAMES[b]}" for a, b in order)
        findings.append(Finding("order", "refused", f"joint targets are in another order: {listing}."))
    return findings


def _better_order(apart: np.ndarray) -> list[tuple[int, int]]:
    """Joints and the targets that they are nearer to than to their own, if another order explains more.

    Args:
        apart: mean square distances of targets (rows) from angles (columns), shape (12, 12).
    """
    own = np.diag(apart)
    if np.sqrt(own.max()) < _LEAST_DISTANCE_RAD:
        return []
    # Whole legs first: within a leg, limits tell the joints apart.
    blocks = apart.reshape(4, 3, 4, 3)
    legs = np.einsum("ikjk->ij", blocks)
    best = min(itertools.permutations(range(4)), key=lambda order: sum(legs[order[i], i] for i in range(4)))
    if sum(legs[best[i], i] for i in range(4)) < _TARGETS_BETTER * np.trace(legs):
        return [(3 * i + k, 3 * best[i] + k) for i in range(4) if best[i] != i for k in range(3)]
    for a, b in itertools.combinations(range(12), 2):
        kept = own[a] + own[b]
        if kept > 2 * _LEAST_DISTANCE_RAD**2 and apart[a, b] + apart[b, a] < _CLEARLY_NEARER * kept:
            return [(a, b), (b, a)]
    return []


def _gait(rows: Rows) -> list[Finding]:
    """Legs must swing when the gait's phase says so."""
    moving, phase = rows.moving, rows["gait_phase"][:, 0]
    findings = []
    for name, what in (("joint_targets_rad", "targets"), ("joint_angles_rad", "angles")):
        late = _late_swings(rows[name][moving], phase[moving])
        # Joints lag behind their targets.
        spare = 0.0 if name == "joint_targets_rad" else 0.1
        wrong = {leg: by for leg, by in late.items() if abs(by - spare) > _SWING_OFF + spare}
        if wrong:
            listing = ", ".join(f"{leg} by {by:+.2f}" for leg, by in wrong.items())
            text = (
                f"by their {what}, legs swing at another time than the gait's phase says (in cycles: "
                f"{listing}): order of legs, or another meaning of the phase? Here FR and RL swing while it "
                "runs from 0 to 0.5, FL and RR from 0.5 to 1."
            )
            # Exchanged legs come in pairs; a single wrong leg has stumbled.
            findings.append(Finding("gait", "refused" if len(wrong) > 1 else "warning", text))
    return findings


def _feet(rows: Rows) -> list[Finding]:
    """Feet must carry more when the gait's phase says that they stand."""
    forces = rows["foot_forces_n"][rows.moving]
    swings = (rows["gait_phase"][rows.moving] + LEG_OFFSET) % 1.0 < 0.5
    more = [
        forces[swings[:, leg], leg].mean() - forces[~swings[:, leg], leg].mean()
        if 0 < swings[:, leg].sum() < len(swings)
        else 0.0
        for leg in range(len(LEGS))
    ]
    wrong = np.flatnonzero(np.array(more) > _FEET * forces.std(axis=0)).tolist()
    # Exchanged feet come in pairs; a single one may have a bad sensor.
    if len(wrong) < 2:
        return []
    listing = ", ".join(LEGS[leg] for leg in wrong)
    text = f"feet carry more when the gait's phase says that they swing ({listing}): order of feet?"
    return [Finding("gait", "refused", text)]


def _late_swings(angles: np.ndarray, phase: np.ndarray) -> dict[str, float]:
    """For legs that bend with the phase, cycles by which they bend later than they should."""
    late = {}
    for leg, name in enumerate(LEGS):
        calf = angles[:, 3 * leg + 2]
        wave = np.exp(-2j * np.pi * (phase + LEG_OFFSET[leg]))
        # The knee bends backward, so that its angle is least in the middle of the swing.
        bend = 2 * ((calf.mean() - calf) * (wave - wave.mean())).mean()
        if abs(bend) > _LEAST_SWING_RAD:
            centre = -np.angle(bend) / (2 * np.pi)
            late[name] = float((centre - _SWING_CENTRE + 0.5) % 1.0 - 0.5)
    return late


def _told(rows: Rows, measured: frozenset[str]) -> list[Finding]:
    """Robots must not move against their commands."""
    command, width = rows["command"], 25
    whole = rows.unbroken(width - 1)
    findings: list[Finding] = []
    if command[:, 2].std() < _TOLD_ENOUGH:
        text = "the robot is hardly commanded to turn, so the sign of the gyro's z could not be checked."
        findings.append(Finding("sign", "note", text))
    pairs = [("yaw", command[:, 2], rows["gyro_rad_s"][:, 2], "the gyro's z")]
    if "trunk_velocity_m_s" in measured:
        velocity = rows["trunk_velocity_m_s"]
        pairs += [
            (way, command[:, axis], velocity[:, axis], f"the trunk's velocity {way}")
            for axis, way in enumerate(("forward", "left"))
        ]
    for way, told, done, what in pairs:
        if len(told) < 2 * width:
            continue
        smooth = np.convolve(done, np.full(width, 1 / width), mode="valid")[whole]
        told = told[width - 1 :][whole]
        if len(told) < width or told.std() < _TOLD_ENOUGH:
            continue
        fit = correlations(told[:, None], smooth[:, None])[0, 0]
        if fit < _AGAINST_WARNED:
            level = "refused" if fit < _AGAINST_REFUSED else "warning"
            text = f"{what} goes against the command {way} (correlation {fit:.2f}): sign of one of them?"
            findings.append(Finding("sign", level, text))
    return findings


def _torques(rows: Rows) -> list[Finding]:
    """Torques must pull joints to their targets."""
    wanted = rows.unbroken(1) & rows.moving[:-1]
    pull = rows["joint_targets_rad"][:-1] - rows["joint_angles_rad"][1:]
    fit = np.diag(correlations(rows["torques_nm"][:-1][wanted], pull[wanted]))
    odd = np.flatnonzero(fit < _TORQUE_FITS).tolist()
    if not odd:
        return []
    listing = ", ".join(f"{JOINT_NAMES[joint]} {fit[joint]:.2f}" for joint in odd)
    text = (
        f"torques do not pull joints to their targets (correlation of {listing}): sign, order or time stamps?"
    )
    return [Finding("torques", "warning", text)]
