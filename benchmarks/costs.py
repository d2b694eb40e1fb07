"""What the main method costs: adapting, memory over steps, time over tasks, a full training."""

from __future__ import annotations

import os
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import equinox as eqx
import numpy as np

import dmcm
from benchmarks.chunks import chunk_runner
from benchmarks.latency import WARM_UP, call_milliseconds
from dmcm.fit_config import FitConfig
from dmcm.sinusoid.family import SinusoidSampler
from dmcm.sinusoid.methods import build_method
from dmcm.sinusoid.single import SingleConfig, train
from dmcm.training import fit

METHOD = "dmcm"
ADAPTER_STEPS = 2_000
"""Outer steps after which adapting settles as it does after a full training."""
MEMORY_MARKS = (1_000, 2_000, 4_000, 8_000)
TASK_GRIDS = ((6, 6), (8, 9), (12, 12), (16, 18), (24, 24), (32, 36))


def adapt_milliseconds(calls: int) -> dict[str, dict[str, float]]:
    """Latency of `adapt` to ten points, from NumPy arrays to contexts, including all checks and Python.

    Returns:
        Of a trained learner with the default solver, and with the one of the sinusoid table, which restarts
        from the mirrored contexts.
    """
    config = FitConfig(steps=ADAPTER_STEPS, chunk=500, optimiser="muon")
    trained = fit(build_method(METHOD, 0), SinusoidSampler(), config, progress=False).learner
    plain = eqx.tree_at(lambda learner: learner.solver, trained, dmcm.LevenbergMarquardt())

    def latency(learner: dmcm.Learner) -> dict[str, float]:
        rng = np.random.default_rng(0)
        points = (rng.uniform(-5, 5, (10, 1)) for _ in range(calls + WARM_UP))
        return call_milliseconds(
            lambda x, y: learner.adapt(x, y).values, ((x, 2.0 * np.sin(x - 1.0)) for x in points)
        )

    return {"adapt": latency(plain), "adapt_with_restarts": latency(trained)}


def memory_megabytes() -> dict[str, float]:
    """Resident memory of this process while one `fit` runs, at some numbers of outer steps."""
    chunk = 500
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        log, ended = Path(folder) / "metrics.jsonl", threading.Event()

        def watch() -> None:
            while not ended.wait(0.02):
                done = chunk * log.read_bytes().count(b"\n") if log.exists() else 0
                for mark in MEMORY_MARKS:
                    if done >= mark:
                        found.setdefault(str(mark), resident_megabytes())

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            config = FitConfig(steps=MEMORY_MARKS[-1] + chunk, chunk=chunk)
            fit(build_method(METHOD, 0), SinusoidSampler(), config, run_dir=folder, progress=False)
        finally:
            ended.set()
            watcher.join()
    return found


def resident_megabytes() -> float:
    """Memory this process holds now (Linux)."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def tasks_line(rounds: int) -> dict[str, Any]:
    """Milliseconds per outer step by tasks per batch, and the least-squares line through the medians."""
    runs = {}
    for rows, columns in TASK_GRIDS:
        steps = max(5, 3_600 // (rows * columns))
        config = FitConfig(steps=10**6, chunk=steps)
        run = chunk_runner(build_method(METHOD, 0), SinusoidSampler(rows, columns), config)
        run()  # compiles
        runs[rows * columns] = run, steps
    times: dict[int, list[float]] = {tasks: [] for tasks in runs}
    for _ in range(rounds):
        for tasks, (run, steps) in runs.items():
            began = time.perf_counter()
            run()
            times[tasks].append((time.perf_counter() - began) / steps * 1e3)
    tasks = np.asarray(list(times), float)
    medians = np.asarray([np.median(series) for series in times.values()])
    slope, intercept = np.polyfit(tasks, medians, 1)
    residual = medians - (slope * tasks + intercept)
    return {
        "milliseconds": {str(int(n)): float(ms) for n, ms in zip(tasks, medians, strict=True)},
        "per_task": float(slope),
        "fixed": float(intercept),
        "r2": float(1 - np.sum(residual**2) / np.sum((medians - medians.mean()) ** 2)),
    }


def training_seconds(steps: int) -> float:
    """Wall time of one full training of the main method, compilation, log and checkpoints included."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        train(SingleConfig(method=METHOD, steps=steps, out=Path(folder)))
        return time.perf_counter() - began
