"""Trained policies that come with the package, for the dynamics model that comes with it."""

from __future__ import annotations

from pathlib import Path

_POLICIES = Path(__file__).parent / "policies"
TOLD_POLICY = _POLICIES / "go1-told.safetensors"
"""Told a vector of the robot and one of the ground: dmcm of seed 0 in `dmcm quadruped train-policy`."""
PLAIN_POLICY = _POLICIES / "go1-plain.safetensors"
"""Trained the same, told nothing: vanilla of seed 0."""
