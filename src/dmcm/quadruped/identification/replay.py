"""A log's segments simulated with many bodies at once, and the error of each against what was sensed."""

# mujoco re-exports compiled modules that type checkers cannot see.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import mujoco
import numpy as np

from dmcm.quadruped.body.properties import RobotProperties, as_columns
from dmcm.quadruped.body.robot_table import RobotTable
from dmcm.quadruped.identification.segments import COMPARED, PAST, Segments
from dmcm.quadruped.world.arena import Arena
from dmcm.quadruped.world.simulation import SUBSTEPS, Simulation
from dmcm.quadruped.world.terrain import Terrain

WORST = 2.0
"""Largest error of a segment, in standard deviations; also that of a simulation that diverges."""


class Replay:
    """All segments × a number of bodies in one simulation on flat ground."""

    def __init__(self, segments: Segments, table: RobotTable, bodies: int, *, threads: int = 0):
        """Put each segment's robot in its starting state, including targets not yet in effect.

        Args:
            segments: what to simulate.
            table: the robot's facts.
            bodies: how many are tried in parallel.
            threads: physics threads; 0 means one per core.
        """
        self._segments, self._bodies = segments, bodies
        self._simulation = Simulation(table, Arena([Terrain()]), bodies * segments.count, threads=threads)
        simulation = self._simulation
        middle = simulation.qpos[:, :2].copy()
        simulation.qpos[:] = np.tile(segments.qpos, (bodies, 1))
        simulation.qpos[:, :2] += middle
        simulation.qvel[:] = np.tile(segments.qvel, (bodies, 1))
        history = simulation.batch.bind("history")
        history[:] = np.tile(_past_targets(simulation.model, segments), (bodies, 1))
        self._start = simulation.snapshot()

    def errors(self, robots: Sequence[RobotProperties]) -> np.ndarray:
        """Errors of bodies against what was sensed.

        Args:
            robots: as many as this was made for.

        Returns:
            Root mean square of the differences in standard deviations, at most `WORST`, by body and segment,
            shape (bodies, segments).
        """
        simulation, segments = self._simulation, self._segments
        properties = {
            name: np.repeat(values, segments.count)
            for name, values in as_columns([robot.check() for robot in robots]).items()
        }
        simulation.restore(dataclasses.replace(self._start, properties=properties))
        total, apart = np.zeros((self._bodies, segments.count)), np.zeros(simulation.count, bool)
        for step in range(segments.steps):
            simulation.step(np.tile(segments.targets_rad[:, PAST + step], (self._bodies, 1)))
            apart |= simulation.diverged
            for name in COMPARED:
                found = getattr(simulation, name).reshape(self._bodies, segments.count, -1)
                difference = (found - segments.sensed[name][:, step]) / segments.deviations[name]
                total += (difference**2).mean(axis=-1)
        error = np.sqrt(total / (segments.steps * len(COMPARED)))
        return np.where(apart.reshape(error.shape), WORST, np.minimum(error, WORST))


def _past_targets(model: mujoco.MjModel, segments: Segments) -> np.ndarray:
    """The past targets of the delayed controllers at each segment's start, shape (segments, memory)."""
    data = mujoco.MjData(model)
    remembered = np.empty((segments.count, len(data.history)))
    for number, targets in enumerate(segments.targets_rad[:, :PAST]):
        held = np.repeat(targets, SUBSTEPS, axis=0)
        for motor in range(model.nu):
            samples = model.actuator_history[motor, 0]
            times = model.opt.timestep * np.arange(-samples, 0)
            mujoco.mj_initCtrlHistory(model, data, motor, times, np.ascontiguousarray(held[-samples:, motor]))
        remembered[number] = data.history
    return remembered
