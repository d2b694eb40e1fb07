"""The reality gap: how motors and sensors of the stand-in differ from those of training."""

from __future__ import annotations

import dataclasses

import numpy as np

from dmcm.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class RealityGap:
    """What training never saw. Engine, integrator, time step and contacts differ whatever the settings.

    Lasting sensor errors (offsets, biases, wrong scales) are drawn once per robot, noise at every reading.
    """

    torque_lag_s: float = 0.004
    """Time constant with which a motor's torque follows what its controller asks for."""
    no_load_speeds_rad_s: tuple[float, float, float] = (30.1, 30.1, 20.06)
    """Speeds of hip, thigh and calf at which a motor no longer gives torque; those of the Go1 are the joint
    speed limits in Unitree's robot description (unitreerobotics/unitree_ros, go1_description)."""
    full_torque_share: float = 0.3
    """Share of the no-load speed up to which a motor gives its peak torque; from there on it falls in a
    straight line. 1 is a motor without such a limit."""
    viscous_friction_nms_per_rad: float = 0.05
    """Damping of every joint, on top of the published one."""
    joint_offset_rad: float = 0.01
    """Standard deviation of the error of a joint's zero."""
    joint_noise_rad: float = 0.002
    """Standard deviation of a joint angle's noise."""
    joint_speed_noise_rad_s: float = 0.15
    """Standard deviation of a joint speed's noise."""
    gyro_bias_rad_s: float = 0.01
    """Standard deviation of the gyroscope's bias about each axis."""
    gyro_noise_rad_s: float = 0.02
    """Standard deviation of its noise."""
    tilt_bias_rad: float = 0.01
    """Standard deviation of the error of the estimated vertical about each axis."""
    tilt_noise_rad: float = 0.005
    """Standard deviation of its noise."""
    torque_scale_error: float = 0.08
    """Standard deviation of the relative error of a joint's estimated torque."""
    torque_noise_nm: float = 0.2
    """Standard deviation of its noise."""
    force_scale_error: float = 0.15
    """Standard deviation of the relative error of a foot's force sensor."""
    force_noise_n: float = 1.5
    """Standard deviation of its noise."""

    def check(self) -> RealityGap:
        """Return self, or raise `ConfigError` for impossible motors or sensors."""
        values = np.concatenate([np.atleast_1d(value) for value in dataclasses.astuple(self)])
        if not np.all(np.isfinite(values)) or values.min() < 0:
            raise ConfigError(f"a reality gap must have finite numbers that are not negative: {self}.")
        if not 0 < self.full_torque_share <= 1 or min(self.no_load_speeds_rad_s) <= 0:
            raise ConfigError(
                f"full_torque_share={self.full_torque_share} must lie in (0, 1], no_load_speeds_rad_s="
                f"{self.no_load_speeds_rad_s} must be above 0."
            )
        return self

    def scaled(self, size: float) -> RealityGap:
        """The gap made smaller or larger.

        Args:
            size: 0 leaves only the other engine, 1 is this gap, 2 doubles lag, friction and errors and lets
                torque fall from a lower speed on.

        Raises:
            ConfigError: a size below 0.
        """
        if not np.isfinite(size) or size < 0:
            raise ConfigError(f"size={size}: a reality gap is scaled by 0 or more.")
        fixed = ("no_load_speeds_rad_s", "full_torque_share")
        values = {k: size * v for k, v in dataclasses.asdict(self).items() if k not in fixed}
        # Between no limit (1) and this one as 1/share, which is as good as linear in how early torque falls.
        share = 1 / (1 + size * (1 / self.full_torque_share - 1))
        return dataclasses.replace(self, **values, full_torque_share=share)
