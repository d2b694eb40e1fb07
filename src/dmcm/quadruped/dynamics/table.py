"""Measures of several seeds in one table: means, intervals, and shares of the oracle's gain."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dmcm.summaries import summarise_numbers

_UNIT = re.compile(r"_(nm_per_rad|nms_per_rad|rad_s|rad|nm|kg|m|s)$")
LEAST_GAIN = 0.05
"""Outputs in which the oracle gains less than this share get no share of its gain: it would be noise."""


def summarise(names: Sequence[str], measured: list[dict[str, Any]], main: str) -> dict[str, Any]:
    """The table of all methods; errors and R² have no unit, so names in it have none either.

    Args:
        names: of the methods.
        measured: per seed, what `Measures` found of each method, and "none".
        main: the method that was measured in detail.
    """
    ways: dict[str, Any] = {"none": [seed["none"] for seed in measured]}
    for name in names:
        for way in measured[0][name]:
            if way in _ENDINGS:
                label = f"{name}{_ENDINGS[way]}"
                ways[_RENAMED.get(label, label)] = [seed[name][way] for seed in measured]
    oracle = ways.get("oracle")
    table: dict[str, Any] = {"methods": {w: _with_shares(v, ways["none"], oracle) for w, v in ways.items()}}
    if main in names:
        table["seconds"] = {
            s: _with_shares([seed[main]["seconds"][s] for seed in measured], ways["none"], oracle)
            for s in measured[0][main]["seconds"]
        }
        table["probes"] = _mean_tree([seed[main]["probes"] for seed in measured])
    return _unitless_keys(table)


def unitless(name: str) -> str:
    """Name of an output or a property without its unit: `torque` for `torque_nm`."""
    return _UNIT.sub("", name)


def _unitless_keys(tree: Any) -> Any:
    if not isinstance(tree, Mapping):
        return tree
    return {unitless(key): _unitless_keys(value) for key, value in tree.items()}


_ENDINGS = {
    "in_place": "",
    "in_place_near": "_near",
    "robot_donor": "_from_robot",
    "robot_donor_near": "_from_robot_near",
    "terrain_donor": "_from_terrain",
    "recombined": "_recombined",
    "recombined_near": "_recombined_near",
    "robot_only": "_robot_only",
    "terrain_only": "_terrain_only",
    "wrong_robot": "_wrong_robot",
    "wrong_terrain": "_wrong_terrain",
}
"""Suffixes to the names of methods in rows, by the origin of their vectors."""
_RENAMED = {"encoders": "encoders_in_place", "encoders_recombined": "encoders"}
"""Encoders per factor are meant to be recombined, so that is their plain row."""


def _with_shares(
    runs: list[dict[str, dict[str, float]]],
    none: list[dict[str, dict[str, float]]],
    oracle: list[dict[str, dict[str, float]]] | None,
) -> dict[str, Any]:
    table: dict[str, Any] = {}
    for split, outputs in runs[0].items():
        table[split] = {}
        for name in outputs:
            errors = [run[split][name] for run in runs]
            summary = summarise_numbers(errors)
            cell: dict[str, Any] = {"nrmse": summary["mean"], "ci95": summary["ci95"], "gain_share": None}
            if oracle is not None:
                without = np.array([run[split][name] for run in none])
                best = np.array([run[split][name] for run in oracle])
                cell["oracle_gain"] = float(np.mean(1 - best / without))
                if cell["oracle_gain"] >= LEAST_GAIN:
                    share, half = ratio_of_means(without - errors, without - best)
                    cell |= {"gain_share": share, "gain_share_ci95": half}
            table[split][name] = cell
    return table


def ratio_of_means(part: np.ndarray, whole: np.ndarray) -> tuple[float, float | None]:
    """Ratio of the means over seeds of two numbers, and half of its 95 % interval, None for one seed.

    Not the mean of ratios: in a seed where the oracle gains next to nothing, its share is meaningless. The
    interval is that of a ratio of paired means (Cochran 1977, Sampling Techniques, 6.4).

    Args:
        part: one number per seed, shape (seeds,).
        whole: what it is a share of, of the same shape.
    """
    share = float(part.mean() / whole.mean())
    half = summarise_numbers((part - share * whole).tolist())["ci95"]
    return share, None if half is None else half / abs(float(whole.mean()))


def _mean_tree(trees: list[Mapping[str, Any]]) -> dict[str, Any]:
    return {
        key: _mean_tree([tree[key] for tree in trees])
        if isinstance(trees[0][key], Mapping)
        else float(np.mean([tree[key] for tree in trees]))
        for key in trees[0]
    }
