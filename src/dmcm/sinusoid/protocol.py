"""The frozen protocol: test tasks of each split, few-shot and zero-shot errors."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np

from dmcm.contexts import Contexts, share
from dmcm.errors import ConfigError, unknown_name
from dmcm.learner import Learner
from dmcm.samples import Samples
from dmcm.sinusoid.family import AMPLITUDE, BLOCK, INPUT, PHASE, SHOTS
from dmcm.summaries import summarise_best, summarise_errors

SPLITS = ("seen", "unseen_pair", "range")
"""Outside the held-out block; inside it; beyond the training range of A or φ."""
RANGE = (7.0, 1.25 * np.pi)
"""How far the range split reaches in A and φ (rad)."""
TEST_SEED = 20_250_901
"""Seed of the test tasks. Nothing is tuned on them."""
VALIDATION_SEED = 7
"""Seed of the validation tasks, of the same distribution."""
TASKS = 2_000
"""Test tasks a split."""
GRID = 100
"""Evaluation points over the range of x."""


@dataclasses.dataclass(frozen=True)
class TestTasks:
    """Tasks of one split, each with support points and two donors.

    Attributes:
        amplitude: A, shape (tasks,).
        phase: φ in rad, shape (tasks,).
        support: points of the task itself.
        amplitude_donor: points of a task with the same A and another φ.
        phase_donor: points of a task with the same φ and another A.
        donor_phase: φ of the amplitude donor, shape (tasks,).
        donor_amplitude: A of the phase donor, shape (tasks,).
    """

    amplitude: np.ndarray
    phase: np.ndarray
    support: Samples
    amplitude_donor: Samples
    phase_donor: Samples
    donor_phase: np.ndarray
    donor_amplitude: np.ndarray

    def truth(self, which: str = "task") -> dict[str, Any]:
        """True values of the task, "amplitude_donor" or "phase_donor", as the oracle reads them."""
        amplitude = self.donor_amplitude if which == "phase_donor" else self.amplitude
        phase = self.donor_phase if which == "amplitude_donor" else self.phase
        return {
            "amplitude": jnp.asarray(amplitude[:, None], jnp.float32),
            "phase": jnp.asarray(phase[:, None], jnp.float32),
        }


def draw_tasks(split: str, *, seed: int = TEST_SEED, tasks: int = TASKS, shots: int = SHOTS) -> TestTasks:
    """Tasks of a split.

    Donors lie outside the block, and within the training range in the factor they do not provide.

    Raises:
        ConfigError: an unknown split.
    """
    if split not in SPLITS:
        raise ConfigError(unknown_name("split", split, SPLITS))
    rng = np.random.default_rng((seed, SPLITS.index(split)))
    high_amplitude, high_phase = RANGE if split == "range" else (AMPLITUDE[1], PHASE[1])
    amplitudes: list[float] = []
    phases: list[float] = []
    while len(amplitudes) < tasks:
        a, p = rng.uniform(AMPLITUDE[0], high_amplitude), rng.uniform(PHASE[0], high_phase)
        in_block = a > BLOCK[0] and p > BLOCK[1]
        fits = {
            "seen": not in_block,
            "unseen_pair": in_block,
            "range": a > AMPLITUDE[1] or p > PHASE[1],
        }[split]
        if fits:
            amplitudes.append(a)
            phases.append(p)
    amplitude, phase = np.asarray(amplitudes), np.asarray(phases)
    donor_phase = rng.uniform(PHASE[0], np.where(amplitude > BLOCK[0], BLOCK[1], PHASE[1]))
    donor_amplitude = rng.uniform(AMPLITUDE[0], np.where(phase > BLOCK[1], BLOCK[0], AMPLITUDE[1]))

    def points(a: np.ndarray, p: np.ndarray) -> Samples:
        x = rng.uniform(*INPUT, (tasks, shots))
        y = a[:, None] * np.sin(x - p[:, None])
        return Samples(
            jnp.asarray(x[..., None], jnp.float32),
            jnp.asarray(y[..., None], jnp.float32),
            jnp.ones((tasks, shots)),
        )

    return TestTasks(
        amplitude,
        phase,
        points(amplitude, phase),
        points(amplitude, donor_phase),
        points(donor_amplitude, phase),
        donor_phase,
        donor_amplitude,
    )


def grid() -> np.ndarray:
    """Evaluation inputs, shape (GRID, 1)."""
    return np.linspace(*INPUT, GRID)[:, None]


def task_errors(learner: Learner, contexts: Contexts, tasks: TestTasks) -> np.ndarray:
    """MSE of each task on the grid, in double precision, shape (tasks,)."""
    predicted = np.asarray(learner.predict(contexts, grid()), np.float64)[..., 0]
    truth = tasks.amplitude[:, None] * np.sin(grid()[:, 0][None] - tasks.phase[:, None])
    return np.mean((predicted - truth) ** 2, axis=1)


def has_both_factors(learner: Learner) -> bool:
    """Whether a model has a context for the amplitude and one for the phase."""
    return set(learner.factors) == {"amplitude", "phase"}


def few_shot_contexts(learner: Learner, tasks: TestTasks) -> Contexts:
    """Contexts from the tasks' own points."""
    return learner.adapt_samples(tasks.support, truth=truth_for(learner, tasks, "task"))


def zero_shot_contexts(learner: Learner, tasks: TestTasks) -> dict[str, Contexts]:
    """Contexts without any point of the tasks, by the way they were put together.

    A model with both factors has one way, "shared". A single vector cannot be taken apart, so it gets
    three chances: either donor's vector, or their mean.
    """
    from_amplitude = learner.adapt_samples(
        tasks.amplitude_donor, truth=truth_for(learner, tasks, "amplitude_donor")
    )
    from_phase = learner.adapt_samples(tasks.phase_donor, truth=truth_for(learner, tasks, "phase_donor"))
    if has_both_factors(learner):
        return {"shared": share(amplitude=from_amplitude, phase=from_phase)}
    mean = {name: (from_amplitude[name] + from_phase[name]) / 2 for name in learner.factors}
    return {
        "amplitude_donor": from_amplitude,
        "phase_donor": from_phase,
        "mean": Contexts(mean, from_amplitude.model),
    }


def evaluate(
    learner: Learner, *, seed: int = TEST_SEED, tasks: int = TASKS
) -> dict[str, dict[str, dict[str, Any]]]:
    """Mean and median MSE per split, few-shot and zero-shot.

    For a single-context model, the zero-shot figure is the best of its three ways (see
    `zero_shot_contexts`), named under "way".
    """
    few: dict[str, dict[str, Any]] = {}
    zero: dict[str, dict[str, Any]] = {}
    for split in SPLITS:
        drawn = draw_tasks(split, seed=seed, tasks=tasks)
        few[split] = summarise_errors(task_errors(learner, few_shot_contexts(learner, drawn), drawn))
        zero[split] = summarise_best(
            {
                way: task_errors(learner, contexts, drawn)
                for way, contexts in zero_shot_contexts(learner, drawn).items()
            }
        )
    return {"few_shot": few, "zero_shot": zero}


def truth_for(learner: Learner, tasks: TestTasks, which: str) -> dict[str, Any] | None:
    """True factor values of the tasks or their donors, for a model that reads them; None for all others."""
    return None if learner.solver.needs_data() else tasks.truth(which)
