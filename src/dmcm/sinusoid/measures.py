"""What the contexts of a trained model carry on sinusoids, and how its error falls with more shots."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np

from dmcm import metrics
from dmcm.learner import Learner
from dmcm.samples import Samples
from dmcm.sinusoid.family import AMPLITUDE, BLOCK, PHASE
from dmcm.sinusoid.protocol import (
    VALIDATION_SEED,
    draw_tasks,
    few_shot_contexts,
    grid,
    has_both_factors,
    task_errors,
    truth_for,
)
from dmcm.summaries import summarise_errors

SHOTS = (1, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 50)
"""Numbers of support points in the shots curve."""
TASKS = 500
"""Tasks of each split that the measures use."""


def all_measures(learner: Learner, *, seed: int = VALIDATION_SEED, tasks: int = TASKS) -> dict[str, Any]:
    """Every measure of this module, as JSON values.

    Returns:
        "probes" and "shots" for every model; "swap" and "clamp" for those with both factors.
    """
    measured: dict[str, Any] = {
        "probes": probe_table(learner, seed=seed, tasks=tasks),
        "shots": shots_curve(learner, seed=seed, tasks=tasks),
    }
    if has_both_factors(learner):
        measured["swap"] = swap_test(learner, seed=seed, tasks=tasks)
        measured["clamp"] = clamp_test(learner, seed=seed, tasks=tasks)
    return measured


def read_curve(y: np.ndarray) -> dict[str, np.ndarray]:
    """Amplitude and phase (rad) of the sinusoid closest to each curve, by linear least squares.

    A·sin(x − φ) = a·sin x + b·cos x with a = A cos φ and b = −A sin φ.

    Args:
        y: curves on the evaluation grid, shape (tasks, GRID).
    """
    x = grid()[:, 0]
    basis = np.stack([np.sin(x), np.cos(x)], axis=1)
    a, b = np.linalg.lstsq(basis, np.asarray(y, np.float64).T, rcond=None)[0]
    return {"amplitude": np.hypot(a, b), "phase": np.arctan2(-b, a)}


def angle_between(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Signed difference of angles in rad, in [−π, π)."""
    return (first - second + np.pi) % (2 * np.pi) - np.pi


def swap_test(
    learner: Learner, *, seed: int = VALIDATION_SEED, tasks: int = TASKS
) -> dict[str, dict[str, dict[str, float]]]:
    """Amplitude and phase read off predictions with one factor's context taken from another task.

    See `dmcm.metrics.swap_test` for the figures. Tasks are outside the held-out block, like all donors
    of the protocol; their mixtures may lie inside it.

    Raises:
        FactorError: the model does not have both factors.
    """
    learner.factors.check(("amplitude", "phase"))
    drawn = draw_tasks("seen", seed=seed, tasks=tasks)
    return metrics.swap_test(
        few_shot_contexts(learner, drawn),
        np.roll(np.arange(tasks), 1),
        lambda contexts: read_curve(np.asarray(learner.predict(contexts, grid()))[..., 0]),
        {"amplitude": drawn.amplitude, "phase": drawn.phase},
        differences={"phase": angle_between},
    )


def probe_table(
    learner: Learner, *, seed: int = VALIDATION_SEED, tasks: int = TASKS
) -> dict[str, dict[str, float]]:
    """R² of A and φ read off each context, on tasks with the held-out block at its share of the plane.

    Returns:
        `{context: {"amplitude": R², "phase": R²}}`, see `dmcm.metrics.probe_parts`.
    """
    share = (AMPLITUDE[1] - BLOCK[0]) / (AMPLITUDE[1] - AMPLITUDE[0])
    share *= (PHASE[1] - BLOCK[1]) / (PHASE[1] - PHASE[0])
    inside = round(tasks * share)
    counts = {"seen": tasks - inside, "unseen_pair": inside}
    # As many tasks as everywhere else are drawn, so that adaptation is not compiled again.
    drawn = {split: draw_tasks(split, seed=seed, tasks=tasks) for split in counts}
    truth = {split: {"amplitude": part.amplitude, "phase": part.phase} for split, part in drawn.items()}
    return metrics.probe_parts(
        [(counts[split], few_shot_contexts(learner, part), truth[split]) for split, part in drawn.items()]
    )


def clamp_test(
    learner: Learner, *, seed: int = VALIDATION_SEED, tasks: int = TASKS
) -> dict[str, float | dict[str, float]]:
    """Mean squared error on seen tasks with one factor's context at the prior mean.

    See `dmcm.metrics.clamp_test` for the figures.
    """
    drawn = draw_tasks("seen", seed=seed, tasks=tasks)
    return metrics.clamp_test(
        learner,
        drawn.support,
        lambda contexts: task_errors(learner, contexts, drawn),
        truth=truth_for(learner, drawn, "task"),
    )


def shots_curve(
    learner: Learner,
    *,
    seed: int = VALIDATION_SEED,
    tasks: int = TASKS,
    shots: tuple[int, ...] = SHOTS,
) -> dict[str, dict[str, dict[str, float]]]:
    """Few-shot error on seen tasks and unseen pairs by the number of support points.

    Each task's points are the first of one long draw, so that the whole curve uses the same tasks.

    Returns:
        `{split: {shots: {"mean": …, "median": …, "max": …}}}`.
    """
    curve: dict[str, dict[str, dict[str, float]]] = {}
    for split in ("seen", "unseen_pair"):
        drawn = draw_tasks(split, seed=seed, tasks=tasks, shots=max(shots))
        curve[split] = {}
        for count in shots:
            # Weights hide the other points, so shapes stay the same and one compilation suffices.
            weight = jnp.zeros_like(drawn.support.weight).at[:, :count].set(1.0)
            support = Samples(drawn.support.x, drawn.support.y, weight)
            few = dataclasses.replace(drawn, support=support)
            errors = task_errors(learner, few_shot_contexts(learner, few), few)
            curve[split][str(count)] = summarise_errors(errors)
    return curve
