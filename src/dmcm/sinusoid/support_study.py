"""Study: zero-shot error by the share of pairs seen in training and by whether they are connected."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray
from rich.console import Console

from dmcm.commands import command_of
from dmcm.errors import ConfigError
from dmcm.learner import Learner
from dmcm.objective import choose_donors
from dmcm.results import earlier_table, with_earlier
from dmcm.runs import environment
from dmcm.samples import Batch, Samples
from dmcm.scaling import Scaler
from dmcm.sinusoid import protocol
from dmcm.sinusoid.family import INPUT, SHOTS, SinusoidSampler
from dmcm.sinusoid.methods import method_named
from dmcm.sinusoid.support import (
    LABELS,
    LAYOUTS,
    components,
    draw_support,
    grid_values,
    largest_share,
)
from dmcm.storage import write_json
from dmcm.studies import run_cell
from dmcm.summaries import summarise_cells, summarise_errors

_ANCHORS = 12


class SupportSampler(eqx.Module):
    """Batches of the seen pairs of a grid, with fresh points in every draw.

    If there are few pairs, a batch holds all. Otherwise it holds 36 tasks: random pairs, each with another
    pair of the same amplitude and one of the same phase if the support has one.

    Attributes:
        row: amplitude label of each seen pair, shape (pairs,).
        column: phase label of each seen pair, shape (pairs,).
    """

    row: Int[Array, " pairs"]
    column: Int[Array, " pairs"]

    def __init__(self, seen: np.ndarray):
        """Take the pairs from a support, boolean, shape (amplitudes, phases)."""
        row, column = np.nonzero(seen)
        self.row, self.column = jnp.asarray(row), jnp.asarray(column)

    def scaler(self) -> Scaler:
        """The family's scaler: a grid over the same ranges has nearly the same moments."""
        return SinusoidSampler().scaler()

    def sample(self, key: PRNGKeyArray) -> Batch:
        """One batch; see the class."""
        pair_key, x_key = jax.random.split(key)
        pair = self._draw_pairs(pair_key)
        row, column = self.row[pair], self.column[pair]
        amplitude, phase = (jnp.asarray(values, jnp.float32) for values in grid_values())
        x = jax.random.uniform(x_key, (pair.shape[0], 2 * SHOTS, 1), minval=INPUT[0], maxval=INPUT[1])
        y = _curve(amplitude[row], phase[column], x)
        weight = jnp.ones((pair.shape[0], SHOTS))
        return Batch(
            support=Samples(x[:, :SHOTS], y[:, :SHOTS], weight),
            query=Samples(x[:, SHOTS:], y[:, SHOTS:], weight),
            task=pair,
            labels={"amplitude": row, "phase": column},
            valid=jnp.ones(pair.shape, bool),
            values={"amplitude": amplitude[row][:, None], "phase": phase[column][:, None]},
        )

    def _draw_pairs(self, key: PRNGKeyArray) -> Int[Array, " batch"]:
        count = self.row.shape[0]
        every = jnp.arange(count)
        if count <= 3 * _ANCHORS:
            return every
        anchor_key, row_key, column_key = jax.random.split(key, 3)
        anchors = jax.random.choice(anchor_key, count, (_ANCHORS,), replace=False)
        valid = jnp.ones(count, bool)
        same_row, _ = choose_donors(self.row, every, valid, row_key)
        same_column, _ = choose_donors(self.column, every, valid, column_key)
        return jnp.concatenate([anchors, same_row[anchors], same_column[anchors]])


