"""`dmcm quadruped evaluate-policy`: how well conditioned policies walk outside training."""

from __future__ import annotations

from dmcm.cli.show import show_path, show_table
from dmcm.quadruped.conditioned.page import success_table
from dmcm.quadruped.conditioned.report import report_policies
from dmcm.quadruped.conditioned.study import PolicyStudy, run_policy_study
from dmcm.quadruped.conditioned.suite import ENOUGH
from dmcm.quadruped.conditioned.table import OUTSIDE
from dmcm.report import Table

CONFIG = PolicyStudy
EXAMPLES = """
dmcm quadruped evaluate-policy --results results/policy.json
dmcm quadruped evaluate-policy --sources vanilla dmcm --seeds 1 --suite.episodes 50
"""


def run(config: PolicyStudy) -> None:
    """Evaluate and print success rates."""
    table = run_policy_study(config)
    methods = list(table["methods"])
    found = success_table(table, [*table["conditions"], OUTSIDE], methods)
    # There are many conditions and the method names are long: transposed, the table fits a terminal.
    conditions = zip(found.columns[1:], *(row[1:] for row in found.rows), strict=True)
    caption = f"{found.caption} No fall and {ENOUGH:.0%} of the commanded distance; mean over the grounds."
    show_table(Table(("condition", *methods), [list(row) for row in conditions], caption), "Success")
    if config.results is not None:
        show_path("results", config.results)
    show_path("report", report_policies(config, table))
