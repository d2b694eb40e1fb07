"""Printing: tables as in reports, and plain lines."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np
from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from dmcm.report import Table, show_cell

_WIDE = 120


def console() -> Console:
    """Standard output; wide where it is not a terminal, so that files keep whole rows."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else _WIDE)


def say(text: str, style: str = "") -> None:
    """Print a line of text; nothing in it is interpreted as markup."""
    console().print(Text(text, style), soft_wrap=not sys.stdout.isatty())


def show_path(label: str, path: object) -> None:
    """Print a path on its own line, never broken."""
    console().print(Text.assemble((f"{label}: ", "bold"), str(path)), soft_wrap=True)


def count_fitting(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> int:
    """How many of a table's columns, from the first, can be shown with no cell broken; at least one."""
    widths = [max(map(cell_len, column)) for column in zip(columns, *rows, strict=True)]
    # `show_table` puts a blank on either side of each cell and of the table, and one between columns.
    ends = np.cumsum(np.asarray(widths) + 3) + 1
    return max(1, int(np.sum(ends <= console().width)))


def show_table(table: Table, title: str = "") -> None:
    """Print a table as in a report: numbers right-aligned, the best in bold."""
    drawn = RichTable(box=box.SIMPLE_HEAD, title=Text(title, "bold") if title else None, title_justify="left")
    # What follows a colon explains the heading; here it would only widen the columns.
    groups = [name.partition(":")[0] for name, span in table.groups for _ in range(span)]
    groups = groups or [""] * len(table.columns)
    for j, (group, column) in enumerate(zip(groups, table.columns, strict=True)):
        first = j == 0 or groups[j - 1] != group
        heading = Text(f"{group if first else ''}\n{column}" if any(groups) else column)
        drawn.add_column(heading, justify="right" if table.numeric(j) else "left", overflow="fold")
    for i, row in enumerate(table.rows):
        cells = [Text(show_cell(cell), "bold" if table.is_best(i, j) else "") for j, cell in enumerate(row)]
        drawn.add_row(*cells)
    console().print(drawn)
    if table.caption:
        console().print(Text(table.caption, "dim"))
