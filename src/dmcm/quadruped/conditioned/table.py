"""The table of the policies: cells over seeds, conditions and all that lies outside training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dmcm.quadruped.conditioned.suite import CONDITIONS, TRAINING
from dmcm.studies import summarise_numbers, wilson

OUTSIDE = "outside"
"""Name of the mean over all conditions but that of training."""


def over_seeds(runs: Sequence[Mapping[str, Mapping[str, Any]]]) -> dict[str, Any]:
    """Per cell the mean over seeds; also per condition, and over all but that of training."""
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
    """As `mean_over_seeds`, with the success of each seed, by which methods are compared."""
    return {**mean_over_seeds(rows), "per_seed": [row["success"] for row in rows]}


_MEANS = ("success", "distance_m", "velocity_rmse", "energy_j_per_m")


def together(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Several cells as one, each of equal weight."""
    found: dict[str, Any] = {}
    for name in _MEANS:
        known = [row[name] for row in rows if row[name] is not None]
        found[name] = float(np.mean(known)) if known else None
    return found | {name: int(sum(row[name] for row in rows)) for name in ("falls", "episodes")}


def _outside(run: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """All cells of a run but those of training as one."""
    return together([row for name in CONDITIONS if name != TRAINING for row in run[name].values()])


def mean_over_seeds(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One cell over seeds; its interval is the wider of that over seeds and that over episodes."""
    found = together(rows)
    spread = summarise_numbers([row["success"] for row in rows])["ci95"] or 0.0
    successes = round(found["success"] * found["episodes"])
    found["ci95"] = max(spread, wilson(successes, found["episodes"]))
    return {**found, "episodes": found["episodes"] // len(rows), "seeds": len(rows)}


def differences(methods: Mapping[str, Mapping[str, Any]], over: str) -> dict[str, Any]:
    """How much more often DMCM succeeds than others, paired by seed.

    Args:
        methods: of each its cells, all of the same seeds; those without success by seed are left out.
        over: name of the cell of `overall` that counts.
    """
    cells = {name: found[over]["per_seed"] for name, found in methods.items() if "per_seed" in found[over]}
    success = {name: np.array(values) for name, values in cells.items()}
    if "dmcm" not in success:
        return {}
    own = success.pop("dmcm")
    return {name: summarise_numbers(list(own - values)) for name, values in success.items()}
