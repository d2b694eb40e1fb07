"""Adapting to what a real robot measures: outputs without a sensor are left out."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from dmcm.certainty import context_deviations
from dmcm.contexts import Contexts
from dmcm.errors import ConfigError, DataError
from dmcm.learner import Learner
from dmcm.networks.tensor_product import TensorProductNetwork
from dmcm.quadruped.data.windows import OUTPUTS, STEP_OUTPUTS, output
from dmcm.quadruped.world.simulation import CONTROL_PERIOD_S

COLUMNS_OF: Mapping[str, tuple[str, ...]] = {
    "joint_angle_change_rad": ("joint_angles_rad",),
    "joint_speed_rad_s": ("joint_speeds_rad_s",),
    "gyro_rad_s": ("gyro_rad_s",),
    "gravity_change": ("gravity_direction",),
    "torque_nm": ("torques_nm",),
    "height_change_1s": ("height_m",),
    "forward_speed_1s": ("trunk_velocity_m_s",),
    "pitch_1s": ("gravity_direction",),
    "front_load_1s": ("foot_forces_n",),
    "mean_torque_1s": ("torques_nm",),
    "tracking_error_1s": ("joint_angles_rad", "joint_targets_rad"),
    "foot_duty_1s": ("foot_forces_n",),
}
"""Columns of a recording that each output is made from."""
BLOCK_S = 2.0
"""Stretches of time that count as independent: outcomes look a second ahead, so neighbours overlap."""


def measured_outputs(columns: Collection[str]) -> tuple[str, ...]:
    """Outputs that can be made from these columns of a recording, in order."""
    return tuple(name for name in OUTPUTS if all(column in columns for column in COLUMNS_OF[name]))


def next_steps(outputs: Collection[str]) -> tuple[str, ...]:
    """Those of the given outputs that are about the next control step, in order; all if none are.

    They show what a robot's joint controllers do, even far outside training. Outcomes of the coming second
    mix that with how the robot then walks, and push vectors of soft robots too far.
    """
    return tuple(name for name in STEP_OUTPUTS if name in outputs) or tuple(outputs)


def only_outputs(learner: Learner, outputs: Collection[str]) -> Learner:
    """The learner, blind to all other outputs: it predicts their training mean whatever the contexts.

    Samples whose other outputs are that mean then adapt as if these did not exist.

    Args:
        learner: of a tensor-product network over `OUTPUTS`.
        outputs: names of those that count.

    Raises:
        ConfigError: another network.
    """
    network = learner.network
    if not isinstance(network, TensorProductNetwork) or network.outputs != sum(OUTPUTS.values()):
        raise ConfigError(
            "outputs can only be left out of tensor-product networks over all outputs of a robot; this model "
            f"has a '{network.kind}' network with {network.outputs} outputs."
        )
    seen = jnp.asarray(_seen(outputs)).reshape(-1, *[1] * (network.head.ndim - 1))
    return eqx.tree_at(lambda own: own.network.head, learner, network.head * seen)


@dataclasses.dataclass(frozen=True, eq=False)
class Fit:
    """Vectors fitted to measured samples."""

    contexts: Contexts
    """Vectors of all factors; given ones are unchanged."""
    deviations: Mapping[str, np.ndarray]
    """Standard deviation of each number that moved; see `dmcm.certainty.context_deviations`."""


def fit_measured(
    learner: Learner,
    x: np.ndarray,
    wrong: np.ndarray,
    step: np.ndarray,
    outputs: Collection[str],
    *,
    given: Mapping[str, ArrayLike] | None = None,
) -> Fit:
    """Adapt to samples of which only some outputs were measured.

    Args:
        learner: of what the base network gets wrong.
        x: inputs, shape (n, inputs).
        wrong: what the base network got wrong, shape (n, outputs); what is not in `outputs` may be anything.
        step: control step of each sample, shape (n,).
        outputs: names of those that were measured.
        given: vectors to hold.

    Raises:
        ConfigError: as `only_outputs`.
        DataError: too little data, or data that are not finite.
    """
    if not outputs:
        raise DataError("no output was measured, so there is nothing to adapt to.")
    blind, y = only_outputs(learner, outputs), filled(learner, wrong, outputs)
    found = blind.adapt(x, y, given=given)
    moving = [name for name in learner.factors if name not in (given or {})]
    deviations = context_deviations(blind, found, x, y, stretches(step), only=moving)
    return Fit(
        Contexts(found.values, learner.fingerprint()),
        {name: np.asarray(value) for name, value in deviations.items()},
    )


def stretches(step: np.ndarray) -> np.ndarray:
    """Number of the stretch of `BLOCK_S` that each control step is in, the same shape."""
    return step // round(BLOCK_S / CONTROL_PERIOD_S)


def filled(learner: Learner, wrong: np.ndarray, outputs: Collection[str]) -> np.ndarray:
    """Outputs to adapt a learner of `only_outputs` to: unused outputs become their training mean.

    Args:
        learner: whose outputs they are.
        wrong: shape (..., outputs).
        outputs: names of those that count.
    """
    mean = np.zeros(wrong.shape[-1]) if learner.scaler is None else np.asarray(learner.scaler.y_mean)
    return np.where(_seen(outputs), wrong, mean).astype(np.float32)


def _seen(outputs: Collection[str]) -> np.ndarray:
    """Which columns count, shape (columns,)."""
    seen = np.zeros(sum(OUTPUTS.values()), bool)
    for name in outputs:
        seen[output(name)] = True
    return seen
