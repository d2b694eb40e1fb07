"""Figures in one house style, as SVG that follows the reader's light or dark theme."""

from __future__ import annotations

import contextlib
import io
import math
import re
import textwrap
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from dmcm.errors import ConfigError
from dmcm.storage import write_atomic

INK, MUTED, FAINT, PAPER = "#1f2430", "#6b7280", "#d9dce2", "#fdfdfc"
"""Text and main lines; secondary text; grid; background."""
BLUE, ORANGE, GREEN, PURPLE, SKY, AMBER = "#0072b2", "#d55e00", "#009e73", "#aa4499", "#56b4e9", "#c98a00"
"""Colours that readers with any colour vision can tell apart (after Okabe and Ito 2008)."""
CYCLE = (BLUE, ORANGE, GREEN, PURPLE, SKY, AMBER, INK, MUTED)
SCALE = LinearSegmentedColormap.from_list("dmcm", mpl.colormaps["viridis"](np.linspace(0.05, 0.9, 64)))
"""Low to high; the ends, which would vanish on a white or black background, are cut off."""
WIDTH = 9.2
"""Width of a full-width figure in inches."""

TRUTH: dict[str, Any] = {"color": "#c3c8d1", "linewidth": 6.0, "alpha": 0.75}
"""The truth is a broad pale band, which stays visible under a perfect prediction."""
POINTS: dict[str, Any] = {
    "marker": "o",
    "linestyle": "none",
    "markersize": 5.5,
    "markeredgecolor": PAPER,
    "markeredgewidth": 0.8,
}
"""Samples a model was given."""

_DARK = {
    INK: "#e6e8ec",
    MUTED: "#9aa2b1",
    FAINT: "#3a404b",
    PAPER: "#15181d",
    TRUTH["color"]: "#59616e",
    BLUE: "#4aa3df",
    ORANGE: "#ff8a3d",
    GREEN: "#2cc59b",
    PURPLE: "#d98ccb",
}
_LONGEST_LABEL = 36
_TITLE_LETTERS = 80
_MOST_PANELS = 4
_FONTS = "Inter, 'Helvetica Neue', 'Segoe UI', system-ui, 'DejaVu Sans', sans-serif"
_STYLE: dict[Any, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": MUTED,
    "axes.grid": True,
    "axes.labelcolor": MUTED,
    "axes.labelsize": 9.5,
    "axes.linewidth": 0.7,
    "axes.prop_cycle": cycler(color=CYCLE),
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.titlepad": 8.0,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "legend.fontsize": 9.0,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
    "svg.fonttype": "none",
    "svg.hashsalt": "dmcm",
    "text.color": INK,
    "text.parse_math": False,  # a '$' in a user's label is a dollar
    "xtick.color": MUTED,
    "xtick.labelsize": 9.0,
    "xtick.major.size": 3.0,
    "xtick.major.width": 0.7,
    "xtick.minor.size": 0.0,
    "ytick.color": MUTED,
    "ytick.labelsize": 9.0,
    "ytick.major.size": 3.0,
    "ytick.major.width": 0.7,
    "ytick.minor.size": 0.0,
}


@contextlib.contextmanager
def house_style() -> Iterator[None]:
    """Matplotlib settings of all our figures, for the duration of a `with` block."""
    with mpl.rc_context(_STYLE), warnings.catch_warnings():
        # A label in a script that our font lacks is still readable in the viewer's font.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        # Crowded panels are better than none.
        warnings.filterwarnings("ignore", message="constrained_layout not applied")
        yield


def panels(
    rows: int, columns: int, *, height: float, width: float = WIDTH, **sharing: Any
) -> tuple[Figure, np.ndarray]:
    """A figure and its axes, shape (rows, columns); call it inside `house_style`.

    Args:
        rows: number of rows.
        columns: number of columns.
        height: height of the figure, inches.
        width: width of the figure, inches.
        **sharing: `sharex` and `sharey` as matplotlib's `subplots` takes them.
    """
    figure = Figure(figsize=(width, height), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.08, h_pad=0.08)  # type: ignore[union-attr]
    return figure, figure.subplots(rows, columns, squeeze=False, **sharing)


