"""`dmcm quadruped train-walking`: teach robots to walk."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from dmcm.cli.show import show_path
from dmcm.quadruped.walking.policy import POLICY_FILE
from dmcm.quadruped.walking.training import WalkTraining, train_walking


@dataclasses.dataclass(frozen=True)
class TrainWalkingConfig(WalkTraining):
    """Train a walking policy."""

    out: Path = Path("runs/walking")
    """Run folder; `policy.safetensors` in it is the result."""
    resume: bool = False
    """Continue a run that was stopped."""


CONFIG = TrainWalkingConfig
EXAMPLES = """
dmcm quadruped train-walking
dmcm quadruped train-walking --rough-ground --iterations 900 --robots 320 \\
    --start runs/walking/policy.safetensors --out runs/rough
"""


def run(config: TrainWalkingConfig) -> None:
    """Train and print where the policy is."""
    settings = {f.name: getattr(config, f.name) for f in dataclasses.fields(WalkTraining)}
    train_walking(WalkTraining(**settings), config.out, resume=config.resume)
    show_path("policy", config.out / POLICY_FILE)
