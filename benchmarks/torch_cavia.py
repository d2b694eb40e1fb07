"""CAVIA in PyTorch, twice: a Python loop over tasks, and torch.func under torch.compile.

Our own code. The loop is built like CAVIA code of 2019 (Zintgraf et al., arXiv 1810.03642): one model that
carries its context, one task after the other, an inner gradient that keeps its graph, a second backward pass
through it, gradients summed by hand, one Adam step. The compiled version is what PyTorch offers today for the
same computation.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

Weights = list[Tensor]
"""Weight and bias of each layer in turn, (out, in) and (out,)."""


class TorchBatch(NamedTuple):
    """Tasks of one outer step, each array of shape (tasks, shots, 1)."""

    support_x: Tensor
    support_y: Tensor
    query_x: Tensor
    query_y: Tensor


class ContextModel(nn.Module):
    """Perceptron on [x, context]; the context lives in the model and is reset for each task."""

    def __init__(self, context_size: int, hidden: tuple[int, ...]):
        super().__init__()
        sizes = (1 + context_size, *hidden, 1)
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(sizes))
        self.context_size = context_size
        self.reset_context()

    def reset_context(self) -> None:
        self.context = torch.zeros(self.context_size, requires_grad=True)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat((x, self.context.expand(x.shape[0], -1)), dim=1)
        for i in range(len(self.layers) - 1):
            x = functional.relu(self.layers[i](x))
        return self.layers[-1](x)


def loop_gradient(
    model: ContextModel, batch: TorchBatch, *, inner_steps: int, inner_rate: float
) -> tuple[Tensor, Weights]:
    """Mean query loss of a batch and its gradient, one task after the other."""
    tasks = batch.support_x.shape[0]
    total = torch.zeros(())
    sums = [torch.zeros_like(weight) for weight in model.parameters()]
    for i in range(tasks):
        model.reset_context()
        for _ in range(inner_steps):
            loss = functional.mse_loss(model(batch.support_x[i]), batch.support_y[i])
            slope = torch.autograd.grad(loss, model.context, create_graph=True)[0]
            model.context = model.context - inner_rate * slope
        loss = functional.mse_loss(model(batch.query_x[i]), batch.query_y[i])
        for j, part in enumerate(torch.autograd.grad(loss, list(model.parameters()))):
            sums[j] += part.detach()
        total += loss.detach()
    return total / tasks, [part / tasks for part in sums]


def loop_step(
    model: ContextModel,
    optimiser: torch.optim.Optimizer,
    batch: TorchBatch,
    *,
    inner_steps: int,
    inner_rate: float,
) -> Tensor:
    """One outer step of the loop; returns the loss."""
    loss, slopes = loop_gradient(model, batch, inner_steps=inner_steps, inner_rate=inner_rate)
    for weight, slope in zip(model.parameters(), slopes, strict=True):
        weight.grad = slope
    optimiser.step()
    return loss


def predict(weights: Weights, x: Tensor, context: Tensor) -> Tensor:
    """Perceptron as a function of its weights; x (shots, 1), context (size,)."""
    x = torch.cat((x, context.expand(x.shape[0], -1)), dim=1)
    for i in range(0, len(weights) - 2, 2):
        x = functional.relu(functional.linear(x, weights[i], weights[i + 1]))
    return functional.linear(x, weights[-2], weights[-1])


def functional_loss(
    weights: Weights, batch: TorchBatch, *, context_size: int, inner_steps: int, inner_rate: float
) -> Tensor:
    """Mean query loss of a batch, vectorised over tasks by torch.func."""

    def one(support_x: Tensor, support_y: Tensor, query_x: Tensor, query_y: Tensor) -> Tensor:
        def inner(context: Tensor) -> Tensor:
            return functional.mse_loss(predict(weights, support_x, context), support_y)

        context = torch.zeros(context_size)
        for _ in range(inner_steps):
            context = context - inner_rate * torch.func.grad(inner)(context)
        return functional.mse_loss(predict(weights, query_x, context), query_y)

    return torch.func.vmap(one)(*batch).mean()


class AdamState(NamedTuple):
    """Weights and Adam's moments as plain tensors, so that a whole outer step compiles into one graph."""

    weights: Weights
    first: Weights
    second: Weights
    steps: Tensor


def adam_start(weights: Weights) -> AdamState:
    """Copies of the weights and zero moments."""
    zeros = [torch.zeros_like(weight) for weight in weights]
    return AdamState(
        [w.detach().clone() for w in weights], zeros, [z.clone() for z in zeros], torch.zeros(())
    )


def adam(state: AdamState, slopes: Weights, rate: float) -> AdamState:
    """One step of Adam with PyTorch's default constants."""
    steps = state.steps + 1
    first = [0.9 * m + 0.1 * slope for m, slope in zip(state.first, slopes, strict=True)]
    second = [0.999 * v + 0.001 * slope * slope for v, slope in zip(state.second, slopes, strict=True)]
    weights = [
        w - rate * (m / (1 - 0.9**steps)) / ((v / (1 - 0.999**steps)).sqrt() + 1e-8)
        for w, m, v in zip(state.weights, first, second, strict=True)
    ]
    return AdamState(weights, first, second, steps)


def compile_step(
    *, context_size: int, inner_steps: int, inner_rate: float, rate: float
) -> Callable[[AdamState, TorchBatch], tuple[AdamState, Tensor]]:
    """A whole outer step as one graph, Adam included: faster here than a step of torch.optim after it."""

    def loss(weights: Weights, batch: TorchBatch) -> Tensor:
        return functional_loss(
            weights, batch, context_size=context_size, inner_steps=inner_steps, inner_rate=inner_rate
        )

    def step(state: AdamState, batch: TorchBatch) -> tuple[AdamState, Tensor]:
        slopes, value = torch.func.grad_and_value(loss)(state.weights, batch)
        return adam(state, slopes, rate), value

    return torch.compile(step, fullgraph=True, dynamic=False)
