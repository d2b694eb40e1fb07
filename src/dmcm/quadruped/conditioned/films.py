"""Films of policies side by side: the same body, ground, start and commands, one pane per policy."""

from __future__ import annotations

import dataclasses
import functools
import io
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from dmcm.errors import ConfigError
from dmcm.plots import INK, PAPER
from dmcm.quadruped.body.properties import RobotProperties
from dmcm.quadruped.body.robot_table import RobotTable
from dmcm.quadruped.walking.commands import CommandRanges
from dmcm.quadruped.walking.environment import WalkConfig, WalkEnvironment
from dmcm.quadruped.walking.guides import Guide
from dmcm.quadruped.walking.policy import Policy, check_reads, mean_action
from dmcm.quadruped.world.arena import Arena
from dmcm.quadruped.world.model import build_model
from dmcm.quadruped.world.physics import Physics, PhysicsMaker
from dmcm.quadruped.world.rendering import View, draw_walk, open_context
from dmcm.quadruped.world.simulation import CONTROL_PERIOD_S, Simulation
from dmcm.quadruped.world.terrain import Terrain

PANE_WIDTH, PANE_HEIGHT = 224, 168
"""Pixels of a pane's image."""
TITLE_HEIGHT, GAP = 24, 6
"""Pixels of the title above a pane, and between two panes."""
_STRIDE = 4  # control steps
FRAMES_PER_SECOND = 1 / (_STRIDE * CONTROL_PERIOD_S)
"""Frames of a film per second of simulated time."""
_SMOOTHED = 9  # frames over which the camera's path is averaged, so that it does not sway with the trunk
_DISTANCE_M, _ELEVATION_DEG, _LOWER_M = 1.5, -16.0, 0.1
_SKY = (0.86, 0.89, 0.93)
_MARK = "#b3261e"
_FONT_SIZE, _SMALL_FONT_SIZE = 14.0, 11.0
_COLOURS, _SAMPLES = 64, 8  # of the palette; frames that it is made from


@dataclasses.dataclass(frozen=True)
class Walker:
    """One pane of a film."""

    title: str
    """Title above the pane."""
    policy: Policy
    """Acts, with its mean action."""
    guide: Guide | None
    """Adds what the policy is given to the observations of one robot."""


@dataclasses.dataclass(frozen=True)
class _Track:
    """Where one robot was in each frame until it fell."""

    poses: np.ndarray
    """Positions of trunk and joints, shape (frames, 19)."""
    travelled_m: np.ndarray
    """In a world whose ground never ends, shape (frames, 3)."""
    yaw_rad: np.ndarray
    """Heading, without jumps, shape (frames,)."""
    end: str
    """What ended the walk early; empty if it did not end early."""


def film(
    walkers: Sequence[Walker],
    table: RobotTable,
    robot: RobotProperties,
    terrain: Terrain,
    *,
    seconds: float = 6.0,
    commands: CommandRanges,
    physics: PhysicsMaker = Simulation,
    seed: int,
    threads: int = 0,
) -> list[np.ndarray] | None:
    """One episode of each walker, seen from the robot's right side, in panes next to each other.

    After its robot falls, a pane stays at the last frame before the fall and says so.

    Args:
        walkers: the panes, from left to right.
        table: the robot's facts.
        robot: the body in all panes.
        terrain: the ground in all panes.
        seconds: length of the film in simulated time.
        commands: ranges of commands.
        physics: creates the physics engine.
        seed: for start and commands.
        threads: physics threads; 0 means one per core.

    Returns:
        Frames at `FRAMES_PER_SECOND`, shape (height, width, 3), bytes, from the start on; None where this
        machine cannot draw without a display.

    Raises:
        ConfigError: no walkers, seconds that are not above 0, or an impossible robot or ground.
        ShapeError: a policy's input size is not that of its observations.
    """
    if not walkers:
        raise ConfigError("a film needs at least one walker.")
    if not 0 < seconds < np.inf:
        raise ConfigError(f"seconds={seconds} must be above 0.")
    count = max(round(seconds * FRAMES_PER_SECOND), 1)
    context = open_context()
    if context is None:
        return None
    try:
        context.make_current()
        panes = []
        for walker in walkers:
            # Longer than the film, so that only robots that fall restart.
            config = WalkConfig(episode_s=seconds + 1, commands=commands)
            walks = WalkEnvironment(
                table,
                Arena([terrain]),
                [robot],
                [0],
                config,
                guide=walker.guide,
                gains=walker.policy.gains,
                gait=walker.policy.gait,
                physics=physics,
                threads=threads,
            )
            track = _walk(walker, walks, count, seed)
            panes.append(_pane(walker.title, track, _images(walks.simulation, track), count))
    finally:
        context.free()
    gap = np.asarray(Image.new("RGB", (GAP, TITLE_HEIGHT + PANE_HEIGHT), PAPER))
    rows = zip(*panes, strict=True)
    return [np.hstack([part for pane in row for part in (gap, pane)][1:]) for row in rows]


