"""The `config.json` of a run folder, which decides who may write into the folder and who can read it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dmcm.errors import CheckpointError, StorageError
from dmcm.runs import RunFolder
from dmcm.storage import read_json

_EARLY = ("training.json", "metrics.jsonl")
"""Files that a run writes before it comes to a checkpoint."""


def claim_run(folder: RunFolder, about: Mapping[str, Any], *, resume: bool) -> None:
    """Write a run's configuration before it starts, unless the folder belongs to another run.

    A run that ended before its first checkpoint or model may be started again, even with other settings. The
    caller must be the folder's `sole_writer`.

    Args:
        folder: where the run goes.
        about: its configuration as JSON values; "kind" says what can read it. If "data", the hash of what it
            learns from, is equal, "table" may have been moved.
        resume: whether to continue a run with the same configuration.

    Raises:
        CheckpointError: the folder holds a run and `resume` is off, or it holds a run with other settings, or
            other files that this run would replace.
        StorageError: its configuration cannot be read or written.
    """
    wanted = json.loads(json.dumps(about))
    file = folder.path / "config.json"
    if file.exists() and folder.begun():
        if not resume:
            raise CheckpointError(
                f"{folder.path} already holds a run. Continue with --resume (resume=True), or choose another "
                "folder."
            )
        held = read_json(file)
        compared = wanted
        if isinstance(held, dict) and "table" in held and held.get("data", "") == wanted.get("data"):
            compared = {**wanted, "table": held["table"]}  # equal data may have been moved
        other = other_settings(held, compared)
        if other:
            raise CheckpointError(
                f"{folder.path} holds a run with other settings: {'; '.join(other[:4])}. Resume with the "
                "settings in its config.json, or choose another folder."
            )
    else:
        if there := _of_others(folder, wanted.get("kind")):
            raise CheckpointError(
                f"{folder.path} holds files that a run would replace ({', '.join(there)}). Choose another "
                "folder."
            )
        for name in _EARLY:
            (folder.path / name).unlink(missing_ok=True)
    folder.write_config(wanted)


def _of_others(folder: RunFolder, kind: Any) -> list[str]:
    """Files that a run would replace, but for those of one of its kind that came to nothing."""
    file, there = folder.path / "config.json", folder.traces()
    try:
        held = read_json(file)
    except StorageError:
        held = None
    if isinstance(held, dict) and held.get("kind") == kind:
        return [name for name in there if name not in _EARLY]
    return [name for name in (file.name, "environment.json") if (folder.path / name).exists()] + there


def open_run(path: Path | str) -> tuple[RunFolder, dict[str, Any]]:
    """A run folder and its configuration.

    Raises:
        StorageError: the folder holds no run, or its configuration cannot be read.
    """
    file = Path(path) / "config.json"
    if not file.exists():
        what = "there is no such folder" if not Path(path).is_dir() else "it has no config.json"
        raise StorageError(
            f"{path} is not a run folder: {what}. `dmcm fit`, `dmcm demo` and `dmcm sinusoid train` make one."
        )
    about = read_json(file)
    if not isinstance(about, dict) or "kind" not in about:
        raise StorageError(f"{file} does not say what kind of run this is; it was not written by `dmcm`.")
    return RunFolder(path), about


def other_settings(held: Any, asked: Any) -> list[str]:
    """Differences between two configurations as JSON values, one text a setting; empty if they are equal."""
    there, here = _flat(held), _flat(asked)
    return [
        f"{name} is {there.get(name)!r} there and {here.get(name)!r} here"
        for name in sorted(there.keys() | here.keys(), key=lambda name: (name != "kind", name))
        if there.get(name) != here.get(name)
    ]


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {prefix: value}
    flat: dict[str, Any] = {}
    for name, item in value.items():
        flat |= _flat(item, f"{prefix}.{name}" if prefix else name)
    return flat
