"""`dmcm sinusoid compare`: methods × seeds on the frozen protocol."""

from __future__ import annotations

from dmcm.cli.studies import show_results, show_study
from dmcm.sinusoid.comparison import ComparisonConfig, compare

CONFIG = ComparisonConfig
EXAMPLES = """
dmcm sinusoid compare --methods dmcm cavia --seeds 2
dmcm sinusoid compare --methods all --results results/sinusoid.json
"""


def run(config: ComparisonConfig) -> None:
    """Compare and print the table."""
    table = compare(config)
    show_study(("method", "seeds"), {(m["title"], str(m["seeds"])): m for m in table["methods"].values()})
    show_results(config.results, config.out)
