"""Samples for a dynamics model: a short past and a command in, the next step and the coming second out."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from dmcm.columns import slices
from dmcm.errors import ConfigError
from dmcm.quadruped.data.recording import column
from dmcm.quadruped.walking.observations import CONTACT_N
from dmcm.quadruped.world.simulation import CONTROL_PERIOD_S

STATE: Mapping[str, int] = {
    "joint_angles_rad": 12,
    "joint_speeds_rad_s": 12,
    "gyro_rad_s": 3,
    "gravity_direction": 3,
}
"""What a robot senses of itself at one time, and what a roll-out predicts step by step."""
STATE_SIZE = sum(STATE.values())

STEP_OUTPUTS: Mapping[str, int] = {
    "joint_angle_change_rad": 12,
    "joint_speed_rad_s": 12,
    "gyro_rad_s": 3,
    "gravity_change": 3,
    "torque_nm": 12,
}
"""Outputs about the next control step, 20 ms ahead; torques are those at the step's end."""
OUTCOMES: Mapping[str, int] = {
    "height_change_1s": 1,
    "forward_speed_1s": 1,
    "pitch_1s": 1,
    "front_load_1s": 1,
    "mean_torque_1s": 12,
    "tracking_error_1s": 12,
    "foot_duty_1s": 4,
}
"""Outputs about the coming second: climb (m), mean forward speed (m/s), mean forward part of the gravity
direction, share of the load on the front feet, mean size of each torque (N m), mean distance of each joint
from its target (rad), share of the time each foot touches the ground."""
OUTPUTS: Mapping[str, int] = {**STEP_OUTPUTS, **OUTCOMES}
"""All outputs in order."""
SECOND = round(1.0 / CONTROL_PERIOD_S)


@dataclasses.dataclass(frozen=True)
class WindowConfig:
    """How recordings are cut into samples."""

    history: int = 3
    """Control steps of the past that the model sees, including the present. Ten or more already reveal the
    robot and, through gravity, the slope, and leave nothing for contexts."""
    stride: int = 4
    """Control steps from one sample to the next."""

    def check(self) -> WindowConfig:
        """Return self, or raise `ConfigError` for settings out of range."""
        if not 1 <= self.history <= 50 or not 1 <= self.stride <= 50:
            raise ConfigError(f"history={self.history} and stride={self.stride} must lie between 1 and 50.")
        return self


@dataclasses.dataclass(frozen=True, eq=False)
class Windows:
    """Samples of every cell.

    Samples of the first half of a recording are for adapting, those of the second for testing. Cells have
    different numbers of samples because none may span a fall; entries beyond `count` are zero.
    """

    x: np.ndarray
    """Inputs, shape (cells, 2 halves, samples, inputs)."""
    y: np.ndarray
    """Outputs, shape (cells, 2 halves, samples, outputs)."""
    step: np.ndarray
    """Control step of each sample, shape (cells, 2 halves, samples)."""
    count: np.ndarray
    """Samples of each half, shape (cells, 2)."""

    @property
    def history(self) -> int:
        """Control steps of the past in each input."""
        return self.x.shape[-1] // (STATE_SIZE + 12)

    def half(self, cell: int | np.integer, half: int) -> tuple[np.ndarray, np.ndarray]:
        """Inputs (n, inputs) and outputs (n, outputs) of half a recording."""
        count = self.count[cell, half]
        return self.x[cell, half, :count], self.y[cell, half, :count]

    @property
    def real(self) -> np.ndarray:
        """Which entries are samples and not padding, shape (cells, 2 halves, samples)."""
        return np.arange(self.x.shape[2]) < self.count[..., None]


_WHERE = slices(OUTPUTS)


def output(name: str) -> slice:
    """Slice of an output."""
    return _WHERE[name]


def states(data: np.ndarray) -> np.ndarray:
    """What robots sense of themselves, (..., steps, STATE_SIZE), of recordings (..., steps, columns)."""
    return np.concatenate([data[..., column(name)] for name in STATE], axis=-1)


def inputs_at(
    past: ArrayLike, targets: ArrayLike, command: ArrayLike, phase: ArrayLike
) -> Float[Array, "..."]:
    """Inputs of the model.

    Targets are given relative to the joint angles of the same time, which is what the controllers act on.

    Args:
        past: states, oldest first, shape (..., history, STATE_SIZE).
        targets: joint targets at the same times, the current one last, shape (..., history, 12).
        command: shape (..., 3).
        phase: of the gait, shape (..., 1).

    Returns:
        Shape (..., inputs).
    """
    past, targets, turn = jnp.asarray(past), jnp.asarray(targets), 2 * jnp.pi * jnp.asarray(phase)
    lead = past.shape[:-2]
    offsets = targets - past[..., :12]
    # Sizes are given in full because -1 is ambiguous where there are no samples.
    parts = [
        past.reshape(*lead, past.shape[-2] * past.shape[-1]),
        offsets.reshape(*lead, offsets.shape[-2] * offsets.shape[-1]),
        jnp.asarray(command),
        jnp.sin(turn),
        jnp.cos(turn),
    ]
    return jnp.concatenate(parts, axis=-1)


