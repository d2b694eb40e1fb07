"""The pendulum protocol: test tasks of each split, few-shot and zero-shot errors, probes."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np

from dmcm.contexts import Contexts, share
from dmcm.errors import ConfigError, unknown_name
from dmcm.learner import Learner
from dmcm.metrics import probe_parts
from dmcm.pendulum.family import BLOCK, POINTS, RANGES, SHOTS, STEP, in_block, times, trajectories
from dmcm.samples import Samples
from dmcm.summaries import summarise_best, summarise_errors

SPLITS = ("seen", "unseen_combination")
"""Outside the held-out block, and inside it."""
TEST_SEED = 20_250_901
"""Seed of the test tasks. Nothing is tuned on them."""
VALIDATION_SEED = 7
"""Seed of the validation tasks, of the same distribution."""
TASKS = 1_000
"""Test tasks a split."""
PROBED = 500
"""Most test tasks that probes use."""


@dataclasses.dataclass(frozen=True)
class TestTasks:
    """Tasks of one split, each with support points and a donor per factor.

    Attributes:
        values: true value of each factor, shape (tasks,).
        support: points of the task itself.
        donors: per factor, points of a task that shares only this factor's value.
        angles: the true trajectory, rad, shape (tasks, POINTS).
    """

    values: dict[str, np.ndarray]
    support: Samples
    donors: dict[str, Samples]
    angles: np.ndarray


def draw_tasks(split: str, *, seed: int = TEST_SEED, tasks: int = TASKS, shots: int = SHOTS) -> TestTasks:
    """Tasks of a split. Donors lie outside the block and inside the training ranges.

    Raises:
        ConfigError: an unknown split.
    """
    if split not in SPLITS:
        raise ConfigError(unknown_name("split", split, SPLITS))
    rng = np.random.default_rng((seed, SPLITS.index(split)))
    values = _draw_values(rng, tasks, split == "unseen_combination", {})
    donors = {
        name: _draw_points(rng, _draw_values(rng, tasks, False, {name: own}), shots)[0]
        for name, own in values.items()
    }
    support, angles = _draw_points(rng, values, shots)
    return TestTasks(values, support, donors, angles)


def task_errors(learner: Learner, contexts: Contexts, tasks: TestTasks) -> np.ndarray:
    """MSE of each task over the whole trajectory, rad², in double precision, shape (tasks,)."""
    predicted = np.asarray(learner.predict(contexts, times()), np.float64)[..., 0]
    return np.mean((predicted - tasks.angles) ** 2, axis=1)


def zero_shot_contexts(learner: Learner, tasks: TestTasks) -> dict[str, Contexts]:
    """Contexts without any point of the tasks, by the way they were put together.

    A model with all factors has one way, "shared". A single vector cannot be taken apart, so it gets one
    chance with each donor's vector, and one with their mean.
    """
    adapted = {name: learner.adapt_samples(points) for name, points in tasks.donors.items()}
    if set(learner.factors) == set(RANGES):
        return {"shared": share(**adapted)}
    parts = list(adapted.values())
    mean = {name: jnp.mean(jnp.stack([part[name] for part in parts]), axis=0) for name in learner.factors}
    return {**adapted, "mean": Contexts(mean, parts[0].model)}


def evaluate(learner: Learner, *, seed: int = TEST_SEED, tasks: int = TASKS) -> dict[str, Any]:
    """Errors per split, few-shot and zero-shot, and what each context reveals about each factor.

    Returns:
        "few_shot" and "zero_shot", with mean, median and largest MSE per split; for a single-context
        model, the zero-shot figure is the best of its ways, named under "way". "probes", R² of each
        factor from each context over the whole space of factors, with negative values as 0.
    """
    few: dict[str, Any] = {}
    zero: dict[str, Any] = {}
    drawn = {split: draw_tasks(split, seed=seed, tasks=tasks) for split in SPLITS}
    contexts = {split: learner.adapt_samples(part.support) for split, part in drawn.items()}
    for split, part in drawn.items():
        few[split] = summarise_errors(task_errors(learner, contexts[split], part))
        zero[split] = summarise_best(
            {
                way: task_errors(learner, mixed, part)
                for way, mixed in zero_shot_contexts(learner, part).items()
            }
        )
    # Include the block in proportion to its share; see `probe_parts`.
    volume = np.prod([(RANGES[n][1] - low) / (RANGES[n][1] - RANGES[n][0]) for n, low in BLOCK.items()])
    probed = min(tasks, PROBED)
    inside = round(probed * float(volume))
    counts = {"seen": probed - inside, "unseen_combination": inside}
    probes = probe_parts([(counts[split], contexts[split], drawn[split].values) for split in SPLITS])
    return {"few_shot": few, "zero_shot": zero, "probes": probes}


def _draw_values(
    rng: np.random.Generator, tasks: int, inside: bool, given: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Factor values inside or outside the block; given ones are kept."""
    drawn = {name: np.empty(tasks) for name in RANGES} | given
    todo = np.arange(tasks)
    while todo.size:
        for name, (low, high) in RANGES.items():
            if name not in given:
                drawn[name][todo] = rng.uniform(low, high, todo.size)
        todo = todo[np.asarray(in_block(drawn))[todo] != inside]
    return drawn


def _draw_points(
    rng: np.random.Generator, values: dict[str, np.ndarray], shots: int
) -> tuple[Samples, np.ndarray]:
    """Random points of each task's trajectory, and the whole trajectory."""
    angles = np.asarray(trajectories(**{k: jnp.asarray(v, jnp.float32) for k, v in values.items()}))
    point = rng.integers(POINTS, size=(len(angles), shots))
    x, y = STEP * point, np.take_along_axis(angles, point, axis=1)
    samples = Samples(
        jnp.asarray(x[..., None], jnp.float32), jnp.asarray(y[..., None]), jnp.ones(point.shape)
    )
    return samples, angles.astype(np.float64)
