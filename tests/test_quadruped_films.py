"""Films of policies side by side: frames, panes, falls, and the resulting GIF."""

import io

import equinox as eqx
import jax
import numpy as np
import pytest
from PIL import Image, ImageSequence

from dmcm.errors import ConfigError, ShapeError
from dmcm.quadruped.body.properties import RobotProperties
from dmcm.quadruped.body.robot_table import load_robot
from dmcm.quadruped.conditioned import films
from dmcm.quadruped.conditioned.films import (
    FRAMES_PER_SECOND,
    GAP,
    PANE_HEIGHT,
    PANE_WIDTH,
    TITLE_HEIGHT,
    Walker,
    encode_gif,
    film,
)
from dmcm.quadruped.walking.commands import CommandRanges
from dmcm.quadruped.walking.evaluation import evaluate_walking
from dmcm.quadruped.walking.guides import Vectors
from dmcm.quadruped.walking.observations import OBSERVATION, PRIVILEGED
from dmcm.quadruped.walking.policy import Policy
from dmcm.quadruped.world import rendering
from dmcm.quadruped.world.arena import Arena
from dmcm.quadruped.world.simulation import Simulation
from dmcm.quadruped.world.terrain import Terrain

GO1 = load_robot("go1")
AHEAD = CommandRanges((0.5, 0.5), (0.0, 0.0), (0.0, 0.0), (0.0, 0.0))
HEIGHT = TITLE_HEIGHT + PANE_HEIGHT


def policy(more=0, action=(0.0, 0.0, 0.0)):
    """One that always wants the same of each leg, and reads `more` columns of a guide."""
    size = sum(OBSERVATION.values()) + more
    drawn = Policy(size, sum(PRIVILEGED.values()), 12, widths=(8, 8), key=jax.random.key(0))
    return eqx.tree_at(lambda p: p.actor.layers[-1].bias, drawn, replace_fn=lambda b: b + np.tile(action, 4))


GAIT = Walker("gait", policy(), None)
CROUCH = Walker("crouch", policy(action=(0.0, 3.0, -3.0)), None)


def shot(*walkers, ground=Terrain(), seconds=0.08, seed=1):  # noqa: B008
    """A short film; the test is skipped where none can be drawn."""
    frames = film(
        walkers, GO1, RobotProperties(), ground, seconds=seconds, commands=AHEAD, seed=seed, threads=1
    )
    if frames is None:
        pytest.skip("this machine cannot draw without a display")
    return frames


def pane(frame, number):
    """A pane without its title."""
    left = number * (PANE_WIDTH + GAP)
    return frame[TITLE_HEIGHT:, left : left + PANE_WIDTH].astype(int)


def colourful(image):
    """Share of pixels that are not grey."""
    return np.mean(np.ptp(image, axis=-1) > 25)


def test_a_film_has_its_frames_and_equal_walkers_equal_panes():
    told = Walker("told", policy(more=2), Vectors(np.zeros((1, 2))))
    frames = shot(GAIT, GAIT, told, ground=Terrain("stairs_up", 0.08), seconds=0.4)
    assert len(frames) == round(0.4 * FRAMES_PER_SECOND) == 5
    for frame in frames:
        assert frame.shape == (HEIGHT, 3 * PANE_WIDTH + 2 * GAP, 3)
        assert frame.dtype == np.uint8
        assert np.array_equal(pane(frame, 0), pane(frame, 1))
        assert colourful(pane(frame, 0)) > 0.2
    assert not np.array_equal(pane(frames[0], 0), pane(frames[-1], 0))
    assert not np.array_equal(pane(frames[-1], 0), pane(frames[-1], 2))  # another policy
    titles = [frames[0][:TITLE_HEIGHT, i * (PANE_WIDTH + GAP) :][:, :PANE_WIDTH] for i in range(3)]
    assert np.array_equal(titles[0], titles[1])
    assert not np.array_equal(titles[0], titles[2])
    assert titles[0].min() < 100  # written


def test_a_film_repeats_itself_and_another_seed_starts_elsewhere():
    one, same, other = (shot(GAIT, seed=seed)[0] for seed in (1, 1, 2))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


