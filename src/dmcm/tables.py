"""Tables in and out: CSV, TSV or Parquet files with one sample a row."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import ArrayLike

from dmcm.checks import as_names
from dmcm.errors import DataError, ShapeError, StorageError, unknown_name
from dmcm.storage import write_atomic

SEPARATORS = {".csv": ",", ".tsv": "\t", ".tab": "\t"}
PARQUET = (".parquet", ".pq")
EMPTY = ("", "NA", "N/A", "n/a", "#N/A", "<NA>", "NaN", "nan", "null", "NULL")


def read_tasks(
    path: Path | str,
    *,
    task: str | None = None,
    factors: Sequence[str],
    inputs: Sequence[str],
    outputs: Sequence[str],
) -> dict[str, Any]:
    """Labelled tasks from a long table: one row a sample, columns for task, labels, inputs and outputs.

    Rows of a task need not be adjacent; their order is kept. Label columns of numbers become ordered
    numbers, all others text. Numbers that would lose digits stay text: those with leading zeros, and whole
    numbers too large for 64 bits. Two spellings of one number, such as 1.1 and 1.10, are refused, among
    words too, because they may be one label or two.

    Args:
        path: `.csv`, `.tsv` or `.tab` (UTF-8, one header line), `.parquet` or `.pq`.
        task: column that names the task of a row; None makes one task of each combination of labels.
        factors: columns of labels, one a factor.
        inputs: columns of inputs.
        outputs: columns of outputs.

    Returns:
        Arguments of `FactorDataset.from_arrays`: x, y, labels and names.

    Raises:
        StorageError: no such file, or one that cannot be read.
        DataError: missing columns, no rows, missing or ambiguous labels, values that are not finite numbers,
            a task with two labels of one factor, or too few samples.
    """
    path = Path(path)
    roles = {
        "task": () if task is None else (task,),
        "factors": as_names(factors, "factors", DataError),
        "inputs": as_names(inputs, "inputs", DataError),
        "outputs": as_names(outputs, "outputs", DataError),
    }
    for role in ("factors", "inputs", "outputs"):
        if not roles[role]:
            raise DataError(f"name at least one column of {path.name} in {role}.")
    frame = read_frame(path)
    _check_columns(frame, roles, path)
    x, y = _numbers(frame, roles["inputs"], path), _numbers(frame, roles["outputs"], path)
    labels = {name: _labels(frame, name, path) for name in roles["factors"]}
    if task is None:
        keys = [", ".join(f"{name}={labels[name][row]}" for name in labels) for row in range(len(frame))]
    else:
        keys = [str(label) for label in _labels(frame, task, path)]
    rows: dict[str, list[int]] = {}
    for row, key in enumerate(keys):
        rows.setdefault(key, []).append(row)
    for factor, column in labels.items():
        _check_one_label(rows, factor, column, path)
    return {
        "x": [x[own] for own in rows.values()],
        "y": [y[own] for own in rows.values()],
        "labels": {factor: [column[own[0]] for own in rows.values()] for factor, column in labels.items()},
        "task_names": list(rows),
        "input_names": roles["inputs"],
        "output_names": roles["outputs"],
    }


def column_names(path: Path | str) -> tuple[str, ...]:
    """Names of a table's columns, in order.

    Raises:
        StorageError, DataError: as for `read_tasks`.
    """
    return tuple(read_frame(Path(path)).columns)


def read_samples(
    path: Path | str, inputs: Sequence[str], outputs: Sequence[str] | None = None
) -> tuple[np.ndarray, np.ndarray | None]:
    """Samples of one situation: every row of a table.

    Args:
        path: as in `read_tasks`.
        inputs: columns of inputs.
        outputs: columns of outputs; None to read none.

    Returns:
        x, shape (n, inputs), and y, shape (n, outputs), or None.

    Raises:
        StorageError, DataError: as for `read_tasks`.
    """
    path = Path(path)
    roles = {
        "inputs": as_names(inputs, "inputs", DataError),
        "outputs": () if outputs is None else as_names(outputs, "outputs", DataError),
    }
    for role, columns in (("inputs", inputs), ("outputs", outputs)):
        if columns is not None and not roles[role]:
            raise DataError(f"name at least one column of {path.name} in {role}.")
    frame = read_frame(path)
    _check_columns(frame, roles, path)
    x = _numbers(frame, roles["inputs"], path)
    return x, None if outputs is None else _numbers(frame, roles["outputs"], path)


def write_table(path: Path | str, columns: Mapping[str, ArrayLike]) -> None:
    """Write named columns as a table, whole or not at all.

    The suffix of the path chooses the format, as in `read_tasks`.

    Raises:
        ShapeError: columns that are not vectors of one length.
        DataError: no columns, or one that is neither numbers nor text.
        StorageError: an unknown suffix, or the file cannot be written.
    """
    path = Path(path)
    suffix = _suffix(path)
    if not columns:
        raise DataError(f"there is nothing to write to {path.name}: give at least one column.")
    if masked := [name for name, column in columns.items() if np.ma.is_masked(column)]:
        raise DataError(f"column '{masked[0]}' has masked values; fill them in first.")
    arrays = {name: np.asarray(column) for name, column in columns.items()}
    shapes = {name: array.shape for name, array in arrays.items()}
    if any(len(shape) != 1 for shape in shapes.values()) or len(set(shapes.values())) > 1:
        raise ShapeError(f"columns of a table must be vectors of one length; these have shapes {shapes}.")
    odd = [name for name, a in arrays.items() if a.dtype.kind not in "biufU" or a.dtype == np.longdouble]
    if odd:
        raise DataError(
            f"column '{odd[0]}' holds {arrays[odd[0]].dtype} values; a table takes numbers or text."
        )
    frame, content = pl.DataFrame(arrays), io.BytesIO()
    if suffix in PARQUET:
        frame.write_parquet(content)
    else:
        frame.write_csv(content, separator=SEPARATORS[suffix])
    write_atomic(path, content.getvalue())


def _suffix(path: Path) -> str:
    suffix = path.suffix.lower()
    if suffix not in SEPARATORS and suffix not in PARQUET:
        raise StorageError(
            f"{path.name} does not have the suffix of a table. Valid: {', '.join((*SEPARATORS, *PARQUET))}."
        )
    return suffix


def read_frame(path: Path) -> pl.DataFrame:
    """The table as it is; columns of text files stay text, with surrounding blanks stripped.

    Raises:
        StorageError: no such file, or not a table by its suffix or content.
        DataError: no rows, or two columns of one name.
    """
    suffix = _suffix(path)
    # Read here and not by Polars, which would also accept patterns and web addresses as paths.
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise StorageError(f"there is no file {path}.") from error
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error.strerror or error}.") from error
    if not content.strip():
        raise DataError(f"{path} is empty.")
    try:
        if suffix in PARQUET:
            frame = pl.read_parquet(io.BytesIO(content))
        else:
            frame = _parse(content, SEPARATORS[suffix], path)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        reason = str(error).strip().partition("\n")[0]
        header = content.partition(b"\n")[0].decode(errors="replace")
        if suffix in SEPARATORS and (hint := _unsplit(header.split(SEPARATORS[suffix]))):
            raise StorageError(f"{path} cannot be read as a {suffix[1:].upper()} table.{hint}") from error
        raise StorageError(
            f"{path} cannot be read as a {suffix[1:].upper()} table: {reason}. Text must be UTF-8 with the "
            "same number of columns in each line; a truncated file must be completed first."
        ) from error
    if frame.height == 0:
        raise DataError(f"{path} has a header but no rows.")
    return frame


def _parse(content: bytes, separator: str, path: Path) -> pl.DataFrame:
    header = pl.read_csv(
        io.BytesIO(content), has_header=False, n_rows=1, infer_schema=False, separator=separator
    )
    names = [(name or "").strip() for name in header.row(0)]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise DataError(f"{path} has more than one column '{twice[0]}'; give each its own name.")
    frame = pl.read_csv(io.BytesIO(content), infer_schema=False, separator=separator)
    frame.columns = names
    frame = frame.with_columns(pl.all().str.strip_chars())
    # Blank lines at the end are not rows.
    filled = frame.select(pl.any_horizontal(pl.all().is_not_null())).to_series().arg_true()
    return frame.head(int(filled[-1]) + 1 if len(filled) else 0)


def _check_columns(frame: pl.DataFrame, roles: Mapping[str, Sequence[str]], path: Path) -> None:
    taken: dict[str, str] = {}
    for role, names in roles.items():
        for name in names:
            if name not in frame.columns:
                hint = _unsplit(frame.columns)
                raise DataError(f"{path.name}, {role}: {unknown_name('column', name, frame.columns)}{hint}")
            if name in taken:
                other = "twice" if taken[name] == role else f"in {taken[name]} and in"
                raise DataError(
                    f"column '{name}' is named {other} {'in ' if other == 'twice' else ''}{role}; a column "
                    "has one role."
                )
            taken[name] = role


def _unsplit(names: Sequence[str]) -> str:
    """A hint, after a blank, if a header looks like one that the separator did not split; else nothing."""
    if len(names) != 1 or not any(mark in names[0] for mark in ";\t,"):
        return ""
    return (
        " The line was not split: does the suffix (.csv, .tsv) match the separator? Columns are separated by "
        "commas in .csv and by tabs in .tsv, and numbers have decimal points."
    )


def _at(path: Path, column: str, row: int) -> str:
    """Location of a cell; rows are counted from 1, without the header."""
    return f"{path.name}, column '{column}', row {row + 1}"


def _numbers(frame: pl.DataFrame, columns: Iterable[str], path: Path) -> np.ndarray:
    """Finite numbers, shape (rows, columns)."""
    arrays = []
    for name in columns:
        column = frame[name]
        if not (column.dtype.is_numeric() or column.dtype == pl.String):
            raise DataError(
                f"{path.name}: column '{name}' holds {column.dtype} values; inputs and outputs must be "
                "numbers."
            )
        values = column.cast(pl.Float64, strict=False)
        array = values.to_numpy().astype(np.float64)
        # Values too large for float32 would be infinite to the model.
        with np.errstate(over="ignore"):
            bad = np.flatnonzero(~np.isfinite(array.astype(np.float32)))
        if bad.size:
            row, cell = int(bad[0]), column[int(bad[0])]
            what = "the value is missing" if cell is None else f"{cell!r} is not a finite number"
            more = f" ({bad.size} such rows)" if bad.size > 1 else ""
            raise DataError(f"{_at(path, name, row)}: {what}{more}. Correct or drop these rows.")
        arrays.append(array)
    return np.stack(arrays, axis=1)


def _labels(frame: pl.DataFrame, name: str, path: Path) -> list[Any]:
    """Labels of all rows: whole numbers, numbers or text."""
    column = frame[name]
    if column.dtype.is_nested() or column.dtype in (pl.Object, pl.Binary, pl.Duration):
        raise DataError(
            f"{path.name}: column '{name}' holds {column.dtype} values; labels must be numbers or text."
        )
    if column.dtype.is_decimal():
        column = column.cast(pl.String)
    if column.dtype == pl.Float32:
        # Converted through text, so that 0.1 becomes the label 0.1 and not 0.10000000149.
        column = column.cast(pl.String).cast(pl.Float64)
    if column.dtype.is_float():
        column = column.fill_nan(None)
    if not column.dtype.is_numeric():
        column = column.cast(pl.String).str.strip_chars()
        column = column.set(column.is_in(EMPTY), None)
    empty = column.is_null().arg_true()
    if len(empty):
        row = int(empty[0])
        raise DataError(
            f"{_at(path, name, row)}: the label is missing ({frame[name][row]!r}). Fill it in, or drop the "
            "rows without a label."
        )
    if column.dtype == pl.String:
        text, column = column, _as_numbers(column)
        numbers = column
        if column.dtype == pl.String:  # Numbers among words are held to the same.
            text = text.filter(text.str.contains(r"^[+-]?(0|[1-9]\d{0,14})(\.\d+)?$"))
            numbers = text.cast(pl.Float64)
        if numbers.n_unique() < text.n_unique():
            first, second = _written_twice(text, numbers)
            raise DataError(
                f"{path.name}: column '{name}' has '{first}' and '{second}', which are the same number. If "
                "they are one label, spell it one way; if they are two, prefix every value with a letter."
            )
    if column.dtype.is_float() and bool((column == column.round()).all()) and column.abs().max() < 2**53:  # type: ignore[operator]
        column = column.cast(pl.Int64)
    return column.to_list()


def _as_numbers(text: pl.Series) -> pl.Series:
    """Numbers if every cell is one and none would lose digits, otherwise the text."""
    whole = text.cast(pl.Int64, strict=False)
    if not whole.has_nulls():
        return whole if bool((whole.cast(pl.String) == text).all()) else text
    numbers = text.cast(pl.Float64, strict=False)
    plain = bool(text.str.contains(r"^[+-]?(0|[1-9]\d{0,14})?(\.\d+)?([eE][+-]?\d+)?$").all())
    # A column of 1E3, 2E3, … holds names of plates or varieties, not thousands.
    plain &= not bool(text.str.contains(r"^\d+[eE]\d+$").all())
    return numbers if plain and not numbers.has_nulls() and bool(numbers.is_finite().all()) else text


def _written_twice(text: pl.Series, numbers: pl.Series) -> tuple[str, str]:
    """Two texts that mean the same number."""
    seen: dict[Any, str] = {}
    for written, number in zip(text, numbers, strict=True):
        if seen.setdefault(number, written) != written:
            return seen[number], written
    raise AssertionError("no number is written in two ways")


def _check_one_label(rows: Mapping[str, list[int]], factor: str, column: Sequence[Any], path: Path) -> None:
    for task, own in rows.items():
        for row in own:
            if column[row] != column[own[0]]:
                raise DataError(
                    f"{path.name}: task '{task}' has two labels of '{factor}', {column[own[0]]!r} in row "
                    f"{own[0] + 1} and {column[row]!r} in row {row + 1}. A task is one situation: give each "
                    "situation its own task name."
                )
