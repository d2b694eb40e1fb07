"""Many robots, each with its own body and ground, stepped together."""

# mujoco re-exports compiled modules that type checkers cannot see.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import mujoco
import numpy as np
from mujoco.batch import Batch

from dmcm.errors import ConfigError, ShapeError
from dmcm.quadruped.body.properties import PROPERTY_NAMES, RobotProperties, as_columns, nominal
from dmcm.quadruped.body.robot_table import JOINTS, LEGS, RobotTable
from dmcm.quadruped.world.arena import Arena
from dmcm.quadruped.world.model import TIMESTEP_S, build_model
from dmcm.quadruped.world.rotations import rotate_into_body, yaw_of, yaw_quaternion
from dmcm.quadruped.world.terrain import Terrain

SUBSTEPS = 4
"""Steps of the physics per control step."""
CONTROL_PERIOD_S = SUBSTEPS * TIMESTEP_S
"""Time between two joint targets: 50 Hz."""
_FASTEST_RAD_S = 150.0
"""A joint or trunk faster than this belongs to a simulation that has diverged, not to a robot."""


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """Everything that the future of a `Simulation` depends on."""

    terrains: Sequence[Terrain]
    state: np.ndarray
    tile: np.ndarray
    moved_m: np.ndarray
    properties: dict[str, np.ndarray]


