"""A robot's vector from its log, how certain it is, and how much it helps."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np

from dmcm.certainty import LEAST_BLOCKS
from dmcm.contexts import Contexts
from dmcm.errors import DataError
from dmcm.quadruped.body.properties import draw_robots, nominal
from dmcm.quadruped.body.robot_table import RobotTable
from dmcm.quadruped.conditioned.logs import SECONDS, log_samples
from dmcm.quadruped.data.recording import delayed
from dmcm.quadruped.data.windows import Windows, cut, output
from dmcm.quadruped.dynamics.base import base_errors
from dmcm.quadruped.dynamics.cells import LEAST_SAMPLES, ROBOT, TERRAIN
from dmcm.quadruped.dynamics.log_fit import BELIEVED, DELAYS, near_fit
from dmcm.quadruped.dynamics.measured import (
    BLOCK_S,
    Fit,
    fit_measured,
    measured_outputs,
    next_steps,
    stretches,
)
from dmcm.quadruped.dynamics.model import DynamicsModel
from dmcm.quadruped.logs.log import RobotLog
from dmcm.quadruped.logs.rows import Rows
from dmcm.quadruped.walking.policy import Policy
from dmcm.quadruped.world.simulation import CONTROL_PERIOD_S
from dmcm.quadruped.world.terrain import Terrain
from dmcm.summaries import student_95

REFERENCE_ROBOTS = 16
"""Number of simulated training robots whose vectors show how much robots differ."""
BETWEEN_LOGS = 1.4
"""Factor by which logs of a robot differ more than stretches within one log suggest, because their commands
differ. Chosen so that 95 % of the differences between two logs of 30 simulated robots lie in their
intervals."""
_FAR = 4.0
"""Standard deviations from the middle of the reference robots beyond which a robot is unlike any of them."""
_MOST_STANDING = 0.5
"""Share of a log above which a robot that stands still leaves its vector open."""


@dataclasses.dataclass(frozen=True, eq=False)
class Reference:
    """What simulation says about a ground: its vector, and vectors of robots on it."""

    ground: Terrain
    """Which."""
    terrain: np.ndarray
    """Vector of the ground, from a log of the nominal robot there, shape (size,)."""
    robots: np.ndarray
    """Vectors of training robots, adapted like that of a log, shape (robots, size)."""
    samples: int
    """Samples that the ground's vector was fitted to."""


@dataclasses.dataclass(frozen=True, eq=False)
class RobotFit:
    """A robot's vector and the evidence for it."""

    contexts: Contexts
    """The robot's vector, and the ground's vector that was held."""
    half_width: np.ndarray
    """Half of the 95 % interval of each number, shape (size,). Between two logs of a robot, a number differs
    by less than the root of the sum of both squared half-widths, 95 times in 100. It does not say how wrong
    the model is about this robot."""
    spread: np.ndarray
    """Standard deviation of each number between training robots, shape (size,)."""
    samples: int
    """Samples that it was fitted to."""
    delay_steps: int
    """Control steps by which the robot's joint targets act late, judged by its torques; 0 without torques.
    The vector itself only covers delays of less than a step."""
    outputs: tuple[str, ...]
    """Outputs that it was fitted to: those of the next step."""
    errors: Mapping[str, tuple[float, float]]
    """Root mean squared error of each measured output in seconds that the vector was not fitted to, in
    standard deviations of the output: without a robot vector, and with the one fitted to the other
    seconds."""
    warnings: tuple[str, ...]
    """Reasons not to trust it."""


