"""Only the matrix products of one outer step of CAVIA: no way of writing the step takes less time.

With R = tasks × shots rows and two hidden layers of H units, nearly all work is products of (R, H) by (H, H).
A query pass has three: forward, back to the first layer, and for the slope by the weights. An inner step has
six: forward and back, and two for each of these when the outer slope comes back through it. Activations,
losses, first and last layer and Adam are left out.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import torch
from jaxtyping import Array

from benchmarks.meta_step import CHUNK, HIDDEN, SHOTS, TASKS, Candidate

_A_QUERY, _AN_INNER_STEP = 3, 6


def products_in(inner_steps: int) -> int:
    """Products of (R, H) by (H, H) in one outer step."""
    return _A_QUERY + _AN_INNER_STEP * inner_steps


def flops_in(inner_steps: int) -> int:
    """Floating-point operations of them."""
    return products_in(inner_steps) * 2 * TASKS * SHOTS * HIDDEN[0] * HIDDEN[1]


def _rows_and_weight() -> tuple[np.ndarray, np.ndarray]:
    """Rows to multiply, and a rotation to multiply them by: values neither grow nor vanish."""
    rng = np.random.default_rng(0)
    rotation = np.linalg.qr(rng.normal(size=HIDDEN))[0]
    return rng.normal(size=(TASKS * SHOTS, HIDDEN[0])).astype(np.float32), rotation.astype(np.float32)


def jax_products(inner_steps: int) -> Candidate:
    """By JAX, compiled as `fit` is: many steps inside one scan, each product fed by the one before."""
    rows, weight = (jnp.asarray(array) for array in _rows_and_weight())

    @jax.jit
    def chunk(rows: Array) -> Array:
        def step(rows: Array, _: None) -> tuple[Array, None]:
            for _ in range(products_in(inner_steps)):
                rows = rows @ weight
            return rows, None

        return jax.lax.scan(step, rows, None, length=CHUNK)[0]

    return Candidate(f"jax_products_{inner_steps}", lambda: jax.block_until_ready(chunk(rows)), CHUNK)


def torch_products(inner_steps: int, threads: int) -> Candidate:
    """By PyTorch, into preallocated memory."""
    rows, weight = (torch.from_numpy(array) for array in _rows_and_weight())
    other = torch.empty_like(rows)

    def run() -> None:
        now, then = rows, other
        for _ in range(products_in(inner_steps)):
            torch.mm(now, weight, out=then)
            now, then = then, now

    return Candidate(f"torch_products_{inner_steps}_threads_{threads}", run, 1, threads)