def plain(text: object) -> str:
    """A label as one line of printable characters; control characters would break the SVG."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]+", " ", str(text))


def short(text: object, longest: int = _LONGEST_LABEL) -> str:
    """A short line for titles, axes and legends; a long one would leave no room for the plot."""
    line = plain(text).strip()
    return line if len(line) <= longest else f"{line[: longest - 1].rstrip()}…"


def to_svg(figure: Figure) -> str:
    """The figure as SVG text whose colours switch with `prefers-color-scheme`."""
    buffer = io.StringIO()
    with house_style():
        figure.savefig(buffer, format="svg", dpi=160, metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :].replace("'DejaVu Sans'", _FONTS).replace('"DejaVu Sans"', _FONTS)
    names = {colour: f"--c{i}" for i, colour in enumerate(_DARK)}
    for colour, name in names.items():
        svg = svg.replace(colour, f"var({name})")
    light = ";".join(f"{name}:{colour}" for colour, name in names.items())
    dark = ";".join(f"{name}:{_DARK[colour]}" for colour, name in names.items())
    style = f"<style>:root{{{light}}}@media(prefers-color-scheme:dark){{:root{{{dark}}}}}</style>"
    opened = svg.index(">") + 1
    return svg[:opened] + style + svg[opened:]


def save_figure(figure: Figure, path: Path) -> None:
    """Write the figure as PNG or SVG, by the suffix of the path.

    Raises:
        ConfigError: any other suffix.
        StorageError: the file cannot be written.
    """
    check_figure_path(path)
    if path.suffix.lower() == ".svg":
        write_atomic(path, to_svg(figure).encode())
        return
    buffer = io.BytesIO()
    with house_style():
        figure.savefig(buffer, format="png", dpi=160, facecolor=PAPER)
    write_atomic(path, buffer.getvalue())


def check_figure_path(path: Path) -> None:
    """Raise `ConfigError` unless a figure can be written to a path of this suffix."""
    if path.suffix.lower() not in (".png", ".svg"):
        raise ConfigError(f"{path.name} does not have the suffix of a figure. Valid: .png, .svg.")


def prediction_curves(
    x: np.ndarray, y: np.ndarray, *, input_name: str, output_names: Sequence[str], title: str
) -> Figure:
    """Predicted outputs over one input, a panel each.

    Args:
        x: shape (n,).
        y: shape (n, outputs).
        input_name: label of the x axis.
        output_names: one an output.
        title: what was predicted.
    """
    order = np.argsort(x)
    with house_style():
        figure, axes = panels(len(output_names), 1, height=0.6 + 2.6 * len(output_names), sharex=True)
        for j, (axis, name) in enumerate(zip(axes[:, 0], output_names, strict=True)):
            axis.plot(x[order], y[order, j], color=PURPLE, marker="o" if len(x) < 3 else "")
            set_y_label(axis, short(name))
        # In lines rather than cut, so that two mixes never share a title.
        axes[0, 0].set_title(textwrap.fill(plain(title), _TITLE_LETTERS))
        axes[-1, 0].set_xlabel(short(input_name))
    return figure


def learning_curves(history: Sequence[Mapping[str, Any]]) -> Figure:
    """Own-context, recombined and validation loss over outer steps, log scale."""
    names = {"own": ("own contexts", BLUE), "recombined": ("recombined contexts", ORANGE)}
    names["validation"] = ("validation, all parts of the loss", GREEN)
    with house_style():
        figure, axes = panels(1, 1, height=3.1)
        axis = axes[0, 0]
        for name, (label, colour) in names.items():
            points = [(line["step"], line[name]) for line in history if (line.get(name) or 0) > 0]
            if points:
                steps, losses = zip(*points, strict=True)
                axis.plot(steps, losses, color=colour, label=label, marker="." if len(points) < 3 else None)
        axis.set_yscale("log")
        plain_decades(axis.yaxis)
        axis.set_xlabel("outer step")
        axis.set_ylabel("query loss (standardised)")
        axis.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        if axis.lines:
            axis.legend(loc="upper right")
    return figure


def context_panels(
    contexts: Mapping[str, np.ndarray],
    labels: Mapping[str, Sequence[Any]],
    *,
    shown: Mapping[str, str] | None = None,
) -> Figure:
    """Each factor's contexts (rows) coloured by each factor's labels (columns); at most the first four.

    Disentangled contexts show order on the diagonal and confetti off it; order off the diagonal is leakage.

    Args:
        contexts: per factor, shape (tasks, size).
        labels: per factor, one label a task; numbers get a colour scale, text a legend.
        shown: display names of the factors' labels, e.g. with a unit.
    """
    rows, columns = list(contexts)[:_MOST_PANELS], list(labels)[:_MOST_PANELS]
    shown = shown or {}
    with house_style():
        width = min(WIDTH, 0.6 + 4.3 * len(columns))
        figure, axes = panels(len(rows), len(columns), height=0.3 + 2.7 * len(rows), width=width)
        for i, row in enumerate(rows):
            points, share = principal_axes(np.asarray(contexts[row], np.float64))
            for j, column in enumerate(columns):
                axis: Axes = axes[i, j]
                _coloured_points(axis, points, labels[column], short(shown.get(column, column)))
                axis.set_title(short(f"{row} context by {column}", 32))
                axis.set_xlabel(f"axis 1 ({share[0]:.1%} of variance)")
                axis.set_ylabel(f"axis 2 ({share[1]:.1%})")
                _keep_proportion(axis)
    return figure


def _keep_proportion(axis: Axes) -> None:
    """Stretch the second axis at most threefold against the first: noise must not look like structure."""
    axis.margins(0.08)
    low, high = axis.get_ylim()
    missing = np.ptp(axis.get_xlim()) / 3 - (high - low)
    if missing > 0:
        axis.set_ylim(low - missing / 2, high + missing / 2)


def principal_axes(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points (n, d) on their first two principal axes, shape (n, 2), and each one's share of the variance.

    Signs are fixed so that the largest loading of an axis is positive; a missing second axis is zero.
    """
    centred = points - points.mean(axis=0)
    _, singular, directions = np.linalg.svd(centred, full_matrices=False)
    directions = directions[:2]
    strongest = np.take_along_axis(directions, np.argmax(np.abs(directions), axis=1)[:, None], axis=1)
    projected = centred @ (directions * np.where(strongest < 0, -1.0, 1.0)).T
    total = float(np.sum(singular**2))
    share = singular[:2] ** 2 / total if total > 0 else np.zeros(min(2, len(singular)))
    short = 2 - projected.shape[1]
    return np.pad(projected, [(0, 0), (0, short)]), np.pad(share, (0, short))


