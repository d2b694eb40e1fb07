"""`dmcm evaluate`: measure a trained run again."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import tyro

from dmcm.cli.runs import Run, load_run
from dmcm.cli.show import say, show_path, show_table
from dmcm.errors import ConfigError
from dmcm.sinusoid import page, single
from dmcm.storage import write_json
from dmcm.tabular.measures import few_shot_errors, measure_table, swap_errors
from dmcm.tabular.page import combination_table, error_table
from dmcm.tabular.runs import TableConfig, data_digest, read_own, split_tasks

EXAMPLES = """
dmcm evaluate runs/demo
dmcm evaluate runs/plants              the table it was trained on
dmcm evaluate runs/plants other.csv    another table with the same columns
"""


@dataclasses.dataclass(frozen=True)
class EvaluateConfig:
    """Measure a run: sinusoids by the frozen protocol, tables few-shot and with swapped contexts.

    Prints the errors and writes them to the run's metrics.json; errors on another table are only printed. The
    run's own table is recognised by what it holds, wherever it is now.
    """

    run: tyro.conf.Positional[Path]
    """Run folder."""
    table: tyro.conf.Positional[Path | None] = None
    """Another table, or NPZ file, with the same columns."""


CONFIG = EvaluateConfig


def run(config: EvaluateConfig) -> None:
    """Measure and print."""
    opened = load_run(config.run)
    if opened.table is not None:
        _evaluate_table(opened, opened.table, config.table)
    elif config.table is not None:
        raise ConfigError(
            f"{config.run} learned sinusoids; its protocol needs no table. Leave out {config.table}."
        )
    else:
        metrics = single.measure(opened.folder)
        show_table(
            page.error_table(opened.about, metrics, page.read_control(opened.folder)), "Mean squared error"
        )
        show_path("metrics", opened.folder.path / "metrics.json")


def _evaluate_table(opened: Run, own: TableConfig, table: Path | None) -> None:
    split = None
    data = read_own(own, opened.about) if table is None else own.read(table)
    if table is not None and opened.about.get("data") == data_digest(data):
        # The run's own, which may have been moved.
        write_json(opened.folder.path / "config.json", {**opened.about, "table": str(table.resolve())})
        table = None
    if table is None:
        split = split_tasks(own, data)
        metrics = measure_table(opened.learner, split)
        opened.folder.write_metrics(metrics)
    else:
        few, swapped = few_shot_errors(opened.learner, data), swap_errors(opened.learner, data)
        metrics = {"few_shot": few, "swap": swapped}
    show_table(combination_table(data, split))
    show_errors(metrics, "training tasks" if table is None else f"tasks of {table.name}")
    if table is None:
        show_path("metrics", opened.folder.path / "metrics.json")


def show_errors(metrics: dict, tasks: str = "training tasks") -> None:
    """Print the errors of a table run on its own tasks, or on others."""
    show_table(
        error_table(metrics, tasks), "Mean squared error in units of the outputs' variance in training"
    )
    lonely = metrics["swap"]["without_donor"]
    if lonely:
        say(f"{lonely} tasks were not swapped: no other task has one of their labels.", "yellow")
    held = metrics.get("held_out")
    if held is None:
        return
    strange = len(held["few_shot"]["tasks"]) - len(held.get("zero_shot", {}).get("tasks", ()))
    if strange:
        say(
            f"{strange} held-out tasks have no zero-shot error: no training task has one of their labels.",
            "yellow",
        )
