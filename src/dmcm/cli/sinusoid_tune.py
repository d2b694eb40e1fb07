"""`dmcm sinusoid tune`: outer-loop settings of every method, on validation tasks."""

from __future__ import annotations

from dmcm.cli.show import show_table
from dmcm.cli.studies import show_results
from dmcm.report import Table
from dmcm.sinusoid.tuning import TuningConfig, tune

CONFIG = TuningConfig
EXAMPLES = """
dmcm sinusoid tune --methods maml --seeds 1 --steps 5000
dmcm sinusoid tune --methods all --results results/tuning.json
"""


def run(config: TuningConfig) -> None:
    """Tune and print the scores."""
    methods = tune(config)["methods"]
    columns = tuple(dict.fromkeys(setting for found in methods.values() for setting in found["scores"]))
    rows = [
        [name, *(found["scores"].get(s) for s in columns), found["best"]] for name, found in methods.items()
    ]
    caption = "Geometric mean of validation errors by optimiser, loss and learning rate; lower is better."
    show_table(Table(("method", *columns, "best"), rows, caption))
    show_results(config.results, config.out)
