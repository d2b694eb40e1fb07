"""`dmcm quadruped train-policy`: train policies conditioned on robot and ground."""

from __future__ import annotations

from dmcm.cli.show import show_path
from dmcm.quadruped.conditioned.sweep import PolicySweep, run_sweep

CONFIG = PolicySweep
EXAMPLES = """
dmcm quadruped train-policy
dmcm quadruped train-policy --methods vanilla oracle --seeds 1 --training.iterations 100
dmcm quadruped train-policy --ray auto
"""


def run(config: PolicySweep) -> None:
    """Train and print where the policies are."""
    for path in run_sweep(config):
        show_path("policy", path)
