"""Images of a robot standing or walking on grounds, drawn without a display."""

# mujoco re-exports compiled modules that type checkers cannot see.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import dataclasses
import importlib
import sys
from collections.abc import Sequence
from typing import Any

import mujoco
import numpy as np

from dmcm.quadruped.body.robot_table import RobotTable
from dmcm.quadruped.world.arena import Arena
from dmcm.quadruped.world.simulation import CONTROL_PERIOD_S, Simulation
from dmcm.quadruped.world.terrain import MAPPED, Terrain

IMAGE_WIDTH, IMAGE_HEIGHT = 320, 200
"""Pixels of an image."""
_SETTLE_S = 0.4
_MAX_GEOMS = 1_000
_AROUND_M = 3.0
"""Ground around the period that a robot walks on, in images of a walk."""
_COPIES, _LOWER_M = 1, 0.0002
"""Height maps have the size given in the model, so they are repeated this often in each direction, some of
them a little lower."""
_FOG_M = (2.0, 4.4)
"""Distances from the camera at which fog begins and hides all: before the ground ends."""
_SKY_M, _SKY_HALF_M = 10.0, np.array([0.1, 50.0, 50.0])
"""The sky is a wall in the fog: its distance behind the point looked at, and its half edges."""


@dataclasses.dataclass(frozen=True)
class View:
    """What the camera looks at, and from where."""

    look_at_m: np.ndarray
    """Point in the middle of the image, shape (3,)."""
    distance_m: float
    """Distance from the camera to that point."""
    azimuth_deg: float
    """Direction of the look: 0 along x, 90 along y."""
    elevation_deg: float
    """Above the horizon; negative looks down."""

    def camera(self) -> mujoco.MjvCamera:
        """MuJoCo's camera for this view."""
        camera = mujoco.MjvCamera()
        camera.type = mujoco.mjtCamera.mjCAMERA_FREE.value
        camera.lookat[:] = self.look_at_m
        camera.distance, camera.azimuth = self.distance_m, self.azimuth_deg
        camera.elevation = self.elevation_deg
        return camera


def standing_images(table: RobotTable, terrains: Sequence[Terrain]) -> list[np.ndarray] | None:
    """The robot standing on each ground, seen from its right side, so that +x goes right.

    Args:
        table: the robot's facts.
        terrains: the grounds.

    Returns:
        One image per ground, shape (height, width, 4), bytes, transparent where there is nothing; None where
        this machine cannot draw without a display.

    Raises:
        DmcmError: a robot or ground that cannot be built.
    """
    # One at a time, because behind a ground in an arena the next one is visible.
    standing = [_settled(table, terrain) for terrain in terrains]
    context = open_context()
    if context is None:
        return None
    try:
        context.make_current()
        return [_draw(model, data) for model, data in standing]
    finally:
        context.free()


def open_context() -> Any:
    """An OpenGL context without a window, or None if this machine has none to give."""
    # By name: which one `mujoco.Renderer` takes was settled by MUJOCO_GL when mujoco was first imported.
    name = "mujoco.egl" if sys.platform == "linux" else "mujoco.gl_context"
    try:
        return importlib.import_module(name).GLContext(IMAGE_WIDTH, IMAGE_HEIGHT)
    except Exception:  # each driver and binding that is missing fails in its own way
        return None


def _settled(table: RobotTable, terrain: Terrain) -> tuple[mujoco.MjModel, mujoco.MjData]:
    """A robot that has stood for a moment, with all that is needed to draw it."""
    simulation = Simulation(table, Arena([terrain]), 1, threads=1)
    for _ in range(round(_SETTLE_S / CONTROL_PERIOD_S)):
        simulation.step(table.home_pose_rad[None])
    model, data = simulation.batch.get_model(0), simulation.batch.get_data(0)
    mujoco.mj_forward(model, data)
    return model, data


