"""`dmcm quadruped transfer`: policies on stand-in robots, conditioned on a log from flat ground."""

from __future__ import annotations

from dmcm.cli.show import show_path, show_table
from dmcm.quadruped.conditioned.suite import ENOUGH
from dmcm.quadruped.transfer.report import report_transfer
from dmcm.quadruped.transfer.scenario import TransferConfig
from dmcm.quadruped.transfer.study import run_transfer
from dmcm.quadruped.transfer.table import success_tables

CONFIG = TransferConfig
EXAMPLES = """
dmcm quadruped transfer --results runs/transfer.json
dmcm quadruped transfer --ways vanilla dmcm --seeds 1 --robots 4
"""


def run(config: TransferConfig) -> None:
    """Evaluate, print success rates, and write the report page."""
    table = run_transfer(config)
    for title, shown in success_tables(table, ENOUGH).items():
        show_table(shown, title)
    if config.results is not None:
        show_path("results", config.results)
    show_path("report", report_transfer(config, table))
