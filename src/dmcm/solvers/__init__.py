"""Inner loops, one interface: contexts from a support set."""

from dmcm.solvers.base import Solver
from dmcm.solvers.gradient_descent import GradientDescent
from dmcm.solvers.levenberg_marquardt import LevenbergMarquardt
from dmcm.solvers.set_encoder import SetEncoder

__all__ = ["GradientDescent", "LevenbergMarquardt", "SetEncoder", "Solver"]