def make_reference(
    model: DynamicsModel,
    policy: Policy,
    table: RobotTable,
    ground: Terrain,
    outputs: tuple[str, ...],
    *,
    seed: int = 0,
) -> Reference:
    """Simulate the nominal robot and training robots on a ground, and adapt to them.

    Args:
        model: makes the vectors.
        policy: the one that collected the training data.
        table: the robot's facts.
        ground: where.
        outputs: those that were measured; robots are adapted to those of the next step.
        seed: for bodies, commands and starts.

    Raises:
        DataError: the nominal robot, or all but one of the training robots, kept falling.
    """
    robots = [nominal(table), *draw_robots(np.random.default_rng([seed, 3]), REFERENCE_ROBOTS)]
    windows = log_samples(policy, table, robots, [ground] * len(robots), seed=(seed, 4))
    wrong = base_errors(windows, model.base)
    enough = windows.count[:, 0] >= LEAST_SAMPLES
    if not enough[0]:
        raise DataError(f"the nominal robot cannot walk on {ground.label}, so this ground has no vector.")
    if enough.sum() < 3:
        raise DataError(
            f"of {REFERENCE_ROBOTS} training robots too few can walk on {ground.label} to tell how much "
            "robots differ there. Record on easier ground."
        )
    near = next_steps(outputs)
    x, y, _ = _part(windows, wrong, 0, 0)
    terrain = model.learner.adapt(x, y)[TERRAIN]
    found = [
        fit_measured(model.learner, *_part(windows, wrong, row, 0), near, given={TERRAIN: terrain})
        for row in np.flatnonzero(enough[1:]) + 1
    ]
    vectors = np.array([np.asarray(fit.contexts[ROBOT]) for fit in found])
    return Reference(ground, np.asarray(terrain), vectors, len(x))


def check_length(model: DynamicsModel, log: RobotLog) -> None:
    """Raise `DataError` for a log of too few samples to adapt to, or to estimate how certain a vector is."""
    windows = cut(log.data[None], model.windows, parts=1)
    count = int(windows.count[0, 0])
    if count < LEAST_SAMPLES:
        raise DataError(
            f"{log.source} gives {count} samples; at least {LEAST_SAMPLES} are needed. A sample takes "
            f"{model.windows.history + round(1 / CONTROL_PERIOD_S)} control steps without a gap: record "
            f"{SECONDS:g} s of walking in one go."
        )
    if len(np.unique(stretches(windows.step[0, 0, :count]))) < LEAST_BLOCKS:
        raise DataError(
            f"{log.source} gives samples of less than {LEAST_BLOCKS * BLOCK_S:g} s, too few to tell how "
            f"certain a vector is: record {SECONDS:g} s of walking in one go."
        )


def fit_robot(model: DynamicsModel, log: RobotLog, reference: Reference) -> RobotFit:
    """A robot's vector from its log on a known ground.

    Args:
        model: makes the vector.
        log: of the robot, walking by the training policy or a similar one.
        reference: of the ground, for the log's outputs.

    Raises:
        DataError: too little data.
    """
    check_length(model, log)
    outputs = measured_outputs(log.measured)
    given = {TERRAIN: reference.terrain}
    near, data, delay_steps, torque_error = next_steps(outputs), log.data[None], 0, 0.0
    if "torque_nm" in near:
        found = near_fit(model, data, outputs=near, given=given)
        delay_steps, torque_error = int(found.delay_steps[0]), float(found.error[0])
        data = delayed(data, delay_steps)
    windows = cut(data, model.windows, parts=1)
    count = int(windows.count[0, 0])
    wrong = base_errors(windows, model.base)
    x, left, step = _part(windows, wrong, 0, 0)
    fit = fit_measured(model.learner, x, left, step, near, given=given)
    half_width = interval(fit.deviations[ROBOT], windows.step[0, 0, :count])
    errors = _held_out(model, data, outputs, given)
    spread = reference.robots.std(axis=0, ddof=1)
    warnings = _warnings(fit, half_width, reference, spread, errors)
    standing = 1.0 - float(Rows(log.data).moving.mean())
    if standing > _MOST_STANDING:
        warnings = (
            f"the data do not determine the robot: it stood still for {standing:.0%} of the log. A standing "
            "robot does not show its gains, however certain the numbers look. Record 20 s of walking.",
            *warnings,
        )
    if "torque_nm" not in near:
        warnings += (
            "the log has no torques, so a robot that acts late looks like a soft one: do not match targets "
            "to the vector, or record torques.",
        )
    if torque_error > BELIEVED:
        warnings += (
            f"the vector leaves an error of {torque_error:.2f} standard deviations in the next torques; "
            "those of training robots leave at most 0.16. Something about this robot is beyond any vector, "
            f"such as joint targets that act more than {max(DELAYS) + 1} control steps late: do not match "
            "targets to it.",
        )
    return RobotFit(fit.contexts, half_width, spread, count, delay_steps, near, errors, warnings)


