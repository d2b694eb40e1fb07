"""Study of how large a context must be: the method at several context sizes per factor."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from rich.console import Console

from dmcm.commands import command_of
from dmcm.errors import ConfigError
from dmcm.results import earlier_table, with_earlier
from dmcm.runs import environment
from dmcm.sinusoid import protocol
from dmcm.sinusoid.family import SinusoidSampler
from dmcm.sinusoid.methods import method_named
from dmcm.storage import write_json
from dmcm.studies import run_cell
from dmcm.summaries import summarise_cells


@dataclasses.dataclass(frozen=True)
class SizesConfig:
    """Study how large a context must be."""

    sizes: tuple[int, ...] = (1, 2, 3, 4, 6)
    """Context sizes, the same for both factors."""
    method: str = "dmcm"
    """Method to vary; it needs a context per factor."""
    seeds: int = 3
    """Seeds 0, 1, … of initial weights and training batches."""
    steps: int = 30_000
    """Outer steps a seed."""
    optimiser: str = "muon"
    """Optimiser of the outer loop: muon or adam."""
    out: Path = Path("runs/sizes")
    """Folder with a run folder per size and seed; finished ones are not run again."""
    results: Path | None = None
    """File for the table, e.g. results/sizes.json."""
    test_seed: int = protocol.TEST_SEED
    """Seed of the test tasks; use another one (7) while tuning."""

    def check(self) -> None:
        """Raise `ConfigError` for an unknown method or settings out of range."""
        if self.seeds < 1 or self.steps < 1:
            raise ConfigError(f"seeds={self.seeds} and steps={self.steps} must be at least 1.")
        if not self.sizes or min(self.sizes) < 1 or len(set(self.sizes)) < len(self.sizes):
            raise ConfigError(f"sizes={self.sizes}: give different whole numbers of at least 1.")
        if len(method_named(self.method, self.optimiser).factors) < 2:
            raise ConfigError(f"method '{self.method}' has no context per factor whose size could be varied.")


def context_size_study(config: SizesConfig, *, progress: bool = True) -> dict[str, Any]:
    """Train and measure each size and seed; returns the table in the layout of results/sizes.json.

    Can be stopped and started again at any time.

    Raises:
        DmcmError: settings out of range, or as for `fit`.
    """
    config.check()
    setting = {
        "study": "error by context size per factor",
        "method": config.method,
        "seeds": config.seeds,
        "training_steps": config.steps,
        "optimiser": config.optimiser,
        "test_seed": config.test_seed,
    }
    earlier = earlier_table(config.results, setting)
    console = Console(stderr=True, quiet=not progress)
    base = method_named(config.method, config.optimiser)
    table: dict[str, Any] = {}
    for size in config.sizes:
        method = dataclasses.replace(base, factors=dict.fromkeys(base.factors, size))
        cells = []
        for seed in range(config.seeds):
            console.print(f"[bold]{config.method}[/bold], size {size}, seed {seed}")
            cell = run_cell(
                method,
                seed,
                SinusoidSampler(),
                config.out / f"size-{size}" / f"seed-{seed}",
                lambda learner: {"measures": protocol.evaluate(learner, seed=config.test_seed)},
                steps=config.steps,
                about=["sizes", config.test_seed],
                progress=progress,
            )
            cells.append(cell)
        table[str(size)] = {
            "weights": cells[0]["weights"],
            "training_seconds": sorted(cell["training_seconds"] for cell in cells)[len(cells) // 2],
            **summarise_cells([cell["measures"] for cell in cells]),
        }
    results = {
        **setting,
        "command": command_of("sinusoid sizes", config),
        "environment": environment(),
        "sizes": table,
    }
    results = with_earlier(results, earlier, parts=("sizes",))
    if config.results is not None:
        write_json(config.results, results)
    return results
