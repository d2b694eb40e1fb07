"""Recordings of walking robots: the columns of the data, and how to fill them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dmcm.columns import slices
from dmcm.quadruped.body.properties import RobotProperties
from dmcm.quadruped.body.robot_table import RobotTable
from dmcm.quadruped.walking.environment import WalkConfig, WalkEnvironment
from dmcm.quadruped.walking.policy import Policy, check_reads, mean_action
from dmcm.quadruped.world.arena import Arena
from dmcm.quadruped.world.physics import PhysicsMaker
from dmcm.quadruped.world.simulation import CONTROL_PERIOD_S, Simulation

COLUMNS: Mapping[str, int] = {
    "joint_angles_rad": 12,
    "joint_speeds_rad_s": 12,
    "gyro_rad_s": 3,
    "gravity_direction": 3,
    "foot_forces_n": 4,
    "trunk_velocity_m_s": 3,
    "height_m": 1,
    "command": 3,
    "gait_phase": 1,
    "joint_targets_rad": 12,
    "torques_nm": 12,
    "begins": 1,
    "falls": 1,
    "diverges": 1,
}
"""Columns of a recording in order, and their sizes. State, command, phase and targets are those at the start
of a control step; torques are those at its end. `begins` marks the first step of an episode, `falls` the last
before a fall, `diverges` a step in which the simulation diverged. Trunk velocity and height are the truth;
see `TRUTH`."""


TRUTH = ("trunk_velocity_m_s", "height_m")
"""Columns that no real robot measures."""


_WHERE = slices(COLUMNS)


def column(name: str) -> slice:
    """Slice of a column."""
    return _WHERE[name]


def without_truth(data: np.ndarray) -> np.ndarray:
    """A recording as a real robot would have it: NaN in the columns of `TRUTH`, same shape."""
    out = data.copy()
    for name in TRUTH:
        out[..., column(name)] = np.nan
    return out


def delayed(data: np.ndarray, steps: int) -> np.ndarray:
    """A recording with joint targets moved some control steps later, closer to when they act.

    Args:
        data: shape (..., steps, columns).
        steps: how many control steps later.

    Returns:
        A recording of the same shape. The first steps of an episode, whose targets are unknown, each count as
        a fresh start, so that no sample spans them.
    """
    if not steps:
        return data
    out, targets, begins = data.copy(), column("joint_targets_rad"), column("begins")
    out[..., steps:, targets] = data[..., :-steps, targets]
    for late in range(1, steps + 1):
        np.maximum(out[..., late:, begins], data[..., :-late, begins], out=out[..., late:, begins])
    out[..., : steps + 1, begins] = 1
    return out


def record(
    policy: Policy,
    table: RobotTable,
    robots: Sequence[RobotProperties],
    arena: Arena,
    tiles: Sequence[int],
    walk: WalkConfig,
    *,
    seconds: float,
    exploration: float,
    seed: Sequence[int],
    physics: PhysicsMaker = Simulation,
    threads: int = 0,
) -> np.ndarray:
    """Let robots walk and record everything.

    Args:
        policy: all robots take its mean action.
        table: the robot's facts.
        robots: n bodies.
        arena: the grounds.
        tiles: n numbers of grounds.
        walk: settings of the walking environment.
        seconds: length of the recording; a robot that falls starts again.
        exploration: standard deviation of the noise added to the policy's actions.
        seed: for commands, starts and exploration.
        physics: creates the physics engine.
        threads: physics threads; 0 means one per core. They do not change the result.

    Returns:
        Shape (n, steps, columns), single precision.

    Raises:
        ShapeError: the policy's input size is not that of the observations.
    """
    rng = np.random.default_rng([*seed, 1])
    environment = WalkEnvironment(table, arena, robots, tiles, walk, physics=physics, threads=threads)
    observation, _ = environment.reset(seed=int(np.random.default_rng([*seed, 0]).integers(2**31)))
    check_reads(policy, observation)
    steps = round(seconds / CONTROL_PERIOD_S)
    out = np.empty((len(robots), steps, sum(COLUMNS.values())), np.float32)
    begins = np.ones(len(robots), bool)
    for step in range(steps):
        out[:, step] = before_step(environment, begins)
        action = np.asarray(mean_action(policy, observation))
        action = action + exploration * rng.normal(size=action.shape)
        observation, _, fell, cut, info = environment.step(action)
        after_step(out[:, step], info, fell)
        begins = fell | cut
    return out


def before_step(environment: WalkEnvironment, begins: np.ndarray) -> np.ndarray:
    """What is recorded at the start of a control step; the rest is 0.

    Args:
        environment: before the step.
        begins: which robots begin an episode, shape (n,).

    Returns:
        Shape (n, columns), single precision.
    """
    simulation = environment.simulation
    now = {
        "joint_angles_rad": simulation.joint_angles_rad,
        "joint_speeds_rad_s": simulation.joint_speeds_rad_s,
        "gyro_rad_s": simulation.gyro_rad_s,
        "gravity_direction": simulation.gravity_direction,
        "foot_forces_n": simulation.foot_forces_n,
        "trunk_velocity_m_s": simulation.trunk_velocity_m_s,
        "height_m": simulation.travelled_m[:, 2:],
        "command": environment.commands.velocity,
        "gait_phase": environment.phase[:, None],
        "begins": begins[:, None],
    }
    row = np.zeros((len(begins), sum(COLUMNS.values())), np.float32)
    for name, value in now.items():
        row[:, column(name)] = value
    return row


def after_step(row: np.ndarray, info: Mapping[str, Any], fell: np.ndarray) -> None:
    """Fill in the outcome of a step.

    Args:
        row: result of `before_step`, shape (n, columns).
        info: what the environment's step returned.
        fell: which robots fell in it, shape (n,).
    """
    row[:, column("joint_targets_rad")] = info["joint_targets_rad"]
    row[:, column("torques_nm")] = info["torques_nm"]
    row[:, column("falls")] = fell[:, None]
    row[:, column("diverges")] = info["diverged"][:, None]
