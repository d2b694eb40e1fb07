"""The reward of walking: a weighted sum of terms, never below zero."""

from __future__ import annotations

import dataclasses

import numpy as np

from dmcm.errors import ConfigError
from dmcm.quadruped.walking.commands import speed_along
from dmcm.quadruped.world.physics import Physics
from dmcm.quadruped.world.simulation import CONTROL_PERIOD_S

_SLOW_M_S = 0.3
"""Below this, the sway of the trunk would dominate a share of the commanded speed."""


@dataclasses.dataclass(frozen=True)
class RewardWeights:
    """Weights of the terms, per second."""

    track_velocity: float = 1.0
    """Horizontal velocity as commanded: exp(−error² / 0.25), m/s."""
    track_yaw: float = 0.5
    """Yaw rate as commanded: exp(−error² / 0.25), rad/s."""
    advance: float = 0.5
    """Speed in the commanded direction as a share of the commanded one (of 0.3 m/s where that is less), at
    most 1. It rises linearly up to there, so that a robot that is stuck gains by any progress."""
    vertical_speed: float = -0.5
    """Squared speed of the trunk along its own upward axis, m²/s²; on level ground only."""
    tumbling: float = -0.03
    """Squared roll and pitch rates, rad²/s²."""
    tilt: float = -1.0
    """Squared horizontal part of the gravity direction; on level ground only."""
    torque: float = -1e-4
    """Sum of squared motor torques, N²m²."""
    action_change: float = -0.01
    """Sum of squared changes of the action."""
    action_size: float = -0.003
    """Sum of squared actions."""

    def check(self) -> RewardWeights:
        """Return self, or raise `ConfigError` for a weight that is not finite."""
        for name, weight in dataclasses.asdict(self).items():
            if not np.isfinite(weight):
                raise ConfigError(f"rewards.{name}={weight} must be a finite number.")
        return self


def reward(
    simulation: Physics,
    command: np.ndarray,
    action: np.ndarray,
    previous_action: np.ndarray,
    level: np.ndarray,
    weights: RewardWeights,
) -> np.ndarray:
    """Reward of the control step just made.

    Totals are clipped at zero: negative rewards would teach the robot to end the episode by falling.

    Args:
        simulation: after the step.
        command: forward and left speed (m/s), yaw rate (rad/s), shape (n, 3).
        action: of this step, shape (n, 12).
        previous_action: of the step before, shape (n, 12).
        level: whether each robot's ground is level on average, shape (n,).
        weights: of the terms.

    Returns:
        Shape (n,).
    """
    velocity = simulation.trunk_velocity_m_s
    gyro = simulation.gyro_rad_s
    gravity = simulation.gravity_direction
    made, wanted = speed_along(velocity, command)
    terms = {
        "track_velocity": np.exp(-np.sum((velocity[:, :2] - command[:, :2]) ** 2, axis=1) / 0.25),
        "track_yaw": np.exp(-((gyro[:, 2] - command[:, 2]) ** 2) / 0.25),
        "advance": np.minimum(made, wanted) / np.maximum(wanted, _SLOW_M_S),
        "vertical_speed": level * velocity[:, 2] ** 2,
        "tumbling": np.sum(gyro[:, :2] ** 2, axis=1),
        "tilt": level * np.sum(gravity[:, :2] ** 2, axis=1),
        "torque": np.sum(simulation.torques_nm**2, axis=1),
        "action_change": np.sum((action - previous_action) ** 2, axis=1),
        "action_size": np.sum(action**2, axis=1),
    }
    total = sum(getattr(weights, name) * value for name, value in terms.items())
    return np.maximum(total, 0.0) * CONTROL_PERIOD_S