@dataclasses.dataclass(frozen=True)
class SupportConfig:
    """Study how many pairs training must see, and which."""

    layouts: tuple[str, ...] = LAYOUTS
    """How the seen pairs are connected; see `dmcm.sinusoid.support.LAYOUTS`."""
    shares: tuple[float, ...] = (1.0, 0.7, 0.5, 0.3, 0.15)
    """Shares of the pairs to see; layouts with two components have at most half and skip larger shares."""
    methods: tuple[str, ...] = ("dmcm",)
    """Methods to train; dmcm_no_recombination shows what the recombined loss adds."""
    seeds: int = 3
    """Seeds 0, 1, … of the support, of initial weights and of training batches."""
    steps: int = 20_000
    """Outer steps a seed."""
    optimiser: str = "muon"
    """Optimiser of the outer loop: muon or adam."""
    out: Path = Path("runs/support")
    """Folder with a run folder per support and seed; finished ones are not run again."""
    results: Path | None = None
    """File for the table, e.g. results/support.json."""
    test_seed: int = protocol.TEST_SEED
    """Seed of the test tasks; use another one (7) while tuning."""

    def cases(self) -> list[tuple[str, str, float]]:
        """Method, layout and share of each case that exists.

        Raises:
            ConfigError: unknown names, settings out of range, or nothing to train.
        """
        if self.seeds < 1 or self.steps < 1:
            raise ConfigError(f"seeds={self.seeds} and steps={self.steps} must be at least 1.")
        for method in self.methods:
            method_named(method, self.optimiser)
        if len({f"{share:.0%}" for share in self.shares}) < len(self.shares):
            raise ConfigError(f"shares={self.shares}: give shares that differ by at least a percent.")
        pairs = [(name, share) for name in self.layouts for share in self.shares]
        fitting = [(name, share) for name, share in pairs if share <= largest_share(name) or share > 1]
        for name, share in fitting:
            draw_support(name, share, 0)
        cases = [(method, *pair) for method in self.methods for pair in fitting]
        if not cases:
            raise ConfigError(
                f"nothing to train: methods={self.methods}, layouts={self.layouts}, shares={self.shares}."
            )
        return cases


def run_support(config: SupportConfig, *, progress: bool = True) -> dict[str, Any]:
    """Train and measure each case; returns the table in the layout of results/support.json.

    Can be stopped and started again at any time.

    Raises:
        DmcmError: settings out of range, or as for `fit`.
    """
    cases = config.cases()
    setting = {
        "study": "error by share and connectivity of the pairs seen in training",
        "grid": {"amplitudes": LABELS, "phases": LABELS, "pairs": LABELS**2},
        "layouts": list(config.layouts),
        "shares": list(config.shares),
        "seeds": config.seeds,
        "training_steps": config.steps,
        "optimiser": config.optimiser,
        "test_seed": config.test_seed,
    }
    earlier = earlier_table(config.results, setting)
    console = Console(stderr=True, quiet=not progress)
    table: dict[str, Any] = {}
    for method, layout, share in cases:
        cells = []
        for seed in range(config.seeds):
            console.print(f"[bold]{method}[/bold], {layout}, {share:.0%} of pairs, seed {seed}")
            cells.append(support_cell(method, layout, share, seed, config, progress=progress))
        shares = table.setdefault(method, {}).setdefault(layout, {})
        shares[f"{share:.0%}"] = {
            "pairs": round(share * LABELS**2),
            "training_seconds": float(np.median([cell["training_seconds"] for cell in cells])),
            **summarise_cells([cell["measures"] for cell in cells]),
        }
    results = {
        **setting,
        "command": command_of("sinusoid support", config),
        "environment": environment(),
        "methods": table,
    }
    results = with_earlier(results, earlier, parts=("methods",))
    if config.results is not None:
        write_json(config.results, results)
    return results


def support_cell(
    method: str,
    layout: str,
    share: float,
    seed: int,
    config: SupportConfig,
    *,
    progress: bool = True,
) -> dict[str, Any]:
    """One method, support and seed: train if not yet done, then measure."""
    seen = draw_support(layout, share, seed)
    return run_cell(
        method_named(method, config.optimiser),
        seed,
        SupportSampler(seen),
        config.out / method / layout / f"share-{share:g}" / f"seed-{seed}",
        lambda learner: {"measures": evaluate(learner, seen, layout, seed=config.test_seed)},
        steps=config.steps,
        about=["support", layout, share, config.test_seed],
        progress=progress,
    )


