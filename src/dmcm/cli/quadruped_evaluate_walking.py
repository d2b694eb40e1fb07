"""`dmcm quadruped evaluate-walking`: how well a policy walks on every ground."""

from __future__ import annotations

from dmcm.cli.show import show_path, show_table
from dmcm.quadruped.walking.suite import WalkingSuite, run_suite
from dmcm.report import Estimate, Table

CONFIG = WalkingSuite
EXAMPLES = """
dmcm quadruped evaluate-walking
dmcm quadruped evaluate-walking --policy runs/rough/policy.safetensors --episodes 128
"""


def run(config: WalkingSuite) -> None:
    """Evaluate and print the table."""
    table = run_suite(config)
    rows = [
        [
            name,
            Estimate(cell["success"], cell["ci95"]),
            cell["progress"],
            cell["velocity_error_m_s"],
            cell["falls"],
        ]
        for name, cell in table["cells"].items()
    ]
    heads = ("ground", "success", "share of the distance", "velocity error, m/s", "falls")
    caption = (
        "Mean action; success is no fall and half of the commanded distance. Share of the distance and "
        "velocity error are medians over episodes."
    )
    show_table(Table(heads, rows, caption), "Walking")
    if config.results is not None:
        show_path("results", config.results)
