"""Walking robots as a Gymnasium vector environment."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from dmcm.errors import ConfigError, ShapeError
from dmcm.quadruped.body.properties import RobotProperties
from dmcm.quadruped.body.robot_table import RobotTable
from dmcm.quadruped.walking.commands import CommandRanges, Commands, speed_along
from dmcm.quadruped.walking.gait import SETTINGS, Gait
from dmcm.quadruped.walking.guides import Guide
from dmcm.quadruped.walking.known_gains import GainReader, matched_targets
from dmcm.quadruped.walking.observations import NoiseScales, Sensors, privileged_state
from dmcm.quadruped.walking.rewards import RewardWeights, reward
from dmcm.quadruped.walking.told_gait import GaitReader
from dmcm.quadruped.world.arena import Arena
from dmcm.quadruped.world.physics import Physics, PhysicsMaker
from dmcm.quadruped.world.simulation import CONTROL_PERIOD_S, Simulation

ACTION_LIMIT = 3.0
"""Actions are clipped to plus and minus this."""


@dataclasses.dataclass(frozen=True)
class WalkConfig:
    """What robots are commanded to do, and what they sense."""

    episode_s: float = 8.0
    """Time after which an episode is truncated."""
    action_scale_rad: float = 0.25
    """Change of a joint target per unit of action, on top of the gait."""
    gait: Gait = dataclasses.field(default_factory=Gait)
    """The gait that actions correct."""
    commands: CommandRanges = dataclasses.field(default_factory=CommandRanges)
    """Ranges of commands."""
    noise: NoiseScales = dataclasses.field(default_factory=NoiseScales)
    """Noise of the sensors."""
    sensor_delay_steps: int = 0
    """Delay of observations in control steps."""
    push_m_s: float = 0.0
    """Standard deviation of a sudden change of the trunk's horizontal velocity, about every four seconds."""
    rewards: RewardWeights = dataclasses.field(default_factory=RewardWeights)
    """Weights of the reward's terms."""
    fall_tilt: float = 0.5
    """A robot has fallen once the upward part of its vertical axis is below this."""
    fall_clearance_m: float = 0.12
    """A robot has fallen once its trunk is this close to the ground."""

    def check(self) -> WalkConfig:
        """Return self, or raise `ConfigError` for settings out of range."""
        self.commands.check()
        self.gait.check()
        self.rewards.check()
        for name in ("episode_s", "action_scale_rad", "push_m_s", "fall_tilt", "fall_clearance_m"):
            if not np.isfinite(getattr(self, name)):
                raise ConfigError(f"{name}={getattr(self, name)} must be a finite number.")
        if self.episode_s < CONTROL_PERIOD_S:
            raise ConfigError(f"episode_s={self.episode_s} is shorter than a control step.")
        if self.sensor_delay_steps < 0 or self.push_m_s < 0 or self.action_scale_rad <= 0:
            raise ConfigError(
                f"sensor_delay_steps={self.sensor_delay_steps} and push_m_s={self.push_m_s} must not be "
                f"negative, action_scale_rad={self.action_scale_rad} must be above 0."
            )
        return self


