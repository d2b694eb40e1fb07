"""Summaries of errors of tasks, figures of seeds and successes of episodes, with 95 % intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

_STUDENT_95 = {
    2: 12.706,
    3: 4.303,
    4: 3.182,
    5: 2.776,
    6: 2.571,
    7: 2.447,
    8: 2.365,
    9: 2.306,
    10: 2.262,
}
_NORMAL_95 = 1.959964


def summarise_errors(errors: np.ndarray) -> dict[str, float]:
    """Mean, median and largest of the errors of tasks, shape (tasks,)."""
    return {
        "mean": float(np.mean(errors)),
        "median": float(np.median(errors)),
        "max": float(np.max(errors)),
    }


def summarise_best(ways: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """`summarise_errors` of the way with the lowest mean, and its name under "way".

    Args:
        ways: errors of the same tasks, shape (tasks,) each, for each way of putting contexts together.
    """
    found = {way: summarise_errors(errors) for way, errors in ways.items()}
    best = min(found, key=lambda way: found[way]["mean"])
    return {**found[best], "way": best}


def summarise_numbers(values: Sequence[float | None]) -> dict[str, Any]:
    """Mean of one number a seed, with a 95 % interval.

    Returns:
        "mean"; "ci95", the half-width of Student's t interval (None for one seed); "per_seed".
    """
    numbers = np.asarray([np.nan if value is None else value for value in values], np.float64)
    count = len(numbers)
    half = None
    if count > 1:
        half = float(student_95(count) * numbers.std(ddof=1) / math.sqrt(count))
    return {"mean": float(numbers.mean()), "ci95": half, "per_seed": numbers.tolist()}


def student_95(count: int) -> float:
    """Two-sided 95 % quantile of Student's t for the mean of `count` numbers, at least two.

    Above ten, computed by an expansion about the normal quantile (Abramowitz and Stegun 1964, 26.7.5),
    accurate to a thousandth.
    """
    if count in _STUDENT_95:
        return _STUDENT_95[count]
    z, freedom = _NORMAL_95, count - 1
    return (
        z
        + (z**3 + z) / (4 * freedom)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * freedom**3)
    )


def wilson(successes: int | float, trials: int | float) -> float:
    """Distance from a share to the further end of its 95 % interval by Wilson (1927).

    The interval is not centred on the share, least of all near 0 and 1: for 64 successes in 64 it is 0.94 to
    1.
    """
    z, share = _NORMAL_95, successes / trials
    shrink = 1 + z**2 / trials
    half = z / shrink * math.sqrt(share * (1 - share) / trials + z**2 / (4 * trials**2))
    return half + abs((share + z**2 / (2 * trials)) / shrink - share)


def wilson_of_groups(shares: np.ndarray, trials: int) -> float:
    """Like `wilson`, for trials in groups that tend to end alike, as the episodes of one robot do.

    The trials count as the number of independent ones that would give the same spread (Kish 1965, the design
    effect): at least the number of groups and at most that of all trials, scaled up if strata differ in their
    shares.

    Args:
        shares: share of successes in each group, shape (strata, groups); groups are drawn at random within
            each stratum, and all have the same size.
        trials: number of trials in all groups.
    """
    share, groups = float(shares.mean()), shares.size
    alone = share * (1 - share)
    # Groups that all end alike do not show how trials within them would differ.
    counted = float(groups)
    if shares.shape[1] > 1 and alone > 0:
        own = shares.mean(axis=1)
        within, between = float(np.mean(own * (1 - own))), _variance_of_mean(shares)
        most = trials * alone / within if within > 0 else float(trials)
        counted = float(np.clip(alone / between, groups, most)) if between > 0 else most
    return wilson(share * counted, counted)


def half_width_of_groups(values: np.ndarray) -> float:
    """Half-width of Student's t interval for the mean of numbers drawn at random within strata.

    Args:
        values: shape (strata, n); the result is 0 for n = 1.
    """
    strata, n = values.shape
    if n < 2:
        return 0.0
    return student_95(strata * (n - 1) + 1) * math.sqrt(_variance_of_mean(values))


def _variance_of_mean(values: np.ndarray) -> float:
    """Variance of the mean over fixed strata, values (strata, n) (Cochran 1977, Sampling Techniques, 5.4)."""
    strata, n = values.shape
    return float(values.var(axis=1, ddof=1).sum()) / (n * strata**2)


def summarise_seeds(values: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Mean over seeds with a 95 % interval, from what `summarise_errors` gave for each seed.

    Returns:
        What `summarise_numbers` gives for the seeds' means; "median" of the seeds' medians; and "way", the
        most frequent one, if there are ways.
    """
    medians = [np.nan if value["median"] is None else value["median"] for value in values]
    summary = summarise_numbers([value["mean"] for value in values])
    summary["median"] = float(np.median(medians))
    ways = [value["way"] for value in values if "way" in value]
    if ways:
        summary["way"] = max(sorted(set(ways)), key=ways.count)
    return summary


def summarise_cells(cells: Sequence[Any]) -> Any:
    """Merge the seeds' nested tables: errors by `summarise_seeds`, single numbers by `summarise_numbers`."""
    first = cells[0]
    if not isinstance(first, Mapping):
        return summarise_numbers(cells)
    if "mean" in first and "median" in first:
        return summarise_seeds(cells)
    return {key: summarise_cells([cell[key] for cell in cells]) for key in first}
