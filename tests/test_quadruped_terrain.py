"""Grounds: heights against rays shot at the compiled model, repetition, and what is refused."""

import mujoco
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmcm.errors import ConfigError
from dmcm.quadruped.body.robot_table import load_robot
from dmcm.quadruped.world.arena import MARGIN_M, Arena
from dmcm.quadruped.world.model import build_model
from dmcm.quadruped.world.terrain import KINDS, OOD_TERRAINS, TRAINING_TERRAINS, Terrain

# Neighbours of every sort, blocks and steps that do not divide the margin, and a seed.
GROUNDS = (
    *TRAINING_TERRAINS,
    *OOD_TERRAINS,
    Terrain("blocks", 0.3, 2.0),
    Terrain("flat", friction=0.6),
    Terrain("rough", 0.1, 0.15, seed=3),
    Terrain("stairs_down", 0.15, 0.4),
    Terrain("waves", 0.1, 0.35),
)
LABELS = [ground.label for ground in GROUNDS]


@pytest.fixture(scope="module")
def world():
    """All grounds in one arena, its model, and data to shoot rays at."""
    arena = Arena(GROUNDS)
    model = build_model(load_robot("go1"), arena)
    data = mujoco.MjData(model)
    data.qpos[2] = -50.0  # the robot out of the way
    mujoco.mj_kinematics(model, data)
    return arena, model, data


def shot(model, data, points):
    """Height of what rays from above hit at points (n, 2)."""
    geom, down = np.zeros(1, np.int32), np.array([0.0, 0.0, -1.0])
    reach = [mujoco.mj_ray(model, data, np.array([*p, 5.0]), down, None, 1, -1, geom) for p in points]
    assert min(reach) > 0
    return 5.0 - np.array(reach)


def off_edges(ground, points, away=1e-6):
    """Whether points of the tile's frame are off the edges of steps and blocks."""
    if not ground.kind.startswith(("stairs", "blocks")):
        return np.ones(len(points), bool)
    near = np.abs(points / ground.length_m - np.round(points / ground.length_m)) * ground.length_m
    return near.min(axis=1) > away


def test_every_kind_is_among_the_grounds():
    assert {ground.kind for ground in GROUNDS} == set(KINDS)


@pytest.mark.parametrize("number", range(len(GROUNDS)), ids=LABELS)
def test_heights_agree_with_rays_over_the_period_and_its_margin(world, number):
    arena, model, data = world
    rng = np.random.default_rng(number)
    local = rng.uniform(-MARGIN_M, arena.period_m[number] + MARGIN_M, (200, 2))
    local = local[off_edges(GROUNDS[number], local)]
    points = local + arena.corner_m[number]
    heights = arena.height(np.full(len(points), number), points)
    np.testing.assert_allclose(heights, shot(model, data, points), atol=1e-6)


@pytest.mark.parametrize("ground", GROUNDS, ids=LABELS)
def test_ground_repeats_after_its_period_and_rises_by_its_rise(ground):
    x_period, y_period = ground.period_m
    points = np.random.default_rng(1).uniform(-1, 3, (300, 2))
    points = points[off_edges(ground, points)]
    x, y = points.T
    here = ground.height(x, y)
    for across, along in ((0, 1), (1, 0), (3, 2), (-1, -2)):
        there = ground.height(x + along * x_period, y + across * y_period)
        np.testing.assert_allclose(there, here + along * ground.rise_m, atol=1e-9)


@pytest.mark.parametrize("ground", GROUNDS, ids=LABELS)
def test_a_period_is_of_whole_lengths_and_long_enough(ground):
    for period in ground.period_m:
        assert period >= 2.0 - 1e-9
        if ground.kind.startswith(("flat", "slope")):
            continue
        assert period / ground.length_m == pytest.approx(round(period / ground.length_m))
        assert period < 2.0 + ground.length_m


def test_sizes_are_what_they_say():
    x = np.linspace(0, 2, 4001)
    y = np.zeros_like(x)
    np.testing.assert_allclose(Terrain("slope_up", 0.2).height(x, y), 0.2 * x)
    np.testing.assert_allclose(Terrain("slope_down", 0.2).height(x, y), -0.2 * x)
    steps = np.unique(np.diff(Terrain("stairs_up", 0.08).height(x, y)).round(12))
    np.testing.assert_allclose(steps, [0, 0.08], atol=1e-12)
    waves = Terrain("waves", 0.12, 1.0).height(x, y)
    assert np.ptp(waves) == pytest.approx(0.12)
    np.testing.assert_allclose(waves, 0.06 * np.sin(2 * np.pi * x), atol=0.06 * (2 * np.pi * 0.05) ** 2 / 8)
    xs, ys = np.meshgrid(np.arange(0.02, 2, 0.05), np.arange(0.02, 2, 0.05))
    rough = Terrain("rough", 0.06, 0.2).height(xs, ys)
    assert 0.03 < np.ptp(rough) <= 0.06
    blocks = Terrain("blocks", 0.06, 0.2).height(xs, ys)
    assert 0.1 < (blocks > 0).mean() < 0.5
    assert np.all((blocks == 0) | ((blocks >= 0.03) & (blocks <= 0.06)))


