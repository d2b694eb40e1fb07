"""Coverage of the streaming filter's intervals on robots' logs, and the noise that makes it right.

    python -m benchmarks.filter_calibration

Two logs of each training robot on flat ground are filtered, sample by sample, and the two vectors are
compared with the interval of their difference. The filter assumes that the errors of samples are independent,
which those of neighbours in a log are not. So the noise is scaled until 95 % of the numbers of half of the
robots lie within, and the other half test the scale. Needs the models of `dmcm quadruped dynamics`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dmcm.quadruped.body.properties import draw_robots, nominal
from dmcm.quadruped.body.robot_table import load_robot
from dmcm.quadruped.conditioned.live import step_noise
from dmcm.quadruped.conditioned.logs import log_samples
from dmcm.quadruped.data.windows import Windows
from dmcm.quadruped.dynamics.base import base_errors
from dmcm.quadruped.dynamics.cells import ROBOT, TERRAIN
from dmcm.quadruped.dynamics.log_fit import cell_vectors
from dmcm.quadruped.dynamics.model import trained_model
from dmcm.quadruped.dynamics.sampler import SHOTS
from dmcm.quadruped.walking.policy import POLICY, load_policy
from dmcm.quadruped.world.terrain import Terrain
from dmcm.runs import environment
from dmcm.storage import write_json
from dmcm.streaming import ContextFilter
from dmcm.summaries import summarise_numbers

RESULTS, DYNAMICS = Path("results/filter_calibration.json"), Path("runs/quadruped-dynamics")
SEEDS, ROBOTS = 3, 80
"""Half of the robots set the noise, half test it."""
FORGETTING = (1.0, 0.99)


def apart(own: ContextFilter, logs: Sequence[tuple[Windows, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Differences between vectors of a robot's two logs, and their standard deviations, (robots, size)."""
    vectors, deviations = [], []
    for windows, wrong in logs:
        states = [
            own.update_many(own.start(), windows.x[row, 0, :count], wrong[row, 0, :count])
            for row, count in enumerate(windows.count[1:, 0], start=1)
        ]
        vectors.append([np.asarray(own.contexts(state)[ROBOT]) for state in states])
        deviations.append([np.asarray(own.deviations(state)[ROBOT]) for state in states])
    one, other = np.array(vectors)
    return one - other, np.sqrt(np.sum(np.square(deviations), axis=0))


def judged(own: ContextFilter, logs: Sequence[tuple[Windows, np.ndarray]]) -> dict[str, float]:
    """Coverage as it is, the factor of the noise, and coverage with it on the other robots."""
    differences, deviations = apart(own, logs)
    ratios = np.abs(differences) / (1.96 * deviations)
    first, rest = ratios[: ROBOTS // 2], ratios[ROBOTS // 2 :]
    # The prior's weight follows the noise, so a factor of the noise is just a factor of the deviations.
    factor = float(np.quantile(first, 0.95))
    return {
        "coverage": float(np.mean(rest < 1)),
        "factor": factor,
        "coverage_with_factor": float(np.mean(rest < factor)),
    }


def main() -> None:
    """Filter all logs with the models of each seed."""
    table, (walker, _) = load_robot("go1"), load_policy(POLICY)
    robots = [nominal(table), *draw_robots(np.random.default_rng(21), ROBOTS)]
    places = [Terrain()] * len(robots)
    one, other = (log_samples(walker, table, robots, places, seed=(22, log)) for log in (0, 1))
    found: dict[str, list[dict[str, float]]] = {f"{share:g}": [] for share in FORGETTING}
    for seed in range(SEEDS):
        model = trained_model(DYNAMICS, "dmcm", seed)
        logs = [(windows, base_errors(windows, model.base)) for windows in (one, other)]
        # The nominal robot is the first.
        settings: dict[str, Any] = {
            "noise": step_noise(model, one),
            "samples": SHOTS,
            "given": {TERRAIN: cell_vectors(model, one, np.array([0]), wrong=logs[0][1])[TERRAIN][0]},
        }
        for share in FORGETTING:
            own = ContextFilter(model.learner, forgetting=share, **settings)
            found[f"{share:g}"].append(judged(own, logs))
            print(f"seed {seed}, forgetting {share:g}:", found[f"{share:g}"][-1], flush=True)
    results: dict[str, Any] = {
        "forgetting": {
            share: {name: summarise_numbers([run[name] for run in runs]) for name in runs[0]}
            for share, runs in found.items()
        },
        "robots": ROBOTS,
        "seeds": SEEDS,
        "command": "python -m benchmarks.filter_calibration",
        "environment": environment(),
    }
    write_json(RESULTS, results)


if __name__ == "__main__":
    main()
