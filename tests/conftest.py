"""Conditions of all tests: shapes and types are checked, no display, the same examples each time."""

import os
import pathlib
import sys

os.environ["MPLBACKEND"] = "Agg"
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# An error that no command expected must fail the test.
os.environ["DMCM_TRACEBACK"] = "1"
# Compiling takes most of the time. What one process compiled, all others and the next run find here.
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR", str(pathlib.Path(__file__).parents[1] / ".pytest_cache" / "jax")
)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")
# Optimising a program that runs once or twice costs more than it saves: a third of the tests' time.
# JAX_DISABLE_MOST_OPTIMIZATIONS=0 tests what users run.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")

import jax
import pytest
from hypothesis import settings
from jaxtyping import install_import_hook

if "dmcm" in sys.modules:
    raise RuntimeError("dmcm was imported before conftest.py could have its annotations checked.")
install_import_hook("dmcm", "beartype.beartype")

# No deadline: compiling takes long once. No database, no randomness: a failure is found by all.
settings.register_profile("dmcm", deadline=None, derandomize=True, database=None)
settings.load_profile("dmcm")


@pytest.fixture(autouse=True, scope="module")
def forget_compiled_programs():
    """Thousands of compiled programs at once exhaust the memory maps a process may have."""
    yield
    jax.clear_caches()
