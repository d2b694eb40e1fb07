"""Arrays and labels of tasks, as users provide them, checked and converted to one form."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from dmcm.errors import DataError, ShapeError
from dmcm.samples import as_numbers

_LARGEST = 1e30
_MOST_PADDED = 4 * 2**30
"""Bytes that padded tasks may take if most of them is padding."""
_PADDED_TIMES = 4
"""Padding counts as most of the data if padded tasks are this many times as large as the samples."""


def split_tasks(array: Any, name: str) -> list[np.ndarray]:
    """One float array (n, columns) per task."""
    what = f"{name} is not a list of arrays of numbers"
    try:
        parts = list(array)
    except TypeError as error:
        raise DataError(f"{what}: {error}.") from error
    tasks = [as_numbers(one, np.float64, what) for one in parts]
    if not tasks:
        raise DataError(f"{name} has no tasks.")
    for i, one in enumerate(tasks):
        if one.ndim != 2 or one.shape[1] == 0:
            raise ShapeError(f"{name} of task {i} has shape {one.shape}; it must be (samples, columns).")
    return tasks


def matched_tasks(
    x: Any, y: Any, names: Iterable[str] | None
) -> tuple[tuple[str, ...], list[np.ndarray], list[np.ndarray]]:
    """Names, inputs (n, inputs) and outputs (n, outputs) of tasks, checked; by default "task 0" and so on.

    Raises:
        ShapeError: tasks, names or columns that do not fit together.
        DataError: names that occur twice, and whatever `split_tasks` and `check_task` refuse.
    """
    xs, ys = split_tasks(x, "x"), split_tasks(y, "y")
    if len(xs) != len(ys):
        raise ShapeError(f"x has {len(xs)} tasks, y has {len(ys)}; both need one entry per task.")
    chosen = tuple(names) if names is not None else tuple(f"task {i}" for i in range(len(xs)))
    if len(chosen) != len(xs):
        raise ShapeError(f"{len(chosen)} task names for {len(xs)} tasks.")
    if len(set(chosen)) < len(chosen):
        raise DataError(f"task names must differ: {max(chosen, key=chosen.count)!r} occurs more than once.")
    for name, one_x, one_y in zip(chosen, xs, ys, strict=True):
        check_task(name, one_x, one_y, xs[0].shape[1], ys[0].shape[1])
    return chosen, xs, ys


def check_task(name: str, x: np.ndarray, y: np.ndarray, inputs: int, outputs: int) -> None:
    """Raise `ShapeError` or `DataError` unless a task's arrays fit together and are finite."""
    if x.shape[1] != inputs or y.shape[1] != outputs:
        raise ShapeError(
            f"{name} has {x.shape[1]} input and {y.shape[1]} output columns, but the first task has {inputs} "
            f"and {outputs}."
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
                f"{name} has NaN, infinite or too large values in {what}, the first in row {bad[0][0]}, "
                f"column {bad[0][1]}."
            )


def encode_labels(
    labels: Mapping[str, Any], count: int
) -> tuple[dict[str, np.ndarray], dict[str, tuple[Any, ...]]]:
    """Index and sorted levels per factor; numbers stay numbers, everything else becomes text.

    Raises:
        DataError: no factor, or a task without a label.
        ShapeError: the numbers of labels and tasks differ.
    """
    if not labels:
        raise DataError("there is no factor: give at least one, e.g. labels={'robot': [...]}.")
    codes: dict[str, np.ndarray] = {}
    levels: dict[str, tuple[Any, ...]] = {}
    for factor, raw in labels.items():
        values = _label_list(factor, raw)
        if len(values) != count:
            raise ShapeError(f"factor '{factor}' has {len(values)} labels for {count} tasks.")
        for i, value in enumerate(values):
            if _is_missing(value):
                raise DataError(f"task {i} has no label of factor '{factor}' ({value!r}).")
        numbers = all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values)
        if not numbers:
            values = _as_texts(factor, values)
        levels[factor] = tuple(sorted(set(values)))
        position = {level: i for i, level in enumerate(levels[factor])}
        codes[factor] = np.asarray([position[v] for v in values], dtype=np.int32)
    return codes, levels


def is_label(level: Any, label: Any) -> bool:
    """Whether a label, perhaps as someone typed it, is this one: "1" is 1.0, but not the text "01"."""
    if level == label or str(level) == str(label):
        return True
    try:
        return isinstance(level, (int, float)) and level == float(label)
    except (TypeError, ValueError):
        return False


def _is_missing(value: Any) -> bool:
    """Whether a label is None, empty, not finite, or a value that cannot be compared, such as pandas' NA."""
    try:
        return value is None or value == "" or value != value or value in (float("inf"), float("-inf"))
    except TypeError:
        return True


def _as_texts(factor: str, values: list[Any]) -> list[str]:
    first: dict[str, Any] = {}
    for value in values:
        if first.setdefault(str(value), value) != value:
            raise DataError(
                f"factor '{factor}' has the labels {first[str(value)]!r} and {value!r}, which read the same: "
                "give labels of one type."
            )
    # An accented letter may be encoded as one character or two.
    looks = [unicodedata.normalize("NFC", text) for text in first]
    if alike := next((look for look in looks if looks.count(look) > 1), None):
        raise DataError(
            f"factor '{factor}' has two labels that look the same, '{alike}': encode them in the same way."
        )
    return [str(value) for value in values]


