"""The command line equivalent to a configuration, to be stored with its results."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_PACKAGE = Path(__file__).parent


def command_of(name: str, config: Any) -> str:
    """A command with every setting that is not None, nested ones as `group.setting`.

    Defaults are written out as well, because they may change while a recorded command must not. Paths of
    files that come with the package are left out, because they differ between machines.

    Args:
        name: name of the command, such as "quadruped transfer".
        config: a dataclass of its settings.
    """
    return shlex.join(["dmcm", *name.split(), *_options(config, "")])


def _options(config: Any, group: str) -> Iterator[str]:
    for field in dataclasses.fields(config):
        value, option = getattr(config, field.name), f"{group}{field.name.replace('_', '-')}"
        if dataclasses.is_dataclass(value):
            yield from _options(value, f"{option}.")
        elif isinstance(value, bool):
            yield from (f"--{option}",) if value else ()
        elif isinstance(value, tuple):
            yield from (f"--{option}", *map(_text, value))
        elif value is not None and not (isinstance(value, Path) and value.is_relative_to(_PACKAGE)):
            yield from (f"--{option}", _text(value))


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else str(value)
