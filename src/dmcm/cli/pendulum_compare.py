"""`dmcm pendulum compare`: methods × seeds on driven pendulums."""

from __future__ import annotations

from dmcm.cli.studies import show_results, show_study
from dmcm.pendulum.comparison import PendulumConfig, run_pendulum

CONFIG = PendulumConfig
EXAMPLES = """
dmcm pendulum compare --results results/pendulum.json
dmcm pendulum compare --seeds 1 --steps 5000
"""


def run(config: PendulumConfig) -> None:
    """Compare and print the table."""
    table = run_pendulum(config)
    show_study(("method",), {(method["title"],): method for method in table["methods"].values()})
    show_results(config.results, config.out)
