"""Checks of settings that many places share."""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Integral
from typing import Any

from dmcm.errors import ConfigError, DmcmError, FactorError, unknown_name


def is_count(value: Any, *, least: int = 1) -> bool:
    """Whether a setting is a whole number, Python's or NumPy's, of at least `least`."""
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= least


def is_positive(value: Any) -> bool:
    """Whether a setting is a positive, finite number."""
    try:
        return not isinstance(value, (str, bool)) and 0 < float(value) < float("inf")
    except (TypeError, ValueError):
        return False


def as_counts(**counts: Any) -> tuple[int, ...]:
    """The settings as Python's whole numbers, which JSON can hold.

    Raises:
        ConfigError: one that is no whole number, or below 1.
    """
    for name, count in counts.items():
        if not is_count(count):
            raise ConfigError(f"{name}={count!r}: give a whole number of at least 1.")
    return tuple(int(count) for count in counts.values())


def as_names(names: Any, option: str, kind: type[DmcmError] = FactorError) -> tuple[str, ...]:
    """Names as a tuple, a single one given as text included.

    Args:
        names: what was given: text, or several texts.
        option: as what, for the error.
        kind: of error.

    Raises:
        DmcmError: something that names nothing; of the kind asked for.
    """
    if isinstance(names, str):
        return (names,)
    found = tuple(names) if isinstance(names, Iterable) else (names,)
    if odd := [name for name in found if not isinstance(name, str)]:
        raise kind(f"{option} takes names, not {odd[0]!r}.")
    return found


def chosen_names(kind: str, asked: Iterable[str], valid: Iterable[str]) -> tuple[str, ...]:
    """Those asked for, each once; `all` stands for every valid one.

    Args:
        kind: what they name, for errors.
        asked: by a user.
        valid: names that there are, in order.

    Raises:
        ConfigError: an unknown name, or none.
    """
    known, found = tuple(valid), tuple(dict.fromkeys(asked))
    if not found:
        raise ConfigError(f"name at least one {kind}, or all. Valid: {', '.join(known)}.")
    for name in found:
        if name not in (*known, "all"):
            raise ConfigError(unknown_name(kind, name, (*known, "all")))
    return known if "all" in found else found
