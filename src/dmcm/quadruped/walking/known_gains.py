"""What a vector says about a robot's joint controllers, and joint targets that compensate for it."""

from __future__ import annotations

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dmcm.quadruped.body.robot_table import RobotTable

P_SHARES, D_SHARES = (0.4, 2.0), (0.7, 1.5)
"""Bounds to which estimated gains are clipped, as fractions of the published ones. No more than 0.3 of the
published D gain is made up for: targets act late, so that with more of it late joints oscillate."""
LEAD_S = 0.015
"""How far ahead of a decision joint angles are extrapolated by their speeds. Targets act for a control step
of 20 ms and, on training robots, 0 to 15 ms late: this is about the middle of the time in which they act."""
LOG_LIMIT = 9.0
"""Logarithms are first clipped to plus and minus this: those of extreme vectors would overflow."""


class GainReader(eqx.Module):
    """Estimates a robot's P and D gain from what a policy is given.

    For vectors, the logarithms of both gains are a linear function, which also holds some way outside
    training; for the true properties, the gains themselves are.

    Attributes:
        slope: of the two estimates by each number given, shape (2, told).
        offset: of the two estimates, shape (2,).
        logarithmic: whether the linear function gives logarithms of gains or gains, in units of the
            published.
    """

    slope: Float[Array, "2 told"]
    offset: Float[Array, " 2"]
    logarithmic: bool = eqx.field(static=True)

    def __init__(self, told: int, *, logarithmic: bool = True):
        """Start with the published gains for any input."""
        self.slope = jnp.zeros((2, told))
        self.offset = jnp.zeros(2) if logarithmic else jnp.ones(2)
        self.logarithmic = logarithmic

    def fitted(self, vectors: np.ndarray, shares: np.ndarray) -> GainReader:
        """The least-squares fit to robots whose gains are known.

        Args:
            vectors: what is given of each, shape (n, told).
            shares: P and D gain of each in units of the published ones, shape (n, 2).
        """
        wanted = np.log(shares) if self.logarithmic else shares
        middle = vectors.mean(axis=0)
        slope = np.linalg.lstsq(vectors - middle, wanted - wanted.mean(axis=0), rcond=None)[0].T
        offset = wanted.mean(axis=0) - slope @ middle
        parts = (jnp.asarray(slope, jnp.float32), jnp.asarray(offset, jnp.float32))
        return eqx.tree_at(lambda reader: (reader.slope, reader.offset), self, parts)

    def __call__(self, vectors: np.ndarray) -> np.ndarray:
        """P and D gain of each robot in units of the published ones, clipped to the bounds, (n, 2)."""
        said = np.asarray(vectors) @ np.asarray(self.slope).T + np.asarray(self.offset)
        if self.logarithmic:
            said = np.exp(np.clip(said, -LOG_LIMIT, LOG_LIMIT))
        return np.clip(said, *np.array([P_SHARES, D_SHARES]).T)


def matched_targets(
    wanted_rad: np.ndarray,
    angles_rad: np.ndarray,
    speeds_rad_s: np.ndarray,
    shares: np.ndarray,
    table: RobotTable,
) -> np.ndarray:
    """Joint targets with which these controllers give the torques of published ones with other targets.

    P' (q' − q) − D' v = P (q* − q) − D v, with q* wanted and P', D' the robot's own gains:
    q' = q + (q* − q) P / P' + v (D' − D) / P'. Speeds v are those of the decision; angles q those that joints
    will have `LEAD_S` later at these speeds.

    Args:
        wanted_rad: targets for a robot as published, shape (n, 12).
        angles_rad: of the joints at the decision, shape (n, 12).
        speeds_rad_s: of the joints at the decision, shape (n, 12).
        shares: the robot's P and D gain in units of the published ones, shape (n, 2).
        table: the robot's facts.

    Returns:
        Shape (n, 12); may lie beyond the joints' limits, which a soft controller never reaches.
    """
    stiffness, damping = shares[:, :1], shares[:, 1:]
    time_s = table.d_gain_nms_per_rad / table.p_gain_nm_per_rad
    foreseen = angles_rad + LEAD_S * speeds_rad_s
    push = (wanted_rad - foreseen) / stiffness
    return foreseen + push + speeds_rad_s * time_s * (damping - 1.0) / stiffness
