"""`dmcm sinusoid sizes`: the study of how large a context must be."""

from __future__ import annotations

from dmcm.cli.studies import show_results, show_study
from dmcm.sinusoid.sizes import SizesConfig, context_size_study

CONFIG = SizesConfig
EXAMPLES = """
dmcm sinusoid sizes --results results/sizes.json
dmcm sinusoid sizes --sizes 2 4 --seeds 1 --steps 5000
"""


def run(config: SizesConfig) -> None:
    """Run the study and print its table."""
    table = context_size_study(config)
    show_study(("context size",), {(size,): measures for size, measures in table["sizes"].items()})
    show_results(config.results, config.out)
