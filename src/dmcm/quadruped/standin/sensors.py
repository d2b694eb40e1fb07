"""The stand-in's sensors: what a real robot measures of itself, with offsets, wrong scales and noise."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from dmcm.quadruped.standin.gap import RealityGap


class StandInSensors:
    """Sensors of n robots; each robot has its own lasting errors.

    Attributes:
        joint_offset_rad: errors of the joints' zeros, shape (n, 12).
    """

    def __init__(self, gap: RealityGap, count: int, rng: np.random.Generator):
        """Draw the lasting errors.

        Args:
            gap: how large errors are.
            count: number of robots, n.
            rng: of these errors and of all noise.
        """
        self._gap, self._rng = gap, rng
        draw = rng.standard_normal
        self.joint_offset_rad = gap.joint_offset_rad * draw((count, 12))
        self._gyro_bias = gap.gyro_bias_rad_s * draw((count, 3))
        self._tilt_bias = gap.tilt_bias_rad * draw((count, 3))
        self._torque_scale = 1 + gap.torque_scale_error * draw((count, 12))
        # A force sensor that is dead or inverted would be found before any walk.
        self._force_scale = np.maximum(1 + gap.force_scale_error * draw((count, 4)), 0.2)

    def read(self, truth: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """One reading of everything in `SENSED`, from the truth about it, shape (n, size) each."""
        gap = self._gap
        noise = {name: self._rng.standard_normal(value.shape) for name, value in truth.items()}
        tilt = self._tilt_bias + gap.tilt_noise_rad * noise["gravity_direction"]
        gravity = truth["gravity_direction"] + np.cross(tilt, truth["gravity_direction"])
        forces = self._force_scale * truth["foot_forces_n"] + gap.force_noise_n * noise["foot_forces_n"]
        return {
            "joint_angles_rad": truth["joint_angles_rad"]
            + self.joint_offset_rad
            + gap.joint_noise_rad * noise["joint_angles_rad"],
            "joint_speeds_rad_s": truth["joint_speeds_rad_s"]
            + gap.joint_speed_noise_rad_s * noise["joint_speeds_rad_s"],
            "torques_nm": self._torque_scale * truth["torques_nm"]
            + gap.torque_noise_nm * noise["torques_nm"],
            "gyro_rad_s": truth["gyro_rad_s"] + self._gyro_bias + gap.gyro_noise_rad_s * noise["gyro_rad_s"],
            "gravity_direction": gravity / np.linalg.norm(gravity, axis=1, keepdims=True),
            "foot_forces_n": np.maximum(forces, 0.0),
        }
