"""The streaming filter on the dynamics model that comes with the package: latency, coverage, agreement.

    python -m benchmarks.streaming

Tasks are drawn from the model itself: contexts from the prior, inputs as spread as in training, and noise of
the size of one standard deviation of the outputs. So coverage tests the filter's linearisation, not whether
the model is wrong.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from benchmarks.latency import WARM_UP, call_milliseconds
from dmcm.contexts import Contexts
from dmcm.learner import Learner
from dmcm.models import load_learner
from dmcm.quadruped.dynamics.model import MODEL
from dmcm.runs import environment
from dmcm.storage import write_json
from dmcm.streaming import ContextFilter

RESULTS = Path("results/streaming.json")
TASKS, SAMPLES = 200, 250  # twenty seconds of a robot
CALLS = 1_000


def sample_milliseconds(own: ContextFilter, x: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """From the arrays of one sample to the state after it, including all checks and Python."""
    state = own.start()
    rows = (call % len(x) for call in range(CALLS + WARM_UP))
    return call_milliseconds(lambda u, v: own.update(state, u, v).mean, ((x[row], y[row]) for row in rows))


def drawn(learner: Learner, own: ContextFilter, noise: np.ndarray, seed: int) -> tuple[Any, Any, Any]:
    """One task's contexts, inputs and outputs."""
    rng = np.random.default_rng(seed)
    start = own.start()
    spread = np.linalg.inv(np.linalg.cholesky(np.asarray(start.information, float))).T
    flat = np.asarray(start.mean) + spread @ rng.normal(size=start.mean.size)
    moved = own.named(jnp.asarray(flat, jnp.float32))
    contexts = {**own.held, **moved}
    assert learner.scaler is not None
    scale = learner.scaler
    x = np.asarray(scale.x_mean + scale.x_std * rng.normal(size=(SAMPLES, learner.inputs)), np.float32)
    y = np.asarray(learner.predict(Contexts(contexts), x)) + noise * rng.normal(size=(SAMPLES, noise.size))
    return moved, x, y.astype(np.float32)


def judged(learner: Learner, own: ContextFilter, noise: np.ndarray) -> dict[str, float]:
    """Over tasks: share of true numbers in their 95 % intervals, and the distance from the batch solution."""
    inside, apart, wrong, batch_wrong = [], [], [], []
    for task in range(TASKS):
        moved, x, y = drawn(learner, own, noise, task)
        state = own.update_many(own.start(), x, y)
        found, deviations = own.contexts(state), own.deviations(state)
        batch = learner.adapt(x, y, only=list(moved), given=own.held or None)
        for name, truth in moved.items():
            deviation = np.asarray(deviations[name])
            inside.append(np.abs(np.asarray(found[name]) - truth) < 1.96 * deviation)
            apart.append(np.abs(np.asarray(found[name] - batch[name])) / deviation)
            wrong.append((np.asarray(found[name]) - truth) ** 2)
            batch_wrong.append((np.asarray(batch[name]) - truth) ** 2)
    stacked = [np.concatenate(values) for values in (inside, apart, wrong, batch_wrong)]
    return {
        "coverage_of_95_percent": float(stacked[0].mean()),
        "median_distance_from_batch_in_deviations": float(np.median(stacked[1])),
        "rms_error": float(np.sqrt(stacked[2].mean())),
        "rms_error_of_batch": float(np.sqrt(stacked[3].mean())),
        "tasks": TASKS,
        "samples": SAMPLES,
    }


def main() -> None:
    """Measure everything and write it."""
    learner = load_learner(MODEL)
    assert learner.scaler is not None
    noise = np.asarray(learner.scaler.y_std, float)
    ground = {"terrain": learner.prior_contexts()["terrain"]}
    filters = {
        "robot": ContextFilter(learner, noise=noise, samples=SAMPLES, given=ground),
        "robot and terrain": ContextFilter(learner, noise=noise, samples=SAMPLES),
    }
    _, x, y = drawn(learner, filters["robot and terrain"], noise, 0)
    found = {
        "ms_per_sample": {name: sample_milliseconds(own, x, y) for name, own in filters.items()},
        "accuracy": {name: judged(learner, own, noise) for name, own in filters.items()},
        "command": "python -m benchmarks.streaming",
        "environment": environment(),
    }
    write_json(RESULTS, found)
    for name in filters:
        print(name, found["ms_per_sample"][name], found["accuracy"][name])


if __name__ == "__main__":
    main()
