"""Progress bar for work in countable pieces."""

from __future__ import annotations

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


def piece_bar(*, show: bool) -> Progress:
    """A bar with the current activity, the number of pieces done, the total, and the time left.

    Args:
        show: False for a bar that draws nothing.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, disable=not show)
