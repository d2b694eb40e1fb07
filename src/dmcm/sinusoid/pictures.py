"""Figures of sinusoid models: the swap, fitted curves, contexts, errors over the factor plane."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import NullFormatter

from dmcm.contexts import Contexts, share
from dmcm.learner import Learner
from dmcm.plots import (
    AMBER,
    BLUE,
    GREEN,
    INK,
    ORANGE,
    PURPLE,
    SCALE,
    TRUTH,
    context_panels,
    fitted_panel,
    house_style,
    panels,
    plain_decades,
    set_title,
    shared_legend,
)
from dmcm.report import show_number
from dmcm.samples import as_samples
from dmcm.sinusoid import protocol
from dmcm.sinusoid.family import AMPLITUDE, BLOCK, INPUT, PHASE, SHOTS

PICTURE_SEED = 11
"""Seed of the tasks shown in figures; neither trained nor tested on."""
BLOCK_SHARE = (AMPLITUDE[1] - BLOCK[0]) / (AMPLITUDE[1] - AMPLITUDE[0]) * (1 - BLOCK[1] / PHASE[1])
"""Share of the plane that the held-out block takes."""
TASKS = 500
"""Tasks drawn of a split, as many as in `measures`."""
SPLIT_NAMES = {"seen": "seen", "unseen_pair": "unseen pair", "range": "out of range"}
"""Names of the splits in tables and figures."""
_NAMES = {"amplitude": "amplitude A", "phase": "phase φ (rad)"}


@dataclasses.dataclass(frozen=True)
class Situation:
    """One sinusoid and a few known points of it.

    Attributes:
        amplitude: A.
        phase: φ, rad.
        x: inputs of the known points, shape (shots, 1).
        y: their outputs, shape (shots, 1).
    """

    amplitude: float
    phase: float
    x: np.ndarray
    y: np.ndarray

    def truth(self) -> np.ndarray:
        """True outputs on the protocol's grid, shape (points,)."""
        return self.amplitude * np.sin(protocol.grid()[:, 0] - self.phase)


@dataclasses.dataclass(frozen=True)
class SwapExample:
    """Two situations with points, and a third predicted from their contexts.

    Attributes:
        a: gives the amplitude.
        b: gives the phase.
        curves: predictions on the protocol's grid for "a", "b" and "mixed", shape (points,) each.
    """

    a: Situation
    b: Situation
    curves: dict[str, np.ndarray]

    def mixed_truth(self) -> np.ndarray:
        """The sinusoid with A's amplitude and B's phase, shape (points,)."""
        return dataclasses.replace(self.a, phase=self.b.phase).truth()

    def error(self, which: str) -> float:
        """MSE of "a", "b" or "mixed" on the grid."""
        truth = {"a": self.a.truth, "b": self.b.truth, "mixed": self.mixed_truth}[which]()
        return float(np.mean((self.curves[which] - truth) ** 2))


def draw(split: str, *, seed: int = PICTURE_SEED) -> protocol.TestTasks:
    """Tasks of a split for figures, always the same number, so that one compilation serves all figures."""
    return protocol.draw_tasks(split, seed=seed, tasks=TASKS)


def make_situation(amplitude: float, phase: float, seed: int) -> Situation:
    """A sinusoid with ten known points."""
    x = np.sort(np.random.default_rng(seed).uniform(*INPUT, (SHOTS, 1)), axis=0)
    return Situation(amplitude, phase, x, amplitude * np.sin(x - phase))


def swap_example(learner: Learner) -> SwapExample:
    """Adapt to a large amplitude and to a late phase, then mix them into a pair that no training task had.

    A model with one context for both factors cannot take it apart; it gets the mean of the two vectors.
    """
    a, b = make_situation(4.2, 0.5, PICTURE_SEED), make_situation(1.2, 2.4, PICTURE_SEED + 1)
    samples = as_samples(np.stack([a.x, b.x]), np.stack([a.y, b.y]), 1, 1)
    truth = {"amplitude": [[a.amplitude], [b.amplitude]], "phase": [[a.phase], [b.phase]]}
    told = None if learner.solver.needs_data() else {k: jnp.asarray(v) for k, v in truth.items()}
    both = learner.adapt_samples(samples, truth=told)
    if protocol.has_both_factors(learner):
        mixed = share(amplitude=both.at(0), phase=both.at(1))
    else:
        mixed = Contexts({name: jnp.mean(both[name], axis=0) for name in learner.factors}, both.model)
    contexts = {"a": both.at(0), "b": both.at(1), "mixed": mixed}
    curves = {
        name: np.asarray(learner.predict(own, protocol.grid()), np.float64)[:, 0]
        for name, own in contexts.items()
    }
    return SwapExample(a, b, curves)


