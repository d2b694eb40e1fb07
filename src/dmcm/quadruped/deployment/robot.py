"""What a robot must provide to be walked: a reading of its sensors, and five calls."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import jax
import numpy as np

from dmcm.errors import ShapeError
from dmcm.quadruped.world.physics import SENSED

Numbers = np.ndarray | jax.Array | Sequence[float]
"""A vector from any source."""


@dataclasses.dataclass(frozen=True, eq=False)
class Reading:
    """What a robot measured at one time; joints and legs in the order of `JOINT_NAMES` and `LEGS`.

    Vectors are in the trunk frame: x forward, y left, z up. Arrays are copied, so that a robot may reuse its
    own.

    Raises:
        ShapeError: an array of another shape, or without numbers.
    """

    time_s: float
    """The robot's clock at the time of measurement."""
    joint_angles_rad: np.ndarray
    """Shape (12,)."""
    joint_speeds_rad_s: np.ndarray
    """Shape (12,)."""
    torques_nm: np.ndarray
    """Torques of the joints, shape (12,)."""
    gyro_rad_s: np.ndarray
    """Turning rates, shape (3,)."""
    gravity_direction: np.ndarray
    """Unit vector of gravity, shape (3,): (0, 0, −1) when level."""
    foot_forces_n: np.ndarray
    """Normal force on each foot, shape (4,)."""

    def __post_init__(self):
        for name, size in SENSED.items():
            value = getattr(self, name)
            try:
                array = np.array(value, float)
            except (TypeError, ValueError) as error:
                raise ShapeError(f"the reading's {name} = {value!r} holds no numbers: {error}.") from error
            if array.shape != (size,):
                raise ShapeError(
                    f"the reading's {name} has shape {array.shape} but must have shape ({size},). The robot "
                    "must give twelve joints and four legs; leave out anything else that its messages hold."
                )
            object.__setattr__(self, name, array)


@runtime_checkable
class Robot(Protocol):
    """A robot, simulated or real. A call that fails raises; none may wait for ever."""

    def now_s(self) -> float:
        """The robot's clock, which never goes back."""
        ...

    def read(self) -> Reading:
        """The latest reading; it may be old, which its time tells."""
        ...

    def send(
        self, joint_targets_rad: np.ndarray, p_gain_nm_per_rad: float, d_gain_nms_per_rad: float
    ) -> None:
        """Set the targets and gains of the joint controllers from now on.

        Args:
            joint_targets_rad: shape (12,).
            p_gain_nm_per_rad: torque per distance from the target.
            d_gain_nms_per_rad: opposing torque per joint speed.
        """
        ...

    def damp(self) -> None:
        """Let the robot sink: no position gain, only damping. Safe at any time and any number of times."""
        ...

    def wait_until(self, time_s: float) -> None:
        """Return when the clock reaches this time, or at once if past it. Simulated robots move meanwhile."""
        ...
