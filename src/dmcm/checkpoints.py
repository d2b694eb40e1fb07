"""Checkpoints of a training run: the two newest are kept, and a damaged one falls back to the older one."""

from __future__ import annotations

import contextlib
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dmcm.errors import CheckpointError, StorageError
from dmcm.storage import fill_tree, load_arrays, save_arrays, tree_arrays

_KEPT = 2
_NAME = re.compile(r"step-(\d{9})\.safetensors")


def save_checkpoint(folder: Path, step: int, state: Any, about: dict[str, Any]) -> None:
    """Write a checkpoint and drop all but the newest two.

    Raises:
        StorageError: it cannot be written; older checkpoints are then left in place.
    """
    save_arrays(folder / f"step-{step:09d}.safetensors", tree_arrays(state), {"step": step, **about})
    for old in _newest_first(folder)[_KEPT:]:
        with contextlib.suppress(OSError):
            old.unlink()


def load_checkpoint(
    folder: Path, like: Any, check: Callable[[dict[str, Any]], None] | None = None
) -> tuple[Any, dict[str, Any]] | None:
    """The newest readable checkpoint; warns of every damaged one that it skips.

    Args:
        folder: where the checkpoints are.
        like: a state of the same structure.
        check: called with the JSON stored with a state; raises an error if it is of another run. It runs
            before the state is read, because a state of another run may have another structure.

    Returns:
        State and the JSON stored with it; None if there is no checkpoint.

    Raises:
        CheckpointError: there are checkpoints, but none can be used.
    """
    problems: list[str] = []
    candidates = _newest_first(folder)
    for path in candidates:
        try:
            arrays, about = load_arrays(path)
        except StorageError as error:
            problems.append(str(error))
            continue
        if check is not None:
            check(about)
        try:
            state = fill_tree(like, arrays)
        except StorageError as error:
            problems.append(str(error))
            continue
        for problem in problems:
            warnings.warn(f"{problem} The run continues from {path.name}.", stacklevel=2)
        return state, about
    if candidates:
        raise CheckpointError(
            "no checkpoint can be used: " + " ".join(problems) + " Start again in another run folder."
        )
    return None


def _newest_first(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted((p for p in folder.iterdir() if _NAME.fullmatch(p.name)), reverse=True)