class Simulation:
    """A batch of robots of one table in one arena. Deterministic, for any number of threads.

    Positions, speeds and controls are live views of the physics' state; other readings describe the last
    substep.

    Attributes:
        table: the robot's facts.
        arena: the grounds.
        batch: MuJoCo's batch, for everything not offered here.
        tile: ground of each robot, shape (n,).
        moved_m: how far each robot has been moved when it left its tile's period, shape (n, 3).
        diverged: robots that diverged in the last step, shape (n,).
        divergences: how often robots have diverged so far.
    """

    def __init__(self, table: RobotTable, arena: Arena, count: int, *, threads: int = 0):
        """Build the model and put all robots, as published, on the first ground.

        Args:
            table: the robot's facts.
            arena: the grounds.
            count: number of robots, n.
            threads: physics threads; 0 means one per core.

        Raises:
            ConfigError: a count below 1.
            DataError: MuJoCo refuses the robot.
        """
        if count < 1:
            raise ConfigError(f"count={count}: simulate at least one robot.")
        # MuJoCo's own warnings go to stderr and a file in the working directory; `diverged` says it better.
        mujoco.set_mju_user_warning(lambda _: None)
        self.table, self.arena = table, arena
        self.model = build_model(table, arena)
        self.batch = Batch(self.model, count, threads)
        self.qpos: np.ndarray = self.batch.bind("qpos")
        self.qvel: np.ndarray = self.batch.bind("qvel")
        self._targets: np.ndarray = self.batch.bind("ctrl")
        self._past_targets: np.ndarray = self.batch.bind("history")
        self._past_home = _history_of_home(self.model)
        self._force: np.ndarray = self.batch.bind("actuator_force")
        self._sensors: np.ndarray = self.batch.bind("sensordata")
        self._fields = {name: self.batch.expand(name) for name in _PER_ROBOT_FIELDS}
        self._published = {name: np.array(getattr(self.model, name)) for name in _PER_ROBOT_FIELDS}
        self._touching = [geom for geom in range(self.model.ngeom) if self.model.geom_priority[geom] == 1]
        self._legs = [self.model.body(f"{leg}_{part}").id for leg in LEGS for part in JOINTS]
        self._payload = self.model.body("payload").id
        self.tile = np.zeros(count, int)
        self.moved_m = np.zeros((count, 3))
        self.diverged = np.zeros(count, bool)
        self.divergences = 0
        self.properties: dict[str, np.ndarray] = {}
        everyone = np.arange(count)
        self.set_robots(everyone, [nominal(table)] * count)
        self.place(everyone, self.tile)

    @property
    def count(self) -> int:
        """Number of robots."""
        return len(self.tile)

    def set_robots(self, ids: np.ndarray, robots: Sequence[RobotProperties]) -> None:
        """Give robots other bodies; their pose and motion stay.

        Args:
            ids: which, shape (k,).
            robots: k properties.

        Raises:
            ShapeError: the numbers of properties and ids differ.
            ConfigError: properties no robot can have.
        """
        if len(robots) != len(ids):
            raise ShapeError(f"{len(ids)} robots need as many properties, not {len(robots)}.")
        columns = as_columns([robot.check() for robot in robots])
        if not self.properties:
            self.properties = {name: np.zeros(self.count) for name in PROPERTY_NAMES}
        for name, values in columns.items():
            self.properties[name][ids] = values
        self._write_properties(ids)

    def place(
        self,
        ids: np.ndarray,
        tile: np.ndarray,
        *,
        yaw_rad: np.ndarray | float = 0.0,
        share: np.ndarray | float = 0.5,
    ) -> None:
        """Stand robots on a ground at rest, in the home pose.

        Args:
            ids: which, shape (k,).
            tile: numbers of their grounds, shape (k,).
            yaw_rad: heading, 0 along x, shape (k,) or a number.
            share: where in the ground's period, x and y as shares of it, shape (k, 2) or a number.

        Raises:
            ConfigError: a tile that the arena lacks.
        """
        if not len(ids):
            return
        self.arena.check_tiles(tile)
        arena, qpos = self.arena, self.qpos
        self.tile[ids] = tile
        self.batch.reset(ids=ids, keyframe=0, stage=mujoco.mjtStage.mjSTAGE_NONE.value)
        self._past_targets[ids] = self._past_home
        xy = arena.corner_m[tile] + share * arena.period_m[tile]
        qpos[ids, :2] = xy
        qpos[ids, 2] = arena.height_under(tile, xy, self.table) + self.table.home_height_m
        qpos[ids, 3:7] = yaw_quaternion(np.broadcast_to(yaw_rad, len(ids)))
        self.moved_m[ids] = 0.0
        self.diverged[ids] = False
        self._write_friction(ids)
        self.batch.forward(ids=ids)  # so that forces and sensors belong to the new place

    def step(self, targets_rad: np.ndarray) -> None:
        """One control step.

        A robot that diverges (not finite, faster than any robot, or refused by the physics) is marked in
        `diverged`, counted, and placed again in the middle of its ground.

        Args:
            targets_rad: targets of the joint controllers, shape (n, 12).

        Raises:
            ShapeError: targets of another shape.
        """
        if targets_rad.shape != self._targets.shape:
            raise ShapeError(
                f"targets_rad has shape {targets_rad.shape}; {self.count} robots take {self._targets.shape}."
            )
        self._targets[:] = targets_rad
        self.batch.step(nstep=SUBSTEPS)
        warnings = self.batch.warning.sum(axis=tuple(range(1, self.batch.warning.ndim)))
        # A NaN compares false, so it counts as diverged. Placing a robot clears its warnings.
        apart = ~(np.abs(self.qvel).max(axis=1) < _FASTEST_RAD_S) | (warnings > 0)
        if apart.any():
            ids = np.flatnonzero(apart)
            self.divergences += len(ids)
            self.place(ids, self.tile[ids])
        self.diverged[:] = apart
        shift = self.arena.wrap(self.tile, self.qpos[:, :2])
        self.qpos[:, :3] += shift
        self.moved_m -= shift

    def snapshot(self) -> Snapshot:
        """A copy of everything the future depends on."""
        return Snapshot(
            self.arena.terrains,
            self.batch.state.copy(),
            self.tile.copy(),
            self.moved_m.copy(),
            {name: values.copy() for name, values in self.properties.items()},
        )

    def restore(self, snapshot: Snapshot) -> None:
        """Go back to a snapshot of this simulation.

        Torques, foot forces and accelerations are then those that begin the next substep.

        Raises:
            ConfigError: it has other grounds.
            ShapeError: it has another number of robots.
        """
        if list(snapshot.terrains) != list(self.arena.terrains):
            raise ConfigError(
                "the snapshot is of another arena. Restore it in a simulation of its own grounds."
            )
        if snapshot.state.shape != self.batch.state.shape:
            raise ShapeError(
                f"the snapshot is of {len(snapshot.tile)} robots, this simulation has {self.count}."
            )
        for name, values in snapshot.properties.items():
            self.properties[name][:] = values
        self._write_properties(np.arange(self.count))
        self.tile[:], self.moved_m[:] = snapshot.tile, snapshot.moved_m
        self._write_friction(np.arange(self.count))
        self.batch.state[:] = snapshot.state
        self.batch.forward()  # so that forces and sensors belong to it; the state itself must keep its bits
        self.batch.state[:] = snapshot.state
        self.diverged[:] = False

    @property
    def travelled_m(self) -> np.ndarray:
        """Position in a world whose ground never ends, shape (n, 3), since the robots were placed."""
        return self.qpos[:, :3] + self.moved_m

    @property
    def joint_angles_rad(self) -> np.ndarray:
        """Joint angles, shape (n, 12)."""
        return self.qpos[:, 7:]

    @property
    def joint_speeds_rad_s(self) -> np.ndarray:
        """Joint speeds, shape (n, 12)."""
        return self.qvel[:, 6:]

    @property
    def torques_nm(self) -> np.ndarray:
        """Motor torques, shape (n, 12)."""
        return self._force

    @property
    def gyro_rad_s(self) -> np.ndarray:
        """Turning rates in the trunk frame, shape (n, 3)."""
        return self.qvel[:, 3:6]

    @property
    def accelerometer_m_s2(self) -> np.ndarray:
        """Specific force in the trunk frame, shape (n, 3): 9.81 upward at rest."""
        return self._sensors[:, 7:10]

    @property
    def foot_forces_n(self) -> np.ndarray:
        """Normal force on each foot, shape (n, 4)."""
        return self._sensors[:, :4]

    @property
    def gravity_direction(self) -> np.ndarray:
        """Unit vector of gravity in the trunk frame, shape (n, 3): (0, 0, −1) when level."""
        return rotate_into_body(self.qpos[:, 3:7], np.array([0.0, 0.0, -1.0]))

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

    def _write_friction(self, ids: np.ndarray) -> None:
        """Give whatever touches the ground the friction of that ground."""
        friction = self.arena.friction[self.tile[ids]]
        self._fields["geom_friction"][np.asarray(ids)[:, None], self._touching, 0] = friction[:, None]

    def _write_properties(self, ids: np.ndarray) -> None:
        """Fill in the model's fields that robots differ in."""
        own = {name: values[ids] for name, values in self.properties.items()}
        fields, published = self._fields, self._published
        p_gain, d_gain = own["p_gain_nm_per_rad"][:, None], own["d_gain_nms_per_rad"][:, None]
        fields["actuator_gainprm"][ids, :, 0] = p_gain
        fields["actuator_biasprm"][ids, :, 1] = -p_gain
        fields["actuator_biasprm"][ids, :, 2] = -d_gain
        fields["actuator_forcerange"][ids] = (
            published["actuator_forcerange"] * own["motor_strength"][:, None, None]
        )
        # An action takes effect after whole substeps, at least one; half a substep less, so that it is that
        # many however simulated time is rounded.
        substeps = np.maximum(np.ceil(own["action_delay_s"] / TIMESTEP_S - 1e-6), 1)
        fields["actuator_delay"][ids] = ((substeps - 0.5) * TIMESTEP_S)[:, None]
        fields["dof_frictionloss"][ids, 6:] = own["joint_friction_nm"][:, None]
        scale = own["leg_mass_scale"][:, None]
        legs = self._legs
        fields["body_mass"][np.ix_(ids, legs)] = published["body_mass"][legs] * scale
        fields["body_inertia"][np.ix_(ids, legs)] = published["body_inertia"][legs] * scale[..., None]
        fields["body_mass"][ids, self._payload] = own["payload_kg"]
        fields["body_ipos"][ids, self._payload] = np.stack(
            [own[f"payload_{axis}_m"] for axis in "xyz"], axis=1
        )
        self.batch.set_const()


def _history_of_home(model: mujoco.MjModel) -> np.ndarray:
    """The delayed controllers' past after standing in the home pose; a reset alone leaves zeros in it."""
    data = mujoco.MjData(model)
    mujoco.mj_resetDataKeyframe(model, data, 0)
    for motor in range(model.nu):
        samples = model.actuator_history[motor, 0]
        mujoco.mj_initCtrlHistory(model, data, motor, None, np.full(samples, data.ctrl[motor]))
    return data.history.copy()


_PER_ROBOT_FIELDS = (
    "actuator_gainprm",
    "actuator_biasprm",
    "actuator_forcerange",
    "actuator_delay",
    "dof_frictionloss",
    "body_mass",
    "body_inertia",
    "body_ipos",
    "geom_friction",
)
