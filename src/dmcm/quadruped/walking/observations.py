"""What a robot senses and, separately, the truth that only a simulation knows."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from dmcm.columns import slices
from dmcm.errors import ConfigError
from dmcm.quadruped.body.properties import PROPERTY_NAMES
from dmcm.quadruped.world.physics import Physics

OBSERVATION: Mapping[str, int] = {
    "gyro_rad_s": 3,
    "gravity_direction": 3,
    "command": 3,
    "joint_offsets_rad": 12,
    "joint_speeds_rad_s": 12,
    "previous_action": 12,
    "gait_phase": 2,
    "foot_contact": 4,
}
"""Parts of an observation in order, and their sizes. Vectors are in the trunk frame; joint offsets are
relative to the home pose; the gait phase is given by its sine and cosine; contact is 1 above `CONTACT_N`."""

PRIVILEGED: Mapping[str, int] = {
    "trunk_velocity_m_s": 3,
    "clearance_m": 1,
    "ground_heights_m": 9,
    "foot_forces_n": 4,
    "properties": len(PROPERTY_NAMES),
    "friction": 1,
}
"""Parts of the privileged state in order, and their sizes. Ground heights are those on a grid of 3 × 3
points around the robot, 0.25 m apart, along the world's axes, relative to the ground below the trunk."""

CONTACT_N = 5.0
"""Force above which a foot counts as touching the ground."""

_GRID_M = np.array([[0.25 * i, 0.25 * j] for i in (-1, 0, 1) for j in (-1, 0, 1)])


@dataclasses.dataclass(frozen=True)
class NoiseScales:
    """Standard deviations of the sensors' noise; zero by default."""

    gyro_rad_s: float = 0.0
    """Turning rates."""
    gravity: float = 0.0
    """Each part of the gravity direction."""
    joint_rad: float = 0.0
    """Joint angles."""
    joint_speed_rad_s: float = 0.0
    """Joint speeds."""

    def __post_init__(self):
        """Refuse scales that are negative or not finite."""
        if not all(0 <= scale < np.inf for scale in dataclasses.astuple(self)):
            raise ConfigError(f"noise scales must be finite and not negative: {self}.")


REALISTIC_NOISE = NoiseScales(gyro_rad_s=0.1, gravity=0.02, joint_rad=0.01, joint_speed_rad_s=0.5)
"""Approximate noise of a Go1's sensors."""


_WHERE = slices(OBSERVATION)


def part(name: str) -> slice:
    """Columns of a part of an observation."""
    return _WHERE[name]


class Sensors:
    """Reads n robots' sensors, with noise and delay."""

    def __init__(self, noise: NoiseScales, delay_steps: int, count: int):
        """Start without a past.

        Args:
            noise: of the sensors.
            delay_steps: delay of readings in control steps.
            count: number of robots, n.
        """
        self.size = sum(OBSERVATION.values())
        self._noise = np.zeros(self.size)
        for name, scale in (
            ("gyro_rad_s", noise.gyro_rad_s),
            ("gravity_direction", noise.gravity),
            ("joint_offsets_rad", noise.joint_rad),
            ("joint_speeds_rad_s", noise.joint_speed_rad_s),
        ):
            self._noise[part(name)] = scale
        # What the controller itself knows (command, action, phase) is never late.
        self._late = np.zeros(self.size, bool)
        for name in (
            "gyro_rad_s",
            "gravity_direction",
            "joint_offsets_rad",
            "joint_speeds_rad_s",
            "foot_contact",
        ):
            self._late[part(name)] = True
        self._past = np.zeros((delay_steps + 1, count, self.size))
        self._fresh = np.ones(count, bool)

    def forget(self, ids: np.ndarray) -> None:
        """Clear the past of some robots: their next reading fills it."""
        self._fresh[ids] = True

    def read(
        self,
        simulation: Physics,
        command: np.ndarray,
        action: np.ndarray,
        phase: np.ndarray,
        rng: np.random.Generator,
        ids: np.ndarray | slice = slice(None),
    ) -> np.ndarray:
        """Observations of some robots, each once per control step.

        Args:
            simulation: the robots.
            command: shape (n, 3).
            action: the last one, shape (n, 12).
            phase: of the gait, shape (n,).
            rng: source of the noise.
            ids: which robots, k of them.

        Returns:
            Shape (k, size), single precision.
        """
        now = np.concatenate(
            [
                simulation.gyro_rad_s[ids],
                simulation.gravity_direction[ids],
                command[ids],
                simulation.joint_angles_rad[ids] - simulation.table.home_pose_rad,
                simulation.joint_speeds_rad_s[ids],
                action[ids],
                np.sin(2 * np.pi * phase[ids])[:, None],
                np.cos(2 * np.pi * phase[ids])[:, None],
                simulation.foot_forces_n[ids] > CONTACT_N,
            ],
            axis=1,
        )
        if self._noise.any():
            now += rng.normal(size=now.shape) * self._noise
        if len(self._past) == 1:
            return now.astype(np.float32)
        past = self._past[:, ids]
        past = np.where(self._fresh[ids][:, None], now, np.concatenate([past[1:], now[None]]))
        self._past[:, ids] = past
        self._fresh[ids] = False
        return np.where(self._late, past[0], now).astype(np.float32)


def privileged_state(simulation: Physics) -> np.ndarray:
    """The truth about each robot, in the order of `PRIVILEGED`, shape (n, size), single precision."""
    below = simulation.qpos[:, :2]
    heights = simulation.arena.height(simulation.tile, below[:, None] + _GRID_M)
    ground = simulation.arena.height(simulation.tile, below)
    return np.concatenate(
        [
            simulation.trunk_velocity_m_s,
            (simulation.qpos[:, 2] - ground)[:, None],
            heights - ground[:, None],
            simulation.foot_forces_n,
            np.stack([simulation.properties[name] for name in PROPERTY_NAMES], axis=1),
            simulation.arena.friction[simulation.tile][:, None],
        ],
        axis=1,
    ).astype(np.float32)
