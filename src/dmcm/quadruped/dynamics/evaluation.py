"""How good dynamics models are: errors per output and split, with vectors from any source."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from dmcm.contexts import Contexts
from dmcm.learner import Learner
from dmcm.quadruped.data.collection import Collection
from dmcm.quadruped.data.recording import column
from dmcm.quadruped.data.windows import SECOND, STATE_SIZE, Windows, inputs_at, output, states
from dmcm.quadruped.dynamics.cells import Cells
from dmcm.quadruped.world.simulation import CONTROL_PERIOD_S
from dmcm.samples import Samples

HORIZONS_S = (0.1, 0.5, 1.0)
"""How far ahead the model is rolled out."""
ROLLED: Mapping[str, slice] = {
    "joint": slice(0, 12),
    "joint_speed": slice(12, 24),
    "gyro": slice(24, 27),
    "gravity": slice(27, 30),
}
"""Parts of the state that roll-outs are judged by."""
JOINT_ROLLOUTS = tuple(f"joint_rollout_{horizon:g}s" for horizon in HORIZONS_S)
GROUPS: Mapping[str, tuple[str, ...]] = {
    "robot": ("torque_nm", *JOINT_ROLLOUTS, "mean_torque_1s", "tracking_error_1s"),
    "terrain": ("height_change_1s", "forward_speed_1s", "pitch_1s", "front_load_1s"),
}
"""Outputs that depend mostly on the robot, and those that depend mostly on the ground."""
STARTS = 6
"""Roll-outs per cell."""
FARTHEST = 3.0
"""Standard deviations from the training mean within which states are predicted; chosen on other data."""
_CHUNK = 48


def adapt_cells(
    learner: Learner,
    windows: Windows,
    wrong: np.ndarray,
    which: np.ndarray,
    *,
    truth: Mapping[str, np.ndarray] | None = None,
    given: Mapping[str, ArrayLike] | None = None,
    seconds: float = np.inf,
    ahead: int = SECOND,
) -> Contexts:
    """Contexts of cells, each from the first half of its own recording.

    Args:
        learner: trained on what the base network gets wrong.
        windows: all cells' samples.
        wrong: what it gets wrong, shape (cells, 2, samples, outputs).
        which: numbers of cells, shape (n,).
        truth: `Cells.truth`, for the oracle alone.
        given: vectors to hold in all cells, shape (size,) each.
        seconds: of the recording to use, including all that samples look ahead to.
        ahead: control steps that samples look ahead.

    Returns:
        Contexts of batch shape (n,), in NumPy's memory.
    """
    parts = []
    for some in np.split(which, range(_CHUNK, len(which), _CHUNK)):
        step = windows.step[some, 0]
        real = windows.real[some, 0] & (step + ahead < seconds / CONTROL_PERIOD_S)
        # Compiled once: the last chunk is filled up.
        fill = np.resize(some, _CHUNK)
        weight = np.resize(real, (_CHUNK, real.shape[1])).astype(np.float32)
        support = Samples(*(jnp.asarray(a) for a in (windows.x[fill, 0], wrong[fill, 0], weight)))
        told = None if truth is None else {name: jnp.asarray(v[fill]) for name, v in truth.items()}
        found = learner.adapt_samples(support, truth=told, given=given)
        parts.append({name: np.asarray(value)[: len(some)] for name, value in found.values.items()})
    values = {name: jnp.asarray(np.concatenate([part[name] for part in parts])) for name in parts[0]}
    return Contexts(values, learner.fingerprint())


def adapt_milliseconds(
    adapt: Callable[[np.ndarray, np.ndarray], Contexts], x: np.ndarray, y: np.ndarray
) -> float:
    """Median time from samples to contexts, once compiled.

    Args:
        adapt: of a learner or a model.
        x: inputs, shape (n, inputs).
        y: outputs, shape (n, outputs).
    """
    times = []
    for _ in range(21):
        began = time.perf_counter()
        jax.block_until_ready(adapt(x, y).values)
        times.append(time.perf_counter() - began)
    return 1e3 * float(np.median(times[1:]))


def second_half_errors(
    learner: Learner | None,
    contexts: Contexts | None,
    cells: Cells,
    wrong: np.ndarray,
    which: np.ndarray,
) -> np.ndarray:
    """Mean squared error of each output column in the second half of cells, raw units, shape (n, outputs).

    Args:
        learner: None for the base network alone.
        contexts: one row per cell of `which`; None without a learner.
        cells: all cells.
        wrong: what the base network gets wrong.
        which: numbers of cells, shape (n,).
    """
    count, real = cells.windows.count[which, 1], cells.windows.real[which, 1][..., None]
    left = wrong[which, 1].copy()
    if learner is not None and contexts is not None:
        for start in range(0, len(which), _CHUNK):
            # Compiled once: the last chunk is filled up.
            rows = np.minimum(np.arange(start, start + _CHUNK), len(which) - 1)
            x, kept = cells.windows.x[which[rows], 1], min(_CHUNK, len(which) - start)
            some = Contexts({name: value[rows] for name, value in contexts.values.items()}, contexts.model)
            left[start : start + kept] -= np.asarray(learner.predict(some, x))[:kept]
    return np.sum(np.where(real, left.astype(np.float64) ** 2, 0), axis=1) / np.maximum(count, 1)[:, None]


@eqx.filter_jit
def roll(
    base: Learner,
    learner: Learner | None,
    contexts: dict[str, Array] | None,
    past: Float[Array, "cells starts history state"],
    targets: Float[Array, "cells starts steps 12"],
    command: Float[Array, "cells starts steps 3"],
    phase: Float[Array, "cells starts steps 1"],
) -> Float[Array, "cells starts length state"]:
    """States as the model predicts them, open loop, shape (cells, starts, length, STATE_SIZE).

    No state lies beyond `FARTHEST`, or beyond the given past where that is further, so that errors of a
    roll-out do not feed on themselves. The direction of gravity is then made a unit vector.

    Args:
        base: the base network.
        learner: what corrects it, or None.
        contexts: per factor, one vector per cell; None without a learner.
        past: states up to the start, oldest first.
        targets: joint targets that were sent, from the oldest state on.
        command: commands of the same steps.
        phase: of the gait at the same steps.
    """
    history = past.shape[2]
    nothing = base.prior_contexts()
    low, high = _range(base, past)

    def step(past: Array, now: Array) -> tuple[Array, Array]:
        at = jax.lax.dynamic_slice_in_dim(targets, now, history, axis=2)
        pick = lambda a: jax.lax.dynamic_index_in_dim(a, now + history - 1, axis=2, keepdims=False)  # noqa: E731
        x = inputs_at(past, at, pick(command), pick(phase))
        y = base.predict(nothing, x.reshape(-1, x.shape[-1])).reshape(*x.shape[:2], -1)
        if learner is not None and contexts is not None:
            y = y + learner.predict(Contexts(contexts, None), x)
        state = past[:, :, -1]
        angles = state[..., :12] + y[..., output("joint_angle_change_rad")]
        gravity = state[..., -3:] + y[..., output("gravity_change")]
        speeds, gyro = y[..., output("joint_speed_rad_s")], y[..., output("gyro_rad_s")]
        following = jnp.clip(jnp.concatenate([angles, speeds, gyro, gravity], axis=-1), low, high)
        gravity = following[..., -3:]
        gravity = gravity / jnp.linalg.norm(gravity, axis=-1, keepdims=True)
        following = following.at[..., -3:].set(gravity)
        return jnp.concatenate([past[:, :, 1:], following[:, :, None]], axis=2), following

    length = targets.shape[2] - history + 1
    _, foreseen = jax.lax.scan(step, past, jnp.arange(length))
    return jnp.moveaxis(foreseen, 0, 2)


def _range(
    base: Learner, past: Float[Array, "cells starts history state"]
) -> tuple[Float[Array, "cells starts state"], Float[Array, "cells starts state"]]:
    """Least and largest states that are predicted, by the base network's training data and the past."""
    low, high = past.min(axis=2), past.max(axis=2)
    if base.scaler is None:
        return jnp.full_like(low, -jnp.inf), jnp.full_like(high, jnp.inf)
    # Inputs begin with the past states, the present one last.
    present = slice((past.shape[2] - 1) * STATE_SIZE, past.shape[2] * STATE_SIZE)
    mean, std = base.scaler.x_mean[present], base.scaler.x_std[present]
    return jnp.minimum(low, mean - FARTHEST * std), jnp.maximum(high, mean + FARTHEST * std)


