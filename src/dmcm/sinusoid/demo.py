"""The demo: DMCM and a single-context control, trained in the same way, mix two situations into a third."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

from dmcm.errors import StorageError
from dmcm.run_config import open_run
from dmcm.sinusoid.page import CONTROL
from dmcm.sinusoid.single import SingleConfig


@dataclasses.dataclass(frozen=True)
class DemoConfig:
    """Train DMCM and a control on sinusoids, mix contexts of two tasks, then do the same for a robot."""

    out: Path = Path("runs/demo")
    """Run folder. A finished demo with the same settings is shown again without training; if the folder holds
    anything else, the first free one of runs/demo-2, runs/demo-3, … is used."""
    steps: int = 20_000
    """Outer steps of each of the two trainings."""
    seed: int = 0
    """Seed of initial weights and training batches."""

    def run(self, folder: Path) -> SingleConfig:
        """The training of DMCM; if interrupted, it resumes where it stopped."""
        return SingleConfig("dmcm", self.seed, self.steps, folder, resume=True)

    def control(self, folder: Path) -> SingleConfig:
        """The training of the control: one context for both factors, everything else equal."""
        return SingleConfig("cavia", self.seed, self.steps, folder / CONTROL, resume=True)


def choose_folder(config: DemoConfig) -> Path:
    """The first folder of `out`, `out-2`, … that is free or holds a demo with the same settings."""
    # A path such as "." has no name to append a number to.
    first = config.out if config.out.name else config.out.resolve()
    numbered = (first.with_name(f"{first.name}-{number}") for number in itertools.count(2))
    return next(folder for folder in itertools.chain([config.out], numbered) if _usable(config, folder))


def _usable(config: DemoConfig, folder: Path) -> bool:
    if not folder.exists():
        return True
    if not folder.is_dir():
        return False
    try:
        return open_run(folder)[1] == config.run(folder).about()
    except StorageError:
        return not any(folder.iterdir())
