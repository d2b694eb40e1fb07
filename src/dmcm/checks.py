"""Checks of settings, shared by many modules."""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Integral
from typing import Any

from dmcm.errors import ConfigError, DmcmError, FactorError, unknown_name


def is_count(value: Any, *, least: int = 1) -> bool:
    """Whether a setting is a whole number (Python's or NumPy's) of at least `least`."""
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= least


def is_positive(value: Any) -> bool:
    """Whether a setting is a positive, finite number."""
    try:
        return not isinstance(value, (str, bool)) and 0 < float(value) < float("inf")
    except (TypeError, ValueError):
        return False


def as_counts(**counts: Any) -> tuple[int, ...]:
    """The settings as Python integers, which JSON can hold.

    Raises:
        ConfigError: a setting that is not a whole number, or is below 1.
    """
    for name, count in counts.items():
        if not is_count(count):
            raise ConfigError(f"{name}={count!r}: give a whole number of at least 1.")
    return tuple(int(count) for count in counts.values())


def as_names(names: Any, option: str, kind: type[DmcmError] = FactorError) -> tuple[str, ...]:
    """Names as a tuple; a single string counts as one name.

    Args:
        names: one string, or several.
        option: name of the setting, for the error.
        kind: class of the error.

    Raises:
        DmcmError: something that is not a name; of class `kind`.
    """
    if isinstance(names, str):
        return (names,)
    found = tuple(names) if isinstance(names, Iterable) else (names,)
    if odd := [name for name in found if not isinstance(name, str)]:
        raise kind(f"{option} takes names, not {odd[0]!r}.")
    return found


def chosen_names(kind: str, asked: Iterable[str], valid: Iterable[str]) -> tuple[str, ...]:
    """The requested names, each once; `all` stands for every valid one.

    Args:
        kind: what they name, for errors.
        asked: names the user requested.
        valid: the names that exist, in order.

    Raises:
        ConfigError: an unknown name, or no name.
    """
    known, found = tuple(valid), tuple(dict.fromkeys(asked))
    if not found:
        raise ConfigError(f"name at least one {kind}, or all. Valid: {', '.join(known)}.")
    for name in found:
        if name not in (*known, "all"):
            raise ConfigError(unknown_name(kind, name, (*known, "all")))
    return known if "all" in found else found
