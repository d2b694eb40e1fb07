"""Tables of study results: mean errors with their intervals, few-shot and zero-shot by split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dmcm.cli.show import say, show_path, show_table
from dmcm.report import Estimate, Table

_MEASURES = {"few_shot": "few-shot", "zero_shot": "zero-shot"}
_CAPTION = (
    "Mean squared error: mean over seeds ± half of the 95 % interval; lower is better, the best is bold."
)


def show_study(names: Sequence[str], rows: Mapping[tuple[str, ...], Mapping[str, Any]]) -> None:
    """Print a study's errors.

    Args:
        names: headings of the columns that identify a row.
        rows: measures `{"few_shot": {split: {"mean", "ci95"}}, "zero_shot": …}` by the identifiers of the
            row; splits that a row lacks are shown as a dash.
    """
    columns = [
        (measure, split)
        for measure in _MEASURES
        for split in dict.fromkeys(split for measures in rows.values() for split in measures[measure])
    ]
    cells = [
        [*row, *(_estimate(measures[measure].get(split)) for measure, split in columns)]
        for row, measures in rows.items()
    ]
    groups = [("", len(names))]
    groups += [(title, sum(m == measure for m, _ in columns)) for measure, title in _MEASURES.items()]
    heads = (*names, *(split.replace("_", " ") for _, split in columns))
    best = tuple(range(len(names), len(heads)))
    show_table(Table(heads, cells, _CAPTION, best, tuple(groups)))


def show_results(results: Path | None, out: Path) -> None:
    """Print where the numbers are."""
    if results is None:
        say(f"Cells are kept in {out}. Add --results FILE.json to write the whole table.", "dim")
    else:
        show_path("results", results)


def _estimate(summary: Mapping[str, Any] | None) -> Estimate:
    return Estimate(None) if summary is None else Estimate(summary["mean"], summary["ci95"])
