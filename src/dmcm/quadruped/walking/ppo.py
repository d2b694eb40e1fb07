"""Proximal policy optimisation (Schulman et al. 2017, arXiv 1707.06347) on a vector environment.

Generalised advantages (Schulman et al. 2016, arXiv 1506.02438), a step size that adapts to the divergence of
the policy (as in rsl_rl, Rudin et al. 2022), and the value of the last state where time ran out.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple, Protocol, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from dmcm.errors import ConfigError, DivergenceError
from dmcm.quadruped.walking.policy import Policy


@dataclasses.dataclass(frozen=True)
class PpoConfig:
    """Settings of PPO."""

    horizon: int = 24
    """Control steps of each robot between updates."""
    epochs: int = 4
    """Passes over them per update."""
    minibatches: int = 4
    """Minibatches per pass."""
    discount: float = 0.99
    """Discount per control step."""
    trace: float = 0.95
    """λ of the generalised advantages."""
    clip: float = 0.2
    """Clipping range of the probability ratio."""
    entropy: float = 0.0005
    """Weight of the entropy of the actions."""
    value: float = 1.0
    """Weight of the value function's error."""
    learning_rate: float = 1e-3
    """Initial step size."""
    divergence: float = 0.03
    """Target Kullback-Leibler divergence per update; high because updates are few."""
    gradient_norm: float = 1.0
    """Largest norm of a gradient."""

    def check(self, robots: int) -> PpoConfig:
        """Return self, or raise `ConfigError` for settings out of range."""
        if min(self.horizon, self.epochs, self.minibatches) < 1:
            raise ConfigError("horizon, epochs and minibatches must be at least 1.")
        if self.horizon * robots % self.minibatches:
            raise ConfigError(
                f"{robots} robots × {self.horizon} steps cannot be cut into {self.minibatches} equal "
                "minibatches."
            )
        return self


