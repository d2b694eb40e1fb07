"""Figures of models of a table: contexts by label, fitted curves, the swap on a held-out combination."""

from __future__ import annotations

import itertools

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dmcm.contexts import share
from dmcm.data import FactorDataset
from dmcm.learner import Learner
from dmcm.plots import (
    AMBER,
    BLUE,
    GREEN,
    MUTED,
    ORANGE,
    PURPLE,
    context_panels,
    fitted_panel,
    house_style,
    panels,
    set_title,
    set_y_label,
    shared_legend,
    short,
)
from dmcm.tabular.measures import draw_support, pool_label

_PANELS = 9
_CURVE = 200
_WIDEST_TITLE = 24
"""Letters of a title over a third of the page."""


def contexts_picture(learner: Learner, data: FactorDataset) -> Figure:
    """Each factor's contexts coloured by each factor's labels."""
    contexts = learner.adapt_samples(data.samples())
    return context_panels(
        {name: np.asarray(contexts[name]) for name in learner.factors},
        {name: [data.label(name, i) for i in range(len(data))] for name in learner.factors},
    )


def fitted_picture(learner: Learner, data: FactorDataset, output: int) -> Figure:
    """Up to nine tasks adapted to some of their samples: curves, or predicted against measured."""
    chosen = np.unique(np.linspace(0, len(data) - 1, min(_PANELS, len(data))).round().astype(int))
    part = data.subset(chosen.tolist())
    support, _ = draw_support(part, np.random.default_rng(0))
    contexts = learner.adapt_samples(support)
    columns = min(3, len(part))
    rows = -(-len(part) // columns)
    with house_style():
        figure, axes = panels(rows, columns, height=0.6 + 2.1 * rows, sharex=True, sharey=True)
        for i, axis in enumerate(axes.flat):
            if i >= len(part):
                axis.set_visible(False)
                continue
            given = np.asarray(support.weight)[i][part.weight[i] > 0] > 0
            x, y = part.task(i)
            labels = [f"{name} {part.label(name, i)}" for name in part.factor_names]
            title, note = part.task_names[i], labels
            if title == ", ".join(f"{name}={part.label(name, i)}" for name in part.factor_names):
                title, note = labels[0], labels[1:]  # a task without a name of its own
            if learner.inputs == 1:
                line = _line(part)
                curve = np.asarray(learner.predict(contexts.at(i), line))[:, output]
                shown = (x[:, 0], y[:, output])
                drawn: tuple[np.ndarray, np.ndarray] | None = (line[:, 0], curve)
            else:
                shown = (y[:, output], np.asarray(learner.predict(contexts.at(i), x))[:, output])
                drawn = None
                _diagonal(axis, part.y[part.weight > 0][:, output])
            fitted_panel(
                axis,
                drawn,
                title=short(title, _WIDEST_TITLE),
                note=", ".join(note),
                support=(shown[0][given], shown[1][given]),
                others=(shown[0][~given], shown[1][~given]),
            )
        _label_axes(axes, data, output)
        shared_legend(figure, list(axes.flat))
    return figure


def held_out_picture(learner: Learner, train: FactorDataset, held_out: FactorDataset, output: int) -> Figure:
    """The source of each pooled context, and the prediction of the combination outside training."""
    labels = {name: held_out.label(name, 0) for name in learner.factors}
    carriers = {
        name: train.subset(np.flatnonzero(train.labels[name] == held_out.labels[name][0]).tolist())
        for name in learner.factors
    }
    mix = share(**{name: pool_label(learner, own, name) for name, own in carriers.items()})
    curves = learner.adapt_samples(train.samples())
    line = _line(held_out)
    with house_style():
        figure, axes = panels(1, len(carriers) + 1, height=3.6, sharex=True, sharey=True)
        colours = itertools.cycle((BLUE, ORANGE, GREEN, AMBER))
        for axis, (name, own), colour in zip(axes[0], carriers.items(), colours, strict=False):
            real = own.weight > 0
            axis.plot(own.x[real][:, 0], own.y[real][:, output], "o", color=colour, markersize=2.6, alpha=0.6)
            set_title(axis, f"{name} {labels[name]}", f"{len(own)} training tasks")
        last = axes[0, -1]
        for i in range(len(held_out)):
            x, y = held_out.task(i)
            label = "measured, never trained on" if i == 0 else None
            last.plot(
                x[:, 0], y[:, output], "o", color=MUTED, markersize=3.2, markerfacecolor="none", label=label
            )
        mean = np.asarray(learner.predict(curves, line)).mean(axis=0)[:, output]
        last.plot(line[:, 0], mean, color=AMBER, linewidth=1.2, label="mean curve of all training tasks")
        mixed = np.asarray(learner.predict(mix, line))[:, output]
        last.plot(line[:, 0], mixed, color=PURPLE, label="predicted from the mix")
        set_title(last, "Mixed: no data from here", ", ".join(f"{n} {v}" for n, v in labels.items()))
        _label_axes(axes, held_out, output)
        shared_legend(figure, [last])
    return figure


def _line(data: FactorDataset) -> np.ndarray:
    """Inputs from the smallest to the largest, shape (points, 1)."""
    real = data.x[data.weight > 0][:, 0]
    return np.linspace(real.min(), real.max(), _CURVE)[:, None]


def _diagonal(axis: Axes, values: np.ndarray) -> None:
    ends = [float(values.min()), float(values.max())]
    axis.plot(ends, ends, color=MUTED, linewidth=0.8)


def _label_axes(axes: np.ndarray, data: FactorDataset, output: int) -> None:
    single = data.inputs == 1
    for column in axes.T:
        lowest = [axis for axis in column if axis.get_visible()][-1]
        lowest.set_xlabel(short(data.input_names[0] if single else f"{data.output_names[output]}, measured"))
        lowest.tick_params(axis="x", labelbottom=True)
    for axis in axes[:, 0]:
        set_y_label(axis, short(data.output_names[output] if single else "predicted"))
    for axis in axes[:, 1:].flat:
        axis.yaxis.get_offset_text().set_visible(False)