def encode_gif(frames: Sequence[np.ndarray]) -> bytes:
    """An animated GIF at `FRAMES_PER_SECOND` that loops for ever, with one small palette for all frames.

    Args:
        frames: images of one size, shape (height, width, 3) each, bytes.

    Raises:
        ConfigError: no frames.
    """
    if not frames:
        raise ConfigError("a film needs at least one frame.")
    # Include the last frame: only that may have a mark.
    samples = [*frames[:: max(len(frames) // _SAMPLES, 1)], frames[-1]]
    # Of Pillow's ways to choose colours, this one keeps rare ones, such as the robot's orange nose.
    palette = Image.fromarray(np.concatenate(samples)).quantize(
        _COLOURS, Image.Quantize.MAXCOVERAGE, kmeans=2
    )
    # Dithering adds noise, which a GIF compresses badly.
    images = [Image.fromarray(f).quantize(palette=palette, dither=Image.Dither.NONE) for f in frames]
    content = io.BytesIO()
    images[0].save(
        content,
        "GIF",
        save_all=True,
        append_images=images[1:],
        duration=round(1_000 / FRAMES_PER_SECOND),
        loop=0,
    )
    return content.getvalue()


def _walk(walker: Walker, walks: WalkEnvironment, count: int, seed: int) -> _Track:
    """Where the robot is in up to `count` frames."""
    observation, _ = walks.reset(seed=seed)
    check_reads(walker.policy, observation, f"the policy of walker '{walker.title}'")
    simulation, end = walks.simulation, ""
    poses, travelled, yaw = [], [], []
    for step in range(count * _STRIDE):
        if step % _STRIDE == 0:
            poses.append(simulation.qpos[0].copy())
            travelled.append(simulation.travelled_m[0])
            yaw.append(simulation.yaw_rad[0])
        observation, _, fell, cut, _ = walks.step(np.asarray(mean_action(walker.policy, observation)))
        if fell[0] or cut[0]:
            end = "fell" if fell[0] else "came apart"
            break
    return _Track(np.array(poses), np.array(travelled), np.unwrap(yaw), end)


def _images(simulation: Physics, track: _Track) -> list[np.ndarray]:
    """The robot in each frame, followed from its right side."""
    moved = track.travelled_m - track.poses[:, :3]
    look_at = _smooth(track.travelled_m) - moved - [0.0, 0.0, _LOWER_M]
    azimuth = 90.0 + np.degrees(_smooth(track.yaw_rad[:, None])[:, 0])
    views = [
        View(point, _DISTANCE_M, float(angle), _ELEVATION_DEG)
        for point, angle in zip(look_at, azimuth, strict=True)
    ]
    return draw_walk(
        # Not the engine's own model: other engines have no model that can be drawn.
        build_model(simulation.table, simulation.arena),
        simulation.arena,
        track.poses,
        views,
        width=PANE_WIDTH,
        height=PANE_HEIGHT,
        sky=_SKY,
    )


def _smooth(values: np.ndarray) -> np.ndarray:
    """Averaged over `_SMOOTHED` frames, shape (frames, k) as given."""
    ends = ((_SMOOTHED // 2, _SMOOTHED // 2), (0, 0))
    padded = np.pad(values, ends, mode="edge")
    return np.lib.stride_tricks.sliding_window_view(padded, _SMOOTHED, axis=0).mean(axis=-1)


def _pane(title: str, track: _Track, images: list[np.ndarray], count: int) -> list[np.ndarray]:
    """`count` images with title and distance, the last ones grey if the walk ended early."""
    far = np.linalg.norm((track.travelled_m - track.travelled_m[0])[:, :2], axis=1)
    panes = [_titled(title, image, f"{way:.1f} m") for image, way in zip(images, far, strict=True)]
    if len(panes) < count:
        grey = np.asarray(Image.fromarray(images[-1]).convert("L").convert("RGB"))
        faded = (0.5 * grey + 0.5 * 255 * np.array(_SKY)).astype(np.uint8)
        panes += [_titled(title, faded, f"{far[-1]:.1f} m", track.end)] * (count - len(panes))
    return panes


def _titled(title: str, image: np.ndarray, corner: str, mark: str = "") -> np.ndarray:
    """An image below its title, with a word in its lower left corner and a mark across it."""
    pane = Image.new("RGB", (PANE_WIDTH, TITLE_HEIGHT + PANE_HEIGHT), PAPER)
    pane.paste(Image.fromarray(image), (0, TITLE_HEIGHT))
    draw = ImageDraw.Draw(pane)
    fits = min(1.0, (PANE_WIDTH - 2 * GAP) / _font(_FONT_SIZE).getlength(title)) if title else 1.0
    draw.text((PANE_WIDTH / 2, TITLE_HEIGHT / 2), title, INK, _font(_FONT_SIZE * fits), "mm")
    draw.text((5, TITLE_HEIGHT + PANE_HEIGHT - 5), corner, INK, _font(_SMALL_FONT_SIZE), "ls")
    middle = (PANE_WIDTH / 2, TITLE_HEIGHT + PANE_HEIGHT / 4)
    draw.text(middle, mark, _MARK, _font(2 * _FONT_SIZE), "mm")
    return np.asarray(pane)


@functools.cache
def _font(size: float) -> ImageFont.FreeTypeFont:
    """The pictures' font, which comes with matplotlib."""
    return ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"), size)
