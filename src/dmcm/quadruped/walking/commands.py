"""Commands to robots: velocities that change from time to time, and a heading to keep."""

from __future__ import annotations

import dataclasses

import numpy as np

from dmcm.errors import ConfigError
from dmcm.quadruped.world.simulation import CONTROL_PERIOD_S


@dataclasses.dataclass(frozen=True)
class CommandRanges:
    """Ranges that commands are drawn from."""

    forward_m_s: tuple[float, float] = (-0.3, 1.0)
    """Forward speed."""
    left_m_s: tuple[float, float] = (-0.4, 0.4)
    """Speed to the left."""
    yaw_rad_s: tuple[float, float] = (-0.8, 0.8)
    """Turning rate, for robots that turn freely."""
    heading_rad: tuple[float, float] = (-0.4, 0.4)
    """Heading to keep, for robots that do not turn freely."""
    keep_heading: float = 0.5
    """Share of robots that keep a heading; on slopes and stairs all do, so that uphill stays uphill."""
    duration_s: float = 4.0
    """Time after which a command changes."""

    def check(self) -> CommandRanges:
        """Return self, or raise `ConfigError` for invalid ranges."""
        for name in ("forward_m_s", "left_m_s", "yaw_rad_s", "heading_rad"):
            low, high = getattr(self, name)
            if not -np.inf < low <= high < np.inf:
                raise ConfigError(
                    f"commands.{name} = {low:g} to {high:g} must be finite, with the lower end first."
                )
        if not 0 <= self.keep_heading <= 1:
            raise ConfigError(f"commands.keep_heading={self.keep_heading} must be a share from 0 to 1.")
        if not CONTROL_PERIOD_S <= self.duration_s < np.inf:
            raise ConfigError(
                f"commands.duration_s={self.duration_s} must be finite and at least one control step."
            )
        return self


HEADING_GAIN = 1.5
"""Yaw rate per radian of heading error, 1/s."""


def speed_along(velocity: np.ndarray, command: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Actual and commanded speed of robots in the commanded direction.

    Args:
        velocity: of the trunks, m/s, shape (n, 2 or more).
        command: forward and left speed (m/s), yaw rate (rad/s), shape (n, 3).

    Returns:
        Speed in the commanded direction, negative against it, and the commanded speed; m/s, (n,) each.
    """
    wanted = np.linalg.norm(command[:, :2], axis=1)
    made = np.sum(velocity[:, :2] * command[:, :2], axis=1) / np.maximum(wanted, 1e-6)
    return made, wanted


class Commands:
    """The commands of n robots.

    Attributes:
        velocity: current forward and left speed (m/s) and yaw rate (rad/s), as commanded, shape (n, 3).
        heading: heading to keep, rad; NaN for robots that turn freely, shape (n,).
    """

    def __init__(self, ranges: CommandRanges, count: int):
        """Start with zero commands."""
        self.ranges = ranges
        self.velocity = np.zeros((count, 3))
        self.heading = np.full(count, np.nan)

    def draw(self, ids: np.ndarray, directional: np.ndarray, rng: np.random.Generator) -> None:
        """Give robots new commands.

        Args:
            ids: which, shape (k,).
            directional: whether each one's ground has an uphill direction, shape (k,).
            rng: random generator.
        """
        ranges, count = self.ranges, len(ids)
        self.velocity[ids] = np.stack(
            [
                rng.uniform(*limits, count)
                for limits in (ranges.forward_m_s, ranges.left_m_s, ranges.yaw_rad_s)
            ],
            axis=1,
        )
        keeps = (rng.random(count) < ranges.keep_heading) | directional
        self.heading[ids] = np.where(keeps, rng.uniform(*ranges.heading_rad, count), np.nan)

    def follow_heading(self, yaw_rad: np.ndarray) -> None:
        """Turn robots that keep a heading towards it.

        Args:
            yaw_rad: present headings, shape (n,).
        """
        error = (self.heading - yaw_rad + np.pi) % (2 * np.pi) - np.pi
        low, high = self.ranges.yaw_rad_s
        self.velocity[:, 2] = np.where(
            np.isnan(error), self.velocity[:, 2], np.clip(HEADING_GAIN * error, low, high)
        )