class WalkEnvironment(VectorEnv):
    """n robots, each with its own body and ground, that walk by a trot with joint corrections.

    Observations hold what a real robot can sense, in the order of `observations.OBSERVATION`, then what a
    guide adds; the truth is only in `privileged()`. An action corrects twelve joint targets. Robots that fall
    or run out of time restart in the same call (`AutoresetMode.SAME_STEP`): the last observation of the old
    episode is in `info["final_obs"]`.

    Attributes:
        simulation: the robots.
        commands: their commands.
    """

    metadata = {"autoreset_mode": AutoresetMode.SAME_STEP, "render_modes": []}  # noqa: RUF012

    def __init__(
        self,
        table: RobotTable,
        arena: Arena,
        robots: Sequence[RobotProperties],
        tiles: Sequence[int] | np.ndarray,
        config: WalkConfig | None = None,
        *,
        guide: Guide | None = None,
        gains: GainReader | None = None,
        gait: GaitReader | np.ndarray | None = None,
        physics: PhysicsMaker = Simulation,
        threads: int = 0,
        seed: int = 0,
    ):
        """Create the robots.

        Args:
            table: facts of the robot.
            arena: the grounds.
            robots: properties of each robot, n of them.
            tiles: number of each robot's ground in the arena, shape (n,).
            config: how to walk.
            guide: adds columns to the observations.
            gains: estimates the robots' gains from these columns, so that joint targets compensate for them;
                None assumes published gains.
            gait: chooses the settings of each robot's gait from these columns, or the settings themselves, in
                the order of `gait.SETTINGS`, shape (n, 4); None takes those of `config`.
            physics: creates the physics engine.
            threads: physics threads; 0 means one per core.
            seed: for all random draws, until `reset(seed=…)`.

        Raises:
            ConfigError: settings out of range, a negative seed, a tile that the arena lacks, or pushes in an
                engine that does not support them.
            ShapeError: the numbers of robots and tiles differ, or gaits of another shape.
        """
        self.config = (config or WalkConfig()).check()
        tiles = np.asarray(tiles, int)
        if tiles.shape != (len(robots),):
            raise ShapeError(f"{len(robots)} robots need as many tiles, not an array of shape {tiles.shape}.")
        if isinstance(gait, np.ndarray) and gait.shape != (len(robots), len(SETTINGS)):
            raise ShapeError(
                f"{len(robots)} robots need as many gaits of {len(SETTINGS)} settings, not an array of shape "
                f"{gait.shape}."
            )
        arena.check_tiles(tiles)
        _check_seed(seed)
        self.simulation: Physics = physics(table, arena, len(robots), threads=threads)
        if self.config.push_m_s and not isinstance(self.simulation, Simulation):
            raise ConfigError("only MuJoCo can push robots: set push_m_s=0 for other engines.")
        self.simulation.set_robots(np.arange(len(robots)), robots)
        self.num_envs = len(robots)
        self.tiles = tiles
        self.commands = Commands(self.config.commands, self.num_envs)
        self._sensors = Sensors(self.config.noise, self.config.sensor_delay_steps, self.num_envs)
        self._guide, self._gains, self._gait = guide, gains, gait
        self._told = np.zeros((self.num_envs, guide.size if guide else 0), np.float32)
        kinds = [terrain.kind for terrain in arena.terrains]
        self._directional = np.array([kind.startswith(("slope", "stairs")) for kind in kinds])
        size = self._sensors.size + (guide.size if guide else 0)
        self.single_observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (size,), np.float32)
        self.single_action_space = gymnasium.spaces.Box(-ACTION_LIMIT, ACTION_LIMIT, (12,), np.float32)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self._rng = np.random.default_rng(seed)
        self.step_count = np.zeros(self.num_envs, int)
        self.phase = np.zeros(self.num_envs)
        self.action = np.zeros((self.num_envs, 12))
        self._way = np.zeros((2, self.num_envs))
        self._begin(np.arange(self.num_envs))

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Restart all episodes.

        In MuJoCo the same seed gives the same episodes; the stand-in's sensors go on with their own noise.

        Args:
            seed: for all random draws from now on; None keeps the current generator.
            options: none are supported.

        Returns:
            Observations, shape (n, size), and an empty dictionary.

        Raises:
            ConfigError: an option was given, or a negative seed.
        """
        if options:
            raise ConfigError(f"reset takes no options, but got {', '.join(options)}.")
        if seed is not None:
            _check_seed(seed)
            self._rng = np.random.default_rng(seed)
        self._begin(np.arange(self.num_envs))
        return self.observe(), {}

    def step(
        self, actions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """One control step of 20 ms.

        Args:
            actions: corrections of the joint targets, shape (n, 12), clipped to `ACTION_LIMIT`.

        Returns:
            Observations, rewards, whether each robot fell, whether each ran out of time (or its simulation
            diverged, `info["diverged"]`), and information: joint targets and torques of the step, and the
            share of the commanded distance covered in the episode (`info["progress"]`). A robot that restarts
            has the new episode's observation; the old one's last is in `info["final_obs"]`, marked by
            `info["_final_obs"]`.

        Raises:
            ShapeError: actions of another shape, or not finite.
        """
        actions = np.asarray(actions, np.float64)
        if actions.shape != self.action.shape or not np.all(np.isfinite(actions)):
            raise ShapeError(f"actions must be finite and of shape {self.action.shape}, not {actions.shape}.")
        actions = np.clip(actions, -ACTION_LIMIT, ACTION_LIMIT)
        previous, self.action = self.action, actions
        simulation, config = self.simulation, self.config
        self._push()
        targets = self.joint_targets()
        simulation.step(targets)
        self.step_count += 1
        self._count_way()
        self.phase = (self.phase + config.gait.frequency_hz * CONTROL_PERIOD_S) % 1.0
        level = ~self._directional[self.tiles]
        rewards = reward(simulation, self.commands.velocity, actions, previous, level, config.rewards)
        upward = -simulation.gravity_direction[:, 2]
        fell = (upward < config.fall_tilt) | (simulation.clearance_m < config.fall_clearance_m)
        fell &= ~simulation.diverged
        ended = self.step_count >= self.step_limit
        truncated = (ended | simulation.diverged) & ~fell
        self._redraw_commands()
        observations = self.observe()
        info: dict[str, Any] = {
            "progress": self._way[0] / np.maximum(self._way[1], 1e-6),
            "diverged": simulation.diverged.copy(),
            "joint_targets_rad": targets,
            "torques_nm": simulation.torques_nm.copy(),
        }
        done = np.flatnonzero(fell | truncated)
        if len(done):
            info["final_obs"] = observations
            info["_final_obs"] = fell | truncated
            info["final_privileged"] = self.privileged()
            observations = observations.copy()
            self._begin(done)
            observations[done] = self.observe(done)
        return observations, rewards.astype(np.float32), fell, truncated, info

    def joint_targets(self) -> np.ndarray:
        """Current targets of the joint controllers, shape (n, 12), rad: the gait, corrected by the action.

        Where gains are estimated, targets are matched so that these gains give the torques of published ones.
        """
        simulation, table = self.simulation, self.simulation.table
        settings = self._gait(self._told) if isinstance(self._gait, GaitReader) else self._gait
        gait = self.config.gait.joint_targets(self.commands.velocity, self.phase, table, settings)
        limits = table.joint_limits_rad
        wanted = np.clip(gait + self.config.action_scale_rad * self.action, limits[:, 0], limits[:, 1])
        if self._gains is None:
            return wanted
        angles, speeds = simulation.joint_angles_rad, simulation.joint_speeds_rad_s
        return matched_targets(wanted, angles, speeds, self._gains(self._told), table)

    def privileged(self) -> np.ndarray:
        """What only a simulation can know, in the order of `observations.PRIVILEGED`, shape (n, size)."""
        return privileged_state(self.simulation)

    @property
    def step_limit(self) -> int:
        """Control steps of a whole episode."""
        return round(self.config.episode_s / CONTROL_PERIOD_S)

    def observe(self, ids: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Observations of some robots, shape (k, size); to be called once per control step."""
        sensed = self._sensors.read(
            self.simulation, self.commands.velocity, self.action, self.phase, self._rng, ids
        )
        if self._guide is None:
            return sensed
        told = self._guide.read(sensed, ids)
        self._told[ids] = told
        return np.hstack([sensed, told])

    def move_to(self, ids: np.ndarray, tiles: np.ndarray) -> None:
        """Restart robots on other grounds.

        Args:
            ids: which, shape (k,).
            tiles: numbers of their grounds, shape (k,).

        Raises:
            ConfigError: a tile that the arena lacks.
        """
        self.simulation.arena.check_tiles(tiles)
        self.tiles[ids] = tiles
        self._begin(ids)

    def _begin(self, ids: np.ndarray) -> None:
        """New episodes: place, phase, command and sensors."""
        rng, count = self._rng, len(ids)
        directional = self._directional[self.tiles[ids]]
        yaw = np.where(directional, rng.uniform(-0.2, 0.2, count), rng.uniform(-np.pi, np.pi, count))
        self.simulation.place(ids, self.tiles[ids], yaw_rad=yaw, share=rng.random((count, 2)))
        self.step_count[ids] = 0
        self._way[:, ids] = 0.0
        self.phase[ids] = rng.random(count)
        self.action[ids] = 0.0
        self.commands.draw(ids, directional, rng)
        # A heading to keep is near the one the robot starts with.
        self.commands.heading[ids] += np.where(directional, 0.0, yaw)
        self.commands.follow_heading(self.simulation.yaw_rad)
        self._sensors.forget(ids)
        if self._guide is not None:
            self._guide.forget(ids)

    def _count_way(self) -> None:
        """Add up the distances that robots covered in the commanded direction, and the commanded ones."""
        made_and_wanted = speed_along(self.simulation.trunk_velocity_m_s, self.commands.velocity)
        self._way += np.stack(made_and_wanted) * CONTROL_PERIOD_S

    def _redraw_commands(self) -> None:
        steps = round(self.config.commands.duration_s / CONTROL_PERIOD_S)
        ids = np.flatnonzero(self.step_count % steps == 0)
        if len(ids):
            directional = self._directional[self.tiles[ids]]
            self.commands.draw(ids, directional, self._rng)
            self.commands.heading[ids] += np.where(directional, 0.0, self.simulation.yaw_rad[ids])
        self.commands.follow_heading(self.simulation.yaw_rad)

    def _push(self) -> None:
        if self.config.push_m_s:
            pushed = self._rng.random(self.num_envs) < CONTROL_PERIOD_S / 4.0
            push = self._rng.normal(0, self.config.push_m_s, (self.num_envs, 2))
            self.simulation.qvel[:, :2] += pushed[:, None] * push


def _check_seed(seed: int) -> None:
    if seed < 0:
        raise ConfigError(f"seed={seed} must not be negative.")