def disturb(
    x: Float[Array, "*n inputs"],
    y: Float[Array, "*n outputs"],
    noise: Float[Array, "*n history state"],
) -> tuple[Float[Array, "*n inputs"], Float[Array, "*n outputs"]]:
    """Samples with noise added to their past; the true next state stays the same.

    Args:
        x: inputs, shape (..., inputs).
        y: outputs, shape (..., outputs).
        noise: added to the states of the past, oldest first, shape (..., history, STATE_SIZE).

    Returns:
        Inputs with the noise in states and in the targets relative to them, and outputs whose changes of
        angles and gravity lead from the noisy state to the true next one.
    """
    lead, past = noise.shape[:-2], noise.shape[-2] * STATE_SIZE
    offsets = past + noise.shape[-2] * 12
    x = jnp.concatenate(
        [
            x[..., :past] + noise.reshape(*lead, -1),
            x[..., past:offsets] - noise[..., :12].reshape(*lead, -1),
            x[..., offsets:],
        ],
        axis=-1,
    )
    y = y.at[..., output("joint_angle_change_rad")].add(-noise[..., -1, :12])
    return x, y.at[..., output("gravity_change")].add(-noise[..., -1, -3:])


def cut(data: np.ndarray, config: WindowConfig, *, parts: int = 2, outcomes: bool = True) -> Windows:
    """Cut recordings into samples, none of which spans a fall or a fresh start.

    Args:
        data: shape (cells, steps, columns).
        config: how to cut.
        parts: 2 to cut each recording in halves, 1 to keep it whole.
        outcomes: False leaves `OUTCOMES` at zero, and samples look only one step ahead: a robot that falls
            within a second gives no others.
    """
    config = config.check()
    cells, steps, _ = data.shape
    length, ahead = steps // parts, SECOND if outcomes else 1
    wanted = np.arange(config.history - 1, length - ahead, config.stride)
    at = wanted + length * np.arange(parts)[:, None]
    broken = ((data[..., column("begins")] + data[..., column("falls")] + data[..., column("diverges")]) > 0)[
        ..., 0
    ]
    # No window may span a fresh start, but a window may begin with one.
    breaks = np.concatenate([np.zeros((cells, 1)), np.cumsum(broken, axis=1)], axis=1)
    first, last = at - (config.history - 1), at + ahead + 1
    sound = breaks[:, last] - breaks[:, first] - data[:, first, column("begins").start] == 0
    rows = np.arange(cells)[:, None, None]
    order = np.argsort(~sound, axis=2, kind="stable")
    count = sound.sum(axis=2)
    index = np.take_along_axis(np.broadcast_to(at, sound.shape), order, axis=2)
    real = (np.arange(at.shape[1]) < count[..., None])[..., None]
    past = index[..., None] + np.arange(-config.history + 1, 1)
    x = inputs_at(
        states(data)[rows[..., None], past],
        data[..., column("joint_targets_rad")][rows[..., None], past],
        data[..., column("command")][rows, index],
        data[..., column("gait_phase")][rows, index],
    )
    step = _next_step(data)[rows, index]
    coming = _outcomes(data)[rows, index] if outcomes else np.zeros((*index.shape, sum(OUTCOMES.values())))
    y = np.concatenate([step, coming], axis=-1)
    return Windows(
        np.where(real, np.asarray(x), 0).astype(np.float32),
        np.where(real, y, 0).astype(np.float32),
        np.where(real[..., 0], index, 0),
        count,
    )


def _next_step(data: np.ndarray) -> np.ndarray:
    """Outputs about the next step at every step but the last, shape (cells, steps − 1, 42)."""
    angles, speeds = data[..., column("joint_angles_rad")], data[..., column("joint_speeds_rad_s")]
    gyro, gravity = data[..., column("gyro_rad_s")], data[..., column("gravity_direction")]
    return np.concatenate(
        [
            np.diff(angles, axis=1),
            speeds[:, 1:],
            gyro[:, 1:],
            np.diff(gravity, axis=1),
            data[:, :-1, column("torques_nm")],
        ],
        axis=-1,
    )


def _outcomes(data: np.ndarray) -> np.ndarray:
    """Outputs about the second after every step, shape (cells, steps − 50, 32)."""
    error = np.abs(data[..., column("joint_targets_rad")] - data[..., column("joint_angles_rad")])
    forces = np.maximum(data[..., column("foot_forces_n")], 0)
    load = forces.sum(axis=-1, keepdims=True)
    # A missing measurement is neither above nor below a threshold.
    touching = np.where(np.isfinite(forces), forces > CONTACT_N, np.nan)
    height = data[..., column("height_m")]
    front = _mean_of_second(forces[..., :2].sum(axis=-1, keepdims=True)) / np.maximum(
        _mean_of_second(load), 1.0
    )
    return np.concatenate(
        [
            height[:, SECOND:] - height[:, :-SECOND],
            _mean_of_second(data[..., column("trunk_velocity_m_s")][..., :1]),
            _mean_of_second(data[..., column("gravity_direction")][..., :1]),
            front,
            _mean_of_second(np.abs(data[..., column("torques_nm")])),
            _mean_of_second(error),
            _mean_of_second(touching),
        ],
        axis=-1,
    )


def _mean_of_second(values: np.ndarray) -> np.ndarray:
    """Mean over the 50 steps from each one on, NaN where one is unknown, shape (cells, steps − 50, size)."""
    known = np.isfinite(values)
    # Sums are cumulative: an unknown value must not spoil all later seconds.
    means, gaps = (_sum_of_second(part) / SECOND for part in (np.where(known, values, 0.0), ~known))
    return np.where(gaps > 0, np.nan, means)


def _sum_of_second(values: np.ndarray) -> np.ndarray:
    total = np.cumsum(values, axis=1, dtype=np.float64)
    total = np.concatenate([np.zeros_like(total[:, :1]), total], axis=1)
    return total[:, SECOND:-1] - total[:, : -SECOND - 1]
