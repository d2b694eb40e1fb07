"""`dmcm quadruped dynamics`: compare dynamics models on collected data."""

from __future__ import annotations

from typing import Any

from dmcm.cli.show import show_path, show_table
from dmcm.quadruped.dynamics.report import report_run
from dmcm.quadruped.dynamics.study import DynamicsConfig, run_dynamics
from dmcm.report import Table

CONFIG = DynamicsConfig
EXAMPLES = """
dmcm quadruped dynamics --results results/dynamics.json
dmcm quadruped dynamics --methods dmcm oracle --seeds 1 --steps 500
"""


def run(config: DynamicsConfig) -> None:
    """Compare and print shares of the oracle's gain."""
    table = run_dynamics(config)
    for split in ("unseen_pair", "ood_robot", "ood_terrain"):
        outputs = [name for group in table["groups"].values() for name in group]
        rows = [
            [method, *(_share(cells[split].get(name)) for name in outputs)]
            for method, cells in table["methods"].items()
            if split in cells
        ]
        heads = ("method", *(name.replace("_", " ") for name in outputs))
        show_table(Table(heads, rows, "Share of the oracle's gain; a dash if that gain is < 5 %."), split)
    show_path("results", config.results or config.out)
    show_path("report", report_run(config, table))


def _share(cell: dict[str, Any] | None) -> str:
    return "–" if cell is None or cell["gain_share"] is None else f"{cell['gain_share']:.2f}"
