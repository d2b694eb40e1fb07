"""Trained policies that come with the package, for the dynamics model that comes with it."""

from __future__ import annotations

from pathlib import Path

_POLICIES = Path(__file__).parent / "policies"
PLAIN_POLICY = _POLICIES / "go1-plain.safetensors"
"""Given nothing: vanilla of seed 0 in `dmcm quadruped train-policy`."""
MATCHED_POLICY = _POLICIES / "go1-matched.safetensors"
"""The same actor, with joint targets matched to the gains estimated from a robot's vector: dmcm of seed 0."""
GAIT_POLICY = _POLICIES / "go1-gait.safetensors"
"""As `MATCHED_POLICY`, and the vector of the ground chooses the gait: dmcm_gait of seed 0."""
TOLD_POLICY = _POLICIES / "go1-told.safetensors"
"""A policy whose actor reads a vector of the robot and one of the ground: dmcm_told of seed 0."""
