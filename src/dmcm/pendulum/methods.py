"""The methods compared on pendulums."""

from __future__ import annotations

from typing import Any

from dmcm.pendulum.family import RANGES
from dmcm.studies import Method

SIZE = 3
"""Context size of each factor; a single context is as large as all of them together."""
PRECISION = 1.0
"""Initial prior precision of contexts; tuned on validation tasks."""
_EACH = dict.fromkeys(RANGES, SIZE)
_ONE = {"task": SIZE * len(RANGES)}
_LM: dict[str, Any] = {"kind": "levenberg_marquardt", "steps": 32, "training_steps": 6, "restarts": True}
_LM_DEEP: dict[str, Any] = {**_LM, "training_steps": 2}
"""For networks whose Jacobian runs through every layer, which makes a step ten times as expensive."""
_TENSOR: dict[str, Any] = {"kind": "tensor_product", "width": 64, "activation": "tanh"}
_CONCAT: dict[str, Any] = {"kind": "concat", "width": 40, "activation": "tanh"}
_FILM: dict[str, Any] = {"kind": "film", "width": 40, "activation": "tanh"}
_FREE: dict[str, Any] = {**_TENSOR, "normalise": False}

METHODS: dict[str, Method] = {
    "dmcm": Method("DMCM: tensor product, LM, recombined", _TENSOR, _LM, _EACH),
    "dmcm_no_recombination": Method("DMCM without the recombined loss", _TENSOR, _LM, _EACH, 0.0),
    "dmcm_free_scale": Method("tensor product without normalisation", _FREE, _LM, _EACH),
    "film": Method("FiLM, LM, recombined", _FILM, _LM_DEEP, _EACH),
    "concat": Method("concatenation, LM, recombined", _CONCAT, _LM_DEEP, _EACH),
    "single": Method("single context, same network and solver", _TENSOR, _LM, _ONE, 0.0),
}
"""All methods by name."""