def test_seeds_make_other_grounds_of_a_kind():
    x, y = np.random.default_rng(0).uniform(0, 2, (2, 100))
    for kind, length in (("rough", 0.2), ("blocks", 0.4)):
        one, other = (Terrain(kind, 0.06, length, seed=seed) for seed in (0, 1))
        assert not np.array_equal(one.height(x, y), other.height(x, y))
        assert np.array_equal(one.height(x, y), Terrain(kind, 0.06, length).height(x, y))


@pytest.mark.parametrize(
    ("ground", "named"),
    [
        (Terrain("hills", 0.1), "hills.*flat, rough, slope_up"),
        (Terrain("stair_up", 0.1), "Did you mean 'stairs_up'"),
        (Terrain("rough", 0.0, 0.2), "size"),
        (Terrain("stairs_up", -0.1), "size"),
        (Terrain("flat", 0.1), "size"),
        (Terrain("stairs_up", 8.0), "centimetres"),
        (Terrain("slope_up", float("nan")), "size.*finite"),
        (Terrain("rough", 0.1, float("inf")), "length_m.*finite"),
        (Terrain("rough", 0.1, 0.12), "length_m.*0.05"),
        (Terrain("rough", 0.1, 2.0), "below 2 m"),
        (Terrain("waves", 0.1, 0.05), "length_m"),
        (Terrain("waves", 0.1, 6.0), "length_m"),
        (Terrain("waves", 0.1, 0.15), "at least 0.2 m"),
        (Terrain("stairs_up", 0.1, 0.02), "length_m"),
        (Terrain("blocks", 0.1, 7.0), "length_m"),
        (Terrain("flat", friction=0.0), "friction"),
        (Terrain("flat", friction=5.0), "friction"),
        (Terrain("flat", friction=float("nan")), "friction.*finite"),
    ],
)
def test_a_ground_that_cannot_be_built_is_refused(ground, named):
    with pytest.raises(ConfigError, match=named):
        ground.check()
    with pytest.raises(ConfigError, match=named):
        Arena([Terrain(), ground])


def test_an_arena_is_of_different_grounds_and_not_empty():
    with pytest.raises(ConfigError, match="at least one"):
        Arena([])
    with pytest.raises(ConfigError, match=r"slope_up-0\.2.*twice"):
        Arena([Terrain("slope_up", 0.2), Terrain(), Terrain("slope_up", 0.2)])


def test_tiles_are_found_by_ground_or_label_and_unknown_ones_refused():
    arena = Arena(GROUNDS[:4])
    assert [arena.tile(ground) for ground in GROUNDS[:4]] == [0, 1, 2, 3]
    assert arena.tile("rough-0.06-every-0.2") == 2
    with pytest.raises(ConfigError, match=r"slope_up-0\.5.*flat, rough-0\.03"):
        arena.tile(Terrain("slope_up", 0.5))


def test_tiles_do_not_overlap():
    arena = Arena(GROUNDS)
    low = arena.corner_m[:, 1] - MARGIN_M
    high = arena.corner_m[:, 1] + arena.period_m[:, 1] + MARGIN_M
    assert np.all(low[1:] >= high[:-1] - 1e-9)


@given(
    st.integers(0, len(GROUNDS) - 1),
    st.floats(-9, 9, allow_nan=False),
    st.floats(-9, 9, allow_nan=False),
)
def test_moving_back_ends_on_the_period_over_the_same_ground(number, x, y):
    arena, ground = Arena(GROUNDS), GROUNDS[number]
    if not off_edges(ground, np.array([[x, y]]))[0]:
        return
    tile, at = np.array([number]), arena.corner_m[number] + [[x, y]]
    shift = arena.wrap(tile, at)
    back = at + shift[:, :2]
    local = (back - arena.corner_m[number])[0]
    assert np.all(local >= -1e-9)
    assert np.all(local <= arena.period_m[number] + 1e-9)
    periods = shift[0, :2] / arena.period_m[number]
    np.testing.assert_allclose(periods, np.round(periods), atol=1e-9)
    np.testing.assert_allclose(arena.height(tile, back), arena.height(tile, at) + shift[:, 2], atol=1e-9)
