"""Labelled tasks: samples with a label per factor, from arrays or files."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from dmcm.checks import is_count
from dmcm.errors import DataError, ShapeError, unknown_name
from dmcm.npz import read_npz
from dmcm.samplers import DatasetSampler
from dmcm.samples import Samples
from dmcm.scaling import Scaler
from dmcm.tables import read_tasks
from dmcm.task_arrays import (
    check_resolution,
    check_task,
    column_names,
    encode_labels,
    is_label,
    matched_tasks,
    pad_tasks,
    split_tasks,
)


@dataclasses.dataclass(frozen=True, eq=False)
class FactorDataset:
    """Tasks, each with samples and a label per factor. Not every combination of labels needs to exist.

    Build one with `from_arrays`, `from_npz` or `from_table`. Immutable: `where`, `without` and `subset`
    return new ones.

    Attributes:
        x: inputs, shape (tasks, n, inputs), raw units; tasks with fewer samples are padded.
        y: outputs, shape (tasks, n, outputs), raw units.
        weight: 1 for samples, 0 for padding, shape (tasks, n).
        labels: per factor, index into `levels`, shape (tasks,).
        levels: per factor, the labels that exist, as text or numbers.
        task_names: one name a task.
        input_names: one name an input column.
        output_names: one name an output column.
        shots: support samples a task while training; the rest are its queries.
        query: fixed query samples; None splits each task's samples anew in every draw.
    """

    x: np.ndarray
    y: np.ndarray
    weight: np.ndarray
    labels: dict[str, np.ndarray]
    levels: dict[str, tuple[Any, ...]]
    task_names: tuple[str, ...]
    input_names: tuple[str, ...]
    output_names: tuple[str, ...]
    shots: int
    query: Samples | None = None

    @classmethod
    def from_arrays(
        cls,
        x: ArrayLike | Sequence[ArrayLike],
        y: ArrayLike | Sequence[ArrayLike],
        labels: Mapping[str, Any],
        *,
        query_x: ArrayLike | Sequence[ArrayLike] | None = None,
        query_y: ArrayLike | Sequence[ArrayLike] | None = None,
        shots: int | None = None,
        task_names: Sequence[str] | None = None,
        input_names: Sequence[str] | None = None,
        output_names: Sequence[str] | None = None,
    ) -> FactorDataset:
        """Tasks from arrays.

        Args:
            x: inputs, shape (tasks, n, inputs), or one array (n_i, inputs) per task.
            y: outputs, shape (tasks, n, outputs), or one array (n_i, outputs) per task.
            labels: per factor, one label a task: text, or numbers if they have an order.
            query_x: fixed query inputs, shape (tasks, m, inputs); x is then all support.
            query_y: fixed query outputs, shape (tasks, m, outputs).
            shots: support samples a task while training. Default: half of the smallest task, at most 10.
            task_names: default "task 0", "task 1", …
            input_names: default "x0", "x1", …
            output_names: default "y0", "y1", …

        Raises:
            ShapeError: arrays that do not fit together.
            DataError: no tasks, NaN or infinite values, too few samples, missing labels.
        """
        if not hasattr(labels, "items"):
            raise DataError("labels must map each factor to one label a task: {'robot': ['a', 'b', …]}.")
        if task_names is not None and not isinstance(task_names, Iterable):
            raise DataError(f"task_names must be a list of names, not {task_names!r}.")
        names, xs, ys = matched_tasks(x, y, task_names)
        codes, levels = encode_labels(labels, len(xs))
        fixed = None
        if (query_x is None) != (query_y is None):
            raise DataError("query_x and query_y go together: give both or neither.")
        if query_x is not None and query_y is not None:
            qx, qy = split_tasks(query_x, "query_x"), split_tasks(query_y, "query_y")
            if len(qx) != len(xs) or len(qy) != len(xs):
                raise ShapeError(f"query data of {len(qx)} and {len(qy)} tasks for {len(xs)} tasks.")
            for name, one_x, one_y in zip(names, qx, qy, strict=True):
                check_task(f"{name} (query)", one_x, one_y, xs[0].shape[1], ys[0].shape[1])
            fixed = Samples(*(jnp.asarray(a) for a in pad_tasks(names, qx, qy)))
        smallest = min(len(one) for one in xs)
        if shots is None:
            shots = min(10, smallest if fixed is not None else max(1, smallest // 2))
        padded_x, padded_y, weight = pad_tasks(names, xs, ys)
        columns = column_names(input_names, "x", padded_x.shape[2])
        results = column_names(output_names, "y", padded_y.shape[2])
        check_resolution(xs, columns)
        check_resolution(ys, results)
        dataset = cls(
            x=padded_x,
            y=padded_y,
            weight=weight,
            labels=codes,
            levels=levels,
            task_names=names,
            input_names=columns,
            output_names=results,
            shots=shots,
            query=fixed,
        )
        dataset._check_shots()
        # A NumPy number would not count towards what identifies a run's data.
        return dataclasses.replace(dataset, shots=int(dataset.shots))

    @classmethod
    def from_npz(cls, path: Path | str, *, shots: int | None = None) -> FactorDataset:
        """Tasks from an NPZ file with arrays `x`, `y` and one `label_<factor>` per factor.

        Optional arrays: `weight` (tasks, n) marks padding with 0; `query_x` and `query_y`. Pickled objects
        are refused.

        Raises:
            StorageError: no such file, or not an NPZ of plain arrays.
            DataError, ShapeError: as `from_arrays`.
        """
        found = read_npz(path, labelled=True)
        return cls.from_arrays(
            found.x, found.y, found.labels, query_x=found.query_x, query_y=found.query_y, shots=shots
        )

    @classmethod
    def from_table(
        cls,
        path: Path | str,
        *,
        task: str | None = None,
        factors: Sequence[str],
        inputs: Sequence[str],
        outputs: Sequence[str],
        shots: int | None = None,
    ) -> FactorDataset:
        """Tasks from a long table: one row a sample, columns for task, labels, inputs and outputs.

        Label columns of numbers become ordered numbers, all others text.

        Args:
            path: `.csv`, `.tsv` or `.tab` (UTF-8, one header line), `.parquet` or `.pq`.
            task: column that names the task of a row; None makes one task of each combination of labels.
            factors: columns of labels, one a factor.
            inputs: columns of inputs.
            outputs: columns of outputs.
            shots: as in `from_arrays`.

        Raises:
            StorageError: no such file, or one that cannot be read.
            DataError: missing columns, no rows, missing labels, values that are not finite numbers, a task
                with two labels of one factor, or too few samples.
        """
        tasks = read_tasks(path, task=task, factors=factors, inputs=inputs, outputs=outputs)
        return cls.from_arrays(**tasks, shots=shots)

    @property
    def inputs(self) -> int:
        """Number of input columns."""
        return self.x.shape[2]

    @property
    def outputs(self) -> int:
        """Number of output columns."""
        return self.y.shape[2]

    @property
    def factor_names(self) -> tuple[str, ...]:
        """Names of the labelled factors."""
        return tuple(self.labels)

    def __len__(self) -> int:
        """Return the number of tasks."""
        return self.x.shape[0]

    def task(self, index: int | str) -> tuple[np.ndarray, np.ndarray]:
        """Samples x (n, inputs), y (n, outputs) of one task, by position or name.

        Raises:
            DataError: no such task.
        """
        if isinstance(index, str):
            if index not in self.task_names:
                raise DataError(unknown_name("task", index, self.task_names))
            index = self.task_names.index(index)
        self._check_index(index)
        real = self.weight[index] > 0
        return self.x[index][real], self.y[index][real]

    def label(self, factor: str, index: int) -> Any:
        """The label of one task.

        Raises:
            DataError: no such factor or task.
        """
        self._check_factor(factor)
        self._check_index(index)
        return self.levels[factor][self.labels[factor][index]]

    def where(self, /, **labels: Any) -> FactorDataset:
        """Only the tasks with all these labels, e.g. `where(origin="Quebec")`.

        Raises:
            DataError: an unknown factor or label, or no task left.
        """
        return self.subset(np.flatnonzero(self._carrying(labels)).tolist())

    def without(self, /, **labels: Any) -> FactorDataset:
        """All but the tasks with all these labels, to hold a combination out.

        Raises:
            DataError: an unknown factor or label, or no task left.
        """
        return self.subset(np.flatnonzero(~self._carrying(labels)).tolist())

    def subset(self, indices: Any) -> FactorDataset:
        """Only the tasks at these positions, or where a mask is true; levels stay as they are.

        Raises:
            DataError: no task left, one that does not exist, or one chosen twice.
        """
        if not isinstance(indices, Iterable):
            raise DataError(f"positions of tasks must be a list of whole numbers, not {indices!r}.")
        chosen = np.asarray(list(indices))
        if chosen.dtype == bool:
            if chosen.shape != (len(self),):
                raise DataError(f"a mask of shape {chosen.shape} cannot choose among {len(self)} tasks.")
            chosen = np.flatnonzero(chosen)
        if chosen.size == 0:
            raise DataError("no task is left after this selection.")
        if chosen.ndim != 1 or chosen.dtype.kind not in "iu":
            raise DataError("positions of tasks must be a list of whole numbers.")
        for index in (int(chosen.min()), int(chosen.max())):
            self._check_index(index)
        if len(set(chosen % len(self))) < chosen.size:
            # The task would be its own donor.
            raise DataError("a task was chosen twice; each can be in a dataset once.")
        return dataclasses.replace(
            self,
            x=self.x[chosen],
            y=self.y[chosen],
            weight=self.weight[chosen],
            labels={name: codes[chosen] for name, codes in self.labels.items()},
            task_names=tuple(self.task_names[i] for i in chosen),
            query=None if self.query is None else jax.tree.map(lambda leaf: leaf[chosen], self.query),
        )

    def combinations(self) -> dict[tuple[Any, ...], int]:
        """Number of tasks of each combination of labels that occurs, in the order of `factor_names`."""
        counts: dict[tuple[Any, ...], int] = {}
        for i in range(len(self)):
            key = tuple(self.label(name, i) for name in self.factor_names)
            counts[key] = counts.get(key, 0) + 1
        return counts

    def samples(self) -> Samples:
        """All samples with a leading task axis, padded."""
        return Samples(jnp.asarray(self.x), jnp.asarray(self.y), jnp.asarray(self.weight))

    def sampler(self, *, tasks_per_batch: int = 32, one_label: bool = False) -> DatasetSampler:
        """Batches for `fit`.

        Args:
            tasks_per_batch: tasks drawn a step, each with one donor per factor. If there are few tasks, all
                are used.
            one_label: accept factors with only one label, which a small validation split may have.

        Raises:
            DataError: a factor with only one label, or tasks with too few samples.
        """
        for name in self.factor_names:
            used = np.unique(self.labels[name])
            if used.size < 2 and not one_label:
                raise DataError(
                    f"factor '{name}' has only one label ({self.levels[name][used[0]]!r}), so there is "
                    "nothing to distinguish. Leave it out of the factors, or add tasks with another label."
                )
        if not is_count(tasks_per_batch):
            raise DataError(f"tasks_per_batch={tasks_per_batch!r} must be a whole number of at least 1.")
        self._check_shots()
        values = {
            name: jnp.asarray(np.asarray(self.levels[name], np.float32)[codes][:, None])
            for name, codes in self.labels.items()
            if all(isinstance(level, (int, float)) for level in self.levels[name])
        }
        return DatasetSampler(
            support=self.samples(),
            query=self.query,
            labels={name: jnp.asarray(codes, jnp.int32) for name, codes in self.labels.items()},
            values=values if len(values) == len(self.labels) else None,
            moments=self.scaler(),
            shots=self.shots,
            anchors=min(tasks_per_batch, len(self)),
        )

    def scaler(self) -> Scaler:
        """Standardisation measured on all samples."""
        real = self.weight > 0
        return Scaler.from_samples(self.x[real], self.y[real])

    def _check_shots(self) -> None:
        if not is_count(self.shots):
            raise DataError(
                f"shots={self.shots!r}: give a whole number of at least one support sample a task."
            )
        needed = self.shots if self.query is not None else self.shots + 1
        counts = self.weight.sum(axis=1).astype(int)
        short = [f"{self.task_names[i]} ({counts[i]})" for i in np.flatnonzero(counts < needed)]
        if short:
            more = f" and {len(short) - 5} more" if len(short) > 5 else ""
            advice = "Lower `shots`, or drop" if self.shots > 1 else "Add samples to, or drop,"
            raise DataError(
                f"each task needs {self.shots} support samples and one to be tested on; too few in "
                f"{', '.join(short[:5])}{more}. {advice} these tasks."
            )

    def _check_index(self, index: int) -> None:
        if not isinstance(index, Integral) or not -len(self) <= index < len(self):
            raise DataError(f"there is no task {index}; the dataset has {len(self)}.")

    def _check_factor(self, factor: str) -> None:
        if factor not in self.labels:
            raise DataError(unknown_name("factor", factor, self.labels))

    def _carrying(self, labels: Mapping[str, Any]) -> np.ndarray:
        chosen = np.ones(len(self), bool)
        for factor, label in labels.items():
            self._check_factor(factor)
            matches = [i for i, level in enumerate(self.levels[factor]) if is_label(level, label)]
            if not matches:
                raise DataError(unknown_name(f"label of '{factor}'", label, map(str, self.levels[factor])))
            chosen &= np.isin(self.labels[factor], matches)
        return chosen