def given_to_roll(data: np.ndarray, history: int) -> tuple[Array, Array, Array, Array]:
    """The last four arguments of `roll`.

    Args:
        data: recordings from the oldest state known to the last step rolled out, shape (cells, starts, steps,
            columns).
        history: control steps of the past in each input.
    """
    names = ("joint_targets_rad", "command", "gait_phase")
    targets, command, phase = (jnp.asarray(data[..., column(name)]) for name in names)
    return jnp.asarray(states(data)[:, :, :history]), targets, command, phase


def rollout_errors(
    base: Learner,
    learner: Learner | None,
    contexts: Contexts | None,
    collection: Collection,
    cells: Cells,
    which: np.ndarray,
) -> dict[str, np.ndarray]:
    """Mean squared error of each part of the state after each of `HORIZONS_S`, open loop.

    The model is given the joint targets that were sent, and its own predictions of everything else.

    Returns:
        Per part, shape (n, horizons); infinite where the roll-out became non-finite.
    """
    windows, out = cells.windows, {name: [] for name in ROLLED}
    steps = np.arange(-windows.history + 1, SECOND)
    ends = [round(h / CONTROL_PERIOD_S) - 1 for h in HORIZONS_S]
    for start in range(0, len(which), _CHUNK):
        rows = np.minimum(np.arange(start, start + _CHUNK), len(which) - 1)
        some = which[rows]
        share = np.linspace(0, 1, STARTS)
        at = np.floor(share * (windows.count[some, 1] - 1)[:, None]).astype(int)
        begin = np.take_along_axis(windows.step[some, 1], at, axis=1)
        index = begin[..., None] + steps
        data = collection.data[some[:, None, None], index]
        after = collection.data[some[:, None, None], begin[..., None] + np.arange(1, SECOND + 1)]
        values = None if contexts is None else {n: v[rows] for n, v in contexts.values.items()}
        predicted = roll(base, learner, values, *given_to_roll(data, windows.history))
        squared = (np.asarray(predicted) - states(after))[:, :, ends] ** 2
        for name, columns in ROLLED.items():
            out[name].append(np.nan_to_num(squared[..., columns].mean(axis=(1, 3)), nan=np.inf))
    return {name: np.concatenate(parts)[: len(which)] for name, parts in out.items()}
