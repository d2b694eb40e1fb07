"""Controls without a learner: mean growth curves, shifted and averaged, and the spread between plots."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from dmcm.data import FactorDataset
from dmcm.errors import DataError

Predictor = Callable[[np.ndarray], np.ndarray]
"""Logarithm of the weight on given days, any shape."""


@dataclasses.dataclass(frozen=True)
class MeanCurve:
    """Mean log weight of several plots on the days they were sampled, linear between and beyond.

    Attributes:
        days: in ascending order, shape (days,).
        logs: mean over plots, shape (days,).
    """

    days: np.ndarray
    logs: np.ndarray

    @classmethod
    def of(cls, plots: FactorDataset) -> MeanCurve:
        """Measure on plots.

        Raises:
            DataError: fewer than two days.
        """
        real = plots.weight > 0
        day, log = plots.x[..., 0][real].astype(np.float64), plots.y[..., 0][real].astype(np.float64)
        days, position = np.unique(day, return_inverse=True)
        if len(days) < 2:
            raise DataError("a growth curve needs samples from at least two days.")
        return cls(days, np.bincount(position, log) / np.bincount(position))

    def __call__(self, day: np.ndarray) -> np.ndarray:
        """Log weight on a day; before the first and after the last day, extrapolate the nearest segment."""
        segment = np.clip(np.searchsorted(self.days, day) - 1, 0, len(self.days) - 2)
        slope = np.diff(self.logs) / np.diff(self.days)
        return self.logs[segment] + slope[segment] * (day - self.days[segment])


def controls(train: FactorDataset, variety: str, year: int) -> dict[str, Predictor]:
    """Predictions of a pair that the training plots lack, from the mean curves of the other pairs.

    Args:
        train: plots of all other pairs.
        variety: variety of the pair to predict.
        year: year of the pair to predict.

    Returns:
        "grand_mean": mean of all curves; "other_varieties": of the same year; "other_years": of the same
        variety; "additive": "other_varieties" plus the mean difference between the variety and the others in
        the other years.
    """
    curves = {(v, y): MeanCurve.of(train.where(variety=v, year=y)) for v, y in train.combinations()}
    others = {y: mean_of([c for (v, at), c in curves.items() if v != variety and at == y]) for _, y in curves}
    own = {y: curve for (v, y), curve in curves.items() if v == variety}
    effect = np.mean([np.mean(curve.logs - others[y](curve.days)) for y, curve in own.items()])
    return {
        "grand_mean": mean_of([*curves.values()]),
        "other_varieties": others[year],
        "other_years": mean_of([*own.values()]),
        "additive": lambda day: others[year](day) + effect,
    }


def mean_of(curves: list[MeanCurve]) -> Predictor:
    """The mean of several curves, weighted equally."""
    return lambda day: np.mean([curve(day) for curve in curves], axis=0)


def between_plots(plots: FactorDataset) -> np.ndarray:
    """Log weights of each plot predicted by the mean curve of the others, shape (plots, n).

    Plots of one pair differ in soil and sampling, so no prediction of a plot from its labels can be much
    closer.
    """
    indices = range(len(plots))
    rest = [MeanCurve.of(plots.subset([j for j in indices if j != i])) for i in indices]
    return np.stack([curve(plots.x[i, :, 0].astype(np.float64)) for i, curve in enumerate(rest)])
