"""When a robot must be stopped."""

from __future__ import annotations

import dataclasses

import numpy as np

from dmcm.errors import ConfigError
from dmcm.quadruped.body.robot_table import JOINT_NAMES, RobotTable
from dmcm.quadruped.deployment.robot import Reading
from dmcm.quadruped.world.physics import SENSED
from dmcm.quadruped.world.simulation import CONTROL_PERIOD_S

_CLOCK_S = 1e-6  # rounding of clocks
_UNIT = (0.8, 1.2)  # lengths that still count as a unit vector


@dataclasses.dataclass(frozen=True)
class Limits:
    """What a walking robot may do and how old its readings may be; beyond these limits it is stopped.

    "Seen" is the most extreme value of 160 simulated robots, nominal and drawn, that walked for 6 s by the
    packaged policy on the training grounds without a fall.
    """

    joint_margin_rad: float = 0.2
    """A joint further than this beyond the robot table's limits broke its stop or lost its zero. Seen:
    0.10."""
    joint_speed_rad_s: float = 40.0
    """A joint faster than this slips or is measured wrongly. Seen: 27."""
    torque_share: float = 1.5
    """A torque above this share of the motor's peak is impossible. Seen: 1; estimates from currents are
    rough."""
    upward: float = 0.7
    """A robot falls if the upward part of its trunk's vertical axis is below this, a tilt of 46°. Seen: 0.83.
    Training calls 0.5 a fall (`WalkConfig.fall_tilt`); a real robot should be limp before it lands."""
    turn_rate_rad_s: float = 12.0
    """A trunk that turns faster is tumbling, or is measured in degrees. Seen: 4.6."""
    command_m_s: float = 1.5
    """A command to go faster is in another unit: policies are trained up to 1 m/s (`CommandRanges`)."""
    command_rad_s: float = 2.0
    """A command to turn faster is in degrees: policies are trained up to 0.8 rad/s and the rates that keep a
    heading."""
    reading_age_s: float = 2 * CONTROL_PERIOD_S
    """A reading older than this, two control steps, is stale: policies are trained on fresh ones."""
    late_s: float = 0.1 * CONTROL_PERIOD_S
    """A control step that begins later than this after it was due is late."""
    late_steps: int = 5
    """After this many late control steps in a row, a tenth of a second, the computer is too slow or too
    busy."""

    def check(self) -> Limits:
        """Return self, or raise `ConfigError` for invalid limits."""
        for name, value in dataclasses.asdict(self).items():
            if not (np.isfinite(value) and value > 0):
                raise ConfigError(f"limit {name}={value} must be a number above 0.")
        if self.upward >= 1:
            raise ConfigError(f"limit upward={self.upward} must be below 1, which is a level trunk.")
        return self


def tilted(reading: Reading, limits: Limits) -> bool:
    """Whether the trunk is tilted beyond the limit."""
    gravity = reading.gravity_direction
    return bool(-gravity[2] < limits.upward * np.linalg.norm(gravity))


def command_violation(command: np.ndarray, limits: Limits) -> str | None:
    """Why a robot with this command must be stopped; None if it need not be.

    Args:
        command: forward and left speed (m/s), yaw rate (rad/s), shape (3,).
        limits: what may be commanded.
    """
    speed, turn = float(np.linalg.norm(command[:2])), abs(float(command[2]))
    if speed > limits.command_m_s:
        return f"the command is to go at {speed:.3g} m/s; at most {limits.command_m_s:g} is allowed"
    if turn > limits.command_rad_s:
        return f"the command is to turn at {turn:.3g} rad/s; at most {limits.command_rad_s:g} is allowed"
    return None


def violation(reading: Reading, now_s: float, table: RobotTable, limits: Limits) -> str | None:
    """Why a robot must be stopped; None if it need not be.

    Args:
        reading: the latest.
        now_s: the robot's clock now.
        table: facts of the robot: limits and peak torques of the joints.
        limits: what it may do.
    """
    for name in SENSED:
        values = getattr(reading, name)
        if not np.all(np.isfinite(values)):
            return f"the reading's {name} is not finite: {values.tolist()}"
    age = now_s - reading.time_s
    if not age <= limits.reading_age_s + _CLOCK_S:  # true of a NaN too
        return (
            f"the reading is {age:.3f} s old; at most {limits.reading_age_s:g} s is allowed: the sensors are "
            "stale"
        )
    if age < -limits.reading_age_s:
        return f"the reading is {-age:.3f} s ahead of the robot's clock: they use two clocks"
    length = float(np.linalg.norm(reading.gravity_direction))
    if not _UNIT[0] <= length <= _UNIT[1]:
        return f"gravity_direction has length {length:.3g}: it must be a unit vector"
    if tilted(reading, limits):
        up = -reading.gravity_direction[2] / length
        tilt = np.degrees(np.arccos(np.clip(up, -1.0, 1.0)))
        return (
            f"the trunk is tilted by {tilt:.0f}°: its upward part is {up:.2f} and must be at least "
            f"{limits.upward:g}"
        )
    fastest = float(np.max(np.abs(reading.gyro_rad_s)))
    if fastest > limits.turn_rate_rad_s:
        return f"the trunk turns at {fastest:.1f} rad/s; at most {limits.turn_rate_rad_s:g} is allowed"
    return _joint_violation(reading, table, limits)


def _joint_violation(reading: Reading, table: RobotTable, limits: Limits) -> str | None:
    low, high = table.joint_limits_rad.T
    beyond = np.maximum(low - reading.joint_angles_rad, reading.joint_angles_rad - high)
    worst = int(np.argmax(beyond))
    if beyond[worst] > limits.joint_margin_rad:
        return (
            f"joint {JOINT_NAMES[worst]} is at {reading.joint_angles_rad[worst]:.3f} rad, more than "
            f"{limits.joint_margin_rad:g} rad beyond its limits {low[worst]:g} to {high[worst]:g}"
        )
    speeds = np.abs(reading.joint_speeds_rad_s)
    worst = int(np.argmax(speeds))
    if speeds[worst] > limits.joint_speed_rad_s:
        return (
            f"joint {JOINT_NAMES[worst]} turns at {speeds[worst]:.1f} rad/s; at most "
            f"{limits.joint_speed_rad_s:g} is allowed"
        )
    shares = np.abs(reading.torques_nm) / table.peak_torque_nm
    worst = int(np.argmax(shares))
    if shares[worst] > limits.torque_share:
        return (
            f"joint {JOINT_NAMES[worst]} shows {reading.torques_nm[worst]:.1f} N m, more than "
            f"{limits.torque_share:g} times its peak of {table.peak_torque_nm[worst]:g}"
        )
    return None
