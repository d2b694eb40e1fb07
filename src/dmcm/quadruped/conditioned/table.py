"""The table of policies: cells over seeds, conditions and everything outside training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dmcm.quadruped.conditioned.suite import CONDITIONS, TRAINING
from dmcm.summaries import half_width_of_groups, summarise_numbers, wilson_of_groups

OUTSIDE = "outside"
"""Name of the mean over all conditions except training."""


def over_seeds(runs: Sequence[Mapping[str, Mapping[str, Any]]]) -> dict[str, Any]:
    """Means over seeds: per cell, per condition, and over all conditions except training."""
    cells = {
        f"{condition} on {ground}": [run[condition][ground] for run in runs]
        for condition in CONDITIONS
        for ground in runs[0][condition]
    }
    found = {name: mean_over_seeds(rows) for name, rows in cells.items()}
    for condition in CONDITIONS:
        found[condition] = mean_over_seeds([together(list(run[condition].values())) for run in runs])
    found[OUTSIDE] = overall([_outside(run) for run in runs])
    return found


def overall(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """As `mean_over_seeds`, with the success by seed and robot, which is needed to compare methods."""
    robots = together(rows)["per_robot"].round(4).tolist()
    return {**mean_over_seeds(rows), "per_seed": [row["success"] for row in rows], "per_robot": robots}


_MEANS = ("success", "distance_m", "velocity_rmse", "energy_j_per_m")


def together(rows: Sequence[Mapping[str, Any]], *, same_robots: bool = True) -> dict[str, Any]:
    """Several cells as one, with equal weights.

    Args:
        rows: the cells.
        same_robots: whether the same robots walked in all cells; otherwise each cell is another condition's.

    Returns:
        As a cell, but "per_robot" of shape (conditions, robots).
    """
    found: dict[str, Any] = {}
    for name in _MEANS:
        known = [row[name] for row in rows if row[name] is not None]
        found[name] = float(np.mean(known)) if known else None
    robots = [np.atleast_2d(row["per_robot"]) for row in rows]
    found["per_robot"] = np.mean(robots, axis=0) if same_robots else np.concatenate(robots)
    return found | {name: int(sum(row[name] for row in rows)) for name in ("falls", "episodes")}


def _outside(run: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """All cells of a run as one, except those of training."""
    conditions = [together(list(run[name].values())) for name in CONDITIONS if name != TRAINING]
    return together(conditions, same_robots=False)


def mean_over_seeds(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One cell over seeds, each with the same robots.

    The interval of its success treats both seeds and robots as random, and conditions as fixed: it is the
    root of the sum of the squared half-widths that each gives. Other intervals are over seeds, and None for
    one.
    """
    found = together(rows)
    seeds = summarise_numbers([row["success"] for row in rows])["ci95"] or 0.0
    robots = wilson_of_groups(found.pop("per_robot"), found["episodes"])
    found["ci95"] = float(np.hypot(seeds, robots))
    found["ci95_over_seeds"] = {
        name: summarise_numbers([row[name] for row in rows if row[name] is not None])["ci95"]
        for name in _MEANS
        if name != "success" and found[name] is not None
    }
    return {**found, "episodes": found["episodes"] // len(rows), "seeds": len(rows)}


def differences(methods: Mapping[str, Mapping[str, Any]], over: str, own: str = "dmcm") -> dict[str, Any]:
    """How much more often one method succeeds than others, paired by seed and by robot.

    The interval treats both as random, as in `mean_over_seeds`.

    Args:
        methods: cells of each method, all of the same seeds and robots; methods without success by robot are
            left out.
        over: name of the cell of `overall` to compare.
        own: name of the method.
    """
    rows = {name: cells[over] for name, cells in methods.items() if "per_robot" in cells[over]}
    if own not in rows:
        return {}
    ours, found = rows.pop(own), {}
    for name, row in rows.items():
        seeds, robots = (np.subtract(ours[key], row[key]) for key in ("per_seed", "per_robot"))
        found[name] = summarise_numbers(seeds.tolist())
        if found[name]["ci95"] is not None:
            found[name]["ci95"] = float(np.hypot(found[name]["ci95"], half_width_of_groups(robots)))
    return found