def draw_walk(
    model: mujoco.MjModel,
    arena: Arena,
    poses: np.ndarray,
    views: Sequence[View],
    *,
    width: int,
    height: int,
    sky: tuple[float, float, float],
) -> list[np.ndarray]:
    """Images of a robot on a ground that goes on until fog hides it, in the current OpenGL context.

    A robot that is moved back by a period of the ground shows no jump.

    Args:
        model: of the robot in the arena; its lighting is changed.
        arena: the robot walks on its first ground.
        poses: the robot's positions, MuJoCo's `qpos`, shape (n, positions).
        views: n views.
        width: of an image, at most 640 pixels.
        height: of an image, at most 480 pixels.
        sky: colour of fog and sky, red, green and blue from 0 to 1.

    Returns:
        n images of shape (height, width, 3), bytes.
    """
    model.vis.rgba.fog[:3] = sky
    model.vis.map.fogstart, model.vis.map.fogend = np.array(_FOG_M) / model.stat.extent
    data, option = mujoco.MjData(model), mujoco.MjvOption()
    terrain, corner = arena.terrains[0], np.array([*arena.corner_m[0], 0.0])
    boxes = [] if terrain.kind in MAPPED else terrain.boxes(_AROUND_M)
    scene = mujoco.MjvScene(model, model.ngeom + len(boxes) + (2 * _COPIES + 1) ** 2 + 1)
    scene.flags[mujoco.mjtRndFlag.mjRND_FOG.value] = 1
    scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW.value] = 0  # shadows are coarse and slow
    context = _lit(model)
    images = []
    try:
        for pose, view in zip(poses, views, strict=True):
            data.qpos[:] = pose
            mujoco.mj_forward(model, data)
            robot = mujoco.mjtCatBit.mjCAT_DYNAMIC.value
            mujoco.mjv_updateScene(model, data, option, None, view.camera(), robot, scene)
            for box in boxes:
                axes = _rotation([0.0, 1.0, 0.0], box.pitch_rad)
                _add_box(scene, box.half_m, corner + box.center_m, axes, model.geom_rgba[0])
            if not boxes:
                _add_height_maps(scene, model, data, arena.period_m[0])
            away = _rotation([0.0, 0.0, 1.0], np.radians(view.azimuth_deg))
            _add_box(scene, _SKY_HALF_M, view.look_at_m + _SKY_M * away[:, 0], away, np.ones(4))
            images.append(_render(scene, context, width, height)[0])
    finally:
        context.free()
    return images


def _draw(model: mujoco.MjModel, data: mujoco.MjData) -> np.ndarray:
    # The robot a little above the middle.
    camera = View(data.qpos[:3] - [0.0, 0.0, 0.17], 1.5, 90.0, -14.0).camera()
    scene = mujoco.MjvScene(model, _MAX_GEOMS)
    context = _lit(model)
    try:
        mujoco.mjv_updateScene(
            model, data, mujoco.MjvOption(), None, camera, mujoco.mjtCatBit.mjCAT_ALL.value, scene
        )
        colour, depth = _render(scene, context, IMAGE_WIDTH, IMAGE_HEIGHT)
    finally:
        context.free()
    filled = np.where(depth < 1.0, 255, 0).astype(np.uint8)
    return np.concatenate([colour, filled[..., None]], axis=-1)


def _lit(model: mujoco.MjModel) -> mujoco.MjrContext:
    """Light for the model, and its shapes in the current OpenGL context; to be freed."""
    model.vis.headlight.ambient[:] = 0.45
    model.vis.headlight.diffuse[:] = 0.55
    return mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100.value)


def _render(
    scene: mujoco.MjvScene, context: mujoco.MjrContext, width: int, height: int
) -> tuple[np.ndarray, np.ndarray]:
    """Colours, shape (height, width, 3), bytes, and depths from 0 to 1, shape (height, width)."""
    mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN.value, context)
    frame = mujoco.MjrRect(0, 0, width, height)
    mujoco.mjr_render(frame, scene, context)
    colour = np.empty((height, width, 3), np.uint8)
    depth = np.empty((height, width), np.float32)
    mujoco.mjr_readPixels(colour, depth, frame, context)
    return colour[::-1], depth[::-1]  # OpenGL's rows go up


def _add_box(
    scene: mujoco.MjvScene, half_m: np.ndarray, place_m: np.ndarray, axes: np.ndarray, rgba: np.ndarray
) -> None:
    shape = mujoco.mjtGeom.mjGEOM_BOX.value
    mujoco.mjv_initGeom(scene.geoms[scene.ngeom], shape, half_m, place_m, axes.ravel(), rgba)
    scene.ngeom += 1


def _add_height_maps(
    scene: mujoco.MjvScene, model: mujoco.MjModel, data: mujoco.MjData, period_m: np.ndarray
) -> None:
    """Copies of the model's height map."""
    at = data.geom_xpos[model.geom_bodyid == 0]
    for i, j in np.ndindex(2 * _COPIES + 1, 2 * _COPIES + 1):
        # Copies overlap, and what is at the same depth would be lit twice.
        lower = _LOWER_M * (i % 2 + 2 * (j % 2))
        shift = [*(np.array([i, j]) - _COPIES) * period_m, -lower]
        data.geom_xpos[model.geom_bodyid == 0] = at + shift
        still = mujoco.mjtCatBit.mjCAT_STATIC.value
        mujoco.mjv_addGeoms(model, data, mujoco.MjvOption(), mujoco.MjvPerturb(), still, scene)


def _rotation(axis: Sequence[float], angle_rad: float) -> np.ndarray:
    """Matrix of a turn about an axis, shape (3, 3)."""
    quaternion, matrix = np.zeros(4), np.zeros(9)
    mujoco.mju_axisAngle2Quat(quaternion, np.array(axis), angle_rad)
    mujoco.mju_quat2Mat(matrix, quaternion)
    return matrix.reshape(3, 3)
