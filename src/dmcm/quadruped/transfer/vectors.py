"""Logs of stand-in robots, and the vectors that are made of what they measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from dmcm.learner import Learner
from dmcm.quadruped.body.properties import RobotProperties, nominal
from dmcm.quadruped.body.robot_table import RobotTable
from dmcm.quadruped.conditioned.logs import log_recording, log_samples
from dmcm.quadruped.conditioned.models import Model, dynamics_model
from dmcm.quadruped.data.recording import COLUMNS, TRUTH, without_truth
from dmcm.quadruped.data.windows import WindowConfig, cut
from dmcm.quadruped.dynamics.base import base_errors
from dmcm.quadruped.dynamics.cells import ROBOT, TERRAIN, robot_truth, terrain_truth
from dmcm.quadruped.dynamics.evaluation import adapt_cells
from dmcm.quadruped.dynamics.measured import filled, measured_outputs, only_outputs
from dmcm.quadruped.standin.gap import RealityGap
from dmcm.quadruped.standin.simulation import stand_in
from dmcm.quadruped.transfer.scenario import GROUNDS, TransferConfig, stand_ins
from dmcm.quadruped.walking.policy import Policy
from dmcm.quadruped.world.terrain import Terrain
from dmcm.storage import load_arrays, save_arrays

MEASURED = measured_outputs(set(COLUMNS) - set(TRUTH))
"""Outputs that a real robot can be adapted to."""


def flat_logs(config: TransferConfig, table: RobotTable, walker: Policy, gap: float) -> np.ndarray:
    """Twenty seconds of each robot on flat ground, shape (robots, steps, columns), kept in a file."""
    robots = stand_ins(config)
    return _kept(config, table, walker, robots, [Terrain()] * len(robots), gap, "flat")


def logs_in_place(config: TransferConfig, table: RobotTable, walker: Policy, gap: float) -> np.ndarray:
    """Twenty seconds of each on each ground, ground by ground, shape (grounds · robots, steps, columns)."""
    robots = stand_ins(config)
    places = [ground for ground in GROUNDS.values() for _ in robots]
    return _kept(config, table, walker, robots * len(GROUNDS), places, gap, "here")


def vectors_of(
    config: TransferConfig,
    table: RobotTable,
    walker: Policy,
    seed: int,
    logs: Mapping[str, np.ndarray],
    *,
    data_s: float = np.inf,
) -> dict[str, np.ndarray]:
    """All vectors that the ways of `WAYS` need, one row an episode: ground by ground, all robots on each.

    Args:
        config: the study's.
        table: the robot's facts.
        walker: which collected the data of training.
        seed: of the dynamics models.
        logs: "flat", and "here" if vectors of logs in place are wanted.
        data_s: seconds of the logs that are used.
    """
    both, single = (dynamics_model(config.dynamics, method, seed) for method in ("dmcm", "single"))
    robots, count = stand_ins(config), len(GROUNDS)
    simulated = log_samples(
        walker, table, [nominal(table)] * (count + 1), [Terrain(), *GROUNDS.values()], seed=(config.seed, 6)
    )
    known = both.vectors(simulated)
    flat, grounds = known[TERRAIN][0], known[TERRAIN][1:]
    found = {
        "terrain": np.repeat(grounds, len(robots), axis=0),
        "robot_nominal": np.tile(known[ROBOT][0], (count * len(robots), 1)),
        "robot_flat": np.tile(adapted(both, logs["flat"], data_s, {TERRAIN: flat})[ROBOT], (count, 1)),
        "cell_flat": np.tile(adapted(single, logs["flat"], data_s)["cell"], (count, 1)),
        "true_robot": np.tile(robot_truth(robots), (count, 1)),
        "true_terrain": np.repeat(terrain_truth(list(GROUNDS.values())), len(robots), axis=0),
    }
    if "here" in logs:
        here = adapted(both, logs["here"], data_s) | adapted(single, logs["here"], data_s)
        found |= {f"{name}_here": value for name, value in here.items()}
    return found


def adapted(
    model: Model, data: np.ndarray, data_s: float, given: Mapping[str, np.ndarray] | None = None
) -> dict[str, np.ndarray]:
    """Vectors from what was measured; the prior's mean for logs of little but falls."""
    windows = cut(without_truth(data), WindowConfig(), parts=1)
    learner: Learner = model.learner
    wrong = filled(learner, base_errors(windows, model.base), MEASURED)
    enough = windows.count[:, 0] > 0
    contexts = adapt_cells(
        only_outputs(learner, MEASURED),
        windows,
        wrong,
        np.flatnonzero(enough),
        given=given,
        seconds=data_s,
    )
    found = {}
    for name, value in learner.prior_contexts().values.items():
        found[name] = np.tile(np.asarray(value), (len(enough), 1))
        found[name][enough] = contexts[name]
    return found


def _kept(
    config: TransferConfig,
    table: RobotTable,
    walker: Policy,
    robots: Sequence[RobotProperties],
    grounds: Sequence[Terrain],
    gap: float,
    name: str,
) -> np.ndarray:
    about = {"kind": "stand-in logs", "robots": config.robots, "seed": config.seed, "gap": gap}
    path = config.out / f"logs-{name}-gap-{gap:g}.safetensors"
    if path.exists():
        arrays, found = load_arrays(path)
        if found == about:
            return arrays["data"]
    physics = stand_in(RealityGap().scaled(gap), config.seed)
    seed = (config.seed, 8, len(robots))
    data = log_recording(walker, table, robots, grounds, seed=seed, physics=physics)
    save_arrays(path, {"data": data}, about)
    return data
