"""`dmcm sinusoid support`: the study of which pairs training must see."""

from __future__ import annotations

from dmcm.cli.studies import show_results, show_study
from dmcm.sinusoid.support_study import SupportConfig, run_support

CONFIG = SupportConfig
EXAMPLES = """
dmcm sinusoid support --results results/support.json
dmcm sinusoid support --shares 0.5 0.15 --seeds 1 --methods dmcm dmcm_no_recombination
"""


def run(config: SupportConfig) -> None:
    """Run the study and print its table."""
    table = run_support(config)
    rows = {
        (method, layout, share): measures
        for method, layouts in table["methods"].items()
        for layout, shares in layouts.items()
        for share, measures in shares.items()
    }
    show_study(("method", "layout", "pairs seen"), rows)
    show_results(config.results, config.out)
