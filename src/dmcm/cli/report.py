"""`dmcm report`: write a run's report page again."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import tyro

from dmcm.cli.runs import load_run
from dmcm.cli.show import show_path
from dmcm.sinusoid.page import write_report as write_sinusoid_report
from dmcm.tabular.page import write_report as write_table_report

EXAMPLES = """
dmcm report runs/demo
"""


@dataclasses.dataclass(frozen=True)
class ReportConfig:
    """Write report.html of a finished run again, from the files in its folder (and its table)."""

    run: tyro.conf.Positional[Path]
    """Run folder."""


CONFIG = ReportConfig


def run(config: ReportConfig) -> None:
    """Rebuild the page."""
    opened = load_run(config.run)
    write = write_sinusoid_report if opened.table is None else write_table_report
    write(opened.folder, opened.about)
    show_path("report", opened.folder.report)
