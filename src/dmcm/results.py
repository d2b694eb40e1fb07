"""Files of results: a table keeps what an earlier command measured and this one did not, and says so."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dmcm.errors import StorageError
from dmcm.storage import check_writable, read_json


def earlier_table(path: Path | None, setting: Mapping[str, Any]) -> dict[str, Any]:
    """The table that a file holds already; empty where there is none.

    Args:
        path: the file; None for none.
        setting: what must agree with the table's own, so that rows of both may stand in one.

    Raises:
        StorageError: the file cannot be written, or holds something else, or a table of another setting,
            which would be lost.
    """
    if path is None:
        return {}
    check_writable(path)
    if not path.exists():
        return {}
    found = read_json(path)
    if not isinstance(found, dict):
        raise StorageError(f"{path} holds no table of results, which are kept: choose another file.")
    other = list(_differences(found, json.loads(json.dumps(setting)), ""))
    if other:
        more = f" and {len(other) - 3} more" if len(other) > 3 else ""
        raise StorageError(
            f"{path} holds results of another setting ({', '.join(other[:3])}{more}), which would be lost: "
            "choose another file for these, or delete it."
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
    """A table with what an earlier one of the same setting has and it has not.

    Args:
        results: with `methods`, `command` and `environment`.
        earlier: what `earlier_table` found.
        parts: keys of what may stay, `methods` among them; name by name where it is a mapping. What is empty
            was not measured.

    Returns:
        The table; "earlier" in it holds command and environment of all that stayed: by its name for a row of
        `methods`, by "key of name" in other mappings but `titles`, else by the key.
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
