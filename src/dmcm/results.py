"""Result files: a table keeps what an earlier command measured and this one did not, and records that."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dmcm.errors import StorageError
from dmcm.storage import check_writable, read_json


def earlier_table(path: Path | None, setting: Mapping[str, Any]) -> dict[str, Any]:
    """The table that a file already holds; empty if there is none.

    Args:
        path: the file; None for no file.
        setting: settings that must equal the table's own, so that one table can hold the rows of both.

    Raises:
        StorageError: the file cannot be written, or it holds something else or a table with other settings,
            which would be lost.
    """
    if path is None:
        return {}
    check_writable(path)
    if not path.exists():
        return {}
    found = read_json(path)
    if not isinstance(found, dict):
        raise StorageError(
            f"{path} is not a table of results, so new results cannot be added to it: choose another file."
        )
    other = list(_differences(found, json.loads(json.dumps(setting)), ""))
    if other:
        more = f" and {len(other) - 3} more" if len(other) > 3 else ""
        raise StorageError(
            f"{path} holds results with other settings ({', '.join(other[:3])}{more}), which would be lost: "
            "choose another file for the new ones, or delete it."
        )
    return found


def _differences(old: Mapping[str, Any], new: Mapping[str, Any], where: str) -> Iterator[str]:
    for key, value in new.items():
        own = old.get(key)
        if isinstance(own, Mapping) and isinstance(value, Mapping):
            yield from _differences(own, value, f"{where}{key}.")
        elif own != value:
            yield f"{where}{key}: {own}, not {value}"


def with_earlier(
    results: Mapping[str, Any], earlier: Mapping[str, Any], *, parts: Sequence[str]
) -> dict[str, Any]:
    """A table, completed with what only an earlier table with the same settings has.

    Args:
        results: the new table, with `methods`, `command` and `environment`.
        earlier: what `earlier_table` found.
        parts: keys whose earlier content may be kept, including `methods`; mappings are merged name by name.
            An empty value was not measured.

    Returns:
        The table. Its "earlier" holds command and environment of everything kept: under the name for a row of
        `methods`, under "key of name" for other mappings except `titles`, and otherwise under the key.
    """
    made = {key: earlier.get(key) for key in ("command", "environment")}
    merged, stayed = dict(results), []
    for part in parts:
        old, new = earlier.get(part), results.get(part)
        if isinstance(old, Mapping):
            new = new or {}
            names = [name for name in old if old[name] and not new.get(name)]
            merged[part] = {**new, **{name: old[name] for name in names}}
            if part != "titles":
                stayed += names if part == "methods" else [f"{part} of {name}" for name in names]
        elif old and not new:
            merged[part] = old
            stayed.append(part)
    origins = {label: earlier.get("earlier", {}).get(label, made) for label in stayed}
    return {**merged, "earlier": origins} if origins else merged
