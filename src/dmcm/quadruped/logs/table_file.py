"""Logs as tables: CSV, TSV or Parquet, one row per time, one column per number."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from dmcm.errors import DataError, unknown_name
from dmcm.quadruped.logs.channels import Channel, check_complete
from dmcm.quadruped.logs.findings import Finding
from dmcm.quadruped.logs.mapping import NOTHING, LogMapping, Source
from dmcm.quadruped.logs.quantities import MAPPED
from dmcm.tables import EMPTY, PARQUET, read_frame


def read_table_log(path: Path, mapping: LogMapping) -> tuple[dict[str, Channel], list[Finding]]:
    """Read a table.

    Args:
        path: with a suffix of `dmcm.tables.SEPARATORS` or `PARQUET`.
        mapping: with a column of times and columns of each quantity.

    Returns:
        Channels by names of `MAPPED`, and what was found missing. A row whose cells of a quantity are all
        empty is not a sample of it; a single empty cell is NaN.

    Raises:
        StorageError: no such file, or not a table.
        DataError: no rows, no times, cells that are not numbers, or missing quantities that are needed.
    """
    frame = read_frame(path)
    if path.suffix.lower() not in PARQUET:
        # Blank lines are not rows.
        frame = frame.filter(pl.any_horizontal(pl.all().is_not_null()))
    if mapping.clock.column is None:
        raise DataError(
            f"the mapping has no column of times for {path.name}: give [clock] with column and unit. "
            f"Columns: {', '.join(frame.columns)}."
        )
    if mapping.clock.column not in frame.columns:
        raise DataError(
            f"{path.name}, clock.column: {unknown_name('column', mapping.clock.column, frame.columns)}"
        )
    channels, absent = {}, {}
    for name, source in mapping.sources.items():
        wanted = [c for c, part in zip(source.columns, source.order, strict=False) if part != NOTHING]
        lost = [column for column in wanted if column not in frame.columns]
        if not source.columns:
            absent[name] = f"the mapping has no columns for it ([{name}] only has a topic)"
        elif lost:
            some = "" if len(lost) == len(wanted) else f" ({len(lost)} of {len(wanted)} columns are missing)"
            absent[name] = unknown_name("column", lost[0], frame.columns) + some
    findings = check_complete(path.name, mapping, absent, frame.columns, "column")
    times_ns = _times(frame, mapping, path)
    for name, source in mapping.sources.items():
        if name not in absent:
            channels[name] = _channel(frame, name, source, times_ns, path)
    return channels, findings


def _channel(frame: pl.DataFrame, name: str, source: Source, times_ns: np.ndarray, path: Path) -> Channel:
    columns = [
        np.zeros(frame.height) if part == NOTHING else _numbers(frame[column], path)
        for column, part in zip(source.columns, source.order, strict=True)
    ]
    values = source.convert(np.stack(columns, axis=1), MAPPED[name])
    there = ~np.isnan(values).all(axis=1)
    return Channel(times_ns[there], values[there], source.rate_hz, source.on_change)


def _times(frame: pl.DataFrame, mapping: LogMapping, path: Path) -> np.ndarray:
    """Nanoseconds, shape (rows,), int64."""
    column = frame[str(mapping.clock.column)]
    if column.dtype == pl.Datetime:
        column, unit_ns = column.dt.epoch("ns"), 1.0
    else:
        unit_ns = mapping.clock.unit_ns
    # Nanoseconds since 1970 have more digits than a float holds.
    whole = column.cast(pl.Int64, strict=False) if column.dtype == pl.String else column
    if whole.dtype.is_integer() and not whole.has_nulls():
        counts = [int(count) * int(unit_ns) for count in whole]
    else:
        numbers = _numbers(column, path)
        if bad := np.flatnonzero(~np.isfinite(numbers)).tolist():
            raise DataError(
                f"{path.name}, column '{column.name}', row {bad[0] + 1}: there is no time "
                f"({len(bad)} such rows). Drop these rows."
            )
        counts = np.round(numbers * unit_ns)
    if np.abs(np.asarray(counts, float)).max() >= 2**63:
        raise DataError(
            f"{path.name}, column '{column.name}': times are beyond the year 2262. Is clock.unit right?"
        )
    return np.asarray(counts, np.int64)


def _numbers(column: pl.Series, path: Path) -> np.ndarray:
    """Numbers, shape (rows,); empty cells are NaN."""
    if column.dtype == pl.String:
        empty = column.is_null() | column.is_in(EMPTY)
        numbers = column.cast(pl.Float64, strict=False)
        if wrong := (numbers.is_null() & ~empty).arg_true().to_list():
            raise DataError(
                f"{path.name}, column '{column.name}', row {wrong[0] + 1}: {column[wrong[0]]!r} is not a "
                "number. Correct it, or leave the cell empty."
            )
    elif column.dtype.is_numeric() or column.dtype == pl.Boolean:
        numbers = column.cast(pl.Float64)
    elif column.dtype == pl.Null:
        return np.full(len(column), np.nan)
    else:
        raise DataError(
            f"{path.name}: column '{column.name}' holds {column.dtype} values; a log must hold numbers."
        )
    return numbers.fill_null(np.nan).to_numpy().astype(np.float64)
