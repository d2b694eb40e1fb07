"""Robots with little joint damping: how much of it joint targets can make up for, in both engines.

    python -m benchmarks.damping

Joint targets act late, so damping that they add arrives late as well. Robots whose D gain is below
training's, and which are outside training in other ways too, walk over rough ground and waves with the
package's policy and the vectors of their flat logs, with several lower bounds of the D gain that is believed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from dmcm.quadruped.body.properties import OOD_RANGES, draw_ood_robots, nominal
from dmcm.quadruped.body.robot_table import load_robot
from dmcm.quadruped.conditioned.logs import log_recording
from dmcm.quadruped.conditioned.shipped import MATCHED_POLICY
from dmcm.quadruped.conditioned.suite import ENOUGH
from dmcm.quadruped.data.recording import without_truth
from dmcm.quadruped.dynamics.cells import ROBOT, TERRAIN
from dmcm.quadruped.dynamics.log_fit import log_vectors, near_vectors
from dmcm.quadruped.dynamics.model import load_dynamics_model
from dmcm.quadruped.standin.gap import RealityGap
from dmcm.quadruped.standin.simulation import stand_in
from dmcm.quadruped.transfer.scenario import GROUNDS
from dmcm.quadruped.walking import known_gains
from dmcm.quadruped.walking.evaluation import evaluate_walking
from dmcm.quadruped.walking.guides import Vectors
from dmcm.quadruped.walking.policy import POLICY, load_policy
from dmcm.quadruped.walking.suite import OVER_GROUND
from dmcm.quadruped.world.simulation import Simulation
from dmcm.quadruped.world.terrain import Terrain
from dmcm.runs import environment
from dmcm.storage import write_json
from dmcm.summaries import half_width_of_groups

RESULTS = Path("results/damping.json")
LOWEST = (0.35, 0.7, 1.0)
"""Lower bounds of the believed D gain, as fractions of the published one."""
ROBOTS, SEED, LATE_S = 40, 4, 0.02


def main() -> None:
    """Measure everything and write it."""
    table, (walker, _), (policy, _) = load_robot("go1"), load_policy(POLICY), load_policy(MATCHED_POLICY)
    model = load_dynamics_model()
    drawn = draw_ood_robots(np.random.default_rng([SEED, 14]), 10 * ROBOTS)
    most = OOD_RANGES["d_gain_nms_per_rad"][1]
    robots = [robot for robot in drawn if robot.d_gain_nms_per_rad <= most][:ROBOTS]
    grounds = [GROUNDS["rough"], GROUNDS["waves"]]
    late = np.tile([robot.action_delay_s >= LATE_S for robot in robots], len(grounds))
    flat = log_vectors(model, log_recording(walker, table, [nominal(table)], [Terrain()], seed=(SEED, 15)))
    engines = {
        "mujoco": (Simulation, Simulation),
        "bullet": (stand_in(RealityGap(), SEED), stand_in(RealityGap(), SEED + 1)),
    }
    results: dict[str, Any] = {}
    for name, (logged, walked) in engines.items():
        logs = log_recording(walker, table, robots, [Terrain()] * ROBOTS, seed=(SEED, 16), physics=logged)
        own = near_vectors(model, without_truth(logs), given={TERRAIN: flat[TERRAIN][0]})[ROBOT]
        results[name] = {}
        for lowest in LOWEST:
            bounds = (lowest, known_gains.D_SHARES[1])
            with patch.object(known_gains, "D_SHARES", bounds):
                walk = evaluate_walking(
                    policy,
                    table,
                    robots * len(grounds),
                    [place for place in grounds for _ in robots],
                    commands=OVER_GROUND,
                    guide=Vectors(np.tile(own, (len(grounds), 1))),
                    physics=walked,
                    seed=SEED,
                )
            fine = walk.success(ENOUGH)
            results[name][f"{lowest:g}"] = {
                "all": float(fine.mean()),
                "ci95": half_width_of_groups(fine.reshape(1, len(grounds), -1).mean(axis=1)),
                "late": float(fine[late].mean()),
                "others": float(fine[~late].mean()),
                "falls": int(walk.fell.sum()),
            }
            print(name, lowest, results[name][f"{lowest:g}"], flush=True)
    about = {
        "robots": ROBOTS,
        "late_robots": int(late.sum()) // len(grounds),
        "command": "python -m benchmarks.damping",
        "environment": environment(),
    }
    write_json(RESULTS, {"success": results, **about})


if __name__ == "__main__":
    main()
