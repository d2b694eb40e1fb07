"""How long a control step of a deployed policy takes, from the reading to the targets.

    python -m benchmarks.deployment --out results/deployment.json

The loop of `dmcm.quadruped.deployment` walks the told policy that comes with the package; its network runs on
one thread. The robot is a stand-in without physics: its clock jumps to the next control step, and its joints
go half of the way to their targets. So the figures cover the loop's own work, in Python and onnxruntime, but
not a robot's connection. Then it walks the policy that matches its targets to a filtered vector, and what the
filter takes between control steps is timed. Nothing else should run on the machine meanwhile.
"""

from __future__ import annotations

import dataclasses
import os
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from dmcm.quadruped.conditioned.export import export_policy
from dmcm.quadruped.conditioned.live import LiveVectors
from dmcm.quadruped.conditioned.shipped import MATCHED_POLICY, TOLD_POLICY
from dmcm.quadruped.data.windows import OUTPUTS, STEP_OUTPUTS
from dmcm.quadruped.deployment.controller import Controller
from dmcm.quadruped.deployment.live import LiveTelling
from dmcm.quadruped.deployment.loop import run
from dmcm.quadruped.deployment.outcome import Outcome, StepRecord
from dmcm.quadruped.deployment.robot import Reading
from dmcm.quadruped.dynamics.cells import TERRAIN
from dmcm.quadruped.dynamics.model import load_dynamics_model
from dmcm.runs import environment
from dmcm.storage import write_json

COMMAND = np.array([0.5, 0.0, 0.2])
VECTORS = {"robot": np.zeros(6), "terrain": np.zeros(4)}


@dataclasses.dataclass(frozen=True)
class Options:
    """What is measured."""

    steps: int = 5_000
    """Control steps of walking; all count, including the first."""
    out: Path | None = Path("results/deployment.json")
    """File for the numbers."""


class StandIn:
    """A robot without physics."""

    def __init__(self, angles_rad: np.ndarray):
        self.time_s, self.angles_rad, self.targets_rad = 0.0, angles_rad, angles_rad
        self.still = {"gyro_rad_s": np.zeros(3), "gravity_direction": np.array([0.0, 0.0, -1.0])}

    def now_s(self) -> float:
        return self.time_s

    def read(self) -> Reading:
        speeds, forces = np.zeros(12), np.full(4, 30.0)
        return Reading(self.time_s, self.angles_rad, speeds, np.zeros(12), **self.still, foot_forces_n=forces)

    def send(
        self, joint_targets_rad: np.ndarray, p_gain_nm_per_rad: float, d_gain_nms_per_rad: float
    ) -> None:
        self.targets_rad = joint_targets_rad

    def damp(self) -> None:
        self.targets_rad = self.angles_rad

    def wait_until(self, time_s: float) -> None:
        self.time_s = max(self.time_s, time_s)
        self.angles_rad = 0.5 * (self.angles_rad + self.targets_rad)


class Timed:
    """`on_step` of the loop that filters a vector, and notes how long each call takes."""

    def __init__(self, controller: Controller):
        model = load_dynamics_model()
        # Its size does not change the time; outcomes of the coming second are not known in time.
        step = sum(STEP_OUTPUTS.values())
        noise = np.repeat([0.1, np.inf], [step, sum(OUTPUTS.values()) - step])
        terrain = np.zeros((1, model.learner.factors[TERRAIN]), np.float32)
        self.telling = LiveTelling(controller, LiveVectors(model, terrain, noise))
        self.times_s: list[float] = []

    def __call__(self, record: StepRecord) -> None:
        start = time.perf_counter()
        self.telling(record)
        self.times_s.append(time.perf_counter() - start)


def controller_of(policy: Path, vectors: Mapping[str, np.ndarray]) -> Controller:
    """The controller of an exported policy."""
    with tempfile.TemporaryDirectory() as folder:
        return Controller(export_policy(policy, Path(folder) / "policy.onnx"), vectors)


def walked(controller: Controller, steps: int, on_step: Timed | None = None) -> Outcome:
    """A walk that did not end early."""
    robot, seconds = StandIn(controller.table.home_pose_rad), steps * controller.contract.control_period_s
    outcome = run(robot, controller, lambda _: COMMAND, seconds=seconds, stand_s=0.0, on_step=on_step)
    assert outcome.ended == "finished", outcome.reason
    return outcome


def main(options: Options) -> None:
    """Measure, print and write."""
    controller = controller_of(TOLD_POLICY, VECTORS)
    outcome, period_s = walked(controller, options.steps), controller.contract.control_period_s
    matched = controller_of(MATCHED_POLICY, {"robot": VECTORS["robot"]})
    timed = Timed(matched)
    walked(matched, options.steps, timed)
    times_ms = 1e3 * np.array(timed.times_s)
    # Control steps without a sample take a tenth of a millisecond.
    sampled = times_ms[times_ms > 1.0]
    found: dict[str, Any] = {
        "loop_ms": {name: 1e3 * value for name, value in outcome.loop_times_s().items()},
        "first_loop_ms": 1e3 * outcome.steps[0].loop_s,
        "filter_ms": {
            "share of control steps with a sample": len(sampled) / len(times_ms),
            "median of these": float(np.median(sampled)),
            "p90": float(np.quantile(sampled, 0.9)),
            "p99": float(np.quantile(sampled, 0.99)),
            "longer than a control period": float(np.mean(sampled > 1e3 * period_s)),
            "worst": float(times_ms.max()),
            "first sample": float(sampled[0]),
        },
        "control_period_ms": 1e3 * period_s,
        "steps": len(outcome.steps),
        "load_1_min": os.getloadavg()[0],
        "cores": os.cpu_count(),
        "command": f"python -m benchmarks.deployment --steps {options.steps}",
        "environment": environment(),
    }
    print(found["loop_ms"], found["filter_ms"])
    if options.out is not None:
        write_json(options.out, found)


if __name__ == "__main__":
    main(tyro.cli(Options))
