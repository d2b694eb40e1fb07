"""How well a stand-in robot's P gain is estimated from its log: by seconds, ground and size of the gap.

    python -m benchmarks.readings

Policies are those of `dmcm quadruped train-policy`, models those of `dmcm quadruped dynamics`, in their usual
folders. A reading is the gain that a policy matches joint targets to: that of the published robot where the
vector is not trusted. Least squares of measured torques, with the controller's law known, is given beside it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from dmcm.quadruped.body.robot_table import load_robot
from dmcm.quadruped.conditioned.study import trained_policy
from dmcm.quadruped.identification.gains import regressed_gains
from dmcm.quadruped.transfer.scenario import GROUNDS, TransferConfig, stand_ins
from dmcm.quadruped.transfer.vectors import VectorSource
from dmcm.quadruped.walking.policy import POLICY, load_policy
from dmcm.runs import environment
from dmcm.storage import write_json
from dmcm.summaries import summarise_numbers

RESULTS = Path("results/readings.json")
CONFIG = TransferConfig(robots=16, seed=3, out=Path("runs/quadruped-readings"))
SECONDS, GAPS, SEEDS = (1.0, 2.0, 5.0, 10.0), (0.0, 2.0), 3


def errors(read: np.ndarray, truth: np.ndarray) -> float:
    """Root mean squared error of the logarithm of the P gain."""
    return float(np.sqrt(np.mean(np.log(read / truth) ** 2)))


def main() -> None:
    """Measure everything and write it."""
    table = load_robot(CONFIG.robot)
    source = VectorSource(CONFIG, table, load_policy(POLICY)[0])
    count = CONFIG.robots
    truth = np.array([robot.p_gain_nm_per_rad for robot in stand_ins(CONFIG)]) / table.p_gain_nm_per_rad
    policies = {
        (method, seed): trained_policy(CONFIG.policies, CONFIG.dynamics, method, seed, CONFIG.robot)[0]
        for method in ("dmcm", "single")
        for seed in range(SEEDS)
    }

    def read(method: str, part: str, **case: float) -> dict[str, Any]:
        found = []
        for seed in range(SEEDS):
            told = source.told((part,), seed=seed, **{"gap": 1.0, "data_s": 20.0, **case})
            gains = policies[method, seed].gains
            assert told is not None
            assert gains is not None
            rows = told if part.endswith("_here") else told[:count]
            found.append(errors(gains(rows)[:, 0], np.tile(truth, len(rows) // count)))
        return summarise_numbers(found)

    def both(name: str, **case: float) -> dict[str, Any]:
        return {
            "dmcm": read("dmcm", f"robot_{name}", **case),
            "single": read("single", f"cell_{name}", **case),
        }

    flat = both("near")
    results = {
        "log_error": {
            "ground": {"flat": flat, "hard": both("near_here")},
            "seconds": {**{f"{length:g}": both("near", data_s=length) for length in SECONDS}, "20": flat},
            "gap": {"1": flat, **{f"{size:g}": both("near", gap=size) for size in GAPS}},
            "published robot": errors(np.ones(count), truth),
            "least squares": errors(
                np.array([regressed_gains(log, table)[0] for log in source.flat_logs(1.0)])
                / table.p_gain_nm_per_rad,
                truth,
            ),
        },
        "robots": count,
        "seeds": SEEDS,
        "hard": list(GROUNDS),
        "command": "python -m benchmarks.readings",
        "environment": environment(),
    }
    write_json(RESULTS, results)
    print(results["log_error"])


if __name__ == "__main__":
    main()