@runtime_checkable
class VectorEnvironment(Protocol):
    """What an environment must offer: Gymnasium's vector interface and the privileged state."""

    def step(
        self, actions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """One control step."""
        ...

    def privileged(self) -> np.ndarray:
        """What only a simulation can know."""
        ...


class Trainee(eqx.Module):
    """All that training changes: policy, optimiser and step size."""

    policy: Policy
    moments: Any
    learning_rate: Float[Array, ""]

    def __init__(self, policy: Policy, config: PpoConfig):
        """Start training a policy."""
        self.policy = policy
        learned: Any = _trained(policy)[0]
        self.moments = _optimiser(config).init(learned)
        self.learning_rate = jnp.asarray(config.learning_rate)


class Rollout(NamedTuple):
    """Experience of n robots over `horizon` control steps; leading axes (horizon, n)."""

    observation: Float[Array, "t n observations"]
    privileged: Float[Array, "t n privileged"]
    action: Float[Array, "t n actions"]
    mean: Float[Array, "t n actions"]
    log_density: Float[Array, "t n"]
    value: Float[Array, "t n"]
    reward: Float[Array, "t n"]
    done: Bool[Array, "t n"]


class Ends(NamedTuple):
    """Whose episodes ended, and the share of the commanded distance covered in the last one, (n,) each."""

    fell: np.ndarray
    cut: np.ndarray
    progress: np.ndarray


def collect(
    policy: Policy,
    environment: VectorEnvironment,
    observation: np.ndarray,
    config: PpoConfig,
    key: PRNGKeyArray,
) -> tuple[Rollout, np.ndarray, Float[Array, " n"], Ends]:
    """Let the policy act, with sampled actions, for `horizon` steps.

    Args:
        policy: chooses the actions.
        environment: the robots.
        observation: the present ones, shape (n, observations).
        config: how many steps.
        key: for sampling.

    Returns:
        The rollout, the next observations, their values, and which robots' episodes ended.
    """
    steps = []
    none = np.zeros(len(observation), bool)
    ends = Ends(none, none, np.zeros(len(observation)))
    for own in jax.random.split(key, config.horizon):
        privileged = environment.privileged()
        action, mean, density, value = _act(policy, own, observation, privileged)
        following, reward, fell, cut, info = environment.step(np.asarray(action))
        if cut.any():
            # Running out of time does not end the task: the value of the last state is added to the reward.
            last = _value(policy, info["final_obs"], info["final_privileged"])
            reward = reward + config.discount * np.asarray(last) * cut
        steps.append((observation, privileged, action, mean, density, value, reward, fell | cut))
        progress = np.where(fell | cut, info["progress"], ends.progress)
        ends = Ends(ends.fell | fell, ends.cut | cut, progress)
        observation = following
    rollout = Rollout(*(jnp.asarray(np.stack(part)) for part in zip(*steps, strict=True)))
    return rollout, observation, _value(policy, observation, environment.privileged()), ends


def improve(
    trainee: Trainee,
    rollout: Rollout,
    last_value: Float[Array, " n"],
    config: PpoConfig,
    key: PRNGKeyArray,
) -> tuple[Trainee, dict[str, float]]:
    """One update of the policy from a rollout; the key orders the minibatches.

    Returns:
        The trainee after it, and measures: losses, divergence, deviation of the actions, step size.

    Raises:
        DivergenceError: the update produced non-finite numbers.
    """
    trainee, measures = _improve(trainee, rollout, last_value, config, key)
    found = {name: float(value) for name, value in measures.items()}
    if not all(np.isfinite(value) for value in found.values()):
        raise DivergenceError(f"the policy's update is not finite: {found}. Try a smaller learning_rate.")
    return trainee, found


def advantages(rollout: Rollout, last_value: Float[Array, " n"], config: PpoConfig) -> Float[Array, "t n"]:
    """Generalised advantages of the actions taken."""

    def back(
        carry: tuple[Array, Array], step: tuple[Array, Array, Array]
    ) -> tuple[tuple[Array, Array], Array]:
        following, advantage = carry
        reward, value, done = step
        goes_on = 1.0 - done
        surprise = reward + config.discount * following * goes_on - value
        advantage = surprise + config.discount * config.trace * goes_on * advantage
        return (value, advantage), advantage

    done = rollout.done.astype(jnp.float32)
    start = (last_value, jnp.zeros_like(last_value))
    return jax.lax.scan(back, start, (rollout.reward, rollout.value, done), reverse=True)[1]


@eqx.filter_jit
def _act(policy: Policy, key: PRNGKeyArray, observation: Any, privileged: Any) -> tuple[Any, ...]:
    mean = policy.mean(observation)
    action = mean + jnp.exp(policy.log_deviation) * jax.random.normal(key, mean.shape)
    return action, mean, policy.log_density(mean, action), policy.value(observation, privileged)


@eqx.filter_jit
def _value(policy: Policy, observation: Any, privileged: Any) -> Float[Array, " n"]:
    return policy.value(observation, privileged)


def _trained(policy: Policy) -> tuple[Policy, Policy]:
    """What gradients change, and the rest: running scales are measured, not learned."""
    spec = jax.tree.map(eqx.is_inexact_array, policy)
    spec = eqx.tree_at(
        lambda p: (p.observation_scale, p.critic_scale),
        spec,
        replace_fn=lambda s: jax.tree.map(lambda _: False, s),
    )
    return eqx.partition(policy, spec)


def _optimiser(config: PpoConfig) -> optax.GradientTransformation:
    return optax.chain(optax.clip_by_global_norm(config.gradient_norm), optax.scale_by_adam(eps=1e-5))


@eqx.filter_jit
def _improve(
    trainee: Trainee,
    rollout: Rollout,
    last_value: Float[Array, " n"],
    config: PpoConfig,
    key: PRNGKeyArray,
) -> tuple[Trainee, dict[str, Float[Array, ""]]]:
    gained = advantages(rollout, last_value, config)
    flat = jax.tree.map(
        lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), (rollout, gained, gained + rollout.value)
    )
    count = flat[1].shape[0]
    optimiser = _optimiser(config)
    old_deviation = trainee.policy.log_deviation

    def loss(
        learned: Policy, fixed: Policy, batch: tuple[Rollout, Array, Array]
    ) -> tuple[Array, dict[str, Array]]:
        policy = eqx.combine(learned, fixed)
        steps, advantage, target = batch
        advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
        mean = policy.mean(steps.observation)
        ratio = jnp.exp(policy.log_density(mean, steps.action) - steps.log_density)
        clipped = jnp.clip(ratio, 1 - config.clip, 1 + config.clip)
        surrogate = -jnp.mean(jnp.minimum(ratio * advantage, clipped * advantage))
        value = policy.value(steps.observation, steps.privileged)
        error = jnp.mean((value - target) ** 2)
        entropy = jnp.sum(policy.log_deviation)
        divergence = jnp.mean(
            jnp.sum(
                policy.log_deviation
                - old_deviation
                + (jnp.exp(2 * old_deviation) + (steps.mean - mean) ** 2)
                / (2 * jnp.exp(2 * policy.log_deviation))
                - 0.5,
                axis=-1,
            )
        )
        total = surrogate + config.value * error - config.entropy * entropy
        return total, {"surrogate": surrogate, "value_error": error, "divergence": divergence}

    def minibatch(carry: tuple[Any, ...], ids: Array) -> tuple[tuple[Any, ...], dict[str, Array]]:
        learned, moments, rate = carry
        batch = jax.tree.map(lambda leaf: leaf[ids], flat)
        (_, measures), gradient = eqx.filter_value_and_grad(loss, has_aux=True)(learned, fixed, batch)
        divergence = measures["divergence"]
        rate = jnp.where(divergence > 2 * config.divergence, jnp.maximum(rate / 1.5, 1e-5), rate)
        rate = jnp.where(divergence < config.divergence / 2, jnp.minimum(rate * 1.5, 1e-2), rate)
        change, moments = optimiser.update(gradient, moments)
        learned = eqx.apply_updates(learned, jax.tree.map(lambda leaf: -rate * leaf, change))
        return (learned, moments, rate), measures

    orders = jax.vmap(lambda k: jax.random.permutation(k, count))(jax.random.split(key, config.epochs))
    learned, fixed = _trained(trainee.policy)
    start = (learned, trainee.moments, trainee.learning_rate)
    (learned, moments, rate), measures = jax.lax.scan(
        minibatch, start, orders.reshape(config.epochs * config.minibatches, -1)
    )
    policy = eqx.combine(learned, fixed)
    observed, privileged = flat[0].observation, flat[0].privileged
    # Scales change only between updates, so that all densities of a rollout come from one policy.
    policy = eqx.tree_at(
        lambda p: (p.observation_scale, p.critic_scale),
        policy,
        (
            policy.observation_scale.seen(observed),
            policy.critic_scale.seen(policy.criticised(observed, privileged)),
        ),
    )
    summary = {name: jnp.mean(values) for name, values in measures.items()}
    summary |= {"deviation": jnp.mean(jnp.exp(policy.log_deviation)), "learning_rate": rate}
    trained = eqx.tree_at(lambda t: (t.policy, t.moments, t.learning_rate), trainee, (policy, moments, rate))
    return trained, summary
