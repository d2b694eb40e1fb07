"""What a vector says of a robot's joint controllers, and how joint targets make up for it."""

from __future__ import annotations

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dmcm.quadruped.body.robot_table import RobotTable

P_SHARES, D_SHARES = (0.4, 2.0), (0.35, 1.5)
"""Least and most that readings of P and D gain are believed, as shares of the published ones."""
LEAD_S = 0.015
"""How far ahead of a decision joint angles are foreseen by their speeds. Targets act for a control step of
20 ms and, on robots of training, 0 to 15 ms late: this is about the middle of the time in which they act."""
LOG_LIMIT = 9.0
"""Logarithms are cut at plus and minus this first, for those of vectors from very far away overflow."""


class GainReader(eqx.Module):
    """Reads a robot's P and D gain out of what a policy is told.

    Vectors say the logarithms of both as a linear function, which holds some way outside training too; the
    truth says the gains themselves.

    Attributes:
        slope: of the two readings by each number told, shape (2, told).
        offset: of the two readings, shape (2,).
        logarithmic: whether readings are logarithms of gains in units of the published ones, or gains.
    """

    slope: Float[Array, "2 told"]
    offset: Float[Array, " 2"]
    logarithmic: bool = eqx.field(static=True)

    def __init__(self, told: int, *, logarithmic: bool = True):
        """Reads the published gains, whatever is told."""
        self.slope = jnp.zeros((2, told))
        self.offset = jnp.zeros(2) if logarithmic else jnp.ones(2)
        self.logarithmic = logarithmic

    def fitted(self, vectors: np.ndarray, shares: np.ndarray) -> GainReader:
        """The reader that errs least on robots whose gains are known.

        Args:
            vectors: what is told of each, shape (n, told).
            shares: P and D gain of each in units of the published ones, shape (n, 2).
        """
        wanted = np.log(shares) if self.logarithmic else shares
        middle = vectors.mean(axis=0)
        slope = np.linalg.lstsq(vectors - middle, wanted - wanted.mean(axis=0), rcond=None)[0].T
        offset = wanted.mean(axis=0) - slope @ middle
        parts = (jnp.asarray(slope, jnp.float32), jnp.asarray(offset, jnp.float32))
        return eqx.tree_at(lambda reader: (reader.slope, reader.offset), self, parts)

    def __call__(self, vectors: np.ndarray) -> np.ndarray:
        """P and D gain of each robot in units of the published ones, within what is believed, (n, 2)."""
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
    """Joint targets from which these controllers make the torques that published ones make of other targets.

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
        Shape (n, 12); may lie beyond the joints' limits, for a soft controller never gets there.
    """
    stiffness, damping = shares[:, :1], shares[:, 1:]
    time_s = table.d_gain_nms_per_rad / table.p_gain_nm_per_rad
    foreseen = angles_rad + LEAD_S * speeds_rad_s
    push = (wanted_rad - foreseen) / stiffness
    return foreseen + push + speeds_rad_s * time_s * (damping - 1.0) / stiffness
