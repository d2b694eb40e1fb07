"""The transfer study as tables to read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dmcm.quadruped.transfer.scenario import GROUNDS
from dmcm.report import Cell, Estimate, Table

ALL = "all"
"""Name of the mean over all grounds."""


def success_tables(table: Mapping[str, Any], enough: float) -> dict[str, Table]:
    """Success in percent, by title: on each ground, by seconds of data, by size of the gap.

    Args:
        table: in the layout of results/transfer.json.
        enough: share of the commanded way that makes a success.
    """
    columns = (*GROUNDS, ALL)
    methods = table["methods"]
    rows: list[list[Cell]] = [
        [name, *(_percent(cells[column]) for column in columns)] for name, cells in methods.items()
    ]
    caption = (
        f"Percent of episodes without a fall and with {enough:.0%} of the commanded way, with 95 % "
        "intervals: the wider of that over seeds and that over episodes."
    )
    found = {"Success on stand-in robots": Table(("told", *columns), rows, caption)}
    for key, title, usual in (("seconds", "seconds of data", "20"), ("gap", "size of the gap", "1")):
        series = {name: {**more, usual: methods[name]} for name, more in table[key].items() if more}
        if series:
            heads = sorted(next(iter(series.values())), key=float)
            rows = [[name, *(_percent(cells[at][ALL]) for at in heads)] for name, cells in series.items()]
            found[f"By {title}"] = Table(("told", *heads), rows, "Percent, mean over the grounds.")
    return found


def _percent(cell: Mapping[str, Any]) -> Estimate:
    return Estimate(100 * cell["success"], 100 * cell["ci95"])
