"""One robot on one ground in Bullet: another solver, contact model and integrator than MuJoCo's."""

from __future__ import annotations

import tempfile
import weakref
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dmcm.errors import ConfigError
from dmcm.quadruped.body.properties import RobotProperties
from dmcm.quadruped.body.robot_table import JOINT_NAMES, LEGS, RobotTable
from dmcm.quadruped.standin.urdf import robot_urdf
from dmcm.quadruped.world.arena import MARGIN_M
from dmcm.quadruped.world.terrain import CELL_M, MAPPED, Terrain

try:
    import pybullet
except ImportError as error:
    raise ConfigError(
        "the stand-in robot needs the Bullet engine: pip install 'dmcm[quadruped,standin]'. Where there is "
        "no built package for this Python, pip compiles it, which needs a C++ compiler and some minutes."
    ) from error

TIMESTEP_S = 0.002
"""Time step of the physics."""
_SOLVER_ITERATIONS = 50


class BulletRobot:
    """A robot on a ground of its own; frames and units as in `Simulation`.

    Bullet's articulated bodies (Featherstone's algorithm), semi-implicit Euler at 2 ms, hard contacts solved
    by sequential impulses, dry friction of joints as a constraint of the same solver.

    Attributes:
        close: frees the engine's memory, as does the end of the object.
        qpos: place, orientation (w, x, y, z) and joint angles, shape (19,), once `read` was called.
        qvel: velocity in the world, turning rate in the trunk frame, joint speeds, shape (18,), likewise.
    """

    def __init__(self, table: RobotTable):
        """An empty world."""
        self._table = table
        self._client = pybullet.connect(pybullet.DIRECT)
        # The engine has room for about a thousand worlds in a process.
        self.close = weakref.finalize(self, pybullet.disconnect, physicsClientId=self._client)
        self._ground: list[int] = []
        self._robot = -1
        self._terrain: Terrain | None = None
        self.qpos, self.qvel = np.zeros(19), np.zeros(18)
        pybullet.setGravity(0, 0, -9.81, physicsClientId=self._client)
        pybullet.setPhysicsEngineParameter(
            fixedTimeStep=TIMESTEP_S,
            numSolverIterations=_SOLVER_ITERATIONS,
            deterministicOverlappingPairs=1,
            physicsClientId=self._client,
        )

    def stand(self, terrain: Terrain, robot: RobotProperties, qpos: np.ndarray) -> None:
        """A new world with a ground and a robot at rest.

        Everything is built again because the solver remembers past contacts.

        Args:
            terrain: its period starts at the world's origin.
            robot: its body.
            qpos: where it stands, shape (19,).
        """
        if terrain != self._terrain:
            for part in self._ground:
                pybullet.removeBody(part, physicsClientId=self._client)
            self._ground, self._terrain = self._build(terrain), terrain
        self.embody(robot, qpos, np.zeros(18))

    def embody(self, robot: RobotProperties, qpos: np.ndarray, qvel: np.ndarray) -> None:
        """Give the robot another body, with the pose and motion given as in `qpos` and `qvel`."""
        client = self._client
        if self._robot >= 0:
            pybullet.removeBody(self._robot, physicsClientId=client)
        self._robot = self._load(robot_urdf(self._table, robot))
        names = {}
        for joint in range(pybullet.getNumJoints(self._robot, physicsClientId=client)):
            info = pybullet.getJointInfo(self._robot, joint, physicsClientId=client)
            names[info[12].decode()] = joint
        self._joints = [names[name] for name in JOINT_NAMES]
        self._feet = {names[f"{leg}_calf"]: number for number, leg in enumerate(LEGS)}
        for link in (-1, *self._joints):
            pybullet.changeDynamics(
                self._robot,
                link,
                lateralFriction=1.0,
                linearDamping=0.0,
                angularDamping=0.0,
                jointDamping=0.0,
                physicsClientId=client,
            )
        self._add_rotors()
        pybullet.setJointMotorControlArray(
            self._robot,
            self._joints,
            pybullet.VELOCITY_CONTROL,
            forces=[robot.joint_friction_nm] * 12,
            physicsClientId=client,
        )
        # Bullet's pose of a body is that of its centre of mass, in the axes of its principal moments.
        inertial = pybullet.getDynamicsInfo(self._robot, -1, physicsClientId=client)[3:5]
        self._from_trunk = inertial
        self._to_trunk = pybullet.invertTransform(*inertial)
        self.qpos[:], self.qvel[:] = qpos, qvel
        self._write()

    def step(self, torques_nm: np.ndarray) -> None:
        """One time step with a torque on each joint, shape (12,)."""
        pybullet.setJointMotorControlArray(
            self._robot,
            self._joints,
            pybullet.TORQUE_CONTROL,
            forces=torques_nm.tolist(),
            physicsClientId=self._client,
        )
        pybullet.stepSimulation(physicsClientId=self._client)
        self._read_joints()

    def read(self) -> None:
        """Bring `qpos` and `qvel` up to date; `step` does so only for the joints."""
        client = self._client
        place, turn = pybullet.getBasePositionAndOrientation(self._robot, physicsClientId=client)
        linear, angular = pybullet.getBaseVelocity(self._robot, physicsClientId=client)
        trunk, (x, y, z, w) = pybullet.multiplyTransforms(place, turn, *self._to_trunk)
        axes = np.array(pybullet.getMatrixFromQuaternion((x, y, z, w))).reshape(3, 3)
        lever = [there - here for there, here in zip(trunk, place, strict=True)]
        self.qpos[:7] = *trunk, w, x, y, z
        self.qvel[:3] = np.add(linear, _cross(angular, lever))
        self.qvel[3:6] = angular @ axes
        self._read_joints()

    def move(self, by_m: np.ndarray) -> None:
        """Move the robot without changing its motion, shape (3,)."""
        self.read()
        self.qpos[:3] += by_m
        self._write()

    def foot_forces_n(self) -> np.ndarray:
        """Normal force on each foot in the last step, shape (4,)."""
        forces = np.zeros(len(LEGS))
        for contact in pybullet.getContactPoints(bodyA=self._robot, physicsClientId=self._client):
            foot = self._feet.get(contact[3])
            if foot is not None and contact[2] != self._robot:
                forces[foot] += contact[9]
        return forces

    def ground_height(self, x: float, y: float) -> float:
        """Height at which a ray from above meets the ground."""
        down = pybullet.rayTest([x, y, 5.0], [x, y, -5.0], physicsClientId=self._client)
        return float(down[0][3][2])

    def _add_rotors(self) -> None:
        """Give the knees' links their rotors' inertia.

        Bullet has no rotors, so they turn with the links: thigh and knee feel one each, as they should, and
        so does the trunk's pitch, which should not. Hips get none: there a whole leg outweighs a rotor, and
        the trunk, which is light in roll, would feel four.
        """
        for link in self._feet:
            info = pybullet.getDynamicsInfo(self._robot, link, physicsClientId=self._client)
            axes = np.array(pybullet.getMatrixFromQuaternion(info[4])).reshape(3, 3)
            moments = np.array(info[2]) + self._table.armature_kgm2 * axes[1] ** 2
            pybullet.changeDynamics(
                self._robot, link, localInertiaDiagonal=moments.tolist(), physicsClientId=self._client
            )

    def _read_joints(self) -> None:
        states = pybullet.getJointStates(self._robot, self._joints, physicsClientId=self._client)
        self.qpos[7:] = [state[0] for state in states]
        self.qvel[6:] = [state[1] for state in states]

    def _write(self) -> None:
        """Set the robot's pose and motion from `qpos` and `qvel`."""
        client, robot = self._client, self._robot
        trunk, quaternion = self.qpos[:3].tolist(), np.roll(self.qpos[3:7], -1).tolist()
        place, turn = pybullet.multiplyTransforms(trunk, quaternion, *self._from_trunk)
        axes = np.array(pybullet.getMatrixFromQuaternion(quaternion)).reshape(3, 3)
        angular = axes @ self.qvel[3:6]
        linear = self.qvel[:3] + _cross(angular, np.subtract(place, trunk))
        pybullet.resetBasePositionAndOrientation(robot, place, turn, physicsClientId=client)
        for joint, angle, speed in zip(self._joints, self.qpos[7:], self.qvel[6:], strict=True):
            pybullet.resetJointState(robot, joint, angle, speed, physicsClientId=client)
        pybullet.resetBaseVelocity(robot, linear.tolist(), angular.tolist(), physicsClientId=client)

    def _load(self, text: str) -> int:
        # Bullet reads robots only from files.
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "robot.urdf"
            path.write_text(text, encoding="utf-8")
            return pybullet.loadURDF(
                str(path), flags=pybullet.URDF_USE_INERTIA_FROM_FILE, physicsClientId=self._client
            )

    def _build(self, terrain: Terrain) -> list[int]:
        client = self._client
        if terrain.kind in MAPPED:
            parts = [self._height_map(terrain)]
        else:
            parts = []
            for box in terrain.boxes(MARGIN_M):
                shape = pybullet.createCollisionShape(
                    pybullet.GEOM_BOX, halfExtents=box.half_m.tolist(), physicsClientId=client
                )
                turn = [0.0, np.sin(box.pitch_rad / 2), 0.0, np.cos(box.pitch_rad / 2)]
                parts.append(
                    pybullet.createMultiBody(
                        0, shape, -1, box.center_m.tolist(), turn, physicsClientId=client
                    )
                )
        for part in parts:
            # Bullet multiplies the two surfaces' coefficients; the robot's is 1.
            pybullet.changeDynamics(part, -1, lateralFriction=terrain.friction, physicsClientId=client)
        return parts

    def _height_map(self, terrain: Terrain) -> int:
        heights = terrain.height_map(MARGIN_M)
        shape = pybullet.createCollisionShape(
            pybullet.GEOM_HEIGHTFIELD,
            meshScale=[CELL_M, CELL_M, 1.0],
            heightfieldData=heights.T.ravel().tolist(),
            numHeightfieldRows=len(heights),
            numHeightfieldColumns=len(heights),
            physicsClientId=self._client,
        )
        # Bullet places height maps by the middle of their bounds.
        middle = (len(heights) - 1) * CELL_M / 2 - MARGIN_M
        at = [middle, middle, (heights.min() + heights.max()) / 2]
        return pybullet.createMultiBody(0, shape, -1, at, physicsClientId=self._client)


def _cross(a: Sequence[float] | np.ndarray, b: Sequence[float] | np.ndarray) -> list[float]:
    """Cross product of two vectors; NumPy's is made for many, and slow for one."""
    return [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]