def splits(seen: np.ndarray, layout: str) -> dict[str, np.ndarray]:
    """Pairs by their relation to training, boolean, shape (amplitudes, phases); empty splits are left out.

    `seen`; `within`, unseen pairs with both labels in one component; `across`, with labels in two components.
    """
    part = components(layout)
    together = part[:, None] == part[None, :]
    kinds = {"seen": seen, "within": ~seen & together, "across": ~together}
    return {name: pairs for name, pairs in kinds.items() if np.any(pairs)}


def draw_tasks(
    pairs: np.ndarray, seen: np.ndarray, rng: np.random.Generator, *, tasks: int
) -> protocol.TestTasks:
    """Test tasks of random pairs, with donors of their labels from seen pairs.

    A donor differs from the task's own pair if its label was seen in another pair.

    Args:
        pairs: pairs to draw from, boolean, shape (amplitudes, phases).
        seen: pairs to take donors from; every label is in at least one.
        rng: draws pairs, donors and points.
        tasks: number of tasks.
    """
    chosen = np.argwhere(pairs)[rng.integers(np.count_nonzero(pairs), size=tasks)]
    row, column = chosen[:, 0], chosen[:, 1]

    def donor(candidates: np.ndarray, own: np.ndarray) -> np.ndarray:
        """Another label that each task's label was seen with, from candidates (tasks, labels)."""
        score = np.where(candidates, rng.random(candidates.shape) + 1, 0)
        score[np.arange(tasks), own] = np.minimum(score[np.arange(tasks), own], 0.5)
        return np.argmax(score, axis=1)

    amplitudes, phases = grid_values()
    amplitude, phase = amplitudes[row], phases[column]
    donor_phase, donor_amplitude = phases[donor(seen[row], column)], amplitudes[donor(seen.T[column], row)]

    def points(a: np.ndarray, p: np.ndarray) -> Samples:
        x = jnp.asarray(rng.uniform(*INPUT, (tasks, SHOTS, 1)), jnp.float32)
        y = _curve(jnp.asarray(a, jnp.float32), jnp.asarray(p, jnp.float32), x)
        return Samples(x, y, jnp.ones((tasks, SHOTS)))

    return protocol.TestTasks(
        amplitude,
        phase,
        points(amplitude, phase),
        points(amplitude, donor_phase),
        points(donor_amplitude, phase),
        donor_phase,
        donor_amplitude,
    )


def evaluate(
    learner: Learner,
    seen: np.ndarray,
    layout: str,
    *,
    seed: int = protocol.TEST_SEED,
    tasks: int = protocol.TASKS,
) -> dict[str, dict[str, dict[str, float]]]:
    """Few-shot and zero-shot errors of each of the `splits`.

    As in the protocol, a model without a context per factor gets the best of its ways.
    """
    few: dict[str, dict[str, float]] = {}
    zero: dict[str, dict[str, float]] = {}
    for i, (name, pairs) in enumerate(splits(seen, layout).items()):
        drawn = draw_tasks(pairs, seen, np.random.default_rng((seed, i)), tasks=tasks)
        contexts = protocol.few_shot_contexts(learner, drawn)
        few[name] = summarise_errors(protocol.task_errors(learner, contexts, drawn))
        ways = protocol.zero_shot_contexts(learner, drawn).values()
        errors = [protocol.task_errors(learner, way, drawn) for way in ways]
        zero[name] = summarise_errors(min(errors, key=np.mean))
    return {"few_shot": few, "zero_shot": zero}


def _curve(
    amplitude: Float[Array, " tasks"], phase: Float[Array, " tasks"], x: Float[Array, "tasks n 1"]
) -> Float[Array, "tasks n 1"]:
    return amplitude[:, None, None] * jnp.sin(x - phase[:, None, None])
