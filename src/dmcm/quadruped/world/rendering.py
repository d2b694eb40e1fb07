"""Images of a robot standing on grounds, drawn without a display."""

# mujoco re-exports compiled modules that type checkers cannot see.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from typing import Any

import mujoco
import numpy as np

from dmcm.quadruped.body.robot_table import RobotTable
from dmcm.quadruped.world.arena import Arena
from dmcm.quadruped.world.simulation import CONTROL_PERIOD_S, Simulation
from dmcm.quadruped.world.terrain import Terrain

IMAGE_WIDTH, IMAGE_HEIGHT = 320, 200
"""Pixels of an image."""
_SETTLE_S = 0.4
_MAX_GEOMS = 1_000


def standing_images(table: RobotTable, terrains: Sequence[Terrain]) -> list[np.ndarray] | None:
    """The robot standing on each ground, seen from its right side, so that +x goes right.

    Args:
        table: the robot's facts.
        terrains: the grounds.

    Returns:
        An image a ground, shape (height, width, 4), bytes, transparent where there is nothing; None where
        this machine cannot draw without a display.

    Raises:
        DmcmError: a robot or ground that cannot be built.
    """
    # One after the other, for behind a ground in an arena one sees the next.
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


def _draw(model: mujoco.MjModel, data: mujoco.MjData) -> np.ndarray:
    model.vis.headlight.ambient[:] = 0.45
    model.vis.headlight.diffuse[:] = 0.55
    camera = mujoco.MjvCamera()
    camera.type = mujoco.mjtCamera.mjCAMERA_FREE.value
    camera.lookat[:] = data.qpos[:3] - [0.0, 0.0, 0.17]  # the robot a little above the middle
    camera.distance, camera.azimuth, camera.elevation = 1.5, 90.0, -14.0
    scene = mujoco.MjvScene(model, _MAX_GEOMS)
    context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100.value)
    try:
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN.value, context)
        mujoco.mjv_updateScene(
            model, data, mujoco.MjvOption(), None, camera, mujoco.mjtCatBit.mjCAT_ALL.value, scene
        )
        frame = mujoco.MjrRect(0, 0, IMAGE_WIDTH, IMAGE_HEIGHT)
        mujoco.mjr_render(frame, scene, context)
        colour = np.empty((IMAGE_HEIGHT, IMAGE_WIDTH, 3), np.uint8)
        depth = np.empty((IMAGE_HEIGHT, IMAGE_WIDTH), np.float32)
        mujoco.mjr_readPixels(colour, depth, frame, context)
    finally:
        context.free()
    filled = np.where(depth < 1.0, 255, 0).astype(np.uint8)
    return np.concatenate([colour, filled[..., None]], axis=-1)[::-1]  # OpenGL's rows go up
