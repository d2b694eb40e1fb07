"""Labelled tasks: arrays with a label per factor, and batches drawn from them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, PRNGKeyArray

from dmcm.errors import DataError, ShapeError, StorageError, unknown_name
from dmcm.samples import Batch, Samples
from dmcm.scaling import Scaler


@runtime_checkable
class Sampler(Protocol):
    """Where `fit` takes its batches from: a frozen pytree whose `sample` JAX can trace."""

    def sample(self, key: PRNGKeyArray) -> Batch:
        """One batch of tasks."""
        ...

    def scaler(self) -> Scaler:
        """Standardisation measured on the training data."""
        ...


@dataclasses.dataclass(frozen=True)
class FactorDataset:
    """Tasks, each with samples and a label per factor. Not every combination of labels need exist.

    Build one with `from_arrays`, `from_npz` or `dmcm.read_table`. Immutable: `where`, `without` and `subset`
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
        labels: Mapping[str, Sequence[Any]],
        *,
        query_x: ArrayLike | None = None,
        query_y: ArrayLike | None = None,
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
        xs, ys = _task_arrays(x, "x"), _task_arrays(y, "y")
        if len(xs) != len(ys):
            raise ShapeError(f"x has {len(xs)} tasks, y has {len(ys)}; both need one entry per task.")
        names = tuple(task_names) if task_names is not None else tuple(f"task {i}" for i in range(len(xs)))
        if len(names) != len(xs):
            raise ShapeError(f"{len(names)} task names for {len(xs)} tasks.")
        if len(set(names)) < len(names):
            raise DataError(f"task names must differ: {max(names, key=names.count)!r} occurs more than once.")
        for name, one_x, one_y in zip(names, xs, ys, strict=True):
            _check_task(name, one_x, one_y, xs[0].shape[1], ys[0].shape[1])
        codes, levels = _encode_labels(labels, len(xs))
        fixed = None
        if (query_x is None) != (query_y is None):
            raise DataError("query_x and query_y go together: give both or neither.")
        if query_x is not None and query_y is not None:
            qx, qy = _task_arrays(query_x, "query_x"), _task_arrays(query_y, "query_y")
            if len(qx) != len(xs) or len(qy) != len(xs):
                raise ShapeError(f"query data of {len(qx)} and {len(qy)} tasks for {len(xs)} tasks.")
            for name, one_x, one_y in zip(names, qx, qy, strict=True):
                _check_task(f"{name} (query)", one_x, one_y, xs[0].shape[1], ys[0].shape[1])
            fixed = Samples(*(jnp.asarray(a) for a in _pad(qx, qy)))
        smallest = min(len(one) for one in xs)
        if shots is None:
            shots = min(10, smallest if fixed is not None else max(1, smallest // 2))
        padded_x, padded_y, weight = _pad(xs, ys)
        columns = _column_names(input_names, "x", padded_x.shape[2])
        results = _column_names(output_names, "y", padded_y.shape[2])
        _check_resolution(np.concatenate(xs), columns)
        _check_resolution(np.concatenate(ys), results)
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
        return dataset

    @classmethod
    def from_npz(cls, path: Path | str, *, shots: int | None = None) -> FactorDataset:
        """Tasks from an NPZ file with arrays `x`, `y` and one `label_<factor>` per factor.

        Optional arrays: `weight` (tasks, n) marks padding with 0; `query_x` and `query_y`. Pickled objects
        are refused.

        Raises:
            StorageError: no such file, or not an NPZ of plain arrays.
            DataError, ShapeError: as `from_arrays`.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
        except FileNotFoundError as error:
            raise StorageError(f"there is no file {path}.") from error
        except Exception as error:  # numpy and zipfile raise many kinds for damaged archives
            raise StorageError(f"{path} is not an NPZ file of plain arrays: {error}.") from error
        labels = {n.removeprefix("label_"): a.tolist() for n, a in arrays.items() if n.startswith("label_")}
        missing = [name for name in ("x", "y") if name not in arrays]
        if missing or not labels:
            raise DataError(
                f"{path} needs arrays x, y and at least one label_<factor>; "
                f"it has {', '.join(arrays) or 'nothing'}."
            )
        x: Any = arrays["x"]
        y: Any = arrays["y"]
        if "weight" in arrays:
            weight = arrays["weight"]
            if x.ndim != 3 or not weight.shape == x.shape[:2] == y.shape[:2]:
                raise ShapeError(
                    f"weight {weight.shape} must be the first two axes of x {x.shape} and y {y.shape}."
                )
            if weight.dtype.kind not in "biuf" or not np.isin(weight, (0, 1)).all():
                raise DataError(f"weight in {path} must be 1 for samples and 0 for padding.")
            keep = weight > 0
            x, y = (
                [a[k] for a, k in zip(x, keep, strict=True)],
                [a[k] for a, k in zip(y, keep, strict=True)],
            )
        return cls.from_arrays(
            x, y, labels, query_x=arrays.get("query_x"), query_y=arrays.get("query_y"), shots=shots
        )

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

    def where(self, **labels: Any) -> FactorDataset:
        """Only the tasks that carry all these labels, e.g. `where(origin="Quebec")`.

        Raises:
            DataError: an unknown factor or label, or no task left.
        """
        return self.subset(np.flatnonzero(self._carrying(labels)))

    def without(self, **labels: Any) -> FactorDataset:
        """All but the tasks that carry all these labels: holds a combination out.

        Raises:
            DataError: an unknown factor or label, or no task left.
        """
        return self.subset(np.flatnonzero(~self._carrying(labels)))

    def subset(self, indices: Iterable[int]) -> FactorDataset:
        """Only the tasks at these positions, or where a mask is true; levels stay as they are.

        Raises:
            DataError: no task left, one that does not exist, or one chosen twice.
        """
        chosen = np.asarray(list(indices))
        if chosen.dtype == bool:
            if chosen.shape != (len(self),):
                raise DataError(f"a mask of shape {chosen.shape} cannot choose among {len(self)} tasks.")
            chosen = np.flatnonzero(chosen)
        if chosen.size == 0:
            raise DataError("no task is left after this selection.")
        if chosen.ndim != 1 or chosen.dtype.kind not in "iu":
            raise DataError("positions of tasks must be a list of whole numbers.")
        for index in (chosen.min(), chosen.max()):
            self._check_index(index)
        if len(set(chosen % len(self))) < chosen.size:
            # It would be its own donor.
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
        """How many tasks each combination of labels has that occurs, in the order of `factor_names`."""
        counts: dict[tuple[Any, ...], int] = {}
        for i in range(len(self)):
            key = tuple(self.label(name, i) for name in self.factor_names)
            counts[key] = counts.get(key, 0) + 1
        return counts

    def samples(self) -> Samples:
        """All samples with a leading task axis, padded."""
        return Samples(jnp.asarray(self.x), jnp.asarray(self.y), jnp.asarray(self.weight))

    def sampler(self, *, tasks_per_batch: int = 32) -> DatasetSampler:
        """Batches for `fit`.

        Args:
            tasks_per_batch: tasks drawn a step, each with one donor per factor. All tasks, if they are few.

        Raises:
            DataError: a factor with one label only, or tasks with too few samples.
        """
        for name in self.factor_names:
            used = np.unique(self.labels[name])
            if used.size < 2:
                raise DataError(
                    f"factor '{name}' has one label only ({self.levels[name][used[0]]!r}): there is nothing to "
                    "tell apart. Leave it out of the factors, or add tasks with another label."
                )
        if not isinstance(tasks_per_batch, int) or tasks_per_batch < 1:
            raise DataError(f"tasks_per_batch={tasks_per_batch} must be a whole number of at least 1.")
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
        needed = self.shots if self.query is not None else self.shots + 1
        if not isinstance(self.shots, int) or self.shots < 1:
            raise DataError(f"shots={self.shots}: give a whole number of at least one support sample a task.")
        counts = self.weight.sum(axis=1).astype(int)
        short = [f"{self.task_names[i]} ({counts[i]})" for i in np.flatnonzero(counts < needed)]
        if short:
            more = f" and {len(short) - 5} more" if len(short) > 5 else ""
            raise DataError(
                f"{self.shots} support samples a task were asked for, plus one to be tested on; too few in "
                f"{', '.join(short[:5])}{more}. Lower `shots`, or drop these tasks."
            )

    def _check_index(self, index: int) -> None:
        if not -len(self) <= index < len(self):
            raise DataError(f"there is no task {index}; the dataset has {len(self)}.")

    def _check_factor(self, factor: str) -> None:
        if factor not in self.labels:
            raise DataError(unknown_name("factor", factor, self.labels))

    def _carrying(self, labels: Mapping[str, Any]) -> np.ndarray:
        chosen = np.ones(len(self), bool)
        for factor, label in labels.items():
            self._check_factor(factor)
            matches = [
                i for i, level in enumerate(self.levels[factor]) if level == label or str(level) == str(label)
            ]
            if not matches:
                raise DataError(unknown_name(f"label of '{factor}'", label, map(str, self.levels[factor])))
            chosen &= np.isin(self.labels[factor], matches)
        return chosen


class DatasetSampler(eqx.Module):
    """Batches from a `FactorDataset`: random tasks with a donor per factor, samples split anew.

    Attributes:
        support: all samples, leading axis tasks.
        query: fixed queries, or None to split `support` in every draw.
        labels: per factor, shape (tasks,).
        values: per factor, labels as numbers, shape (tasks, 1); None unless all labels are numbers.
        moments: standardisation of the whole dataset.
        shots: support samples a task.
        anchors: tasks drawn before their donors.
    """

    support: Samples
    query: Samples | None
    labels: dict[str, Int[Array, " tasks"]]
    values: dict[str, Float[Array, "tasks _"]] | None
    moments: Scaler
    shots: int = eqx.field(static=True)
    anchors: int = eqx.field(static=True)

    def scaler(self) -> Scaler:
        """Standardisation measured on all samples."""
        return self.moments

    def sample(self, key: PRNGKeyArray) -> Batch:
        """One batch; see the class."""
        task_key, split_key = jax.random.split(key)
        index = self._draw_tasks(task_key)
        pick = lambda tree: jax.tree.map(lambda leaf: leaf[index], tree)  # noqa: E731
        if self.query is not None:
            support, query = self._draw_support(pick(self.support), split_key), pick(self.query)
        else:
            support, query = self._split(pick(self.support), split_key)
        return Batch(
            support=support,
            query=query,
            task=index,
            labels=pick(self.labels),
            valid=jnp.ones(index.shape, bool),
            values=pick(self.values),
        )

    def _draw_tasks(self, key: PRNGKeyArray) -> Int[Array, " batch"]:
        count = self.support.x.shape[0]
        if count <= self.anchors * (1 + len(self.labels)):
            return jnp.arange(count)
        anchor_key, *donor_keys = jax.random.split(key, 1 + len(self.labels))
        anchors = jax.random.choice(anchor_key, count, (self.anchors,), replace=False)
        drawn = [anchors]
        for codes, donor_key in zip(self.labels.values(), donor_keys, strict=True):
            allowed = (codes[anchors][:, None] == codes[None, :]) & (
                anchors[:, None] != jnp.arange(count)[None, :]
            )
            score = jnp.where(allowed, jax.random.uniform(donor_key, allowed.shape), -1.0)
            drawn.append(jnp.where(jnp.any(allowed, axis=1), jnp.argmax(score, axis=1), anchors))
        return jnp.concatenate(drawn)

    def _ordered(self, samples: Samples, key: PRNGKeyArray) -> Samples:
        """Each task's samples in random order, padding last."""
        score = jax.random.uniform(key, samples.weight.shape) + 2.0 * (samples.weight == 0)
        order = jnp.argsort(score, axis=1)
        take = lambda leaf: jnp.take_along_axis(  # noqa: E731
            leaf, order.reshape(order.shape + (1,) * (leaf.ndim - 2)), axis=1
        )
        return jax.tree.map(take, samples)

    def _draw_support(self, samples: Samples, key: PRNGKeyArray) -> Samples:
        return jax.tree.map(lambda leaf: leaf[:, : self.shots], self._ordered(samples, key))

    def _split(self, samples: Samples, key: PRNGKeyArray) -> tuple[Samples, Samples]:
        ordered = self._ordered(samples, key)
        return (
            jax.tree.map(lambda leaf: leaf[:, : self.shots], ordered),
            jax.tree.map(lambda leaf: leaf[:, self.shots :], ordered),
        )


def _task_arrays(array: Any, name: str) -> list[np.ndarray]:
    """One float array (n, columns) per task."""
    try:
        arrays = [np.asarray(one) for one in array]
        if any(np.iscomplexobj(one) for one in arrays):
            raise TypeError("complex numbers cannot be used")
        tasks = [one.astype(np.float64) for one in arrays]
    except (TypeError, ValueError) as error:
        raise DataError(f"{name} is not a list of arrays of numbers: {error}.") from error
    if not tasks:
        raise DataError(f"{name} has no tasks.")
    for i, one in enumerate(tasks):
        if one.ndim != 2 or one.shape[1] == 0:
            raise ShapeError(f"{name} of task {i} has shape {one.shape}; it must be (samples, columns).")
    return tasks


def _check_task(name: str, x: np.ndarray, y: np.ndarray, inputs: int, outputs: int) -> None:
    if x.shape[1] != inputs or y.shape[1] != outputs:
        raise ShapeError(
            f"{name} has {x.shape[1]} input and {y.shape[1]} output columns, the first task {inputs} and "
            f"{outputs}."
        )
    if len(x) != len(y):
        raise ShapeError(f"{name} has {len(x)} rows of x and {len(y)} of y.")
    if len(x) == 0:
        raise DataError(f"{name} has no samples; drop it.")
    for array, what in ((x, "x"), (y, "y")):
        with np.errstate(over="ignore"):
            bad = np.argwhere(~np.isfinite(array.astype(np.float32)))
        if bad.size:
            raise DataError(
                f"{name} has NaN, infinite or too large values in {what}, first in row {bad[0][0]}, "
                f"column {bad[0][1]}."
            )


def _encode_labels(
    labels: Mapping[str, Sequence[Any]], count: int
) -> tuple[dict[str, np.ndarray], dict[str, tuple[Any, ...]]]:
    if not labels:
        raise DataError("no factor: give at least one, e.g. labels={'robot': [...]}.")
    codes: dict[str, np.ndarray] = {}
    levels: dict[str, tuple[Any, ...]] = {}
    for factor, raw in labels.items():
        values = _label_list(factor, raw)
        if len(values) != count:
            raise ShapeError(f"factor '{factor}' has {len(values)} labels for {count} tasks.")
        for i, value in enumerate(values):
            if value in (None, "") or (isinstance(value, float) and not np.isfinite(value)):
                raise DataError(f"task {i} has no label of factor '{factor}' ({value!r}).")
        numbers = all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values)
        if not numbers:
            values = [str(v) for v in values]
        levels[factor] = tuple(sorted(set(values)))
        position = {level: i for i, level in enumerate(levels[factor])}
        codes[factor] = np.asarray([position[v] for v in values], dtype=np.int32)
    return codes, levels


def _label_list(factor: str, raw: Any) -> list[Any]:
    """Labels as Python values, so that numbers stay numbers whatever array they come in."""
    raw = np.asarray(raw).tolist() if isinstance(raw, (np.ndarray, jax.Array)) else raw
    if isinstance(raw, str) or not isinstance(raw, Iterable):
        raise ShapeError(f"factor '{factor}' needs a list of one label a task, not {raw!r}.")
    values = [v.item() if hasattr(v, "item") and np.ndim(v) == 0 else v for v in raw]
    if any(np.ndim(value) for value in values):
        raise ShapeError(f"factor '{factor}' needs one label a task, not a list of labels for each.")
    return values


def _check_resolution(values: np.ndarray, names: tuple[str, ...]) -> None:
    """Raise unless single precision tells the values of each column, shape (n, columns), apart."""
    largest, spread = np.abs(values).max(axis=0), values.std(axis=0)
    step = np.spacing(largest.astype(np.float32))
    for name, s, top, gap in zip(names, spread, largest, step, strict=True):
        # Columns that differ by rounding alone count as constant.
        if 1e-12 * top < s < 100 * gap:
            raise DataError(
                f"column {name} varies by {s:.3g} around values up to {top:.3g}, which single precision "
                f"resolves to {gap:.3g} only. Subtract an offset from it first."
            )


def _pad(xs: list[np.ndarray], ys: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    longest = max(len(one) for one in xs)
    x = np.zeros((len(xs), longest, xs[0].shape[1]), np.float32)
    y = np.zeros((len(ys), longest, ys[0].shape[1]), np.float32)
    weight = np.zeros((len(xs), longest), np.float32)
    for i, (one_x, one_y) in enumerate(zip(xs, ys, strict=True)):
        x[i, : len(one_x)], y[i, : len(one_y)], weight[i, : len(one_x)] = one_x, one_y, 1.0
    return x, y, weight


def _column_names(names: Sequence[str] | None, prefix: str, count: int) -> tuple[str, ...]:
    if names is None:
        return tuple(f"{prefix}{i}" for i in range(count))
    if len(names) != count:
        raise ShapeError(f"{len(names)} names for {count} {prefix} columns.")
    return tuple(names)
