"""Pictures of the transfer study: success by way and ground, by seconds of data and by size of the gap."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from dmcm.plots import CYCLE, INK, house_style, panels, set_title, shared_legend
from dmcm.quadruped.transfer.table import ALL

_DASHES = ("-", "--", ":")
_TITLES = {ALL: "all grounds"}
_INTERVALS: Mapping[str, Any] = {"ecolor": INK, "elinewidth": 0.9, "capsize": 2.0}


def success_bars(methods: Mapping[str, Mapping[str, Any]], columns: Sequence[str]) -> Figure:
    """Bars of success with intervals: one panel per column, one bar per way, names on the left.

    There are too many ways for the grouped bars and the legend of `conditioned.pictures.success_picture`.

    Args:
        methods: cells of each way, in the layout of results/transfer.json.
        columns: names of cells.
    """
    names = list(methods)
    with house_style():
        figure, axes = panels(1, len(columns), height=0.9 + 0.28 * len(names), sharey=True)
        for axis, column in zip(axes[0], columns, strict=True):
            cells = [methods[name][column] for name in names]
            axis.barh(
                range(len(names)),
                [100 * cell["success"] for cell in cells],
                0.7,
                xerr=[100 * cell["ci95"] for cell in cells],
                color=[_look(methods, name)["color"] for name in names],
                alpha=0.7,
                error_kw=dict(_INTERVALS),
            )
            set_title(axis, _TITLES.get(column, column.replace("_", " ")))
            axis.set_xlim(0, 105)
            axis.set_xticks(range(0, 101, 25 if len(columns) > 1 else 10))
            axis.set_xlabel("success, %")
            axis.grid(visible=False, axis="y")
            axis.tick_params(axis="y", length=0)
        axes[0, 0].set_yticks(range(len(names)), names)
        axes[0, 0].set_ylim(len(names) - 0.4, -0.6)
    return figure


def success_curves(
    methods: Mapping[str, Any], series: Mapping[str, Mapping[str, Mapping[str, Mapping[str, Any]]]]
) -> Figure:
    """Success over all grounds along a setting, with intervals: one panel per setting, one line per way.

    Args:
        methods: all ways of the table, which fix the colours.
        series: what `transfer.table.series` found, at least one.
    """
    with house_style():
        figure, axes = panels(1, len(series), height=3.3, sharey=True)
        for axis, (title, lines) in zip(axes[0], series.items(), strict=True):
            places = sorted({float(at) for cells in lines.values() for at in cells})
            for i, (name, cells) in enumerate(lines.items()):
                # Intervals at the same position would hide each other.
                aside = 0.012 * (i - (len(lines) - 1) / 2) * (places[-1] - places[0])
                axis.errorbar(
                    [float(at) + aside for at in cells],
                    [100 * cell[ALL]["success"] for cell in cells.values()],
                    yerr=[100 * cell[ALL]["ci95"] for cell in cells.values()],
                    marker="o",
                    markersize=4,
                    elinewidth=0.9,
                    capsize=2.0,
                    label=name,
                    **_look(methods, name),
                )
            axis.set_xticks(places)
            axis.set_ylim(0, 105)
            axis.set_xlabel(title)
        axes[0, 0].set_ylabel("success over all grounds, %")
        shared_legend(figure, list(axes[0]))
    return figure


def _look(methods: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A way's colour and dashes, the same in all pictures of one table."""
    turn, place = np.divmod(list(methods).index(name), len(CYCLE))
    return {"color": CYCLE[place], "linestyle": _DASHES[turn % len(_DASHES)]}