def fitted_panel(
    axis: Axes,
    curve: tuple[np.ndarray, np.ndarray] | None,
    *,
    title: str,
    note: str = "",
    support: tuple[np.ndarray, np.ndarray] | None = None,
    others: tuple[np.ndarray, np.ndarray] | None = None,
    truth: tuple[np.ndarray, np.ndarray] | None = None,
    colour: str = BLUE,
) -> None:
    """One task: the predicted curve, the samples given and, if known, the truth and samples held back.

    Args:
        axis: where to draw.
        curve: predicted x and y, each (n,).
        title: title of the panel.
        note: line under the title.
        support: samples adapted to.
        others: samples the model did not see.
        truth: true x and y.
        colour: colour of curve and samples.
    """
    if truth is not None:
        axis.plot(*truth, label="truth", **TRUTH)
    if curve is not None:
        axis.plot(*curve, color=colour, label="predicted")
    if others is not None and len(others[0]):
        axis.plot(*others, "o", color=MUTED, markersize=3.2, markerfacecolor="none", label="held back")
    if support is not None and len(support[0]):
        axis.plot(*support, color=colour, label="given", **POINTS)
    set_title(axis, title, note)


def set_title(axis: Axes, title: str, note: str = "") -> None:
    """A bold title with a quieter line under it."""
    axis.set_title(short(title), pad=22.0 if note else 8.0)
    if note:
        axis.annotate(
            short(note), (0, 1), (0, 8), xycoords="axes fraction", textcoords="offset points", color=MUTED
        )


def set_y_label(axis: Axes, text: str) -> None:
    """Name the second axis once all is drawn, with the factor of its numbers: above it there are notes."""
    formatter = axis.yaxis.get_major_formatter()
    formatter.set_locs(axis.get_yticks().tolist())
    if offset := formatter.get_offset():
        text += f" ({offset})" if offset[0] in "+-\N{MINUS SIGN}" else f" (× {offset})"
    axis.set_ylabel(text)
    axis.yaxis.get_offset_text().set_visible(False)


def plain_decades(axis: Axis) -> None:
    """Label the powers of ten of a logarithmic axis as plain numbers."""
    axis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.set_minor_formatter(NullFormatter())


_LEGEND_ENTRY_IN, _LEGEND_LETTER_IN = 0.55, 0.07
"""Width of a legend entry without its text, and of a letter, inches."""


def shared_legend(figure: Figure, axes: Sequence[Axes]) -> None:
    """One legend for all panels, under them."""
    entries: dict[str, Any] = {}
    for axis in axes:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    if entries:
        # Estimated from the text, because anything beyond the figure is cut off.
        wanted_in = sum(_LEGEND_ENTRY_IN + _LEGEND_LETTER_IN * len(label) for label in entries)
        rows = math.ceil(wanted_in / figure.get_figwidth())
        columns = math.ceil(len(entries) / rows)
        figure.legend(list(entries.values()), list(entries), loc="outside lower center", ncols=columns)


def _coloured_points(axis: Axes, points: np.ndarray, labels: Sequence[Any], name: str) -> None:
    numeric = all(isinstance(v, (int, float, np.number)) and not isinstance(v, bool) for v in labels)
    levels = sorted(set(labels)) if numeric else sorted(set(labels), key=str)
    listed = len(levels) <= len(CYCLE)
    if numeric and not listed:
        drawn = axis.scatter(*points.T, c=np.asarray(labels, float), cmap=SCALE, s=16, linewidths=0)
        bar = axis.figure.colorbar(drawn, ax=axis, pad=0.02, aspect=28)
        bar.outline.set_visible(False)  # type: ignore[operator]
        bar.ax.tick_params(length=0, labelsize=8.5)
        bar.set_label(name, fontsize=9)
        return
    for k, level in enumerate(levels):
        chosen = np.asarray([own == level for own in labels])
        # Numbers are ordered, and so are their colours.
        colour = CYCLE[k] if listed and not numeric else SCALE(k / max(1, len(levels) - 1))
        axis.scatter(*points[chosen].T, color=colour, s=22, linewidths=0, label=short(level))
    if listed:
        axis.legend(
            title=name,
            title_fontsize=9,
            alignment="left",
            loc="upper left",
            bbox_to_anchor=(1.0, 1.0),
            handletextpad=0.2,
        )
