"""A body that changes while the robot walks: vectors made before, and vectors filtered as it walks.

    python -m benchmarks.live

Robots of training walk over rough ground in MuJoCo. After three seconds every joint controller has half of
its P gain, or a load of 3 kg drops on the trunk. Policies are those of `dmcm quadruped train-policy`, models
those of `dmcm quadruped dynamics`, in their usual folders.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from dmcm.quadruped.body.properties import RobotProperties, draw_robots, nominal
from dmcm.quadruped.body.robot_table import load_robot
from dmcm.quadruped.conditioned.live import LiveVectors, step_noise
from dmcm.quadruped.conditioned.logs import log_recording
from dmcm.quadruped.conditioned.study import trained_policy
from dmcm.quadruped.conditioned.suite import ENOUGH
from dmcm.quadruped.data.windows import WindowConfig, cut
from dmcm.quadruped.dynamics.cells import ROBOT, TERRAIN
from dmcm.quadruped.dynamics.log_fit import log_vectors, near_vectors
from dmcm.quadruped.dynamics.model import trained_model
from dmcm.quadruped.walking.environment import WalkEnvironment
from dmcm.quadruped.walking.evaluation import evaluate_walking
from dmcm.quadruped.walking.guides import Vectors
from dmcm.quadruped.walking.policy import POLICY, load_policy
from dmcm.quadruped.walking.suite import OVER_GROUND
from dmcm.quadruped.world.simulation import CONTROL_PERIOD_S
from dmcm.quadruped.world.terrain import Terrain
from dmcm.runs import environment
from dmcm.storage import write_json
from dmcm.summaries import summarise_numbers

RESULTS = Path("results/live.json")
POLICIES, DYNAMICS = Path("runs/quadruped-policies"), Path("runs/quadruped-dynamics")
SEEDS, ROBOTS, CHANGE_S, SECONDS = 3, 24, 3.0, 10.0
GROUND = Terrain("rough", 0.06, 0.2)
FORGETTING = (0.9, 0.99)
CHANGES = {
    "half the P gain": lambda robot: dataclasses.replace(
        robot, p_gain_nm_per_rad=0.5 * robot.p_gain_nm_per_rad
    ),
    "a load of 3 kg": lambda robot: dataclasses.replace(robot, payload_kg=robot.payload_kg + 3.0),
}


class Changing:
    """Changes all bodies once, and updates a filter."""

    def __init__(self, after: list[RobotProperties], live: LiveVectors | None):
        self._after, self._live, self._steps = after, live, 0

    def watch(self, walks: WalkEnvironment, info: Any, fell: np.ndarray) -> None:
        """See `walking.evaluation.Watch`."""
        if self._live is not None:
            self._live.watch(walks, info, fell)
        self._steps += 1
        if self._steps == round(CHANGE_S / CONTROL_PERIOD_S):
            walks.simulation.set_robots(np.arange(len(self._after)), self._after)


def measured(seed: int, change: str) -> dict[str, float]:
    """Success of each way with the policy and model of one seed."""
    table, (walker, _) = load_robot("go1"), load_policy(POLICY)
    robots = draw_robots(np.random.default_rng([seed, 11]), ROBOTS)
    after = [CHANGES[change](robot) for robot in robots]
    model = trained_model(DYNAMICS, "dmcm", seed)
    places = [Terrain(), GROUND]
    known = log_vectors(model, log_recording(walker, table, [nominal(table)] * 2, places, seed=(seed, 12)))
    flat, rough = known[TERRAIN]
    logs = log_recording(walker, table, robots, [Terrain()] * ROBOTS, seed=(seed, 13))
    own = near_vectors(model, logs, given={TERRAIN: flat})[ROBOT]
    samples = cut(logs, WindowConfig(), parts=1)
    noise = step_noise(model, samples)
    found = {}
    for name in ("vanilla", "log before", *(f"filtered, {share:g}" for share in FORGETTING)):
        live, guide, method = None, None, "dmcm"
        if name == "vanilla":
            method = "vanilla"
        elif name == "log before":
            guide = Vectors(own)
        else:
            live = LiveVectors(
                model,
                np.tile(rough, (ROBOTS, 1)),
                noise,
                forgetting=float(name.split()[1]),
            )
            guide = live.guide
        walk = evaluate_walking(
            trained_policy(POLICIES, DYNAMICS, method, seed, "go1")[0],
            table,
            robots,
            [GROUND] * ROBOTS,
            seconds=SECONDS,
            commands=OVER_GROUND,
            guide=guide,
            watch=Changing(after, live).watch,
            seed=seed,
            threads=1,
        )
        found[name] = float(walk.success(ENOUGH).mean())
    return found


def main() -> None:
    """Measure everything and write it."""
    results: dict[str, Any] = {}
    for change in CHANGES:
        runs = [measured(seed, change) for seed in range(SEEDS)]
        results[change] = {name: summarise_numbers([run[name] for run in runs]) for name in runs[0]}
        print(change, {name: row["mean"] for name, row in results[change].items()})
    about = {"robots": ROBOTS, "seeds": SEEDS, "change_s": CHANGE_S, "seconds": SECONDS}
    command = "python -m benchmarks.live"
    write_json(RESULTS, {"success": results, **about, "command": command, "environment": environment()})


if __name__ == "__main__":
    main()
