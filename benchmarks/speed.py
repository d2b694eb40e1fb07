"""Speed against peers: `python -m benchmarks.speed` measures, shows and writes results/speed.json."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import os
import platform
import sys
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from benchmarks import costs, meta_step, products
from dmcm.runs import environment
from dmcm.storage import write_json

INNER_STEPS = (1, 3)
PEERS = ("python_loop", "torch_compile")
LEAST_RATIO = {"python_loop": 50.0, "torch_compile": 10.0}
MOST_ADAPT_MS, MOST_TRAINING_SECONDS = 1.0, 180.0


@dataclasses.dataclass(frozen=True)
class Options:
    """How long to measure, and where the figures go."""

    rounds: int = 15
    """Rounds in which all candidates take a turn; figures are medians over them."""
    seconds: float = 0.5
    """Length of a turn."""
    adapt_calls: int = 500
    """Calls of `adapt` that are timed."""
    training_steps: int = 30_000
    """Outer steps of the full training; 0 leaves it out."""
    out: Path = Path("results/speed.json")
    """The file to write."""


def measure_meta_steps(options: Options, console: Console) -> dict[str, Any]:
    """Ratios of time per meta-step, PyTorch over this library and over its matrix products alone.

    The fastest of a peer's numbers of threads counts, and the fastest way to make the products.
    """
    agreement = {str(steps): meta_step.check_agreement(steps) for steps in INNER_STEPS}
    console.print(
        f"all candidates compute the same; largest relative difference {max(agreement.values()):.1e}"
    )
    thread_counts = sorted({1, cores()})
    ours = {steps: meta_step.library_candidate(steps) for steps in INNER_STEPS}
    ways: dict[str, list[meta_step.Candidate]] = {}
    for steps in INNER_STEPS:
        ways[f"python_loop_{steps}"] = [meta_step.loop_candidate(steps, n) for n in thread_counts]
        ways[f"torch_compile_{steps}"] = [meta_step.compiled_candidate(steps, n) for n in thread_counts]
        ways[f"products_{steps}"] = [
            products.jax_products(steps),
            *(products.torch_products(steps, n) for n in thread_counts),
        ]
    candidates = [*ours.values(), *(candidate for some in ways.values() for candidate in some)]
    times = meta_step.time_rounds(candidates, rounds=options.rounds, seconds=options.seconds)
    median = {name: float(np.median(series)) for name, series in times.items()}
    fastest = {
        name: min((candidate.name for candidate in some), key=median.__getitem__)
        for name, some in ways.items()
    }
    ratio, spread, possible = {}, {}, {}
    for peer in PEERS:
        for steps in INNER_STEPS:
            name = f"{peer}_{steps}"
            theirs = np.asarray(times[fastest[name]])
            ratios = theirs / np.asarray(times[ours[steps].name])
            ratio[name] = float(np.median(ratios))
            spread[name] = [float(np.quantile(ratios, q)) for q in (0.25, 0.75)]
            possible[name] = float(np.median(theirs / np.asarray(times[fastest[f"products_{steps}"]])))
    return {
        "meta_step_ratio": ratio,
        "meta_step_ratio_quartiles": spread,
        "meta_step_ratio_of_products_alone": possible,
        "meta_step_ms": median,
        "meta_step_fastest": fastest,
        "meta_step_agreement": agreement,
    }


def measure(options: Options, console: Console) -> dict[str, Any]:
    """All figures. Comparisons come first, before the long training warms up the machine."""
    results: dict[str, Any] = {"conditions": conditions()}
    results |= measure_meta_steps(options, console)
    adapting = costs.adapt_milliseconds(options.adapt_calls)
    results |= {"adapt_ms": adapting["adapt"]["median"], **adapting}
    results["tasks_line"] = costs.tasks_line(options.rounds)
    results["memory_mb"] = costs.memory_megabytes()
    if options.training_steps:
        results["training_seconds"] = costs.training_seconds(options.training_steps)
        results["training_steps"] = options.training_steps
    results["command"] = " ".join(["python -m benchmarks.speed", *sys.argv[1:]])
    return results


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def conditions() -> dict[str, Any]:
    """Versions, processor and load, without which no time means anything."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    about = environment()
    return {
        "python": about["python"],
        "packages": about["packages"] | {"torch": importlib.metadata.version("torch")},
        "git": about["git"],
        "processor": models[0] if models else platform.processor(),
        "cores": cores(),
        "load_before": os.getloadavg()[0],
        "threads": "dmcm: JAX's default, all cores; PyTorch: 1 and all cores, the faster counts",
    }


def show(results: dict[str, Any], console: Console) -> None:
    """One line per target, then the figures behind them."""
    table = Table("what", "measured", "target", "reached")

    def row(what: str, measured: str, target: str, reached: bool) -> None:
        table.add_row(what, measured, target, "yes" if reached else "[bold]no[/bold]")

    for name, value in results["meta_step_ratio"].items():
        least = LEAST_RATIO[name.rsplit("_", 1)[0]]
        low, high = results["meta_step_ratio_quartiles"][name]
        row(
            f"meta-step, times faster than {name}",
            f"{value:.1f} ({low:.1f}–{high:.1f})",
            f"≥ {least:g}",
            value >= least,
        )
    adapt = results["adapt_ms"]
    row("adapt to 10 points, ms", f"{adapt:.2f}", f"≤ {MOST_ADAPT_MS:g}", adapt <= MOST_ADAPT_MS)
    if "training_seconds" in results:
        seconds = results["training_seconds"]
        row(
            "full training, s",
            f"{seconds:.0f}",
            f"≤ {MOST_TRAINING_SECONDS:g}",
            seconds <= MOST_TRAINING_SECONDS,
        )
    memory = list(results["memory_mb"].values())
    growth = memory[-1] / memory[0] - 1
    row(
        "memory, first to last mark",
        f"{memory[0]:.0f} → {memory[-1]:.0f} MB",
        "flat (within 2 %)",
        abs(growth) < 0.02,
    )
    line = results["tasks_line"]
    fit = f"{line['fixed']:.2f} + {line['per_task'] * 1e3:.1f}e-3 n ms, R² {line['r2']:.4f}"
    row("outer step of n tasks", fit, "linear (R² ≥ 0.99)", line["r2"] >= 0.99)
    console.print(table)
    console.print("ms per meta-step:", {name: round(ms, 3) for name, ms in results["meta_step_ms"].items()})
    console.print("ms per outer step by tasks:", {n: round(ms, 2) for n, ms in line["milliseconds"].items()})


def main(options: Options) -> None:
    """Measure, show and write."""
    console = Console()
    results = measure(options, console)
    show(results, console)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    write_json(options.out, results)
    console.print(f"written to {options.out}")


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
