"""NPZ files with the arrays of tasks."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from dmcm.errors import DataError, ShapeError, StorageError


@dataclasses.dataclass(frozen=True, eq=False)
class NpzTasks:
    """The tasks in an NPZ file.

    Attributes:
        x: inputs, shape (tasks, n, inputs), or one array a task.
        y: outputs, shape (tasks, n, outputs), or one array a task.
        labels: one a task, per factor; empty if the file has none.
        query_x: inputs of fixed queries, or None.
        query_y: outputs of fixed queries, or None.
    """

    x: Any
    y: Any
    labels: dict[str, Any]
    query_x: np.ndarray | None
    query_y: np.ndarray | None


def read_npz(path: Path | str, *, labelled: bool) -> NpzTasks:
    """Read arrays `x`, `y`, `label_<factor>`; `weight` (tasks, n), 0 for padding; `query_x` and `query_y`.

    Args:
        path: the file. Pickled objects are refused.
        labelled: whether a label is needed.

    Raises:
        StorageError: no such file, or not an NPZ file of plain arrays.
        DataError: missing arrays, or a weight that is neither 0 nor 1.
        ShapeError: a weight of another shape.
    """
    try:
        # Opened here, because NumPy does not close a damaged archive.
        with Path(path).open("rb") as handle, np.load(handle, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except FileNotFoundError as error:
        raise StorageError(f"there is no file {path}.") from error
    except Exception as error:  # numpy and zipfile raise many kinds for damaged archives
        raise StorageError(f"{path} is not an NPZ file of plain arrays: {error}.") from error
    labels = {n.removeprefix("label_"): a for n, a in arrays.items() if n.startswith("label_")}
    if "x" not in arrays or "y" not in arrays or (labelled and not labels):
        needed = "arrays x, y and at least one label_<factor>" if labelled else "arrays x and y"
        raise DataError(f"{path} needs {needed}; it has {', '.join(arrays) or 'nothing'}.")
    x: Any = arrays["x"]
    y: Any = arrays["y"]
    if "weight" in arrays:
        weight = arrays["weight"]
        if x.ndim != 3 or not weight.shape == x.shape[:2] == y.shape[:2]:
            raise ShapeError(
                f"weight {weight.shape} must have the first two axes of x {x.shape} and y {y.shape}."
            )
        if weight.dtype.kind not in "biuf" or not np.isin(weight, (0, 1)).all():
            raise DataError(f"weight in {path} must be 1 for samples and 0 for padding.")
        keep = weight > 0
        x, y = ([a[k] for a, k in zip(part, keep, strict=True)] for part in (x, y))
    return NpzTasks(x, y, labels, arrays.get("query_x"), arrays.get("query_y"))