def swap_picture(example: SwapExample, control: SwapExample | None = None) -> Figure:
    """Situation A with its points, B with its points, and the mix against the truth."""
    grid = protocol.grid()[:, 0]
    a, b = example.a, example.b
    with house_style():
        figure, axes = panels(1, 3, height=3.7, sharex=True, sharey=True)
        left, middle, right = axes[0]
        for axis, name, own, colour in ((left, "a", a, BLUE), (middle, "b", b, ORANGE)):
            fitted_panel(
                axis,
                (grid, example.curves[name]),
                title=f"{name.upper()}: 10 points",
                note=f"A = {own.amplitude}, φ = {own.phase}",
                support=(own.x[:, 0], own.y[:, 0]),
                truth=(grid, own.truth()),
                colour=colour,
            )
        right.plot(grid, example.mixed_truth(), label="truth", **TRUTH)
        if control is not None:
            mean = control.curves["mixed"]
            right.plot(grid, mean, color=AMBER, linewidth=1.2, label="single context, mean of both")
        right.plot(grid, example.curves["mixed"], color=PURPLE, label="predicted from the mix")
        note = f"A = {a.amplitude} from A, φ = {b.phase} from B"
        set_title(right, "Mixed: no data from here", note)
        for axis in axes[0]:
            axis.set_xlabel("x")
        left.set_ylabel("y")
        shared_legend(figure, [right])
    return figure


def fitted_picture(learner: Learner) -> Figure:
    """Three seen tasks and three from the held-out block, each fitted to its own ten points."""
    grid = protocol.grid()
    with house_style():
        figure, axes = panels(2, 3, height=5.2, sharex=True, sharey=True)
        for row, (split, colour) in enumerate((("seen", BLUE), ("unseen_pair", GREEN))):
            tasks = draw(split)
            contexts = protocol.few_shot_contexts(learner, tasks)
            curves = np.asarray(learner.predict(contexts, grid))[..., 0]
            errors = protocol.task_errors(learner, contexts, tasks)
            for i, axis in enumerate(axes[row]):  # the first three
                truth = tasks.amplitude[i] * np.sin(grid[:, 0] - tasks.phase[i])
                points = (np.asarray(tasks.support.x)[i, :, 0], np.asarray(tasks.support.y)[i, :, 0])
                note = f"A = {tasks.amplitude[i]:.1f}, φ = {tasks.phase[i]:.1f}, MSE {show_number(errors[i])}"
                fitted_panel(
                    axis,
                    (grid[:, 0], curves[i]),
                    title=SPLIT_NAMES[split],
                    note=note,
                    support=points,
                    truth=(grid[:, 0], truth),
                    colour=colour,
                )
                if row == 1:
                    axis.set_xlabel("x")
            axes[row, 0].set_ylabel("y")
    return figure


def contexts_picture(learner: Learner) -> Figure:
    """Each factor's context on its two main axes, coloured by the true amplitude and by the true phase.

    Tasks cover the whole plane evenly. If they lay only outside the held-out block, a large A would imply a
    small φ, and a clean context would seem to leak.
    """
    tasks = {split: draw(split) for split in ("seen", "unseen_pair")}
    inside = round(TASKS * BLOCK_SHARE / (1 - BLOCK_SHARE))
    kept = {"seen": slice(None), "unseen_pair": slice(inside)}
    contexts = {split: protocol.few_shot_contexts(learner, own) for split, own in tasks.items()}

    def joined(arrays: Mapping[str, Any]) -> np.ndarray:
        return np.concatenate([np.asarray(arrays[split])[kept[split]] for split in kept])

    return context_panels(
        {name: joined({split: own[name] for split, own in contexts.items()}) for name in learner.factors},
        {
            "amplitude": joined({split: own.amplitude for split, own in tasks.items()}).tolist(),
            "phase": joined({split: own.phase for split, own in tasks.items()}).tolist(),
        },
        shown=_NAMES,
    )


