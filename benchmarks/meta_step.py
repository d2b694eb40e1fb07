"""One outer step of CAVIA: this library against two ways of writing it in PyTorch, on the same batches."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import cast

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import torch
from jaxtyping import Array, PRNGKeyArray

import dmcm
from benchmarks import torch_cavia
from benchmarks.chunks import chunk_runner
from benchmarks.torch_cavia import ContextModel, TorchBatch
from dmcm.fit_config import FitConfig
from dmcm.objective import outer_loss
from dmcm.samples import Batch, Samples
from dmcm.scaling import Scaler

TASKS, SHOTS, CONTEXT, HIDDEN = 25, 10, 5, (40, 40)
INNER_RATE, OUTER_RATE = 0.1, 1e-3
POOL = 16
CHUNK = 500
TOLERANCE = 1e-4


class DisagreementError(RuntimeError):
    """The candidates do not compute the same thing, so their times must not be compared."""


class BatchPool(eqx.Module):
    """Batches drawn beforehand: neither side spends time on making data."""

    batches: Batch

    def sample(self, key: PRNGKeyArray) -> Batch:
        """One of the batches."""
        index = jax.random.randint(key, (), 0, POOL)
        return jax.tree.map(lambda leaf: leaf[index], self.batches)

    def scaler(self) -> Scaler:
        """Raw units, as in the PyTorch code."""
        return Scaler.identity(1, 1)


@dataclasses.dataclass(frozen=True)
class Candidate:
    """Something to time: `run` does `steps` outer steps, with this many PyTorch threads if it is PyTorch."""

    name: str
    run: Callable[[], None]
    steps: int
    threads: int | None = None


def draw_pool(seed: int = 0) -> tuple[BatchPool, list[TorchBatch]]:
    """The same sinusoid tasks for both sides: A ∈ [0.1, 5], φ ∈ [0, π], x ∈ [−5, 5]."""
    rng = np.random.default_rng(seed)
    amplitude, phase = rng.uniform(0.1, 5, (POOL, TASKS, 1, 1)), rng.uniform(0, np.pi, (POOL, TASKS, 1, 1))
    x = rng.uniform(-5, 5, (POOL, TASKS, 2 * SHOTS, 1)).astype(np.float32)
    y = (amplitude * np.sin(x - phase)).astype(np.float32)
    parts = [x[:, :, :SHOTS], y[:, :, :SHOTS], x[:, :, SHOTS:], y[:, :, SHOTS:]]
    torch_batches = [TorchBatch(*(torch.from_numpy(part[i].copy()) for part in parts)) for i in range(POOL)]
    support_x, support_y, query_x, query_y = (jnp.asarray(part) for part in parts)
    weight, task = jnp.ones((POOL, TASKS, SHOTS)), jnp.tile(jnp.arange(TASKS), (POOL, 1))
    batches = Batch(
        support=Samples(support_x, support_y, weight),
        query=Samples(query_x, query_y, weight),
        task=task,
        labels={"task": task},
        valid=jnp.ones((POOL, TASKS), bool),
    )
    return BatchPool(batches), torch_batches


def build_learner(inner_steps: int, pool: BatchPool) -> dmcm.Learner:
    """CAVIA in this library: one factor, concatenation, fixed step size, practically no prior."""
    factors = dmcm.Factors(task=CONTEXT)
    network = dmcm.ConcatNetwork(
        factors, 1, 1, width=HIDDEN[0], depth=len(HIDDEN), activation="relu", key=jax.random.key(0)
    )
    # The inner objective is half the mean squared error, PyTorch's mse_loss the whole.
    solver = dmcm.GradientDescent(factors, inner_steps, rate=2 * INNER_RATE, learned=False)
    prior = dmcm.Prior(factors, precision=1e-12, floor=1e-12, learn_mean=False)
    return dmcm.Learner(network, solver, factors, prior=prior, scaler=pool.scaler())


def port_weights(learner: dmcm.Learner) -> ContextModel:
    """The PyTorch model with the learner's weights."""
    model = ContextModel(CONTEXT, HIDDEN)
    arrays = _weights(learner)
    with torch.no_grad():
        for parameter, array in zip(model.parameters(), arrays, strict=True):
            parameter.copy_(torch.tensor(array))
    return model


def _weights(learner: dmcm.Learner) -> list[np.ndarray]:
    """Weight and bias of each layer in turn, or their gradients, in PyTorch's order."""
    layers = cast(dmcm.ConcatNetwork, learner.network).perceptron.layers
    return [np.asarray(leaf) for layer in layers for leaf in (layer.weight, layer.bias)]


