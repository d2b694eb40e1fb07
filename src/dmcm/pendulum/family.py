"""The pendulum family: the angle of a driven, damped pendulum over time, depending on three factors.

θ'' = −d θ' − k sin θ + F cos(2 t), θ(0) = −1.5 rad, θ'(0) = 0. The factors are damping d, stiffness k and
drive F. The effect of stiffness depends on the swing, which damping and drive determine, so the angle is not
a sum of a few products of functions of one factor each: over the training ranges, the best rank-4 expansion
in stiffness, which is what a tensor-product head with contexts of size 3 can represent, misses about 1 % of
the variance (measured in the tests). A model must approximate.
"""

from __future__ import annotations

from collections.abc import Mapping

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from dmcm.samples import Batch, Samples
from dmcm.scaling import Scaler

RANGES: dict[str, tuple[float, float]] = {
    "damping": (0.1, 1.0),
    "stiffness": (1.0, 6.0),
    "drive": (0.0, 1.5),
}
"""Training ranges: d in 1/s, k and F in rad/s²."""
BLOCK: dict[str, float] = {"stiffness": 3.5, "drive": 0.75}
"""No training task has both stiffness and drive above these, so a strongly driven resonance is never seen."""
SHOTS = 20
"""Support points a task, and query points in training."""
STEP = 0.05
"""Time between two points of a trajectory, s: one step of the Runge–Kutta method."""
POINTS = 161
"""Points of a trajectory, at 0 s to 8 s."""
_FREQUENCY = 2.0
_START = -1.5
_MOMENTS = {"mean": -0.037, "std": 0.603}


def times() -> np.ndarray:
    """Times of a trajectory's points in s, shape (POINTS, 1)."""
    return STEP * np.arange(POINTS)[:, None]


@jax.jit
def trajectories(
    damping: Float[Array, " tasks"], stiffness: Float[Array, " tasks"], drive: Float[Array, " tasks"]
) -> Float[Array, "tasks points"]:
    """Angles in rad at `times`, by the classical Runge–Kutta method; accurate to about 1e-4 rad."""

    def slope(t: Array, angle: Array, speed: Array) -> tuple[Array, Array]:
        force = drive * jnp.cos(_FREQUENCY * t)
        return speed, force - damping * speed - stiffness * jnp.sin(angle)

    def step(state: tuple[Array, Array], t: Array) -> tuple[tuple[Array, Array], Array]:
        angle, speed = state
        a1, s1 = slope(t, angle, speed)
        a2, s2 = slope(t + STEP / 2, angle + STEP / 2 * a1, speed + STEP / 2 * s1)
        a3, s3 = slope(t + STEP / 2, angle + STEP / 2 * a2, speed + STEP / 2 * s2)
        a4, s4 = slope(t + STEP, angle + STEP * a3, speed + STEP * s3)
        moved = (
            angle + STEP / 6 * (a1 + 2 * a2 + 2 * a3 + a4),
            speed + STEP / 6 * (s1 + 2 * s2 + 2 * s3 + s4),
        )
        return moved, moved[0]

    start = jnp.full_like(damping, _START)
    begin = STEP * jnp.arange(POINTS - 1)
    _, angles = jax.lax.scan(step, (start, jnp.zeros_like(start)), begin, unroll=4)
    return jnp.concatenate([start[None], angles]).T


def in_block(values: Mapping[str, ArrayLike]) -> Bool[Array, " tasks"]:
    """Whether tasks with these factor values are held out of training."""
    high = [jnp.asarray(values[name]) > limit for name, limit in BLOCK.items()]
    return jnp.all(jnp.stack(high), axis=0)


def scaler() -> Scaler:
    """Moments of uniform times and of trajectories with all factors uniform, ignoring the block."""
    last = STEP * (POINTS - 1)
    moments = (last / 2, last / np.sqrt(12), _MOMENTS["mean"], _MOMENTS["std"])
    return Scaler(*(jnp.full((1,), value) for value in moments))


class PendulumSampler(eqx.Module):
    """Batches on a random grid of damping × stiffness × drive, so that every task has donors.

    Attributes:
        sizes: number of values of each factor, in the order of `RANGES`.
        shots: support points and query points a task.
    """

    sizes: tuple[int, int, int] = eqx.field(static=True, default=(3, 3, 3))
    shots: int = eqx.field(static=True, default=SHOTS)

    def scaler(self) -> Scaler:
        """The family's scaler."""
        return scaler()

    def sample(self, key: PRNGKeyArray) -> Batch:
        """One grid of tasks; those inside the held-out block are marked invalid."""
        point_key, *keys = jax.random.split(key, 1 + len(RANGES))
        labels = jnp.meshgrid(*(jnp.arange(size) for size in self.sizes), indexing="ij")
        labels = {name: label.reshape(-1) for name, label in zip(RANGES, labels, strict=True)}
        values = {
            name: jax.random.uniform(k, (size,), minval=low, maxval=high)[labels[name]]
            for k, size, (name, (low, high)) in zip(keys, self.sizes, RANGES.items(), strict=True)
        }
        angles = trajectories(**values)
        tasks = angles.shape[0]
        point = jax.random.randint(point_key, (tasks, 2 * self.shots), 0, POINTS)
        x = (STEP * point)[..., None]
        y = jnp.take_along_axis(angles, point, axis=1)[..., None]
        weight = jnp.ones((tasks, self.shots))
        return Batch(
            support=Samples(x[:, : self.shots], y[:, : self.shots], weight),
            query=Samples(x[:, self.shots :], y[:, self.shots :], weight),
            task=jnp.arange(tasks),
            labels=labels,
            valid=~in_block(values),
            values={name: value[:, None] for name, value in values.items()},
        )
