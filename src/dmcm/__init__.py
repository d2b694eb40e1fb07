"""DMCM: disentangled multi-context meta-learning. One context vector per known factor of a task."""

from dmcm.contexts import Contexts, Factors, share, stack
from dmcm.data import FactorDataset
from dmcm.learner import Learner
from dmcm.models import load_learner, save_learner
from dmcm.networks import ConcatNetwork, FilmNetwork, Network, TensorProductNetwork
from dmcm.priors import Prior
from dmcm.solvers import GradientDescent, LevenbergMarquardt, SetEncoder, Solver
from dmcm.training import FitConfig, FitResult, fit

__version__ = "0.1.0"

__all__ = [
    "ConcatNetwork",
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
    "save_learner",
    "share",
    "stack",
]
