"""The walking policy: a Gaussian over actions, and the value function that trains it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from dmcm.errors import ConfigError, ShapeError, StorageError
from dmcm.quadruped.body.robot_table import RobotTable
from dmcm.quadruped.walking.known_gains import GainReader
from dmcm.quadruped.walking.modulation import Modulation
from dmcm.quadruped.walking.told_gait import GaitReader
from dmcm.storage import fill_tree, load_arrays, save_arrays, tree_arrays

POLICY = Path(__file__).parent / "policies" / "go1.safetensors"
"""The walking policy that comes with the package."""
POLICY_FILE = "policy.safetensors"
"""File name of a trained policy in its run folder."""
_CLIP = 8.0


class RunningScale(eqx.Module):
    """Mean and variance of all vectors seen so far.

    Attributes:
        mean: shape (size,).
        variance: shape (size,).
        count: number of vectors they were computed from.
    """

    mean: Float[Array, " size"]
    variance: Float[Array, " size"]
    count: Float[Array, ""]

    def __init__(self, size: int):
        """Start with zero mean and unit variance."""
        self.mean, self.variance, self.count = jnp.zeros(size), jnp.ones(size), jnp.asarray(1e-4)

    def __call__(self, x: Float[Array, "*n size"]) -> Float[Array, "*n size"]:
        """Standardise vectors, clipped at eight standard deviations."""
        return jnp.clip((x - self.mean) / jnp.sqrt(self.variance + 1e-4), -_CLIP, _CLIP)

    def seen(self, x: Float[Array, "n size"]) -> RunningScale:
        """Include more vectors (Chan et al. 1979, for combining means and variances)."""
        n = x.shape[0]
        total = self.count + n
        delta = jnp.mean(x, axis=0) - self.mean
        mean = self.mean + delta * n / total
        variance = (
            self.variance * self.count + jnp.var(x, axis=0) * n + delta**2 * self.count * n / total
        ) / total
        return eqx.tree_at(lambda s: (s.mean, s.variance, s.count), self, (mean, variance, total))


class Policy(eqx.Module):
    """Actor and critic with separate networks; the critic also reads the privileged state.

    The last columns of an observation may be vectors, which modulate the actor's last hidden layer, or a
    past, which an encoder trained with the policy summarises in a few numbers for the actor. The critic also
    reads the vectors; it has the truth and does not read the past.

    Attributes:
        actor: maps the standardised observation, with the past summarised, to the mean action.
        critic: maps the standardised observation without the past, and the privileged state, to the value.
        encoder: summarises the past; None for policies without one.
        modulation: by vectors; None for policies without vectors.
        gains: estimates a robot's gains from its vectors, for joint targets that compensate for them; None
            for policies that leave targets as they are.
        gait: chooses the gait by the vectors; None for policies that keep the usual one.
        log_deviation: logarithm of the actions' standard deviations, shape (12,).
        observation_scale: standardises observations.
        critic_scale: standardises what the critic reads.
    """

    actor: eqx.nn.MLP
    critic: eqx.nn.MLP
    encoder: eqx.nn.MLP | None
    modulation: Modulation | None
    gains: GainReader | None
    gait: GaitReader | None
    log_deviation: Float[Array, " actions"]
    observation_scale: RunningScale
    critic_scale: RunningScale

    def __init__(
        self,
        observations: int,
        privileged: int,
        actions: int,
        *,
        widths: tuple[int, int] = (128, 128),
        deviation: float = 0.5,
        past: int = 0,
        summary: int = 0,
        told: int = 0,
        gains: GainReader | None = None,
        gait: GaitReader | None = None,
        key: PRNGKeyArray,
    ):
        """Draw the weights.

        Args:
            observations: size of an observation.
            privileged: size of the privileged state.
            actions: size of an action.
            widths: hidden layers' width of actor and critic, two layers each.
            deviation: standard deviation of the first actions.
            past: number of columns at the end of an observation that are a past.
            summary: size of the encoder's summary of them.
            told: number of columns at the end of an observation that are vectors; not together with a past.
            gains: estimates gains from the vectors.
            gait: chooses the gait by the vectors.
            key: of the weights.
        """
        actor_key, critic_key = jax.random.split(key)
        present = observations - past
        actor = eqx.nn.MLP(present - told + summary, actions, widths[0], 2, jax.nn.elu, key=actor_key)
        # A small last layer: at first the robot follows the gait.
        self.actor = eqx.tree_at(
            lambda mlp: (mlp.layers[-1].weight, mlp.layers[-1].bias), actor, replace_fn=lambda w: 0.01 * w
        )
        self.critic = eqx.nn.MLP(present + privileged, "scalar", widths[1], 2, jax.nn.elu, key=critic_key)
        self.encoder = None
        if past:
            encoder_key = jax.random.fold_in(key, 2)
            self.encoder = eqx.nn.MLP(past, summary, widths[0] // 2, 1, jax.nn.elu, key=encoder_key)
        self.modulation = Modulation(told, widths[0], key=key) if told else None
        self.gains, self.gait = gains, gait
        self.log_deviation = jnp.full(actions, np.log(deviation))
        self.observation_scale = RunningScale(observations)
        self.critic_scale = RunningScale(present + privileged)

    @property
    def past(self) -> int:
        """Number of columns at the end of an observation that are a past."""
        return 0 if self.encoder is None else int(self.encoder.in_size)

    def mean(self, observation: Float[Array, "n observations"]) -> Float[Array, "n actions"]:
        """Mean actions: what the policy does once it is trained."""
        scaled = self.observation_scale(self._heard(observation))
        if self.modulation is not None:
            own = scaled.shape[-1] - self.modulation.told
            return jax.vmap(self._modulated)(scaled[:, :own], scaled[:, own:])
        if self.encoder is not None:
            present = scaled.shape[-1] - self.past
            summary = jax.vmap(self.encoder)(scaled[:, present:])
            scaled = jnp.concatenate([scaled[:, :present], summary], axis=-1)
        return jax.vmap(self.actor)(scaled)

    def value(
        self, observation: Float[Array, "n observations"], privileged: Float[Array, "n privileged"]
    ) -> Float[Array, " n"]:
        """Expected discounted sum of rewards."""
        return jax.vmap(self.critic)(self.critic_scale(self.criticised(observation, privileged)))

    def criticised(
        self, observation: Float[Array, "n observations"], privileged: Float[Array, "n privileged"]
    ) -> Float[Array, "n criticised"]:
        """What the critic reads, not yet standardised."""
        present = self._heard(observation)[:, : observation.shape[-1] - self.past]
        return jnp.concatenate([present, privileged], axis=-1)

    def _heard(self, observation: Float[Array, "n observations"]) -> Float[Array, "n observations"]:
        """Observations with the vectors clipped to their range in training."""
        if self.modulation is None:
            return observation
        own = observation.shape[-1] - self.modulation.told
        return jnp.concatenate([observation[:, :own], self.modulation.cut(observation[:, own:])], axis=-1)

    def _modulated(
        self, sensed: Float[Array, " own"], vectors: Float[Array, " told"]
    ) -> Float[Array, " actions"]:
        assert self.modulation is not None
        hidden = sensed
        for layer in self.actor.layers[:-1]:
            hidden = self.actor.activation(layer(hidden))
        return self.actor.layers[-1](self.modulation(hidden, vectors))

    def log_density(
        self, mean: Float[Array, "n actions"], action: Float[Array, "n actions"]
    ) -> Float[Array, " n"]:
        """Logarithm of the density of actions around means."""
        z = (action - mean) * jnp.exp(-self.log_deviation)
        return (
            -0.5 * jnp.sum(z**2, axis=-1)
            - jnp.sum(self.log_deviation)
            - 0.5 * z.shape[-1] * jnp.log(2 * jnp.pi)
        )


@eqx.filter_jit
def mean_action(
    policy: Policy, observation: Float[Array | np.ndarray, "n observations"]
) -> Float[Array, "n actions"]:
    """Mean actions, compiled."""
    return policy.mean(jnp.asarray(observation))


def check_reads(policy: Policy, observation: np.ndarray, who: str = "the policy") -> None:
    """Raise `ShapeError` unless a policy's input size is that of the observations.

    Args:
        policy: the policy that walks.
        observation: of its environment, shape (robots, numbers).
        who: what an error calls the policy.
    """
    reads = policy.observation_scale.mean.size
    if observation.shape[-1] != reads:
        raise ShapeError(
            f"{who} reads {reads} numbers, but its observations have {observation.shape[-1]}. Give the guide "
            "or the vectors that it was trained with."
        )


def save_policy(path: Path, policy: Policy, about: dict[str, Any]) -> None:
    """Write a policy and JSON about it.

    Raises:
        StorageError: it cannot be written.
    """
    observations = policy.observation_scale.mean.size
    sizes = {
        "observations": observations,
        "privileged": policy.critic_scale.mean.size - (observations - policy.past),
        "actions": policy.log_deviation.size,
        "widths": [policy.actor.width_size, policy.critic.width_size],
        "past": policy.past,
        "summary": int(policy.encoder.out_size) if policy.encoder else 0,
        "told": policy.modulation.told if policy.modulation else 0,
    }
    if policy.gains is not None:
        reads = {"told": policy.gains.slope.shape[1], "logarithmic": policy.gains.logarithmic}
        about = {**about, "gains": reads}
    if policy.gait is not None:
        about = {**about, "gait": {"told": policy.gait.slope.shape[1]}}
    save_arrays(path, tree_arrays(policy), {"kind": "quadruped policy", "sizes": sizes, **about})


def load_policy(path: Path) -> tuple[Policy, dict[str, Any]]:
    """Read a policy and the JSON about it.

    Raises:
        StorageError: no such file, damaged, or not a policy.
    """
    arrays, about = load_arrays(path)
    if about.get("kind") != "quadruped policy":
        raise StorageError(f"{path} holds {about.get('kind', 'something else')!r}, not a quadruped policy.")
    sizes, reads, chooses = about["sizes"], about.get("gains"), about.get("gait")
    like = eqx.filter_eval_shape(
        Policy,
        sizes["observations"],
        sizes["privileged"],
        sizes["actions"],
        widths=tuple(sizes["widths"]),
        past=sizes.get("past", 0),
        summary=sizes.get("summary", 0),
        told=sizes.get("told", 0),
        gains=None if reads is None else GainReader(reads["told"], logarithmic=reads["logarithmic"]),
        gait=None if chooses is None else GaitReader(chooses["told"]),
        key=jax.random.key(0),
    )
    return fill_tree(like, arrays), about


def check_trained_for(path: Path, about: Mapping[str, Any], robot: str, table: RobotTable) -> None:
    """Refuse a policy of another robot: it has other joint offsets and another gait.

    Args:
        path: file of the policy.
        about: the JSON about it.
        robot: name, or path of the table, of the robot that walks.
        table: that table.

    Raises:
        ConfigError: the policy was trained with another robot.
    """
    training = about.get("training", {})
    trained = training.get("robot") or training.get("data", {}).get("robot")
    if trained is not None and _robot_name(trained) not in (_robot_name(robot), table.name):
        raise ConfigError(f"{path} was trained with the robot {trained}, not {robot}: use --robot {trained}.")


def _robot_name(robot: str) -> str:
    """Name of a robot given by name or by the path of its table."""
    return Path(robot).name.removesuffix(".toml")


def load_walker(path: Path, robot: str, table: RobotTable) -> tuple[Policy, dict[str, Any]]:
    """As `load_policy`, for a policy that reads only what robots sense.

    Args:
        path: file of `dmcm quadruped train-walking`.
        robot: name, or path of the table, of the robot that walks.
        table: that table.

    Raises:
        StorageError: as `load_policy`.
        ConfigError: the policy was trained with another robot, or reads vectors or its own past.
    """
    policy, about = load_policy(path)
    check_trained_for(path, about, robot, table)
    beside = (policy.modulation, policy.gains, policy.gait)
    if policy.past or any(part is not None for part in beside):
        raise ConfigError(
            f"{path} needs inputs that a robot's sensors do not provide. Start from a policy of "
            "train-walking."
        )
    return policy, about
