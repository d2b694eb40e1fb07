"""The methods compared on sinusoids: one table of networks, solvers, factors and outer losses."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from dmcm import studies
from dmcm.errors import ConfigError, unknown_name
from dmcm.learner import Learner
from dmcm.sinusoid.family import AMPLITUDE, PHASE

TOTAL_SIZE = 6
"""Total context size of a task, the same for every method with contexts."""
_TWO = {"amplitude": TOTAL_SIZE // 2, "phase": TOTAL_SIZE // 2}
_ONE = {"task": TOTAL_SIZE}
_LM: dict[str, Any] = {"kind": "levenberg_marquardt", "steps": 32, "training_steps": 6, "restarts": True}
_LM_DEEP: dict[str, Any] = {**_LM, "training_steps": 2, "restarts": False}
"""For networks whose Jacobian runs through every layer, which makes a step ten times as expensive."""
_GD: dict[str, Any] = {"kind": "gradient_descent", "steps": 5, "rate": 0.3}
_ENCODER: dict[str, Any] = {"kind": "set_encoder"}
_TENSOR: dict[str, Any] = {"kind": "tensor_product", "width": 64, "activation": "tanh"}
_CONCAT: dict[str, Any] = {"kind": "concat", "width": 40, "activation": "tanh"}
_FILM: dict[str, Any] = {"kind": "film", "width": 40, "activation": "tanh"}
LEARNING_RATES: Mapping[str, float] = {"muon": 1e-2, "adam": 6e-3}
"""Rates of the outer loop by optimiser, suitable for nearly all methods (results/tuning.json)."""


@dataclasses.dataclass(frozen=True)
class Method(studies.Method):
    """A method on sinusoids: a context per factor unless said otherwise."""

    factors: Mapping[str, int] = dataclasses.field(default_factory=lambda: dict(_TWO))


METHODS: dict[str, Method] = {
    "dmcm": Method("DMCM: tensor product, LM, recombined", _TENSOR, _LM),
    "cavia": Method("single context, same network and solver", _TENSOR, _LM, _ONE, 0.0),
    "dmcm_no_recombination": Method("DMCM without the recombined loss", _TENSOR, _LM, recombination=0.0),
    "dmcm_penalty_only": Method(
        "dependence penalty instead of recombination",
        _TENSOR,
        _LM,
        recombination=0.0,
        dependence=1e-4,
    ),
    "dmcm_penalty": Method("recombined, with dependence penalty", _TENSOR, _LM, dependence=1e-4),
    "dmcm_free_scale": Method("tensor product without normalisation", {**_TENSOR, "normalise": False}, _LM),
    "dmcm_plain_loss": Method("outer loss counts every error in full", _TENSOR, _LM, outlier_scale=None),
    "dmcm_unguarded": Method("LM without safeguard (Gauss-Newton)", _TENSOR, {**_LM, "safeguard": False}),
    "dmcm_gd": Method("tensor product, learned gradient steps", _TENSOR, _GD),
    "dmcm_gd_no_recombination": Method(
        "tensor product, gradient, not recombined", _TENSOR, _GD, recombination=0.0
    ),
    "dmcm_generator": Method("tensor product, encoder per factor", _TENSOR, _ENCODER),
    "dmcm_generator_no_recombination": Method(
        "tensor product, encoders, not recombined", _TENSOR, _ENCODER, recombination=0.0
    ),
    "film_lm": Method("FiLM, LM, recombined", _FILM, _LM_DEEP),
    "film_lm_no_recombination": Method("FiLM, LM, not recombined", _FILM, _LM_DEEP, recombination=0.0),
    "film_gd": Method("FiLM, learned gradient steps, recombined", _FILM, _GD),
    "film_gd_no_recombination": Method("FiLM, gradient, not recombined", _FILM, _GD, recombination=0.0),
    "concat_lm": Method("concatenation, LM, recombined", _CONCAT, _LM_DEEP),
    "concat_lm_no_recombination": Method(
        "concatenation, LM, not recombined", _CONCAT, _LM_DEEP, recombination=0.0
    ),
    "concat_gd": Method("concatenation, learned gradient steps, recombined", _CONCAT, _GD),
    "concat_gd_no_recombination": Method(
        "concatenation, gradient, not recombined", _CONCAT, _GD, recombination=0.0
    ),
    "cavia_concat_gd": Method(
        "single context, concatenation, learned gradient steps", _CONCAT, _GD, _ONE, 0.0
    ),
    "cavia_concat_fixed": Method(
        "single context as published: one fixed gradient step",
        _CONCAT,
        {"kind": "gradient_descent", "steps": 1, "rate": 1.0, "learned": False},
        _ONE,
        0.0,
    ),
    "maml": Method(
        "MAML, learned gradient steps",
        {**_CONCAT, "kind": "parameters"},
        {**_GD, "rate": 0.01},
        {},
        0.0,
    ),
    "anil": Method(
        "ANIL, learned gradient steps",
        {**_CONCAT, "kind": "parameters", "last_layer_only": True},
        {**_GD, "rate": 0.1},
        {},
        0.0,
    ),
    "encoder": Method("single set encoder", _TENSOR, _ENCODER, _ONE, 0.0),
    "none": Method("no adaptation", _CONCAT, {"kind": "none"}, _ONE, 0.0),
    "oracle": Method(
        "oracle: true factor values",
        _CONCAT,
        {"kind": "oracle", "scales": {"amplitude": AMPLITUDE[1], "phase": PHASE[1]}},
        {"amplitude": 1, "phase": 1},
        0.0,
    ),
}
"""All methods by name; `method_named` adds the outer loop's settings."""


def method_named(name: str, optimiser: str = "muon") -> Method:
    """Look up a method.

    Args:
        name: name of the method.
        optimiser: optimiser of its outer loop, a name in `LEARNING_RATES`.

    Raises:
        ConfigError: no method or optimiser of that name.
    """
    if name not in METHODS:
        raise ConfigError(unknown_name("method", name, METHODS))
    if optimiser not in LEARNING_RATES:
        raise ConfigError(unknown_name("optimiser", optimiser, LEARNING_RATES))
    return dataclasses.replace(METHODS[name], optimiser=optimiser, learning_rate=LEARNING_RATES[optimiser])


def build_method(name: str, seed: int) -> Learner:
    """An untrained learner of a method of the table, with random weights from a seed."""
    return studies.build(method_named(name), seed)
