"""The bar that shows how far work in countable pieces has come."""

from __future__ import annotations

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


def piece_bar(*, show: bool) -> Progress:
    """A bar with what is being done, how many pieces of how many are, and the time that is left.

    Args:
        show: False for one that draws nothing.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, disable=not show)