def plane_picture(learner: Learner) -> Figure:
    """Error of each task over the plane of amplitude and phase, with the held-out block framed."""
    drawn = [draw("seen", seed=PICTURE_SEED + i) for i in range(3)] + [draw("unseen_pair")]
    with house_style():
        figure, axes = panels(1, 2, height=3.9, sharex=True, sharey=True)
        colours = ScalarMappable(Normalize(-6, 1), SCALE)
        for axis, title in zip(axes[0], ("few-shot: 10 own points", "zero-shot: no own point"), strict=True):
            for own in drawn:
                if title.startswith("few"):
                    contexts = protocol.few_shot_contexts(learner, own)
                else:
                    ways = protocol.zero_shot_contexts(learner, own)
                    contexts = ways["shared"] if "shared" in ways else ways["mean"]
                errors = np.log10(np.maximum(protocol.task_errors(learner, contexts, own), 1e-12))
                axis.scatter(
                    own.amplitude, own.phase, c=colours.to_rgba(errors), s=9, linewidths=0, rasterized=True
                )
            size = (AMPLITUDE[1] - BLOCK[0], PHASE[1] - BLOCK[1])
            axis.add_patch(Rectangle(BLOCK, *size, fill=False, edgecolor=INK, linewidth=1.4))
            axis.grid(visible=False)
            axis.set_title(title)
            axis.set_xlabel(_NAMES["amplitude"])
        axes[0, 0].set_ylabel(_NAMES["phase"])
        bar = figure.colorbar(
            colours, ax=axes[0].tolist(), pad=0.01, aspect=28, ticks=range(-6, 2), extend="both"
        )
        bar.ax.set_yticklabels([f"{10.0**power:g}" for power in range(-6, 2)])
        bar.outline.set_visible(False)  # type: ignore[operator]
        bar.ax.tick_params(length=0)
        bar.set_label("MSE")
    return figure


def inner_steps_picture(curve: Mapping[str, Any]) -> Figure:
    """Errors against the number of inner steps at use.

    Args:
        curve: measures from `protocol.evaluate`, by number of steps.
    """
    lines = {
        ("few_shot", "seen"): ("few-shot, seen", BLUE, "-"),
        ("few_shot", "unseen_pair"): ("few-shot, unseen pair", BLUE, "--"),
        ("zero_shot", "seen"): ("zero-shot, seen", ORANGE, "-"),
        ("zero_shot", "unseen_pair"): ("zero-shot, unseen pair", ORANGE, "--"),
    }
    drawn = {
        look: {step: errors[measure][split]["mean"] for step, errors in curve.items()}
        for (measure, split), look in lines.items()
    }
    return _error_lines(drawn, "inner steps at use")


def shots_picture(curve: Mapping[str, Any]) -> Figure:
    """Few-shot error against the number of support points.

    Args:
        curve: result of `measures.shots_curve`.
    """
    drawn = {}
    for split, colour in (("seen", BLUE), ("unseen_pair", GREEN)):
        for kind, style in (("mean", "-"), ("median", "--")):
            errors = {shots: summary[kind] for shots, summary in curve[split].items()}
            drawn[f"{SPLIT_NAMES[split]}, {kind}", colour, style] = errors
    return _error_lines(drawn, "points given of the task")


def _error_lines(lines: Mapping[tuple[str, str, str], Mapping[str, float | None]], name: str) -> Figure:
    """Errors over a count, on logarithmic axes; each line is given by its label, colour and style."""
    with house_style():
        figure, axes = panels(1, 1, height=3.1)
        axis = axes[0, 0]
        ticks: set[int] = set()
        for (label, colour, style), errors in lines.items():
            counts = sorted(map(int, errors))
            ticks |= set(counts)
            values = [errors[str(count)] or math.nan for count in counts]
            axis.plot(counts, values, style, color=colour, marker="o", markersize=4, label=label)
        axis.set_xscale("log")
        axis.set_yscale("log")
        plain_decades(axis.yaxis)
        axis.xaxis.set_minor_formatter(NullFormatter())
        axis.set_xticks(sorted(ticks), [str(tick) for tick in sorted(ticks)])
        axis.set_xlabel(name)
        axis.set_ylabel("MSE")
        axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure
