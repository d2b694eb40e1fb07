"""Opening a run of any kind: its model and the columns it takes."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from dmcm.errors import StorageError, unknown_name
from dmcm.learner import Learner
from dmcm.models import load_learner
from dmcm.run_config import open_run
from dmcm.runs import RunFolder
from dmcm.sinusoid import single
from dmcm.tabular.runs import KIND as TABLE_KIND
from dmcm.tabular.runs import TableConfig

KINDS = (single.KIND, TABLE_KIND)
"""Kinds of runs the commands can work with."""


@dataclasses.dataclass(frozen=True)
class Run:
    """A trained run.

    Attributes:
        folder: where it is.
        about: its configuration.
        learner: its model.
        inputs: names of the input columns.
        outputs: names of the output columns.
        table: its configuration if it learned from a table.
    """

    folder: RunFolder
    about: dict[str, Any]
    learner: Learner
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    table: TableConfig | None


def load_run(path: Path) -> Run:
    """Open a run folder and read its model.

    Raises:
        StorageError: no run, one of an unknown kind, or a model that cannot be read.
    """
    folder, about = open_run(path)
    if about["kind"] not in KINDS:
        raise StorageError(f"{path}: {unknown_name('kind of run', about['kind'], KINDS)}")
    if not folder.model.exists():
        raise StorageError(
            f"{path} has no trained model yet. Finish its training: repeat the command with --resume."
        )
    learner = load_learner(folder.model)
    if about["kind"] == single.KIND:
        single.check_about(about)
        return Run(folder, about, learner, ("x",), ("y",), None)
    table = TableConfig.from_about(about)
    # An NPZ file names no columns; use the default names of data sets.
    inputs = table.inputs or tuple(f"x{i}" for i in range(learner.inputs))
    outputs = table.outputs or tuple(f"y{i}" for i in range(learner.outputs))
    return Run(folder, about, learner, inputs, outputs, table)
