"""How long one call takes, measured repeatedly."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np

WARM_UP = 20


def call_milliseconds(call: Callable[..., Any], arguments: Iterable[tuple[Any, ...]]) -> dict[str, float]:
    """Milliseconds until the result is ready, including all checks and Python.

    Args:
        call: returns arrays.
        arguments: of each call; making them is not timed, and the first `WARM_UP` calls only give
            `first_call`.
    """
    times = []
    for own in arguments:
        began = time.perf_counter()
        jax.block_until_ready(call(*own))
        times.append((time.perf_counter() - began) * 1e3)
    settled = np.asarray(times[WARM_UP:])
    return {
        "median": float(np.median(settled)),
        "p10": float(np.quantile(settled, 0.1)),
        "p90": float(np.quantile(settled, 0.9)),
        "first_call": times[0],
    }
