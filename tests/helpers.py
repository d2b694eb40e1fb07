"""Small models and data that many tests share, and a compilation cache so that each compiles once."""

import atexit
import contextlib
import os
import shutil
import tempfile
from pathlib import Path

import jax
import numpy as np

import dmcm
from dmcm.models import build_network, build_solver
from dmcm.samples import Samples

ROOT = Path(__file__).parent.parent

# Most of the tests' time goes into compiling. Subprocesses find the cache through the environment.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="dmcm-tests-")
    atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)
jax.config.update("jax_compilation_cache_dir", os.environ["JAX_COMPILATION_CACHE_DIR"])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)

FACTORS = dmcm.Factors(amplitude=2, phase=2)


def network(
    kind="tensor_product", factors=FACTORS, *, inputs=1, outputs=1, width=8, depth=1, seed=0, **settings
):
    """A tiny network by its kind."""
    return build_network(
        kind, factors, inputs, outputs, jax.random.key(seed), width=width, depth=depth, **settings
    )


def solver(kind="levenberg_marquardt", factors=FACTORS, *, inputs=1, outputs=1, seed=1, **settings):
    """A solver by its kind; few steps unless told."""
    few = {"levenberg_marquardt": {"steps": 4, "training_steps": 2}, "gradient_descent": {"steps": 3}}
    return build_solver(
        kind, factors, inputs, outputs, jax.random.key(seed), **{**few.get(kind, {}), **settings}
    )


def learner(seed=0, **parts):
    """A tiny learner; `network`, `solver`, `prior`, `scaler` replace its parts."""
    parts = {"network": network(seed=seed), "solver": solver(), **parts}
    return dmcm.Learner(parts.pop("network"), parts.pop("solver"), FACTORS, **parts)


def sine(amplitude=1.0, phase=0.0, samples=10, seed=0):
    """One sinusoid task: x and y, shape (samples, 1)."""
    x = np.random.default_rng(seed).uniform(-3, 3, (samples, 1)).astype(np.float32)
    return x, (amplitude * np.sin(x - phase)).astype(np.float32)


def sines(**options):
    """A dataset of 3 amplitudes × 3 phases, 12 samples each."""
    grid = [(a, p) for a in (1.0, 2.0, 3.0) for p in (0.0, 0.5, 1.0)]
    tasks = [sine(a, p, samples=12, seed=i) for i, (a, p) in enumerate(grid)]
    labels = {"amplitude": [a for a, _ in grid], "phase": [p for _, p in grid]}
    return dmcm.FactorDataset.from_arrays(
        [x for x, _ in tasks], [y for _, y in tasks], labels, **{"shots": 5, **options}
    )


def samples_of(*tasks):
    """Equally long tasks as `Samples` with a leading task axis."""
    x, y = (np.stack([task[i] for task in tasks]) for i in (0, 1))
    return Samples(*map(jax.numpy.asarray, (x, y, np.ones(x.shape[:2], x.dtype))))


def same_bits(one, other):
    """Whether two pytrees have equal structure and the very same bits in all arrays."""
    a, b = jax.tree.leaves(one), jax.tree.leaves(other)
    return jax.tree.structure(one) == jax.tree.structure(other) and all(
        np.asarray(p).dtype == np.asarray(q).dtype
        and np.asarray(p).shape == np.asarray(q).shape
        and np.asarray(p).tobytes() == np.asarray(q).tobytes()
        for p, q in zip(a, b, strict=True)
    )


@contextlib.contextmanager
def double_precision():
    """Make JAX compute in float64, where finite differences are sharp."""
    # The oldest JAX that is allowed has it by its former name alone.
    enabled = jax.enable_x64 if hasattr(jax, "enable_x64") else jax.experimental.enable_x64
    with enabled(True):
        yield


def robot_model(seed=0):
    """A tiny, untrained dynamics model: a base network, and a learner with a robot and a terrain vector."""
    from dmcm.quadruped.data.windows import OUTPUTS, WindowConfig
    from dmcm.quadruped.dynamics.model import DynamicsModel

    windows, one, two = WindowConfig(), dmcm.Factors(all=1), dmcm.Factors(robot=2, terrain=2)
    sizes = {"inputs": 42 * windows.history + 5, "outputs": sum(OUTPUTS.values())}
    base = network("concat", one, seed=seed, **sizes)
    corrects = network("tensor_product", two, seed=seed + 1, **sizes)
    solve = solver("levenberg_marquardt", two)
    return DynamicsModel(dmcm.Learner(base, solve, one), dmcm.Learner(corrects, solve, two), windows)
