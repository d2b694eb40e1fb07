"""How well a policy walks by its mean action, on given grounds, with given bodies."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from dmcm.quadruped.body.properties import RobotProperties
from dmcm.quadruped.body.robot_table import RobotTable
from dmcm.quadruped.walking.commands import CommandRanges, speed_along
from dmcm.quadruped.walking.environment import WalkConfig, WalkEnvironment
from dmcm.quadruped.walking.guides import Guide
from dmcm.quadruped.walking.policy import Policy, check_reads, mean_action
from dmcm.quadruped.world.arena import Arena
from dmcm.quadruped.world.physics import PhysicsMaker
from dmcm.quadruped.world.simulation import CONTROL_PERIOD_S, Simulation
from dmcm.quadruped.world.terrain import Terrain

Watch = Callable[[WalkEnvironment, Mapping[str, Any], np.ndarray], None]
"""Takes the environment after a control step, the information that the step returned, and which robots fell
in it."""


@dataclasses.dataclass(frozen=True)
class Walk:
    """Outcomes of one episode of each of n robots; means are over the time before a fall."""

    fell: np.ndarray
    """Whether it fell, shape (n,)."""
    seconds: np.ndarray
    """Time it walked, shape (n,)."""
    distance_m: np.ndarray
    """Straight-line distance from start to end, shape (n,)."""
    path_m: np.ndarray
    """Length of its path, shape (n,)."""
    progress: np.ndarray
    """Share of the commanded distance that it covered; 1 where it was told to stay, shape (n,)."""
    velocity_error_m_s: np.ndarray
    """Root mean square of velocity minus command, in the plane of the trunk, without the first second,
    averaged over a gait cycle; NaN for robots that fell in the first second, shape (n,)."""
    yaw_error_rad_s: np.ndarray
    """Root mean square of yaw rate minus command, as measured by the gyro, without the first second, averaged
    over a gait cycle; NaN for robots that fell in the first second, shape (n,)."""
    energy_j: np.ndarray
    """Positive mechanical work of the motors, by the engine's sensed torques and speeds, shape (n,)."""
    diverged: np.ndarray
    """Whether the simulation diverged, shape (n,)."""

    def success(self, enough: float) -> np.ndarray:
        """Which robots walked to the end and covered this share of the commanded distance, shape (n,)."""
        return ~self.fell & ~self.diverged & (self.progress >= enough)


def evaluate_walking(
    policy: Policy,
    table: RobotTable,
    robots: Sequence[RobotProperties],
    terrains: Sequence[Terrain],
    *,
    seconds: float = 8.0,
    commands: CommandRanges | None = None,
    guide: Guide | None = None,
    gait: np.ndarray | None = None,
    watch: Watch | None = None,
    physics: PhysicsMaker = Simulation,
    seed: int = 0,
    threads: int = 0,
) -> Walk:
    """One episode of each robot on its ground, with the policy's mean action.

    Args:
        policy: chooses the actions.
        table: the robot's facts.
        robots: n bodies.
        terrains: n grounds.
        seconds: length of an episode.
        commands: ranges of commands; those of training by default.
        guide: adds what the policy is given to the observations.
        gait: settings of each robot's gait instead of the policy's choice, see `WalkEnvironment`.
        watch: called after each control step, for a guide that learns while robots walk.
        physics: creates the physics engine.
        seed: for starts and commands.
        threads: physics threads; 0 means one per core.

    Raises:
        ShapeError: the policy's input size is not that of the observations and the guide, or gaits of another
            shape.
    """
    arena = Arena(list(dict.fromkeys(terrains)))
    tiles = [arena.tile(terrain) for terrain in terrains]
    # Longer than measured, so that only robots that fall restart before the end.
    walk = WalkConfig(episode_s=seconds + 1, commands=commands or CommandRanges())
    environment = WalkEnvironment(
        table,
        arena,
        robots,
        tiles,
        walk,
        guide=guide,
        gains=policy.gains,
        gait=policy.gait if gait is None else gait,
        physics=physics,
        threads=threads,
    )
    observation, _ = environment.reset(seed=seed)
    check_reads(policy, observation)
    simulation, n = environment.simulation, len(robots)
    alive, diverged = np.ones(n, bool), np.zeros(n, bool)
    steps, settled = np.zeros(n), np.zeros(n)
    errors, energy, made, asked = np.zeros((2, n)), np.zeros(n), np.zeros(n), np.zeros(n)
    path = np.zeros(n)
    start, last = simulation.travelled_m.copy(), simulation.travelled_m.copy()
    cycle = round(1 / walk.gait.frequency_hz / CONTROL_PERIOD_S)
    recent = np.zeros((cycle, n, 3))
    for step in range(round(seconds / CONTROL_PERIOD_S)):
        command = environment.commands.velocity.copy()
        observation, _, fell, cut, info = environment.step(np.asarray(mean_action(policy, observation)))
        if watch is not None:
            watch(environment, info, fell)
        # Not simulation.diverged: the robot has restarted by now.
        diverged |= alive & info["diverged"]
        alive &= ~(fell | cut)
        velocity, gyro = simulation.trunk_velocity_m_s, simulation.gyro_rad_s
        # The trunk sways within a cycle, so the mean over a cycle counts.
        recent[step % cycle] = np.concatenate([velocity[:, :2], gyro[:, 2:]], axis=1) - command
        if (step + 1) * CONTROL_PERIOD_S > 1.0:
            mean = recent.mean(axis=0)
            errors += alive * np.stack([np.sum(mean[:, :2] ** 2, axis=1), mean[:, 2] ** 2])
            settled += alive
        power = np.maximum(simulation.torques_nm * simulation.joint_speeds_rad_s, 0).sum(axis=1)
        energy += alive * power * CONTROL_PERIOD_S
        along, speed = speed_along(velocity, command)
        made += alive * along * CONTROL_PERIOD_S
        asked += speed * CONTROL_PERIOD_S
        path += alive * np.linalg.norm(velocity[:, :2], axis=1) * CONTROL_PERIOD_S
        last[alive] = simulation.travelled_m[alive]
        steps += alive
    errors = np.sqrt(errors / np.where(settled > 0, settled, np.nan))
    return Walk(
        fell=~alive & ~diverged,
        seconds=steps * CONTROL_PERIOD_S,
        distance_m=np.linalg.norm((last - start)[:, :2], axis=1),
        path_m=path,
        progress=np.where(asked > 0.1, made / np.maximum(asked, 1e-6), 1.0),
        velocity_error_m_s=errors[0],
        yaw_error_rad_s=errors[1],
        energy_j=energy,
        diverged=diverged,
    )
