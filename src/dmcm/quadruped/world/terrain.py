"""Grounds: flat, rough, slopes, stairs, waves, blocks. Each repeats itself, so a robot never leaves it."""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any

import numpy as np

from dmcm.errors import ConfigError, unknown_name

CELL_M = 0.05
"""Edge of a cell of the height maps. With finer cells a foot touches several at once, which halves the
speed."""

KINDS = ("flat", "rough", "slope_up", "slope_down", "stairs_up", "stairs_down", "waves", "blocks")
"""All kinds of ground. Up and down are along the world's x axis."""
MAPPED = ("rough", "waves")
"""Kinds made of height maps; the others are made of boxes."""

MIN_PERIOD_M, MAX_PERIOD_M = 2.0, 5.0
_DEPTH_M = 0.5
_STEP_M = 0.3
"""Depth of a step of stairs whose label does not name it."""


@dataclasses.dataclass(frozen=True)
class Terrain:
    """One ground: its kind, how hard it is, and its friction."""

    kind: str = "flat"
    """One of `KINDS`."""
    size: float = 0.0
    """Vertical size in metres: height of a step or block, crest to trough of waves, range of roughness. For
    slopes the rise per metre."""
    length_m: float = _STEP_M
    """Horizontal size: depth of a step, wavelength, edge of a block, spacing of the roughness's grid points.
    Flat ground and slopes do not use it."""
    friction: float = 0.8
    """Coefficient of sliding friction between foot and ground."""
    seed: int = 0
    """Seed of random grounds; only rough ground and blocks use it."""

    @property
    def label(self) -> str:
        """Name that distinguishes this ground, such as `stairs_up-0.08` or `waves-0.12-every-1`."""
        parts = [self.kind]
        if self.kind != "flat":
            parts.append(f"{self.size:g}")
        stairs = self.kind in ("stairs_up", "stairs_down") and self.length_m != _STEP_M
        if self.kind in ("rough", "waves", "blocks") or stairs:
            parts.append(f"every-{self.length_m:g}")
        if self.seed:
            parts.append(f"seed-{self.seed}")
        if self.friction != 0.8:
            parts.append(f"friction-{self.friction:g}")
        return "-".join(parts)

    @property
    def period_m(self) -> tuple[float, float]:
        """Distance after which the ground repeats, along x and y."""
        length = self._repeating_length()
        periods = math.ceil(MIN_PERIOD_M / length - 1e-9)
        return periods * length, periods * length

    @property
    def rise_m(self) -> float:
        """How much higher the ground is one period further along x."""
        period = self.period_m[0]
        if self.kind in ("slope_up", "slope_down"):
            return period * self.size * self._direction()
        if self.kind in ("stairs_up", "stairs_down"):
            return round(period / self.length_m) * self.size * self._direction()
        return 0.0

    def check(self) -> Terrain:
        """Return self, or raise `ConfigError` for a ground that cannot be built."""
        if self.kind not in KINDS:
            raise ConfigError(unknown_name("kind of terrain", self.kind, KINDS))
        for name in ("size", "length_m", "friction"):
            if not math.isfinite(getattr(self, name)):
                raise ConfigError(
                    f"terrain {self.kind}: {name} = {getattr(self, name)} must be a finite number."
                )
        if self.size < 0 or (self.size == 0) != (self.kind == "flat"):
            raise ConfigError(
                f"terrain {self.kind}: size = {self.size} must be "
                + (
                    "0 (flat ground has none)."
                    if self.kind == "flat"
                    else "above 0; use the kind flat for 0."
                )
            )
        if self.seed < 0:
            raise ConfigError(f"terrain {self.kind}: seed = {self.seed} must not be negative.")
        if self.size > 1:
            raise ConfigError(
                f"terrain {self.kind}: size = {self.size} is more than a metre; is it in centimetres?"
            )
        if not 0 < self.friction <= 2:
            raise ConfigError(f"terrain {self.kind}: friction = {self.friction} must lie in (0, 2].")
        if self.kind in MAPPED:
            cells = self.length_m / CELL_M
            if abs(cells - round(cells)) > 1e-6 or cells < 2 or self.length_m > MAX_PERIOD_M:
                raise ConfigError(
                    f"terrain {self.kind}: length_m = {self.length_m} does not fit the height map. Use a "
                    f"multiple of its cell, {CELL_M} m, from {2 * CELL_M} to {MAX_PERIOD_M:g} m."
                )
            if self.kind == "waves" and cells < 4 - 1e-6:
                raise ConfigError(
                    f"terrain waves: length_m = {self.length_m} is too short for crests and troughs in the "
                    f"height map. It must be at least {4 * CELL_M:g} m."
                )
            if self.kind == "rough" and self.length_m >= MIN_PERIOD_M:
                raise ConfigError(
                    f"terrain rough: length_m = {self.length_m} leaves one grid point in a period, which is "
                    f"flat. It must be below {MIN_PERIOD_M:g} m."
                )
        elif not 0.1 <= self.length_m <= MAX_PERIOD_M:
            raise ConfigError(
                f"terrain {self.kind}: length_m = {self.length_m} must lie between 0.1 and "
                f"{MAX_PERIOD_M:g} m."
            )
        return self

    def height(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Height of the ground at points of the tile's frame, any shape, metres.

        The ground at (0, 0) starts a period. Between the points of a height map it is made of triangles, as
        in collisions.
        """
        if self.kind in ("slope_up", "slope_down"):
            return self._direction() * self.size * x + 0.0 * y
        if self.kind in ("stairs_up", "stairs_down"):
            return self._direction() * self.size * np.floor(x / self.length_m) + 0.0 * y
        if self.kind == "blocks":
            grid = self._block_heights()
            return grid[_cell(x, self.length_m, len(grid)), _cell(y, self.length_m, len(grid))]
        if self.kind in MAPPED:
            return _triangulated(_height_map(self), x, y)
        return np.zeros(np.broadcast_shapes(np.shape(x), np.shape(y)))

    def height_map(self, margin_m: float) -> np.ndarray:
        """Heights of rough ground or waves over a period and a margin, a point every `CELL_M`, metres.

        Args:
            margin_m: how far the ground continues before and after the period.

        Returns:
            Shape (points along x, points along y), one point more than cells.
        """
        period, margin = _height_map(self), round(margin_m / CELL_M)
        index = np.arange(-margin, len(period) + margin + 1) % len(period)
        return period[np.ix_(index, index)]

    def boxes(self, margin_m: float) -> list[Box]:
        """The boxes that flat ground, slopes, stairs and blocks are made of, over a period and a margin."""
        x_period, y_period = self.period_m
        low, high = -margin_m, x_period + margin_m
        middle, half_width = y_period / 2, y_period / 2 + margin_m
        if self.kind in ("slope_up", "slope_down"):
            grade = self._direction() * self.size
            return [_slab(low, high, grade, middle, half_width)]
        if self.kind in ("stairs_up", "stairs_down"):
            steps = np.arange(math.floor(low / self.length_m), math.ceil(high / self.length_m))
            rise = self._direction() * self.size
            half = np.array([self.length_m / 2, half_width, _DEPTH_M / 2])
            return [
                Box(np.array([(i + 0.5) * self.length_m, middle, i * rise - _DEPTH_M / 2]), half)
                for i in steps
            ]
        ground = [_slab(low, high, 0.0, middle, half_width)]
        if self.kind != "blocks":
            return ground
        grid, edge = self._block_heights(), self.length_m
        first, last = math.floor(low / edge), math.ceil(high / edge)
        # Cut at the margin: the neighbour's ground begins there.
        borders = np.clip(np.arange(first, last + 1) * edge, low, high)
        for i in range(first, last):
            for j in range(first, last):
                height = grid[i % len(grid), j % len(grid)]
                if height > 0:
                    from_xy = np.array([borders[i - first], borders[j - first]])
                    to_xy = np.array([borders[i - first + 1], borders[j - first + 1]])
                    center, half = (from_xy + to_xy) / 2, (to_xy - from_xy) / 2
                    ground.append(Box(np.array([*center, height / 2]), np.array([*half, height / 2])))
        return ground

    def _block_heights(self) -> np.ndarray:
        """Three in ten squares of a grid carry a block, of half to full height; shape (squares, squares)."""
        rng = np.random.default_rng(self.seed)
        squares = round(self.period_m[0] / self.length_m)
        heights = self.size * rng.uniform(0.5, 1.0, (squares, squares))
        return np.where(rng.random((squares, squares)) < 0.3, heights, 0.0)

    def _repeating_length(self) -> float:
        if self.kind in ("flat", "slope_up", "slope_down"):
            return MIN_PERIOD_M
        return self.length_m

    def _direction(self) -> float:
        return 1.0 if self.kind.endswith("_up") else -1.0


@dataclasses.dataclass(frozen=True)
class Box:
    """A box in the tile's frame."""

    center_m: np.ndarray
    """Shape (3,)."""
    half_m: np.ndarray
    """Half edges, shape (3,)."""
    pitch_rad: float = 0.0
    """Rotation about y; positive lowers the far end."""


def parse_terrain(label: str) -> Terrain:
    """The ground that has this label; see `Terrain.label`.

    Raises:
        ConfigError: not the label of a ground, or that of one that cannot be built.
    """
    kind, *rest = label.split("-")
    if kind not in KINDS:
        raise ConfigError(unknown_name("kind of terrain", kind, KINDS))
    values: dict[str, Any] = {}
    names = {"every": ("length_m", float), "seed": ("seed", int), "friction": ("friction", float)}
    try:
        if kind != "flat" and rest and rest[0] not in names:
            values["size"] = float(rest.pop(0))
        while rest:
            name, number, *rest = rest
            field, read = names[name]
            values[field] = read(number)
    except (KeyError, ValueError):
        raise ConfigError(
            f"'{label}' is not the label of a ground. Labels have a kind, its size and more, such as "
            "stairs_up-0.08, waves-0.12-every-1, rough-0.06-every-0.2-seed-3 or flat-friction-0.3."
        ) from None
    return Terrain(kind, **values).check()


@functools.lru_cache(maxsize=256)
def _height_map(terrain: Terrain) -> np.ndarray:
    cells = round(terrain.period_m[0] / CELL_M)
    at = np.arange(cells) * CELL_M / terrain.length_m
    if terrain.kind == "waves":
        return np.repeat(0.5 * terrain.size * np.sin(2 * np.pi * at)[:, None], cells, axis=1)
    points = round(terrain.period_m[0] / terrain.length_m)
    grid = np.random.default_rng(terrain.seed).uniform(-0.5, 0.5, (points, points))
    return terrain.size * _bilinear(grid, at, at)


def _slab(low: float, high: float, grade: float, middle: float, half_width: float) -> Box:
    """A box whose upper side is the plane z = grade x over [low, high]."""
    pitch = -math.atan(grade)
    x = (low + high) / 2
    normal = np.array([math.sin(pitch), 0.0, math.cos(pitch)])
    center = np.array([x, middle, grade * x]) - normal * _DEPTH_M / 2
    half_length = (high - low) / 2 / math.cos(pitch)
    return Box(center, np.array([half_length, half_width, _DEPTH_M / 2]), pitch)


def _cell(at: np.ndarray, edge: float, count: int) -> np.ndarray:
    return np.floor(at / edge).astype(int) % count


def _bilinear(grid: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Interpolation of a grid that repeats, at all pairs of x and y in grid units."""
    x0, y0 = np.floor(x + 1e-9).astype(int), np.floor(y + 1e-9).astype(int)
    tx, ty = (x - x0)[:, None], (y - y0)[None, :]

    def corner(dx: int, dy: int) -> np.ndarray:
        return grid[np.ix_((x0 + dx) % len(grid), (y0 + dy) % len(grid))]

    return (1 - tx) * ((1 - ty) * corner(0, 0) + ty * corner(0, 1)) + tx * (
        (1 - ty) * corner(1, 0) + ty * corner(1, 1)
    )


def _triangulated(heights: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """A repeating height map; cells are two triangles, split from (0, 0) to (1, 1) as MuJoCo does."""
    n = len(heights)
    i, j = np.floor(x / CELL_M).astype(int), np.floor(y / CELL_M).astype(int)
    tx, ty = x / CELL_M - i, y / CELL_M - j
    i0, i1, j0, j1 = i % n, (i + 1) % n, j % n, (j + 1) % n
    h00, h01, h10, h11 = heights[i0, j0], heights[i0, j1], heights[i1, j0], heights[i1, j1]
    near_x = h00 + tx * (h10 - h00) + ty * (h11 - h10)
    near_y = h00 + ty * (h01 - h00) + tx * (h11 - h01)
    return np.where(tx >= ty, near_x, near_y)


TRAINING_TERRAINS: tuple[Terrain, ...] = (
    Terrain("flat"),
    Terrain("rough", 0.03, 0.1),
    Terrain("rough", 0.06, 0.2),
    Terrain("slope_up", 0.12),
    Terrain("slope_up", 0.24),
    Terrain("slope_down", 0.12),
    Terrain("slope_down", 0.24),
    Terrain("stairs_up", 0.04),
    Terrain("stairs_up", 0.08),
    Terrain("stairs_down", 0.04),
    Terrain("stairs_down", 0.08),
    Terrain("waves", 0.06, 1.0),
    Terrain("waves", 0.12, 1.0),
)
"""Grounds that training may see."""

OOD_TERRAINS: tuple[Terrain, ...] = (
    Terrain("slope_up", 0.32),
    Terrain("slope_down", 0.32),
    Terrain("stairs_up", 0.1),
    Terrain("stairs_down", 0.1),
    Terrain("waves", 0.16, 1.0),
    Terrain("blocks", 0.06, 0.4),
    Terrain("flat", friction=0.3),
)
"""Grounds held out of training: steeper, higher, slippery, and a kind of its own, scattered blocks."""
