"""Many stand-in robots stepped together, as `dmcm.quadruped.world.simulation` steps those of training."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dmcm.errors import ConfigError, ShapeError
from dmcm.quadruped.body.properties import MAX_DELAY_S, PROPERTY_NAMES, RobotProperties, as_columns, nominal
from dmcm.quadruped.body.robot_table import RobotTable
from dmcm.quadruped.standin.engine import TIMESTEP_S, BulletRobot
from dmcm.quadruped.standin.gap import RealityGap
from dmcm.quadruped.standin.motors import Motors
from dmcm.quadruped.standin.sensors import StandInSensors
from dmcm.quadruped.world.arena import Arena
from dmcm.quadruped.world.physics import PhysicsMaker
from dmcm.quadruped.world.rotations import rotate_into_body, yaw_of, yaw_quaternion
from dmcm.quadruped.world.simulation import CONTROL_PERIOD_S

SUBSTEPS = round(CONTROL_PERIOD_S / TIMESTEP_S)
"""Steps of the physics per control step."""
_FASTEST_RAD_S = 99.0
"""Bullet clips every speed to 100, so a robot faster than this has diverged."""


class StandIn:
    """Robots in Bullet with motors and sensors that training never saw; a `Physics`.

    `joint_angles_rad`, `joint_speeds_rad_s`, `torques_nm`, `gyro_rad_s`, `gravity_direction` and
    `foot_forces_n` are what the sensors say at the end of a control step. All else is the truth, which no
    real robot knows and which is only for evaluation. Deterministic.

    Attributes:
        table: the robot's facts.
        arena: the grounds.
        qpos: place in the arena, orientation (w, x, y, z) and joint angles, shape (n, 19); read only.
        qvel: velocity in the world, turning rate in the trunk frame, joint speeds, shape (n, 18); read only.
        tile: ground of each robot, shape (n,).
        moved_m: how far each robot has been moved when it left its tile's period, shape (n, 3).
        diverged: robots that diverged in the last step, shape (n,).
        divergences: how often robots have diverged so far.
        properties: of each robot, by name, shape (n,).
    """

    def __init__(
        self, table: RobotTable, arena: Arena, count: int, *, gap: RealityGap | None = None, seed: int = 0
    ):
        """Put all robots, as published, on the first ground.

        Args:
            table: the robot's facts.
            arena: the grounds.
            count: number of robots, n.
            gap: how motors and sensors differ from those of training; the usual one by default.
            seed: for the sensors' errors.

        Raises:
            ConfigError: a count below 1, or an impossible gap.
        """
        if count < 1:
            raise ConfigError(f"count={count}: simulate at least one robot.")
        self.table, self.arena, self.gap = table, arena, (gap or RealityGap()).check()
        self._robots = [BulletRobot(table) for _ in range(count)]
        self._motors = Motors(table, self.gap, count, TIMESTEP_S, MAX_DELAY_S)
        self._sensors = StandInSensors(self.gap, count, np.random.default_rng([seed, 7]))
        self.qpos, self.qvel = np.zeros((count, 19)), np.zeros((count, 18))
        self.tile, self.moved_m = np.zeros(count, int), np.zeros((count, 3))
        self.diverged, self.divergences = np.zeros(count, bool), 0
        self.properties = as_columns([nominal(table)] * count)
        self._forces = np.zeros((count, 4))
        self._sensed: dict[str, np.ndarray] = {}
        self.place(np.arange(count), self.tile)

    @property
    def count(self) -> int:
        """Number of robots."""
        return len(self.tile)

    def set_robots(self, ids: np.ndarray, robots: Sequence[RobotProperties]) -> None:
        """As `Simulation.set_robots`."""
        if len(robots) != len(ids):
            raise ShapeError(f"{len(ids)} robots need as many properties, not {len(robots)}.")
        for name, values in as_columns([robot.check() for robot in robots]).items():
            self.properties[name][ids] = values
        for i in ids:
            own = self._robots[i]
            own.read()
            own.embody(self._robot(i), own.qpos.copy(), own.qvel.copy())
        self._sense(ids)

    def place(
        self,
        ids: np.ndarray,
        tile: np.ndarray,
        *,
        yaw_rad: np.ndarray | float = 0.0,
        share: np.ndarray | float = 0.5,
    ) -> None:
        """As `Simulation.place`."""
        if not len(ids):
            return
        self.arena.check_tiles(tile)
        arena, table = self.arena, self.table
        self.tile[ids] = tile
        xy = share * arena.period_m[tile]
        below = arena.height_under(np.asarray(tile), xy + arena.corner_m[tile], table)
        turn = yaw_quaternion(np.broadcast_to(yaw_rad, len(ids)))
        for row, i in enumerate(ids):
            height = below[row] + table.home_height_m
            qpos = np.concatenate([xy[row], [height], turn[row], table.home_pose_rad])
            self._robots[i].stand(arena.terrains[self.tile[i]], self._robot(i), qpos)
        self._motors.rest(ids)
        self._forces[ids] = 0.0
        self.moved_m[ids] = 0.0
        self.diverged[ids] = False
        self._sense(ids)

    def step(self, targets_rad: np.ndarray) -> None:
        """As `Simulation.step`."""
        if targets_rad.shape != (self.count, 12):
            raise ShapeError(
                f"targets_rad has shape {targets_rad.shape}; {self.count} robots take {(self.count, 12)}."
            )
        offsets = self._sensors.joint_offset_rad
        angles, speeds = self.qpos[:, 7:], self.qvel[:, 6:]
        for _ in range(SUBSTEPS):
            torques = self._motors.step(targets_rad, angles + offsets, speeds, self.properties)
            for i, robot in enumerate(self._robots):
                robot.step(torques[i])
                angles[i], speeds[i] = robot.qpos[7:], robot.qvel[6:]
        for i, robot in enumerate(self._robots):
            self._forces[i] = robot.foot_forces_n()
            robot.read()
        apart = np.array([not np.abs(robot.qvel).max() < _FASTEST_RAD_S for robot in self._robots])
        if apart.any():
            ids = np.flatnonzero(apart)
            self.divergences += len(ids)
            self.place(ids, self.tile[ids])
        self.diverged[:] = apart
        here = np.stack([robot.qpos[:2] for robot in self._robots]) + self.arena.corner_m[self.tile]
        shift = self.arena.wrap(self.tile, here)
        for i in np.flatnonzero(np.abs(shift).max(axis=1) > 0):
            self._robots[i].move(shift[i])
        self.moved_m -= shift
        self._sense(np.arange(self.count))

    @property
    def travelled_m(self) -> np.ndarray:
        """As `Simulation.travelled_m`."""
        return self.qpos[:, :3] + self.moved_m

    @property
    def joint_angles_rad(self) -> np.ndarray:
        """Measured joint angles, shape (n, 12)."""
        return self._sensed["joint_angles_rad"]

    @property
    def joint_speeds_rad_s(self) -> np.ndarray:
        """Measured joint speeds, shape (n, 12)."""
        return self._sensed["joint_speeds_rad_s"]

    @property
    def torques_nm(self) -> np.ndarray:
        """Motor torques as estimated from currents, shape (n, 12)."""
        return self._sensed["torques_nm"]

    @property
    def gyro_rad_s(self) -> np.ndarray:
        """Measured turning rates in the trunk frame, shape (n, 3)."""
        return self._sensed["gyro_rad_s"]

    @property
    def gravity_direction(self) -> np.ndarray:
        """Estimated unit vector of gravity in the trunk frame, shape (n, 3)."""
        return self._sensed["gravity_direction"]

    @property
    def foot_forces_n(self) -> np.ndarray:
        """Measured force on each foot, shape (n, 4)."""
        return self._sensed["foot_forces_n"]

    @property
    def trunk_velocity_m_s(self) -> np.ndarray:
        """Velocity of the trunk in its own frame, shape (n, 3)."""
        return rotate_into_body(self.qpos[:, 3:7], self.qvel[:, :3])

    @property
    def yaw_rad(self) -> np.ndarray:
        """Heading, shape (n,)."""
        return yaw_of(self.qpos[:, 3:7])

    @property
    def clearance_m(self) -> np.ndarray:
        """Height of the trunk above the ground below it, shape (n,)."""
        return self.qpos[:, 2] - self.arena.height(self.tile, self.qpos[:, :2])

    def _robot(self, i: int | np.integer) -> RobotProperties:
        return RobotProperties(**{name: float(self.properties[name][i]) for name in PROPERTY_NAMES})

    def _sense(self, ids: np.ndarray) -> None:
        """Collect the truth, and let sensors of some robots read it; the others keep their last reading."""
        for i, robot in enumerate(self._robots):
            self.qpos[i], self.qvel[i] = robot.qpos, robot.qvel
        self.qpos[:, :2] += self.arena.corner_m[self.tile]
        read = self._sensors.read(
            {
                "joint_angles_rad": self.qpos[:, 7:],
                "joint_speeds_rad_s": self.qvel[:, 6:],
                "torques_nm": self._motors.torques_nm,
                "gyro_rad_s": self.qvel[:, 3:6],
                "gravity_direction": rotate_into_body(self.qpos[:, 3:7], np.array([0.0, 0.0, -1.0])),
                "foot_forces_n": self._forces,
            }
        )
        for name, values in read.items():
            # A new array: a caller may still hold the last one.
            self._sensed[name] = found = self._sensed.get(name, values).copy()
            found[ids] = values[ids]


def stand_in(gap: RealityGap, seed: int) -> PhysicsMaker:
    """What `WalkEnvironment` takes as its `physics`.

    Args:
        gap: how motors and sensors differ.
        seed: for the sensors' errors.
    """

    def make(table: RobotTable, arena: Arena, count: int, *, threads: int = 0) -> StandIn:
        del threads  # the engine steps robots one after the other
        return StandIn(table, arena, count, gap=gap, seed=seed)

    return make