def check_agreement(inner_steps: int) -> float:
    """Compare loss and gradient of one batch, and ten steps of the compiled Adam with PyTorch's own.

    Returns:
        The largest relative difference found.

    Raises:
        DisagreementError: a difference above `TOLERANCE`.
    """
    pool, torch_batches = draw_pool()
    learner = build_learner(inner_steps, pool)
    trained, static = eqx.partition(learner, eqx.is_inexact_array)
    batch = jax.tree.map(lambda leaf: leaf[0], pool.batches)

    @jax.jit
    def value_and_slopes(trained: dmcm.Learner) -> tuple[Array, dmcm.Learner]:
        def loss(trained: dmcm.Learner) -> Array:
            model = eqx.combine(trained, static)
            return outer_loss(model, batch, jax.random.key(0), recombination=0.0, dependence=0.0)[0]

        return jax.value_and_grad(loss)(trained)

    value, slopes = value_and_slopes(trained)
    ours = [np.asarray(value), *_weights(slopes)]

    model = port_weights(learner)
    settings = {"inner_steps": inner_steps, "inner_rate": INNER_RATE}
    looped = torch_cavia.loop_gradient(model, torch_batches[0], **settings)
    functional_slopes, functional_value = torch.func.grad_and_value(torch_cavia.functional_loss)(
        [weight.detach() for weight in model.parameters()], torch_batches[0], context_size=CONTEXT, **settings
    )
    largest = 0.0
    for name, (their_value, their_slopes) in {
        "the loop": looped,
        "torch.func": (functional_value, functional_slopes),
    }.items():
        theirs = [their_value.numpy(), *(slope.numpy() for slope in their_slopes)]
        largest = max(largest, _compare(f"loss and gradient, {name} against dmcm", ours, theirs))

    state = torch_cavia.adam_start(list(model.parameters()))
    compiled = torch_cavia.compile_step(context_size=CONTEXT, rate=OUTER_RATE, **settings)
    optimiser = torch.optim.Adam(model.parameters(), lr=OUTER_RATE)
    for step in range(10):
        torch_cavia.loop_step(model, optimiser, torch_batches[step % POOL], **settings)
        with torch.no_grad():
            state, _ = compiled(state, torch_batches[step % POOL])
    stepped = [weight.detach().numpy() for weight in model.parameters()]
    return max(
        largest,
        _compare("ten Adam steps, compiled against loop", stepped, [w.numpy() for w in state.weights]),
    )


def _compare(what: str, ours: list[np.ndarray], theirs: list[np.ndarray]) -> float:
    gaps = [
        float(np.linalg.norm(a - b) / max(np.linalg.norm(a), 1e-12))
        for a, b in zip(ours, theirs, strict=True)
    ]
    # Written so that NaN disagrees.
    if not max(gaps) <= TOLERANCE:
        raise DisagreementError(
            f"{what} differ by {max(gaps):.1e} of their size; at most {TOLERANCE:.0e} is rounding."
        )
    return max(gaps)


def library_candidate(inner_steps: int) -> Candidate:
    """The chunk of outer steps that `fit` compiles and calls, without its logging."""
    pool, _ = draw_pool()
    learner = build_learner(inner_steps, pool)
    config = FitConfig(steps=10**6, learning_rate=OUTER_RATE, recombination=0.0, chunk=CHUNK)
    return Candidate(f"dmcm_{inner_steps}", chunk_runner(learner, pool, config), CHUNK)


def loop_candidate(inner_steps: int, threads: int) -> Candidate:
    """The Python loop over tasks."""
    pool, batches = draw_pool()
    model = port_weights(build_learner(inner_steps, pool))
    optimiser = torch.optim.Adam(model.parameters(), lr=OUTER_RATE)
    done = 0

    def run() -> None:
        nonlocal done
        torch_cavia.loop_step(
            model, optimiser, batches[done % POOL], inner_steps=inner_steps, inner_rate=INNER_RATE
        )
        done += 1

    return Candidate(f"python_loop_{inner_steps}_threads_{threads}", run, 1, threads)


def compiled_candidate(inner_steps: int, threads: int) -> Candidate:
    """torch.func under torch.compile."""
    pool, batches = draw_pool()
    model = port_weights(build_learner(inner_steps, pool))
    state = torch_cavia.adam_start(list(model.parameters()))
    step = torch_cavia.compile_step(
        context_size=CONTEXT, inner_steps=inner_steps, inner_rate=INNER_RATE, rate=OUTER_RATE
    )
    done = 0

    def run() -> None:
        nonlocal state, done
        with torch.no_grad():
            state, _ = step(state, batches[done % POOL])
        done += 1

    return Candidate(f"torch_compile_{inner_steps}_threads_{threads}", run, 1, threads)


def time_rounds(candidates: list[Candidate], *, rounds: int, seconds: float) -> dict[str, list[float]]:
    """Milliseconds per outer step, one figure per round, in which each candidate has a turn of `seconds`."""

    def turn(candidate: Candidate, least: float) -> float:
        if candidate.threads is not None:
            torch.set_num_threads(candidate.threads)
        done, began = 0, time.perf_counter()
        while not done or time.perf_counter() - began < least:
            candidate.run()
            done += candidate.steps
        return (time.perf_counter() - began) / done * 1e3

    for candidate in candidates:
        turn(candidate, 0.0)  # compiles
        turn(candidate, seconds)  # warms caches
    times: dict[str, list[float]] = {candidate.name: [] for candidate in candidates}
    for _ in range(rounds):
        for candidate in candidates:
            times[candidate.name].append(turn(candidate, seconds))
    return times
