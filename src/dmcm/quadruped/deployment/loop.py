"""The loop that walks a robot with an exported policy, and stops it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal

import numpy as np

from dmcm.errors import ConfigError, DmcmError
from dmcm.quadruped.deployment.controller import Controller
from dmcm.quadruped.deployment.outcome import Outcome, StepRecord
from dmcm.quadruped.deployment.robot import Numbers, Reading, Robot
from dmcm.quadruped.deployment.safety import Limits, command_violation, tilted, violation

SETTLE_S = 1.0
"""Time in which the joints return to the home pose after walking."""
_DAMP_TRIES = 3


def run(
    robot: Robot,
    controller: Controller,
    command_source: Callable[[float], Numbers],
    *,
    limits: Limits | None = None,
    seconds: float,
    stand_s: float = 3.0,
    on_step: Callable[[StepRecord], object] | None = None,
) -> Outcome:
    """Stand a robot up, walk it, settle it and damp it. The robot is damped however this ends.

    In every control period of the robot's clock a reading is taken and checked, and joint targets are sent.
    The loop stops at once, without sending anything more, when a limit is violated, too many steps in a row
    are late, anything raises, or on Ctrl-C. Late steps are not made up for: the next step is due one period
    later.

    Args:
        robot: lying, or standing on its feet.
        controller: reset when walking begins.
        command_source: from seconds since walking began to forward and left speed (m/s) and yaw rate (rad/s).
        limits: when to stop.
        seconds: of walking.
        stand_s: time in which the joints are moved to the home pose; 0 to walk at once.
        on_step: called with every step of walking after it was sent, for logs that must survive an error and
            for filters that `tell` the controller; its time is not measured, but it can make steps late.

    Returns:
        How it ended, and the steps of walking.

    Raises:
        ConfigError: settings out of range; the robot is left alone.
        DmcmError: something failed, and the robot was damped; or it could not even be damped.
    """
    limits = (limits or Limits()).check()
    period = controller.contract.control_period_s
    if not (np.isfinite(seconds) and seconds >= period and np.isfinite(stand_s) and stand_s >= 0):
        raise ConfigError(
            f"seconds={seconds} must be at least a control step of {period:g} s, and stand_s={stand_s} must "
            "not be negative."
        )
    ended: Literal["finished", "stopped", "interrupted"] = "finished"
    reason = f"it walked for {seconds:g} s"
    walk = _Walk(robot, controller, limits)
    try:
        walk.ramp(stand_s)
        walk.walk(seconds, command_source, on_step)
        walk.ramp(SETTLE_S)
    except _Violation as stop:
        ended, reason = "stopped", str(stop)
    except KeyboardInterrupt:
        ended, reason = "interrupted", "it was interrupted by Ctrl-C"
    except DmcmError:
        raise
    except Exception as error:
        raise DmcmError(
            f"the walk was aborted and the robot damped: {type(error).__name__}: {error}. Look at the error "
            "above; if it comes from the robot's connection, fix that before the robot stands up again."
        ) from error
    finally:
        _damp(robot)
    return Outcome(
        ended=ended,
        reason=reason,
        steps=tuple(walk.steps),
        after=walk.after,
        fell=ended == "stopped" and bool(walk.readings) and tilted(walk.readings[-1], limits),
        late_steps=walk.late_steps,
        period_s=period,
    )


class _Violation(Exception):
    """A limit that was violated, in words."""


class _Walk:
    """One walk: its control steps on the robot's clock, and what was recorded.

    Attributes:
        steps: of walking.
        readings: of all control steps, including those of standing up and settling.
        late_steps: how many began late.
    """

    def __init__(self, robot: Robot, controller: Controller, limits: Limits):
        self._robot, self._controller, self._limits = robot, controller, limits
        self._period_s = controller.contract.control_period_s
        self._due_s: float | None = None
        self._late_in_a_row = self.late_steps = 0
        self._first = 0
        self._read_at = 0.0
        self.readings: list[Reading] = []
        self.steps: list[StepRecord] = []

    @property
    def after(self) -> Reading | None:
        """The reading after the last step of walking."""
        following = self.readings[self._first + len(self.steps) :] if self.steps else []
        return following[0] if following else None

    def ramp(self, seconds: float) -> None:
        """Move the joints to the home pose: from their last targets, or at first from where they are."""
        home, count = self._controller.table.home_pose_rad, round(seconds / self._period_s)
        start = self.steps[-1].step.joint_targets_rad if self.steps else None
        for i in range(count):
            reading = self._next()
            start = reading.joint_angles_rad if start is None else start
            share = 0.5 - 0.5 * np.cos(np.pi * (i + 1) / count)
            self._send(start + share * (home - start))

    def walk(
        self,
        seconds: float,
        command_source: Callable[[float], Numbers],
        on_step: Callable[[StepRecord], object] | None,
    ) -> None:
        """Walk by the policy."""
        self._controller.reset()
        self._first = len(self.readings)
        began: float | None = None
        for _ in range(round(seconds / self._period_s)):
            reading = self._next()
            began = reading.time_s if began is None else began
            step = self._controller.step(reading, command_source(reading.time_s - began))
            if (wrong := command_violation(step.command, self._limits)) is not None:
                raise _Violation(wrong)
            loop_s = time.perf_counter() - self._read_at
            self._send(step.joint_targets_rad)
            self.steps.append(StepRecord(reading, step, loop_s))
            if on_step is not None:
                on_step(self.steps[-1])

    def _next(self) -> Reading:
        """Wait for the next control step, read and check."""
        robot, limits = self._robot, self._limits
        due = robot.now_s() if self._due_s is None else self._due_s
        robot.wait_until(due)
        now = robot.now_s()
        if now < due - limits.late_s:
            raise _Violation(
                f"the robot's clock is at {now:.3f} s after waiting for {due:.3f} s: it has stopped"
            )
        late = not now - due <= limits.late_s  # true of a NaN too
        self.late_steps += late
        self._late_in_a_row = self._late_in_a_row + 1 if late else 0
        self._due_s = (now if late else due) + self._period_s
        reading = robot.read()
        self._read_at = time.perf_counter()
        self.readings.append(reading)
        wrong = violation(reading, robot.now_s(), self._controller.table, limits)
        if wrong is not None:
            raise _Violation(wrong)
        if self._late_in_a_row >= limits.late_steps:
            raise _Violation(
                f"{self._late_in_a_row} control steps in a row began more than {1e3 * limits.late_s:g} ms "
                f"late, the last by {1e3 * (now - due):.1f} ms: the computer cannot keep up"
            )
        return reading

    def _send(self, joint_targets_rad: np.ndarray) -> None:
        """Send targets unchanged: the controller clips them to the limits before matching them."""
        contract = self._controller.contract
        self._robot.send(joint_targets_rad, contract.p_gain_nm_per_rad, contract.d_gain_nms_per_rad)


def _damp(robot: Robot) -> None:
    """Damp a robot; try again if that fails or is interrupted."""
    for attempt in range(_DAMP_TRIES):
        try:
            return robot.damp()
        # A second Ctrl-C must not leave a robot standing stiff.
        except BaseException as error:
            if attempt + 1 == _DAMP_TRIES:
                raise DmcmError(
                    f"the robot could not be damped in {_DAMP_TRIES} tries: {type(error).__name__}: {error}. "
                    "Stop it by hand, with its remote control or by its battery."
                ) from error
    return None
