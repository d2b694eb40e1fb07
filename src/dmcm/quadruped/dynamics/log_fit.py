"""Vectors of logs: from all outputs, or from next steps alone, which also show how late a robot acts."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping

import jax.numpy as jnp
import numpy as np

from dmcm.contexts import Contexts
from dmcm.quadruped.data.recording import delayed
from dmcm.quadruped.data.windows import STEP_OUTPUTS, Windows, cut, output
from dmcm.quadruped.dynamics.base import base_errors
from dmcm.quadruped.dynamics.cells import LEAST_SAMPLES
from dmcm.quadruped.dynamics.evaluation import adapt_cells
from dmcm.quadruped.dynamics.measured import filled, only_outputs
from dmcm.quadruped.dynamics.model import DynamicsModel

DELAYS = (0, 1)
"""Control steps by which a robot's joint targets may act late. Vectors cover delays within a step, as in
training; the log of a later robot is explained once its targets are moved by a whole step."""
BELIEVED = 0.7
"""Error of the next step's torques, in standard deviations, above which vectors are not trusted, at the delay
that explains the torques best. Training robots leave 0.13 to 0.16, soft, heavy or late ones up to 0.4, and
those that keep falling 0.6. With a delay a step off, the error would be 0.4 to 1.1, and the vectors would be
those of soft robots."""


@dataclasses.dataclass(frozen=True, eq=False)
class NearFit:
    """Vectors of logs, made from next steps alone.

    Attributes:
        vectors: per factor one row per log, shape (logs, size).
        error: root mean squared error of the next step's torques, in standard deviations, shape (logs,);
            infinite for logs without a sample.
        delay_steps: control steps by which joint targets act late, shape (logs,), one of `DELAYS`.
    """

    vectors: dict[str, np.ndarray]
    error: np.ndarray
    delay_steps: np.ndarray


def cell_vectors(
    model: DynamicsModel,
    windows: Windows,
    which: np.ndarray | None = None,
    *,
    outputs: Collection[str] | None = None,
    given: Mapping[str, np.ndarray] | None = None,
    least: int = LEAST_SAMPLES,
    wrong: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """Vectors of cells from the first part of their recordings.

    Args:
        model: makes the vectors.
        windows: all cells' samples.
        which: numbers of cells, shape (n,); all by default.
        outputs: those that count; all by default.
        given: vectors to hold in all cells, shape (size,) each.
        least: samples that a vector needs.
        wrong: `base_errors` of the windows, if they are known already.

    Returns:
        Per factor one row per cell, shape (n, size): the prior mean for cells with fewer samples.
    """
    which = np.arange(len(windows.count)) if which is None else which
    count = windows.count[which, 0]
    told = np.flatnonzero(count >= least)
    unknown = model.learner.prior_contexts()
    found = {name: np.tile(np.asarray(value), (len(count), 1)) for name, value in unknown.values.items()}
    if len(told):
        learner, wrong = model.learner, base_errors(windows, model.base) if wrong is None else wrong
        if outputs is not None:
            learner, wrong = only_outputs(learner, outputs), filled(learner, wrong, outputs)
        contexts = adapt_cells(learner, windows, wrong, which[told], given=given)
        for name, value in contexts.values.items():
            found[name][told] = value
    return found


def log_vectors(
    model: DynamicsModel,
    data: np.ndarray,
    *,
    outputs: Collection[str] | None = None,
    given: Mapping[str, np.ndarray] | None = None,
) -> dict[str, np.ndarray]:
    """Vectors of whole logs, from next steps alone where robots fall too often to predict a second.

    Args:
        model: makes the vectors.
        data: recordings, shape (logs, steps, columns).
        outputs: those that were measured; all by default.
        given: vectors to hold for all logs, shape (size,) each.

    Returns:
        Per factor one row per log, shape (logs, size): the prior mean for logs without a sample.
    """
    windows = cut(data, model.windows, parts=1)
    found = cell_vectors(model, windows, outputs=outputs, given=given)
    short = np.flatnonzero(windows.count[:, 0] < LEAST_SAMPLES)
    if len(short):
        for name, value in near_vectors(model, data[short], given=given).items():
            found[name][short] = value
    return found


def near_vectors(
    model: DynamicsModel, data: np.ndarray, *, given: Mapping[str, np.ndarray] | None = None
) -> dict[str, np.ndarray]:
    """Vectors of next steps alone, as `near_fit` finds them, where they can be trusted.

    Args:
        model: makes the vectors.
        data: recordings, shape (logs, steps, columns).
        given: vectors to hold for all logs, shape (size,) each.

    Returns:
        Per factor one row per log, shape (logs, size): the prior mean for logs without a sample, and for
        those whose torques the vectors do not explain (`BELIEVED`).
    """
    fit, unknown = near_fit(model, data, given=given), model.learner.prior_contexts()
    doubted = fit.error > BELIEVED
    for name, value in fit.vectors.items():
        value[doubted] = np.asarray(unknown[name])
    return fit.vectors


def near_fit(
    model: DynamicsModel,
    data: np.ndarray,
    *,
    outputs: Collection[str] = tuple(STEP_OUTPUTS),
    given: Mapping[str, np.ndarray] | None = None,
) -> NearFit:
    """Vectors of next steps alone, which a robot measures fully and which show its joint controllers.

    Every log is fitted once for each of `DELAYS`; the vector with the smallest torque error is kept.

    Args:
        model: makes the vectors.
        data: recordings, shape (logs, steps, columns).
        outputs: those that were measured, torques among them.
        given: vectors to hold for all logs, shape (size,) each.
    """
    fits = [_near_fit(model, data, steps, outputs, given) for steps in DELAYS]
    errors = np.array([error for _, error in fits])
    best, rows = errors.argmin(axis=0), np.arange(len(data))
    vectors = {name: np.array([found[name] for found, _ in fits])[best, rows] for name in fits[0][0]}
    return NearFit(vectors, errors[best, rows], np.array(DELAYS)[best])


def _near_fit(
    model: DynamicsModel,
    data: np.ndarray,
    steps: int,
    outputs: Collection[str],
    given: Mapping[str, np.ndarray] | None,
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Vectors and errors as in `NearFit`, with targets that act a given number of control steps late."""
    windows = cut(delayed(data, steps), model.windows, parts=1, outcomes=False)
    wrong = base_errors(windows, model.base)
    found = cell_vectors(model, windows, outputs=outputs, given=given, least=1, wrong=wrong)
    made_by, error = model.learner.fingerprint(), np.full(len(data), np.inf)
    for row in np.flatnonzero(windows.count[:, 0]):
        own = Contexts({name: jnp.asarray(value[row]) for name, value in found.items()}, made_by)
        there = slice(windows.count[row, 0])
        error[row] = torque_error(model, own, windows.x[row, 0, there], wrong[row, 0, there])
    return found, error


def torque_error(model: DynamicsModel, contexts: Contexts, x: np.ndarray, wrong: np.ndarray) -> float:
    """Root mean squared error of the next step's torques, in their standard deviations.

    Args:
        model: makes the vectors.
        contexts: of one robot on one ground.
        x: inputs, shape (n, inputs).
        wrong: what the base network got wrong there, shape (n, outputs); see `base_errors`.
    """
    joints = output("torque_nm")
    left = wrong[:, joints] - np.asarray(model.learner.predict(contexts, x))[:, joints]
    scale = 1.0 if model.base.scaler is None else np.asarray(model.base.scaler.y_std)[joints]
    return float(np.sqrt(np.mean((left / scale) ** 2)))
