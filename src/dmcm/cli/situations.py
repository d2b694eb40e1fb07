"""Reading the samples that `dmcm adapt` turns into contexts: one situation, or several."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from dmcm.cli.runs import Run
from dmcm.errors import ConfigError, DataError, unknown_name
from dmcm.npz import NpzTasks, read_npz
from dmcm.samples import Samples, as_samples
from dmcm.tables import column_names, read_samples, read_tasks
from dmcm.task_arrays import check_resolution, encode_labels, is_label, matched_tasks, pad_tasks
from dmcm.task_arrays import column_names as named_columns


@dataclasses.dataclass(frozen=True)
class Situations:
    """Samples of one or more situations.

    Attributes:
        names: one a situation.
        samples: leading axis situations, padded.
        labels: label of each situation by factor; empty if the file has none.
    """

    names: tuple[str, ...]
    samples: Samples
    labels: Mapping[str, tuple[Any, ...]]

    def task(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Real samples x (n, inputs) and y (n, outputs) of one situation."""
        real = np.asarray(self.samples.weight)[index] > 0
        return np.asarray(self.samples.x)[index][real], np.asarray(self.samples.y)[index][real]

    def count(self, index: int) -> int:
        """Number of samples of one situation."""
        return int(np.sum(np.asarray(self.samples.weight)[index]))

    def label_column(self, factor: str) -> tuple[Any, ...]:
        """Label of each situation for one factor.

        Raises:
            DataError: the file has no such labels.
        """
        if factor not in self.labels:
            raise DataError(unknown_name("label column", factor, self.labels))
        return self.labels[factor]

    def subset(self, indices: list[int]) -> Situations:
        """Only the situations at these positions."""
        chosen = np.asarray(indices)
        parts = (self.samples.x, self.samples.y, self.samples.weight)
        return Situations(
            tuple(self.names[i] for i in indices),
            Samples(*(part[chosen] for part in parts)),
            {name: tuple(labels[i] for i in indices) for name, labels in self.labels.items()},
        )

    def select(self, task: str | None, where: Mapping[str, str]) -> Situations:
        """Only the situations with this name and these labels.

        Raises:
            DataError: no such name or label.
        """
        chosen = range(len(self.names))
        if task is not None:
            if task not in self.names:
                raise DataError(unknown_name("task", task, self.names))
            chosen = [self.names.index(task)]
        for factor, label in where.items():
            here = self.label_column(factor)
            if not any(is_label(own, label) for own in here):
                raise DataError(unknown_name(f"label of '{factor}'", label, dict.fromkeys(map(str, here))))
            chosen = [i for i in chosen if is_label(here[i], label)]
        if not chosen:
            raise DataError("no task is left after this selection.")
        return self.subset(list(chosen))


def read_situations(run: Run, path: Path, *, labelled: bool, name: str | None) -> Situations:
    """The situations in a file.

    A table with the run's task column has one situation per task. If the run has no task column, a table with
    all label columns has one situation per combination of labels. Any other table is a single situation,
    which needs a name.

    Args:
        run: the run whose columns to read.
        path: table or NPZ file.
        labelled: whether the labels are needed.
        name: name of a single situation.

    Raises:
        ConfigError: a single situation without a name.
        DmcmError: as for `read_tasks`, `read_samples` and `read_npz`.
    """
    if path.suffix.lower() == ".npz":
        return _from_npz(read_npz(path, labelled=labelled))
    columns = column_names(path)
    task = run.table.task if run.table is not None else None
    factors = run.learner.factors.names
    use: dict[str, Any] = {"inputs": run.inputs, "outputs": run.outputs}
    if labelled or (task is None and all(factor in columns for factor in factors)):
        return _from_tasks(read_tasks(path, task=task, factors=factors, **use))
    if task is not None and task in columns:
        found = _from_tasks(read_tasks(path, factors=(task,), **use))
        return dataclasses.replace(found, names=tuple(str(own) for own in found.labels[task]), labels={})
    x, y = read_samples(path, run.inputs, run.outputs)
    assert y is not None
    if name is None:
        raise ConfigError(
            f"{path.name} names no tasks, so all its rows are one situation. Give it a name: --name NAME."
        )
    return Situations((name,), as_samples(x[None], y[None], len(run.inputs), len(run.outputs)), {})


def _from_tasks(tasks: Mapping[str, Any]) -> Situations:
    """Tasks of a table, unchecked: a data set for training would require more of them."""
    samples = Samples(*(jnp.asarray(part) for part in pad_tasks(tasks["task_names"], tasks["x"], tasks["y"])))
    labels = {factor: tuple(column) for factor, column in tasks["labels"].items()}
    return Situations(tuple(tasks["task_names"]), samples, labels)


def _from_npz(found: NpzTasks) -> Situations:
    """Like `_from_tasks`, with tasks named by number as in a data set."""
    names, xs, ys = matched_tasks(found.x, found.y, None)
    for prefix, parts in (("x", xs), ("y", ys)):
        check_resolution(parts, named_columns(None, prefix, parts[0].shape[1]))
    labels: dict[str, tuple[Any, ...]] = {}
    if found.labels:
        codes, levels = encode_labels(found.labels, len(xs))
        labels = {factor: tuple(levels[factor][code] for code in codes[factor]) for factor in codes}
    return Situations(names, Samples(*(jnp.asarray(part) for part in pad_tasks(names, xs, ys))), labels)