def test_a_pane_stays_grey_and_marked_once_its_robot_fell():
    frames = shot(CROUCH, GAIT, seconds=0.8)
    grey = [colourful(pane(frame, 0)) < 0.05 for frame in frames]
    first = grey.index(True)
    walk = evaluate_walking(
        CROUCH.policy, GO1, [RobotProperties()], [Terrain()], seconds=0.8, commands=AHEAD, seed=1, threads=1
    )
    assert walk.fell[0]
    assert first == np.floor(walk.seconds[0] * FRAMES_PER_SECOND + 1e-9) + 1 < len(frames) - 1
    assert all(grey[first:])
    for frame in frames[first:]:
        assert np.array_equal(frame[:, :PANE_WIDTH], frames[first][:, :PANE_WIDTH])
        red = pane(frame, 0)[..., 0] - pane(frame, 0)[..., 1]
        assert np.count_nonzero(red > 100) > 50  # the word
    assert not np.array_equal(pane(frames[first], 1), pane(frames[-1], 1))
    assert all(colourful(pane(frame, 1)) > 0.2 for frame in frames)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_robot_goes_to_the_right_wherever_it_heads(seed):
    """On level ground it starts with any heading; its nose is orange."""
    image = pane(shot(GAIT, seed=seed)[0], 0)
    nose = np.argwhere(image[..., 0] - image[..., 2] > 120)
    assert len(nose) >= 5
    assert 0.55 * PANE_WIDTH < nose[:, 1].mean() < 0.75 * PANE_WIDTH


@pytest.mark.parametrize(
    "ground", [Terrain("stairs_down", 0.08), Terrain("slope_up", 0.2), Terrain("rough", 0.05, 0.2)]
)
def test_a_robot_moved_back_by_a_period_shows_no_jump(ground):
    context = rendering.open_context()
    if context is None:
        pytest.skip("this machine cannot draw without a display")
    simulation = Simulation(GO1, Arena([ground]), 1, threads=1)
    arena, pose = simulation.arena, simulation.qpos[0].copy()
    pose[:2] = arena.corner_m[0] + [1e-3, 1e-3]
    moved = pose.copy()
    moved[:3] += [*arena.period_m[0], arena.rise_m[0]]
    views = [rendering.View(p[:3], 1.5, 90.0, -16.0) for p in (pose, moved)]
    try:
        context.make_current()
        before, after = rendering.draw_walk(
            simulation.batch.get_model(0),
            arena,
            np.stack([pose, moved]),
            views,
            width=224,
            height=168,
            sky=(0.8, 0.9, 1.0),
        )
    finally:
        context.free()
    apart = np.abs(before.astype(int) - after).max(axis=-1)
    assert np.mean(apart > 8) < 0.01
    np.testing.assert_allclose(before[0], np.broadcast_to([204, 229, 255], before[0].shape), atol=1)


def test_without_opengl_there_is_no_film(monkeypatch):
    monkeypatch.setattr(films, "open_context", lambda: None)
    assert film([GAIT], GO1, RobotProperties(), Terrain(), commands=AHEAD, seed=0) is None


class Context:
    """Stands for OpenGL's."""

    freed = False

    def make_current(self):
        pass

    def free(self):
        self.freed = True


def test_a_policy_that_reads_something_else_is_refused_and_opengl_given_back(monkeypatch):
    context = Context()
    monkeypatch.setattr(films, "open_context", lambda: context)
    unguided = Walker("alone", policy(more=2), None)
    with pytest.raises(ShapeError, match="'alone' reads"):
        film([unguided], GO1, RobotProperties(), Terrain(), commands=AHEAD, seed=0, threads=1)
    assert context.freed


@pytest.mark.parametrize("seconds", [0.0, -1.0, np.nan, np.inf])
def test_a_film_of_no_one_or_no_time_is_refused(seconds):
    with pytest.raises(ConfigError, match="seconds"):
        film([GAIT], GO1, RobotProperties(), Terrain(), seconds=float(seconds), commands=AHEAD, seed=0)
    with pytest.raises(ConfigError, match="walker"):
        film([], GO1, RobotProperties(), Terrain(), commands=AHEAD, seed=0)


def test_a_gif_has_the_frames_and_repeats_for_ever():
    """A red square of few pixels on its way over a field of greens."""
    field = np.tile(np.arange(200, dtype=np.uint8)[None, :, None], (60, 1, 3)) // np.array([2, 1, 2])
    frames = [field.astype(np.uint8) for _ in range(7)]
    for step, frame in enumerate(frames):
        frame[20:24, 10 * step : 10 * step + 4] = [230, 20, 20]
    with Image.open(io.BytesIO(encode_gif(frames))) as read:
        assert len(ImageSequence.all_frames(read)) == len(frames)
        assert read.info["loop"] == 0
        for number, frame in enumerate(frames):
            read.seek(number)
            assert read.info["duration"] == 80
            shown = np.asarray(read.convert("RGB")).astype(int)
            assert np.abs(shown - frame).mean() < 4
            assert np.abs(shown[20:24, 10 * number : 10 * number + 4] - [230, 20, 20]).max() < 30


def test_a_film_without_frames_is_refused():
    with pytest.raises(ConfigError, match="frame"):
        encode_gif([])