def interval(deviations: np.ndarray, step: np.ndarray) -> np.ndarray:
    """Half of the 95 % interval of a vector's numbers; see `RobotFit.half_width`.

    Args:
        deviations: standard deviation of each number by the scatter over stretches of the log, shape (size,).
        step: control steps of the samples, shape (n,).
    """
    return BETWEEN_LOGS * student_95(len(np.unique(stretches(step)))) * deviations


def _held_out(
    model: DynamicsModel, data: np.ndarray, outputs: tuple[str, ...], given: Mapping[str, np.ndarray]
) -> dict[str, tuple[float, float]]:
    """Errors in each half of the log with vectors of the other, averaged; empty for short logs."""
    windows = cut(data, model.windows)
    if windows.count.min() < LEAST_SAMPLES:
        return {}
    wrong = base_errors(windows, model.base)
    learner = model.learner
    scale = np.ones(wrong.shape[-1]) if learner.scaler is None else np.asarray(learner.scaler.y_std)
    held = {name: jnp.asarray(value) for name, value in given.items()}
    unknown = Contexts({**learner.prior_contexts().values, **held}, learner.fingerprint())
    squares: dict[str, list[list[float]]] = {name: [] for name in outputs}
    for half in (0, 1):
        try:
            fit = fit_measured(learner, *_part(windows, wrong, 0, 1 - half), next_steps(outputs), given=given)
        except DataError:
            return {}
        x, y, _ = _part(windows, wrong, 0, half)
        left = [(y - np.asarray(learner.predict(c, x))) / scale for c in (unknown, fit.contexts)]
        for name in outputs:
            squares[name].append([float(np.mean(e[:, output(name)] ** 2)) for e in left])
    found = {name: np.sqrt(np.mean(values, axis=0)).tolist() for name, values in squares.items()}
    return {name: (before, after) for name, (before, after) in found.items()}


def _warnings(
    fit: Fit,
    half_width: np.ndarray,
    reference: Reference,
    spread: np.ndarray,
    errors: Mapping[str, tuple[float, float]],
) -> tuple[str, ...]:
    found = []
    # By the scatter within this log alone, as is usual for the certainty of a fit.
    open_numbers = int(np.sum(half_width > BETWEEN_LOGS * spread))
    if open_numbers:
        found.append(
            f"the data do not determine the robot: {open_numbers} of {len(spread)} numbers are as uncertain "
            "as robots differ. Record 20 s of walking, with turns and changes of speed."
        )
    if not errors:
        found.append("the log is too short to test the vector on seconds that it was not fitted to.")
    elif np.mean([after for _, after in errors.values()]) >= np.mean([b for b, _ in errors.values()]):
        found.append(
            "the vector does not improve predictions of seconds that it was not fitted to: it does not "
            "describe this robot alone, or the robot changed during the log."
        )
    away = (np.asarray(fit.contexts[ROBOT]) - reference.robots.mean(axis=0)) / spread
    if np.abs(away).max() > _FAR:
        found.append(
            f"the robot is unlike any in training: {np.abs(away).max():.1f} standard deviations from their "
            "mean. Policies that read vectors clip them to their range in training; gains estimated from "
            "this vector may be far off."
        )
    return tuple(found)


def _part(
    windows: Windows, wrong: np.ndarray, cell: int | np.integer, part: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Inputs, what the base network got wrong, and control steps of the samples of a part of a recording."""
    count = windows.count[cell, part]
    return (
        windows.x[cell, part, :count],
        wrong[cell, part, :count],
        windows.step[cell, part, :count],
    )
