"""A robot's properties from an evolution strategy that simulates its log: classical system identification."""

from __future__ import annotations

import dataclasses

import numpy as np
from cmaes import CMA

from dmcm.errors import ConfigError, ShapeError
from dmcm.quadruped.body.properties import TRAINING_RANGES, RobotProperties
from dmcm.quadruped.body.robot_table import RobotTable
from dmcm.quadruped.data.recording import COLUMNS
from dmcm.quadruped.identification.box import LIMITS, from_unit, to_unit
from dmcm.quadruped.identification.gains import regressed_gains
from dmcm.quadruped.identification.replay import Replay
from dmcm.quadruped.identification.segments import LEAST_SEGMENTS, cut_segments

_GAINS = {"p_gain_nm_per_rad": 0.05, "d_gain_nms_per_rad": 0.1}
"""Spread of the search around the regressed gains at the start, and the distance that costs `_PULL`, in the
unit cube. Otherwise motors and contacts that the simulation does not model would look like other gains."""
_WIDE = 0.2
"""Standard deviation of the first generation in all other coordinates."""
_PULL = 0.01
"""Loss at these distances from the gains, and a whole edge of the cube away in all other coordinates.
Whatever a log does not show, such as the strength of motors that never saturate, stays at the first guess
instead of drifting."""


@dataclasses.dataclass(frozen=True)
class IdentifySettings:
    """How much is simulated: the product of all four. The default takes 20 s on one core."""

    segments: int = 20
    """Pieces of the log."""
    steps: int = 10
    """Control steps of each, 20 ms long."""
    population: int = 10
    """Bodies that are tried in parallel."""
    generations: int = 50
    """Number of generations."""

    def check(self) -> IdentifySettings:
        """Return self, or raise `ConfigError` for settings out of range."""
        least = {"segments": LEAST_SEGMENTS, "steps": 2, "population": 4, "generations": 1}
        for name, limit in least.items():
            if not getattr(self, name) >= limit:
                raise ConfigError(f"{name}={getattr(self, name)} must be at least {limit}.")
        return self


@dataclasses.dataclass(frozen=True)
class Identified:
    """What was found."""

    properties: RobotProperties
    """The robot that explains the log best."""
    loss: float
    """Error of its simulation against what was sensed: root mean square in standard deviations, mean over
    segments."""
    first_loss: float
    """The same for the robot that the search started with."""
    segments: int
    """Pieces of the log that were used."""


def identify(
    data: np.ndarray,
    table: RobotTable,
    *,
    settings: IdentifySettings | None = None,
    seed: int = 0,
    threads: int = 0,
) -> Identified:
    """Find the body with which a simulation reproduces what a robot did on flat ground.

    Short segments of the log are simulated from their measured starts with the recorded joint targets, and
    CMA-ES (Hansen, arXiv 1604.00772) varies the body until angles, speeds, torques, turning rates and tilt
    agree with the measured ones. Only what a robot measures itself is used.

    Args:
        data: one log, shape (steps, columns), see `data.recording.COLUMNS`; what `TRUTH` names may be NaN.
        table: the robot's facts.
        settings: how much is simulated.
        seed: for the search; equal seeds give equal results.
        threads: physics threads; 0 means one per core. They do not change the result.

    Raises:
        ConfigError: settings or seed out of range.
        ShapeError: data of another shape.
        DataError: a needed column is not finite, or the log has too little walking without falls.
    """
    settings = (settings or IdentifySettings()).check()
    if not 0 <= seed < 2**32:
        raise ConfigError(f"seed={seed} must lie between 0 and 2³² − 1.")
    if data.ndim != 2 or data.shape[1] != sum(COLUMNS.values()):
        raise ShapeError(
            f"a log has shape (steps, {sum(COLUMNS.values())}), not {data.shape}. Identify one log at a time."
        )
    segments = cut_segments(data, table, settings.segments, settings.steps)
    replay = Replay(segments, table, settings.population, threads=threads)
    mean = _first_guess(data, table)
    deviations = np.array([_GAINS.get(name, _WIDE) for name in LIMITS])
    reach = np.array([_GAINS.get(name, 1.0) for name in LIMITS])
    search = CMA(
        mean=mean,
        sigma=1.0,
        cov=np.diag(deviations**2),
        bounds=np.tile([0.0, 1.0], (len(LIMITS), 1)),
        population_size=settings.population,
        seed=seed,
    )
    first_loss = _loss_of(mean, replay, settings)
    for _ in range(settings.generations):
        points = [search.ask() for _ in range(settings.population)]
        losses = replay.errors([from_unit(point) for point in points]).mean(axis=1)
        losses += _PULL * (((np.array(points) - mean) / reach) ** 2).sum(axis=1)
        search.tell(list(zip(points, losses.tolist(), strict=True)))
    # The mean of a population is nearer the optimum than its best member.
    return Identified(
        from_unit(search.mean), _loss_of(search.mean, replay, settings), first_loss, segments.count
    )


def _loss_of(point: np.ndarray, replay: Replay, settings: IdentifySettings) -> float:
    return float(replay.errors([from_unit(point)] * settings.population)[0].mean())


def _first_guess(data: np.ndarray, table: RobotTable) -> np.ndarray:
    """Regressed gains, everything else typical of training; a point well inside the unit cube."""
    middle = RobotProperties(**{name: sum(limits) / 2 for name, limits in TRAINING_RANGES.items()})
    gains = dict(zip(_GAINS, regressed_gains(data, table), strict=True))
    gains = {name: float(np.clip(value, *LIMITS[name])) for name, value in gains.items()}
    return np.clip(to_unit(dataclasses.replace(middle, **gains)), 0.02, 0.98)
