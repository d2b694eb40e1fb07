"""What a vector does to the gait: one robot walks on flat ground, and only its vectors change."""

from __future__ import annotations

import numpy as np

from dmcm.quadruped.body.properties import nominal
from dmcm.quadruped.body.robot_table import LEGS, RobotTable
from dmcm.quadruped.walking.commands import CommandRanges
from dmcm.quadruped.walking.environment import WalkConfig, WalkEnvironment
from dmcm.quadruped.walking.guides import Vectors
from dmcm.quadruped.walking.observations import CONTACT_N
from dmcm.quadruped.walking.policy import Policy, check_reads, mean_action
from dmcm.quadruped.world.arena import Arena
from dmcm.quadruped.world.simulation import CONTROL_PERIOD_S
from dmcm.quadruped.world.terrain import Terrain

SHARES = (-0.5, 0.0, 0.5, 1.0, 1.5)
"""Positions between one vector and the other; below 0 and above 1 lie beyond them."""
_SECONDS, _SETTLE_S = 6.0, 1.0
_STRAIGHT_ON = CommandRanges((0.5, 0.5), (0.0, 0.0), (0.0, 0.0), (0.0, 0.0), 1.0, 60.0)
_ROBOTS = 8


def gait_along(
    policy: Policy, table: RobotTable, start: np.ndarray, end: np.ndarray, *, threads: int = 0
) -> dict[str, list[float | None]]:
    """How the gait of the nominal robot at 0.5 m/s changes while its vectors go from one to another.

    Args:
        policy: reads vectors.
        table: the robot's facts.
        start: all vectors, concatenated, at share 0.
        end: the same at share 1.
        threads: physics threads; 0 means one per core.

    Returns:
        Lists over `SHARES`: `clearance_m`, mean height of the trunk above the ground; `foot_lift_m`, mean
        range of the feet's heights below the hip in a gait cycle; `foot_duty`, share of the time that a foot
        touches the ground; `speed_m_s`; `energy_j_per_m`. None where all robots fell.

    Raises:
        ShapeError: vectors of another size than the policy reads.
    """
    first, last = np.asarray(start, np.float32), np.asarray(end, np.float32)
    told = first + (last - first) * np.asarray(SHARES, np.float32)[:, None]
    count = len(SHARES) * _ROBOTS
    environment = WalkEnvironment(
        table,
        Arena([Terrain()]),
        [nominal(table)] * count,
        [0] * count,
        WalkConfig(episode_s=_SECONDS + 1, commands=_STRAIGHT_ON),
        guide=Vectors(np.repeat(told, _ROBOTS, axis=0)),
        gains=policy.gains,
        gait=policy.gait,
        threads=threads,
    )
    observation, _ = environment.reset(seed=0)
    check_reads(policy, observation)
    simulation, alive = environment.simulation, np.ones(count, bool)
    clearance, height, contact, speed, power = [], [], [], [], []
    for step in range(round(_SECONDS / CONTROL_PERIOD_S)):
        observation, _, fell, cut, _ = environment.step(np.asarray(mean_action(policy, observation)))
        alive &= ~(fell | cut)
        if step * CONTROL_PERIOD_S >= _SETTLE_S:
            clearance.append(simulation.clearance_m.copy())
            height.append(foot_heights(simulation.joint_angles_rad, table))
            contact.append(np.mean(simulation.foot_forces_n > CONTACT_N, axis=1))
            speed.append(simulation.trunk_velocity_m_s[:, 0].copy())
            work = np.maximum(simulation.torques_nm * simulation.joint_speeds_rad_s, 0)
            power.append(work.sum(axis=1))
    cycle = round(1 / environment.config.gait.frequency_hz / CONTROL_PERIOD_S)
    cycles = np.stack(height)[: len(height) // cycle * cycle].reshape(-1, cycle, count, 4)
    measured = {
        "clearance_m": np.mean(clearance, axis=0),
        "foot_lift_m": np.ptp(cycles, axis=1).mean(axis=(0, 2)),
        "foot_duty": np.mean(contact, axis=0),
        "speed_m_s": np.mean(speed, axis=0),
        "energy_j_per_m": np.mean(power, axis=0) / np.maximum(np.mean(speed, axis=0), 0.05),
    }
    groups = alive.reshape(-1, _ROBOTS)
    return {
        name: [
            float(row[up].mean()) if up.any() else None
            for row, up in zip(values.reshape(-1, _ROBOTS), groups, strict=True)
        ]
        for name, values in measured.items()
    }


def foot_heights(angles_rad: np.ndarray, table: RobotTable) -> np.ndarray:
    """Heights of the feet relative to their hips, in the trunk's frame, shape (n, 4), metres, negative.

    Args:
        angles_rad: joint angles, shape (n, 12).
        table: the robot.
    """
    hip, thigh, calf = np.moveaxis(angles_rad.reshape(-1, 4, 3), -1, 0)
    down = table.thigh_length_m * np.cos(thigh) + table.calf_length_m * np.cos(thigh + calf)
    sides = np.array([table.side_offset_m(leg) for leg in LEGS])
    return sides * np.sin(hip) - down * np.cos(hip)
