"""`dmcm quadruped evaluate-policy`: how well told policies walk where nobody trained."""

from __future__ import annotations

from dmcm.cli.show import show_path, show_table
from dmcm.quadruped.conditioned.report import report_policies
from dmcm.quadruped.conditioned.study import PolicyStudy, run_policy_study
from dmcm.quadruped.conditioned.suite import ENOUGH
from dmcm.quadruped.conditioned.table import OUTSIDE
from dmcm.report import Estimate, Table

CONFIG = PolicyStudy
EXAMPLES = """
dmcm quadruped evaluate-policy --results results/policy.json
dmcm quadruped evaluate-policy --sources vanilla dmcm --seeds 1 --suite.episodes 50
"""


def run(config: PolicyStudy) -> None:
    """Evaluate and print success rates."""
    table = run_policy_study(config)
    names = (*table["conditions"], OUTSIDE)
    rows = [
        [name, *(Estimate(cells[column]["success"], cells[column]["ci95"]) for column in names)]
        for name, cells in table["methods"].items()
    ]
    caption = (
        f"Success: no fall and {100 * ENOUGH:.0f} % of the commanded way; mean over the grounds, with 95 % "
        "intervals."
    )
    show_table(Table(("told", *names), rows, caption), "Policies")
    if config.results is not None:
        show_path("results", config.results)
    show_path("report", report_policies(config, table))
