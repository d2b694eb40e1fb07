"""The compared methods: a base network, and learners that explain its errors.

The base network predicts what any robot on any ground does; contexts then explain what it gets wrong, each
output in units of the base network's error. So contexts are not spent on what all have in common, and outputs
with little noise count more.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dmcm.quadruped.dynamics.cells import ROBOT, TERRAIN, TRUE_ROBOT, TRUE_TERRAIN
from dmcm.studies import Method

SIZES: Mapping[str, int] = {ROBOT: 6, TERRAIN: 4}
"""Size of each context; a single context has as many as both together."""
_TENSOR: dict[str, Any] = {"kind": "tensor_product", "width": 128, "activation": "silu"}
_LM: dict[str, Any] = {
    "kind": "levenberg_marquardt",
    "steps": 16,
    "training_steps": 4,
    "condensed": True,
}
_ENCODER: dict[str, Any] = {"kind": "set_encoder", "width": 96}
_ONE = {"cell": sum(SIZES.values())}
_NOISY: dict[str, Any] = {"outlier_scale": None, "clip": 1.0, "learning_rate": 3e-3}
"""Data with noise: every error counts in full."""
_NOISY_SLOW: dict[str, Any] = {**_NOISY, "learning_rate": 1e-3}
_MIXED: dict[str, Any] = {"recombination": 4.0, "omission": 1.0}
"""For vectors that are mixed, and either of which may be left out."""

METHODS: Mapping[str, Method] = {
    "dmcm": Method("DMCM: tensor product, LM, recombined", _TENSOR, _LM, SIZES, **_MIXED, **_NOISY),
    "single": Method("single context, same network and solver", _TENSOR, _LM, _ONE, 0.0, **_NOISY),
    "history": Method("encoder of all samples, one vector", _TENSOR, _ENCODER, _ONE, 0.0, **_NOISY),
    "encoders": Method("encoder per factor, recombined", _TENSOR, _ENCODER, SIZES, **_MIXED, **_NOISY),
    "oracle": Method(
        "oracle: true properties and ground",
        {"kind": "concat", "width": 256, "activation": "silu"},
        {"kind": "oracle", "scales": {ROBOT: 1.0, TERRAIN: 1.0}},
        {ROBOT: len(TRUE_ROBOT), TERRAIN: len(TRUE_TERRAIN)},
        0.0,
        **_NOISY_SLOW,
    ),
}
"""Methods that learn what the base network gets wrong. "none" is the base network alone."""
BASE = Method(
    "one model for all",
    {"kind": "concat", "width": 256, "activation": "silu"},
    {"kind": "none"},
    {"all": 1},
    0.0,
    **_NOISY_SLOW,
)
"""The base network."""
