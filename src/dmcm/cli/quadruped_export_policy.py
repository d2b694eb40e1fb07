"""`dmcm quadruped export-policy`: a walking policy as an ONNX file with its contract."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from dmcm.cli.show import say, show_path
from dmcm.quadruped.conditioned.export import export_policy, read_contract
from dmcm.quadruped.walking.policy import POLICY


@dataclasses.dataclass(frozen=True)
class PolicyExport:
    """Write a walking policy as ONNX. The file says what its numbers mean; see examples/run_policy.py."""

    policy: Path = POLICY
    """File of the policy; default the one in the package."""
    robot: str = "go1"
    """Robot it was trained with: a name, or the path of a .toml table."""
    out: Path = Path("runs/policy.onnx")
    """File to write."""


CONFIG = PolicyExport
EXAMPLES = """
dmcm quadruped export-policy
dmcm quadruped export-policy --out policy.onnx \\
    --policy runs/quadruped-policies/dmcm/seed-0/policy.safetensors
"""


def run(config: PolicyExport) -> None:
    """Write the file and list its inputs and outputs."""
    path = export_policy(config.policy, config.out, robot=config.robot)
    contract = read_contract(path)
    show_path("policy", path)
    for name, columns in contract.inputs.items():
        say(f"input {name}: {columns} columns")
    for name, columns in contract.outputs.items():
        say(f"output {name}: {columns} columns")
