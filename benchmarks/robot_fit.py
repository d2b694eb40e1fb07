"""How well two logs of the same simulated robot agree on its vector, and whether its intervals cover that.

python -m benchmarks.robot_fit
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dmcm.quadruped.body.properties import draw_robots, nominal
from dmcm.quadruped.body.robot_table import load_robot
from dmcm.quadruped.conditioned.logs import log_samples
from dmcm.quadruped.conditioned.robot_fit import interval
from dmcm.quadruped.data.recording import COLUMNS, TRUTH
from dmcm.quadruped.data.windows import OUTPUTS
from dmcm.quadruped.dynamics.base import base_errors
from dmcm.quadruped.dynamics.cells import ROBOT, TERRAIN
from dmcm.quadruped.dynamics.measured import fit_measured, measured_outputs, next_steps
from dmcm.quadruped.dynamics.model import load_dynamics_model
from dmcm.quadruped.walking.policy import POLICY, load_policy
from dmcm.quadruped.world.terrain import Terrain
from dmcm.runs import environment
from dmcm.storage import write_json

RESULTS = Path("results/robot_fit.json")
ROBOTS = 40


def main() -> None:
    """Two logs of each robot on flat ground; vectors of next steps, and of everything."""
    table, model = load_robot("go1"), load_dynamics_model()
    walker, _ = load_policy(POLICY)
    robots = [nominal(table), *draw_robots(np.random.default_rng(5), ROBOTS)]
    measured = next_steps(measured_outputs(set(COLUMNS) - set(TRUTH)))
    vectors, widths, everything = [], [], []
    for seed in (1, 2):
        windows = log_samples(walker, table, robots, [Terrain()] * len(robots), seed=(seed,))
        wrong = base_errors(windows, model.base)
        parts = [
            (windows.x[i, 0, :count], wrong[i, 0, :count], windows.step[i, 0, :count])
            for i, count in enumerate(windows.count[:, 0])
        ]
        flat = {TERRAIN: model.learner.adapt(*parts[0][:2])[TERRAIN]}
        fits = [fit_measured(model.learner, *part, measured, given=flat) for part in parts[1:]]
        vectors.append([np.asarray(fit.contexts[ROBOT]) for fit in fits])
        steps = [step for *_, step in parts[1:]]
        widths.append([interval(fit.deviations[ROBOT], step) for fit, step in zip(fits, steps, strict=True)])
        everything.append(
            [np.asarray(fit_measured(model.learner, *p, tuple(OUTPUTS)).contexts[ROBOT]) for p in parts[1:]]
        )
    one, other = np.array(vectors)
    half = np.sqrt(np.sum(np.square(widths), axis=0))
    apart = np.sqrt(np.mean((one - other) ** 2, axis=0) / 2)
    found = {
        "robots": ROBOTS,
        "differences_in_95_percent": float(np.mean(np.abs(one - other) < half)),
        "disagreement_in_spreads": (apart / one.std(axis=0)).tolist(),
        "correlation_with_all_outputs": [
            float(np.corrcoef(one[:, i], np.array(everything[0])[:, i])[0, 1]) for i in range(one.shape[1])
        ],
        "command": "python -m benchmarks.robot_fit",
        "environment": environment(),
    }
    write_json(RESULTS, found)
    print({name: value for name, value in found.items() if name != "environment"})


if __name__ == "__main__":
    main()
