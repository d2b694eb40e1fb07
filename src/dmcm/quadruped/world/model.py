"""The MuJoCo model of a robot in an arena, built from the table of facts without a mesh or a file."""

# mujoco re-exports compiled modules that type checkers cannot see.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import mujoco
import numpy as np

from dmcm.errors import DataError
from dmcm.quadruped.body.properties import MAX_DELAY_S
from dmcm.quadruped.body.robot_table import JOINTS, LEGS, Link, RobotTable
from dmcm.quadruped.world.arena import MARGIN_M, Arena
from dmcm.quadruped.world.terrain import CELL_M, MAPPED, Terrain

TIMESTEP_S = 0.005
"""Time step of the physics."""

_GROUND, _ROBOT = 1, 2  # collision bits: the robot collides with the ground, not itself
_DARK, _ORANGE, _GREY = (0.13, 0.14, 0.16, 1.0), (0.93, 0.49, 0.13, 1.0), (0.55, 0.57, 0.6, 1.0)
_EARTHS = ((0.47, 0.52, 0.42, 1.0), (0.55, 0.5, 0.42, 1.0))


def build_model(table: RobotTable, arena: Arena) -> mujoco.MjModel:
    """Compile the robot and its grounds.

    Bodies are `trunk`, its `payload`, then hip, thigh and calf of each leg; joints and actuators are named
    as in `JOINT_NAMES`, feet are geoms `FR_foot`, …, sensors `gyro`, `accelerometer` and `FR_touch`, ….
    Actuators are position controllers with a history for the action delay. The robot does not collide with
    itself.

    Raises:
        DataError: MuJoCo refuses the robot.
    """
    spec = mujoco.MjSpec()
    spec.modelname = table.name
    spec.compiler.autolimits = True
    spec.compiler.degree = False
    option = spec.option
    option.timestep = TIMESTEP_S
    option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    option.iterations, option.ls_iterations = 10, 20
    _add_ground(spec, arena)
    trunk = _add_trunk(spec, table)
    for leg in LEGS:
        _add_leg(spec, trunk, table, leg)
    for leg in LEGS:
        spec.add_sensor(
            name=f"{leg}_touch",
            type=mujoco.mjtSensor.mjSENS_TOUCH,
            objtype=mujoco.mjtObj.mjOBJ_SITE,
            objname=f"{leg}_foot",
        )
    for name, kind in (("gyro", "GYRO"), ("accelerometer", "ACCELEROMETER")):
        spec.add_sensor(
            name=name,
            type=getattr(mujoco.mjtSensor, f"mjSENS_{kind}"),
            objtype=mujoco.mjtObj.mjOBJ_SITE,
            objname="imu",
        )
    home = [0, 0, table.home_height_m, 1, 0, 0, 0, *table.home_pose_rad]
    spec.add_key(name="home", qpos=home, ctrl=table.home_pose_rad.tolist())
    try:
        return spec.compile()
    except ValueError as error:
        raise DataError(f"MuJoCo refuses the robot '{table.name}': {error}.") from error


def _add_ground(spec: mujoco.MjSpec, arena: Arena) -> None:
    for tile, terrain in enumerate(arena.terrains):
        corner = np.array([*arena.corner_m[tile], 0.0])
        rgba = _EARTHS[tile % len(_EARTHS)]
        bits = {"contype": _GROUND, "conaffinity": _ROBOT, "rgba": rgba}
        if terrain.kind in MAPPED:
            _add_height_map(spec, terrain, corner, bits)
            continue
        for box in terrain.boxes(MARGIN_M):
            spec.worldbody.add_geom(
                type=mujoco.mjtGeom.mjGEOM_BOX,
                pos=corner + box.center_m,
                size=box.half_m,
                quat=[np.cos(box.pitch_rad / 2), 0, np.sin(box.pitch_rad / 2), 0],
                **bits,
            )
    spec.worldbody.add_light(
        pos=[0, 0, 4], dir=[0.3, 0.2, -1], type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL, castshadow=True
    )


def _add_height_map(
    spec: mujoco.MjSpec, terrain: Terrain, corner_m: np.ndarray, bits: dict[str, object]
) -> None:
    heights = terrain.height_map(MARGIN_M)
    low, top = heights.min(), heights.max() - heights.min()
    half = (len(heights) - 1) * CELL_M / 2
    spec.add_hfield(
        name=terrain.label,
        nrow=len(heights),
        ncol=len(heights),
        size=[half, half, top, 0.5],
        userdata=((heights - low) / top).T.ravel(),  # MuJoCo's rows run along y
    )
    middle = np.array([half - MARGIN_M, half - MARGIN_M, low])
    spec.worldbody.add_geom(
        type=mujoco.mjtGeom.mjGEOM_HFIELD, hfieldname=terrain.label, pos=corner_m + middle, **bits
    )


