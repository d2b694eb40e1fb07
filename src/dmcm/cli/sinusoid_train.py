"""`dmcm sinusoid train`: one method, one seed."""

from __future__ import annotations

from dmcm.cli.show import say, show_path, show_table
from dmcm.run_config import open_run
from dmcm.sinusoid import page
from dmcm.sinusoid.single import SingleConfig, measure, train

CONFIG = SingleConfig
EXAMPLES = """
dmcm sinusoid train
dmcm sinusoid train --method maml --steps 20000 --out runs/maml
dmcm sinusoid train --resume
"""


def run(config: SingleConfig) -> None:
    """Train, measure, report."""
    train(config)
    say("measuring …", "dim")
    folder, about = open_run(config.out)
    metrics = measure(folder)
    show_table(page.error_table(about, metrics), "Mean squared error")
    page.write_report(folder, about)
    show_path("report", folder.report)
