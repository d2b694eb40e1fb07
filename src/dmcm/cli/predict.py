"""`dmcm predict`: predict given inputs with a mix of contexts from a bank."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from dmcm.bank import ContextBank
from dmcm.cli.arguments import parse_pairs, parse_range
from dmcm.cli.runs import Run, load_run
from dmcm.cli.show import count_fitting, say, show_path, show_table
from dmcm.errors import ConfigError
from dmcm.plots import check_figure_path, prediction_curves, save_figure
from dmcm.report import Table
from dmcm.tables import column_names, read_samples, write_table

EXAMPLES = """
dmcm predict runs/plants --bank bank --mix variety=P year=1990 --range day=14:84:7
dmcm predict runs/plants --bank bank --mix variety=P year=1990 --inputs days.csv --out predicted.csv \\
    --plot predicted.png
"""
_SHOWN = 12


@dataclasses.dataclass(frozen=True)
class PredictConfig:
    """Predict with contexts from a bank, each from another situation if you like."""

    run: tyro.conf.Positional[Path]
    """Run folder."""
    bank: Path
    """Folder of the bank."""
    mix: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=ENTRY …")]
    """For each factor, the entry to take its context from."""
    inputs: Path | None = None
    """Table with the input columns to predict at."""
    range: Annotated[str | None, tyro.conf.arg(metavar="INPUT=FIRST:LAST:STEP")] = None
    """Evenly spaced values of the single input, instead of a table."""
    out: Path | None = None
    """Table to write inputs and predictions to (.csv, .tsv or .parquet)."""
    plot: Path | None = None
    """Plot to write, for models with one input (.png or .svg)."""
    overwrite: bool = False
    """Replace predictions and a plot of before."""


CONFIG = PredictConfig


def run(config: PredictConfig) -> None:
    """Mix, predict, write, print."""
    opened = load_run(config.run)
    if config.plot is not None:
        check_figure_path(config.plot)
        if len(opened.inputs) != 1:
            raise ConfigError(f"--plot draws models with one input; this one has {', '.join(opened.inputs)}.")
        _check_free("--plot", config.plot, config.overwrite)
    names = [*opened.inputs, *opened.outputs]
    if config.out is not None:
        _check_out(config.out, config.inputs, names)
        _check_free("--out", config.out, config.overwrite)
    pairs = parse_pairs(config.mix, "--mix", "variety=P year=1990")
    bank = ContextBank(config.bank)
    missing = [name for name in opened.learner.factors if name not in pairs]
    opened.learner.factors.check(pairs)
    if missing:
        known = ", ".join(entry.name for entry in bank.entries() if entry.factor == missing[0])
        raise ConfigError(
            f"--mix names no context of '{missing[0]}'. Its entries in {config.bank}: {known or 'none'}."
        )
    contexts = bank.mix(opened.learner, **pairs)
    x = np.asarray(_read_inputs(config, opened), np.float64)
    y = np.asarray(opened.learner.predict(contexts, x), np.float64)
    columns = dict(zip(names, np.column_stack([x, y]).T, strict=True))
    if config.out is not None:
        write_table(config.out.resolve(), columns)  # a link stays one
    if config.plot is not None:
        title = ", ".join(f"{factor} {name}" for factor, name in pairs.items())
        figure = prediction_curves(
            x[:, 0], y, input_name=opened.inputs[0], output_names=opened.outputs, title=title
        )
        save_figure(figure, config.plot.resolve())
    rows = _told_apart(np.column_stack([x, y])[:_SHOWN])
    fits = count_fitting(tuple(columns), rows)
    show_table(Table(tuple(columns)[:fits], [row[:fits] for row in rows]))
    hidden = [f"{len(x) - _SHOWN:,} more rows"] if len(x) > _SHOWN else []
    hidden += [f"{len(names) - fits:,} more columns"] if len(names) > fits else []
    if hidden:
        say(f"… and {', '.join(hidden)}" + ("" if config.out else "; --out FILE.csv keeps them"), "dim")
    for label, path in (("table", config.out), ("plot", config.plot)):
        if path is not None:
            show_path(label, path)


def _told_apart(values: np.ndarray) -> list[list[str]]:
    """Numbers as text, each column with enough digits to tell its values apart."""

    def texts(column: np.ndarray) -> list[str]:
        wanted, digits = len(set(column.tolist())), 4
        while len(set(found := [f"{value:.{digits}g}" for value in column])) < wanted and digits < 17:
            digits += 1
        return found

    return np.array([texts(column) for column in values.T]).T.tolist()


def _check_out(out: Path, inputs: Path | None, names: list[str]) -> None:
    """Refuse to replace a table of something else: the inputs themselves, or training data."""
    if inputs is not None and out.resolve() == inputs.resolve():
        raise ConfigError(f"--out {out} would replace the inputs; choose another name.")
    if out.is_file() and (found := list(column_names(out))) != names:
        raise ConfigError(
            f"--out {out} already exists, with columns {', '.join(found[:6])}, while predictions have "
            f"{', '.join(names)}. Choose another name, or delete it first."
        )


def _check_free(option: str, path: Path, overwrite: bool) -> None:
    """Refuse to replace a file without having been told to."""
    if path.is_file() and not overwrite:
        raise ConfigError(f"{option} {path} already exists. Choose another name, or replace it: --overwrite.")


def _read_inputs(config: PredictConfig, opened: Run) -> np.ndarray:
    if (config.inputs is None) == (config.range is None):
        raise ConfigError(
            f"say where to predict: either --inputs TABLE with columns {', '.join(opened.inputs)}, or "
            "--range for evenly spaced inputs."
        )
    if config.range is not None:
        return parse_range(config.range, opened.inputs)
    assert config.inputs is not None
    return read_samples(config.inputs, opened.inputs)[0]
