"""Pictures of the comparison of policies: success by condition and by ground, the gait along a vector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from dmcm.plots import CYCLE, INK, house_style, panels, set_title, shared_legend
from dmcm.quadruped.conditioned.influence import SHARES

LABELS: Mapping[str, str] = {"outside": "all outside"}
"""Labels of columns whose names in the table say too little."""
GAIT: Mapping[str, tuple[str, float]] = {
    "clearance_m": ("trunk above ground, cm", 100.0),
    "foot_lift_m": ("lift of the feet, cm", 100.0),
    "foot_duty": ("feet on ground, % of time", 100.0),
    "energy_j_per_m": ("energy, J/m", 1.0),
}
"""Measures of the gait that are drawn: title and factor to its unit."""


def success_picture(
    methods: Mapping[str, Mapping[str, Any]], names: Sequence[str], columns: Sequence[str]
) -> Figure:
    """Bars of success with intervals: one group per column, one bar per method.

    Args:
        methods: cells of each method, in the layout of results/policy.json.
        names: methods to show.
        columns: names of cells.
    """
    with house_style():
        figure, axes = panels(1, 1, height=3.2)
        axis = axes[0, 0]
        width = 0.8 / len(names)
        for i, name in enumerate(names):
            cells = [methods[name][column] for column in columns]
            at = np.arange(len(columns)) + (i - (len(names) - 1) / 2) * width
            axis.bar(
                at,
                [100 * cell["success"] for cell in cells],
                0.9 * width,
                yerr=[100 * cell["ci95"] for cell in cells],
                color=CYCLE[i % len(CYCLE)],
                hatch="//" if i >= len(CYCLE) else None,
                error_kw={"ecolor": INK, "elinewidth": 0.8},
                label=name,
            )
        axis.set_xticks(range(len(columns)), [LABELS.get(c, c).replace("+", " +\n") for c in columns])
        axis.tick_params(axis="x", labelsize=8)
        axis.set_ylim(0, 105)
        axis.set_ylabel("episodes that succeed, %")
        axis.grid(visible=False, axis="x")
        shared_legend(figure, [axis])
    return figure


def gait_picture(gaits: Mapping[str, Mapping[str, Sequence[float | None]]]) -> Figure:
    """The gait of one robot on flat ground along directions of its vectors.

    Args:
        gaits: per direction what `gait_along` found.
    """
    with house_style():
        figure, axes = panels(1, len(GAIT), height=2.4)
        for axis, (name, (title, factor)) in zip(axes[0], GAIT.items(), strict=True):
            for label, found in gaits.items():
                values = [np.nan if value is None else factor * value for value in found[name]]
                axis.plot(SHARES, values, marker="o", markersize=4, label=label)
            set_title(axis, title)
            axis.set_xlabel("share of the distance")
        shared_legend(figure, list(axes[0]))
    return figure
