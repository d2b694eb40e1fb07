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
        enough: share of the commanded distance that counts as success.
    """
    columns = (*GROUNDS, ALL)
    methods = table["methods"]
    rows: list[list[Cell]] = [
        [name, *(_percent(cells[column]) for column in columns)] for name, cells in methods.items()
    ]
    caption = (
        f"Percent of episodes without a fall and with {enough:.0%} of the commanded distance, with 95 % "
        "intervals over seeds and robots."
    )
    found = {"Success on stand-in robots": Table(("told", *columns), rows, caption)}
    for title, lines in series(table).items():
        rows = [[name, *(_percent(cell[ALL]) for cell in cells.values())] for name, cells in lines.items()]
        heads = next(iter(lines.values()))
        found[f"By {title}"] = Table(("told", *heads), rows, "Percent, mean over the grounds.")
    return found


def series(table: Mapping[str, Any]) -> dict[str, dict[str, dict[str, Mapping[str, Any]]]]:
    """Cells of ways along seconds of data and along the gap's size, as far as these were varied.

    Args:
        table: in the layout of results/transfer.json.

    Returns:
        By title of the setting and name of the way: cells by the setting's value, in order, as text.
    """
    found = {}
    for key, title, usual in (("seconds", "seconds of data", "20"), ("gap", "size of the gap", "1")):
        lines = {
            name: dict(sorted({**more, usual: table["methods"][name]}.items(), key=lambda one: float(one[0])))
            for name, more in table[key].items()
            if more
        }
        if lines:
            found[title] = lines
    return found


def _percent(cell: Mapping[str, Any]) -> Estimate:
    return Estimate(100 * cell["success"], 100 * cell["ci95"])
