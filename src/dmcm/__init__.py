"""DMCM: disentangled multi-context meta-learning. One context vector per known factor of a task."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dmcm.bank import ContextBank
    from dmcm.contexts import Contexts, Factors, share, stack
    from dmcm.data import FactorDataset
    from dmcm.fit_config import FitConfig
    from dmcm.learner import Learner
    from dmcm.models import load_learner, save_learner
    from dmcm.networks import ConcatNetwork, FilmNetwork, Network, TensorProductNetwork
    from dmcm.priors import Prior
    from dmcm.solvers import GradientDescent, LevenbergMarquardt, SetEncoder, Solver
    from dmcm.streaming import ContextFilter
    from dmcm.tables import read_samples, write_table
    from dmcm.training import FitResult, fit

__version__ = "0.1.0"

__all__ = [
    "ConcatNetwork",
    "ContextBank",
    "ContextFilter",
    "Contexts",
    "FactorDataset",
    "Factors",
    "FilmNetwork",
    "FitConfig",
    "FitResult",
    "GradientDescent",
    "Learner",
    "LevenbergMarquardt",
    "Network",
    "Prior",
    "SetEncoder",
    "Solver",
    "TensorProductNetwork",
    "fit",
    "load_learner",
    "read_samples",
    "save_learner",
    "share",
    "stack",
    "write_table",
]

# Imported on first use: importing JAX takes seconds, and `dmcm --help` must not.
_HOMES = {
    "bank": ("ContextBank",),
    "contexts": ("Contexts", "Factors", "share", "stack"),
    "data": ("FactorDataset",),
    "fit_config": ("FitConfig",),
    "learner": ("Learner",),
    "models": ("load_learner", "save_learner"),
    "networks": ("ConcatNetwork", "FilmNetwork", "Network", "TensorProductNetwork"),
    "priors": ("Prior",),
    "solvers": ("GradientDescent", "LevenbergMarquardt", "SetEncoder", "Solver"),
    "streaming": ("ContextFilter",),
    "tables": ("read_samples", "write_table"),
    "training": ("FitResult", "fit"),
}


def __getattr__(name: str) -> Any:
    """Import a public name's module when the name is first used."""
    for home, names in _HOMES.items():
        if name in names:
            value = getattr(importlib.import_module(f"dmcm.{home}"), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module 'dmcm' has no attribute '{name}'")


def __dir__() -> list[str]:
    """Public names, including those not imported yet."""
    return sorted({*globals(), *__all__})
