"""`dmcm fit`: learn from a labelled table."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro

from dmcm.cli.arguments import parse_pairs, parse_sizes
from dmcm.cli.evaluate import show_errors
from dmcm.cli.show import say, show_path, show_table
from dmcm.fit_config import FitConfig
from dmcm.run_config import open_run
from dmcm.runs import RunFolder
from dmcm.tabular.measures import measure_table
from dmcm.tabular.page import combination_table, write_report
from dmcm.tabular.runs import TableConfig, split_tasks, train_table

EXAMPLES = """
dmcm fit plants.csv --task plot --factors variety=2 year=2 --inputs day --outputs weight_g
dmcm fit plants.csv --task plot --factors variety=2 year=2 --inputs day --outputs weight_g \\
    --hold-out variety=P year=1990 --out runs/plants
dmcm fit runs.npz --factors robot=4 terrain=4 --steps 20000 --out runs/robots
"""


@dataclasses.dataclass(frozen=True)
class FitTableConfig:
    """Learn from a table with one sample a row: one context vector per label column.

    Tables are .csv, .tsv or .parquet with columns for inputs, outputs and each factor's label; NPZ files hold
    arrays x, y and label_<factor>. Prints the number of tasks of each combination of labels, trains, measures
    few-shot and swapped errors, and writes a report page.
    """

    table: tyro.conf.Positional[Path]
    """Table or NPZ file."""
    factors: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=SIZE …")]
    """Label columns, each with the size of its context, e.g. variety=2 year=2. One factor is enough."""
    inputs: Annotated[tuple[str, ...], tyro.conf.arg(metavar="COLUMN …", help_behavior_hint="")] = ()
    """Input columns; not for NPZ files."""
    outputs: Annotated[tuple[str, ...], tyro.conf.arg(metavar="COLUMN …", help_behavior_hint="")] = ()
    """Output columns; not for NPZ files."""
    task: str | None = None
    """Column that names the task (situation) of a row. Without it, each combination of labels is one task."""
    hold_out: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=LABEL …", help_behavior_hint="")] = ()
    """Keep the tasks with these labels out of training, and predict them with swapped contexts."""
    network: str = "tensor_product"
    """tensor_product, film or concat."""
    solver: str = "levenberg_marquardt"
    """levenberg_marquardt, gradient_descent or set_encoder: how contexts are found."""
    width: int = 64
    """Units of each hidden layer."""
    depth: int = 2
    """Hidden layers."""
    steps: int = 10_000
    """Training steps."""
    optimiser: str = "adam"
    """adam or muon."""
    learning_rate: float = 3e-3
    """Peak learning rate."""
    recombination: float = 4.0
    """Weight of the loss on swapped contexts; 0 trains on own contexts alone."""
    shots: int | None = None
    """Samples each task adapts to during training. Default: half of the smallest task, at most 10."""
    seed: int = 0
    """Seed of initial weights, training batches and validation tasks."""
    validation_fraction: float = 0.0
    """Share of the training tasks that are used only to choose the best model."""
    patience: int = 0
    """Stop after this many validations (one every 500 steps) without a new best; needs
    --validation-fraction."""
    out: Path = Path("runs/table")
    """Run folder."""
    resume: bool = False
    """Continue from the newest checkpoint in the run folder."""

    def table_config(self) -> TableConfig:
        """The run's configuration, with options parsed.

        Raises:
            ConfigError: a pair that is not of the form name=value.
        """
        return TableConfig(
            table=self.table,
            factors=parse_sizes(self.factors, "--factors"),
            inputs=self.inputs,
            outputs=self.outputs,
            task=self.task,
            hold_out=parse_pairs(self.hold_out, "--hold-out", "variety=P year=1990"),
            shots=self.shots,
            network=self.network,
            solver=self.solver,
            width=self.width,
            depth=self.depth,
            validation_fraction=self.validation_fraction,
            fit=FitConfig(
                steps=self.steps,
                optimiser=self.optimiser,
                learning_rate=self.learning_rate,
                recombination=self.recombination,
                patience=self.patience,
                seed=self.seed,
            ),
        )


CONFIG = FitTableConfig


def run(config: FitTableConfig) -> None:
    """Read, train, measure, report."""
    table = config.table_config()
    data = table.read()
    split = split_tasks(table, data)
    samples = int(data.weight.sum())
    say(f"{config.table.name}: {len(data)} tasks, {samples:,} samples; tasks adapt to {data.shots} each.")
    show_table(combination_table(data, split))
    result = train_table(table, data, split, config.out, resume=config.resume)
    say(f"{result.steps:,} steps of training done ({result.seconds:.0f} s now); measuring …", "dim")
    folder = RunFolder(config.out)
    metrics = measure_table(result.learner, split)
    folder.write_metrics(metrics)
    show_errors(metrics)
    write_report(*open_run(config.out))
    show_path("model", folder.model)
    show_path("report", folder.report)