def _label_list(factor: str, raw: Any) -> list[Any]:
    """Labels as Python values, so that numbers stay numbers whatever kind of array holds them."""
    if isinstance(raw, np.ma.MaskedArray) and np.ma.is_masked(raw):
        raise DataError(f"factor '{factor}' has masked labels: drop those tasks, or fill the labels in.")
    # `to_pylist` is Arrow's, `to_numpy` that of polars and pandas. Their scalar types may be neither numbers
    # nor recognised as missing.
    for way in ("to_pylist", "to_numpy"):
        if callable(converted := getattr(raw, way, None)):
            raw = converted()
            break
    if isinstance(raw, (np.ndarray, jax.Array)):
        array = np.asarray(raw)
        raw = list(array) if array.ndim == 1 else array.tolist()
    if isinstance(raw, str) or not isinstance(raw, Iterable):
        raise ShapeError(f"factor '{factor}' needs a list with one label a task, not {raw!r}.")
    values = [_plain(value) for value in raw]
    values = [v.decode(errors="replace") if isinstance(v, bytes) else v for v in values]
    if any(np.ndim(value) for value in values):
        raise ShapeError(f"factor '{factor}' needs one label a task, not a list of labels for each.")
    return values


def _plain(value: Any) -> Any:
    """A label as a Python value."""
    if hasattr(value, "as_py"):
        return value.as_py()
    # Keep what the user sees: 0.1 in single precision stays 0.1, and a date does not become nanoseconds.
    if isinstance(value, np.floating) and value.dtype.itemsize < 8:
        return float(str(value))
    if isinstance(value, np.datetime64) and np.datetime_data(value)[0] in ("ns", "ps", "fs", "as"):
        value = value.astype("datetime64[us]")
    return value.item() if hasattr(value, "item") and np.ndim(value) == 0 else value


def check_resolution(tasks: Sequence[np.ndarray], names: tuple[str, ...]) -> None:
    """Raise unless single precision resolves the values of each column, across all tasks and within most.

    Args:
        tasks: arrays (n, columns).
        names: names of the columns.
    """
    values = np.concatenate(tasks)
    largest, spread = np.abs(values).max(axis=0), values.std(axis=0)
    step = np.spacing(largest.astype(np.float32))
    for name, s, top, gap in zip(names, spread, largest, step, strict=True):
        varies = s > 1e-12 * top  # by more than rounding
        if top > _LARGEST or (varies and s < 1 / _LARGEST):
            raise DataError(
                f"column {name} varies by {s:.3g} with values up to {top:.3g}, which single precision cannot "
                f"scale. Choose a unit in which both lie between {1 / _LARGEST:g} and {_LARGEST:g}."
            )
        if varies and s < 100 * gap:
            raise DataError(
                f"column {name} varies by {s:.3g} around values up to {top:.3g}, which single precision only "
                f"resolves to {gap:.3g}. Subtract an offset from it first."
            )
    # Timestamps of many days spread widely between tasks, while steps within each task are rounded away.
    within = np.array([task.std(axis=0) for task in tasks if len(task) > 1]).reshape(-1, len(names))
    for name, spreads, top, gap in zip(names, within.T, largest, step, strict=True):
        spreads = spreads[spreads > 1e-12 * top]
        if len(spreads) and np.median(spreads) < 10 * gap:
            raise DataError(
                f"column {name} varies by {np.median(spreads):.3g} within a task around values up to "
                f"{top:.3g}, which single precision only resolves to {gap:.3g}. Subtract an offset from it "
                "first, such as each task's first value."
            )


def pad_tasks(
    names: Sequence[str], xs: list[np.ndarray], ys: list[np.ndarray]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tasks padded to the longest: x (tasks, n, inputs), y (tasks, n, outputs), weight (tasks, n).

    Padding repeats a task's last sample instead of zeros: far from the data, zeros may overflow once
    standardised, and a value that is not finite spoils a sum whatever its weight.

    Raises:
        DataError: padding to the longest task would need too much memory.
    """
    lengths = np.array([len(one) for one in xs])
    longest, columns = int(lengths.max()), xs[0].shape[1] + ys[0].shape[1] + 1
    size = 4 * len(xs) * longest * columns
    if size > _MOST_PADDED and longest * len(xs) > _PADDED_TIMES * lengths.sum():
        raise DataError(
            f"task '{names[int(lengths.argmax())]}' has {longest:,} samples, but half of all tasks have at "
            f"most {np.median(lengths):,.0f}; padded to the longest, all tasks would need "
            f"{size / 2**30:.0f} GiB. Split that task, or thin it out."
        )

    def padded(tasks: list[np.ndarray]) -> np.ndarray:
        found = np.empty((len(tasks), longest, tasks[0].shape[1]), np.float32)
        for row, one in zip(found, tasks, strict=True):
            row[: len(one)], row[len(one) :] = one, one[-1]
        return found

    return padded(xs), padded(ys), (np.arange(longest) < lengths[:, None]).astype(np.float32)


def column_names(names: Sequence[str] | None, prefix: str, count: int) -> tuple[str, ...]:
    """The names given, or `prefix0`, `prefix1`, …; `ShapeError` if there are more or fewer than columns."""
    if names is None:
        return tuple(f"{prefix}{i}" for i in range(count))
    if len(names) != count:
        raise ShapeError(f"{len(names)} names for {count} {prefix} columns.")
    return tuple(names)
