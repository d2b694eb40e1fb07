"""`dmcm quadruped collect`: collect data from a grid of robots and grounds."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from dmcm.cli.show import say, show_path
from dmcm.quadruped.data.collection import collect
from dmcm.quadruped.data.grid import SPLITS
from dmcm.quadruped.data.shards import CollectConfig


@dataclasses.dataclass(frozen=True)
class CollectCommand(CollectConfig):
    """Collect data from a grid of robots and grounds, on this machine or a cluster."""

    out: Path = Path("runs/quadruped-data")
    """Folder for the data; an unfinished collection there is continued."""
    ray: str | None = None
    """Address of a Ray cluster to run on, or "auto" for the one available; default: this machine."""


CONFIG = CollectCommand
EXAMPLES = """
dmcm quadruped collect
dmcm quadruped collect --grid.robots 12 --grid.ood-robots 4 --seconds 20 --out runs/small
dmcm quadruped collect --ray auto
"""


def run(config: CollectCommand) -> None:
    """Collect, then summarise the data."""
    settings = {f.name: getattr(config, f.name) for f in dataclasses.fields(CollectConfig)}
    collection = collect(CollectConfig(**settings), config.out, ray_address=config.ray)
    for split in SPLITS:
        which = collection.cells_of(split)
        falls = float(np.sum(collection["falls"][which]))
        minutes = len(which) * config.seconds / 60
        say(
            f"{split.replace('_', ' ')}: {len(which)} cells, {minutes:.0f} min, "
            f"{falls / max(minutes, 1e-9):.2f} falls a minute"
        )
    show_path("data", config.out)