def _add_trunk(spec: mujoco.MjSpec, table: RobotTable) -> mujoco.MjsBody:
    trunk = spec.worldbody.add_body(name="trunk", pos=[0, 0, table.home_height_m])
    trunk.add_freejoint()
    _set_inertia(trunk, table.trunk)
    trunk.add_geom(
        type=mujoco.mjtGeom.mjGEOM_BOX, size=table.trunk_half_size_m, rgba=_DARK, **_collides_with_ground()
    )
    half_x, half_y, half_z = table.trunk_half_size_m
    trunk.add_geom(  # shows which end is the front
        type=mujoco.mjtGeom.mjGEOM_BOX,
        pos=[half_x, 0, 0.2 * half_z],
        size=[0.03, 0.8 * half_y, 0.6 * half_z],
        rgba=_ORANGE,
        contype=0,
        conaffinity=0,
        mass=0,
    )
    trunk.add_site(name="imu")
    # A point load fixed to the trunk: its mass and place are set per simulation.
    payload = trunk.add_body(name="payload")
    payload.explicitinertial = True
    payload.mass, payload.inertia = 0.0, np.zeros(3)
    return trunk


def _add_leg(spec: mujoco.MjSpec, trunk: mujoco.MjsBody, table: RobotTable, leg: str) -> None:
    side = table.side_offset_m(leg)
    hip = trunk.add_body(name=f"{leg}_hip", pos=table.hip_m(leg))
    thigh = hip.add_body(name=f"{leg}_thigh", pos=[0, side, 0])
    calf = thigh.add_body(name=f"{leg}_calf", pos=[0, 0, -table.thigh_length_m])
    for body, name in zip((hip, thigh, calf), JOINTS, strict=True):
        _set_inertia(body, table.links[name].on_leg(leg))
        joint = table.joints[name]
        body.add_joint(
            name=f"{leg}_{name}",
            axis=[1, 0, 0] if name == "hip" else [0, 1, 0],
            range=joint.range_rad,
            armature=table.armature_kgm2,
            frictionloss=table.joint_friction_nm,
            damping=[table.joint_damping_nms_per_rad, 0, 0],  # linear, quadratic, cubic
        )
        _add_motor(spec, table, f"{leg}_{name}", joint.peak_torque_nm)
    radius = table.foot_radius_m
    hip.add_geom(
        type=mujoco.mjtGeom.mjGEOM_CYLINDER,
        fromto=[0, 0.3 * side, 0, 0, side, 0],
        size=[0.04, 0, 0],
        rgba=_DARK,
        contype=0,
        conaffinity=0,
        mass=0,
    )
    thigh.add_geom(
        type=mujoco.mjtGeom.mjGEOM_CAPSULE,
        fromto=[0, 0, 0, 0, 0, -table.thigh_length_m],
        size=[0.02, 0, 0],
        rgba=_GREY,
        **_collides_with_ground(),
    )
    calf.add_geom(
        type=mujoco.mjtGeom.mjGEOM_CAPSULE,
        fromto=[0, 0, 0, 0, 0, -0.9 * table.calf_length_m],  # the foot touches level ground
        size=[0.012, 0, 0],
        rgba=_GREY,
        **_collides_with_ground(),
    )
    calf.add_geom(
        name=f"{leg}_foot",
        type=mujoco.mjtGeom.mjGEOM_SPHERE,
        pos=[0, 0, -table.calf_length_m],
        size=[radius, 0, 0],
        rgba=_DARK,
        **_collides_with_ground(),
    )
    calf.add_site(
        name=f"{leg}_foot",
        type=mujoco.mjtGeom.mjGEOM_SPHERE,
        pos=[0, 0, -table.calf_length_m],
        size=[1.2 * radius, 0, 0],  # a touch sensor counts contacts inside its site
        rgba=(0, 0, 0, 0),
    )


def _add_motor(spec: mujoco.MjSpec, table: RobotTable, joint: str, peak_torque_nm: float) -> None:
    """A position controller: torque = P (target − angle) − D velocity, clipped at the peak torque."""
    p_gain, d_gain = table.p_gain_nm_per_rad, table.d_gain_nms_per_rad
    spec.add_actuator(
        name=joint,
        target=joint,
        trntype=mujoco.mjtTrn.mjTRN_JOINT,
        gaintype=mujoco.mjtGain.mjGAIN_FIXED,
        biastype=mujoco.mjtBias.mjBIAS_AFFINE,
        gainprm=[p_gain] + [0] * 9,
        biasprm=[0, -p_gain, -d_gain] + [0] * 7,
        forcerange=[-peak_torque_nm, peak_torque_nm],
        forcelimited=True,
        delay=TIMESTEP_S,
        nsample=round(MAX_DELAY_S / TIMESTEP_S),
    )


def _set_inertia(body: mujoco.MjsBody, link: Link) -> None:
    body.explicitinertial = True
    body.mass = link.mass_kg
    body.ipos = link.com_m
    body.fullinertia = np.array(link.inertia_kgm2)


def _collides_with_ground() -> dict[str, object]:
    # Its priority is higher than the ground's, so that the robot's own friction applies; it is set per
    # simulation.
    return {"contype": _ROBOT, "conaffinity": _GROUND, "condim": 3, "mass": 0, "priority": 1}
