"""Files of results: a table keeps what an earlier command measured and this one did not, and says so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dmcm.errors import StorageError
from dmcm.storage import read_json


def earlier_table(path: Path | None) -> dict[str, Any]:
    """The table that a file holds already; empty where there is none.

    Raises:
        StorageError: the file holds something else.
    """
    found = read_json(path) if path is not None and path.exists() else {}
    if not isinstance(found, dict):
        raise StorageError(f"{path} holds no table of results, which are kept: choose another file.")
    return found


def with_earlier(
    results: Mapping[str, Any], earlier: Mapping[str, Any], *, same: Sequence[str], parts: Sequence[str]
) -> dict[str, Any]:
    """A table with what an earlier one has and it has not, where both are of the same setting.

    Args:
        results: with `methods`, `command` and `environment`.
        earlier: another such table, or an empty one.
        same: keys that must agree, or nothing of the earlier table stays.
        parts: keys of what may stay, `methods` among them; name by name where it is a mapping. What is empty
            was not measured.

    Returns:
        The table; "earlier" in it holds command and environment of all that stayed: by its name for a row of
        `methods`, by "key of name" in other mappings but `titles`, else by the key.
    """
    if not earlier or any(earlier.get(key) != results.get(key) for key in same):
        return dict(results)
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
