"""Named columns side by side in one array."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate


def slices(sizes: Mapping[str, int]) -> dict[str, slice]:
    """Where each column is.

    Args:
        sizes: how many numbers each has, in order.
    """
    ends = list(accumulate(sizes.values()))
    return {name: slice(end - sizes[name], end) for name, end in zip(sizes, ends, strict=True)}
