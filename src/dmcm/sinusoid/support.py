"""Which pairs of labels must training see? Supports on a finite grid of amplitudes and phases.

Seen pairs are edges of a bipartite graph of labels. For f(A_i) + g(φ_j), or a product after taking
logarithms, the second difference y_ij − y_i'j − y_ij' + y_i'j' is zero, so an unseen pair follows from
seen ones along a path between its labels: swaps are identified inside a connected component, and across
components only up to one constant per component. There, predictions come from the network's bias, not from
the data: a smooth network ties components with interleaved labels together, but not those far apart.
"""

from __future__ import annotations

import numpy as np

from dmcm.errors import ConfigError, unknown_name
from dmcm.sinusoid.family import AMPLITUDE, PHASE

LABELS = 14
"""Number of amplitudes, and of phases, in the grid: the smallest that allows a connected support of 15 % of
the pairs (29 of 196; a tree over 28 labels takes 27) and splits into equal halves."""
LAYOUTS = ("connected", "blocks", "interleaved")
"""`connected`: any label reaches any other. The other two have two components that share no label:
low amplitudes with low phases and high with high (`blocks`), or every other label (`interleaved`)."""


def grid_values() -> tuple[np.ndarray, np.ndarray]:
    """Amplitudes and phases (rad) of the labels, shape (LABELS,) each."""
    return np.linspace(*AMPLITUDE, LABELS), np.linspace(*PHASE, LABELS)


def components(layout: str) -> np.ndarray:
    """Component of each label, shape (LABELS,); the same for amplitudes and phases.

    Raises:
        ConfigError: no such layout.
    """
    label = np.arange(LABELS)
    kinds = {"connected": label * 0, "blocks": label * 2 // LABELS, "interleaved": label % 2}
    if layout not in kinds:
        raise ConfigError(unknown_name("layout", layout, LAYOUTS))
    return kinds[layout]


def largest_share(layout: str) -> float:
    """Share of all pairs that lie inside the components of a layout."""
    part = components(layout)
    return float(np.mean(part[:, None] == part[None, :]))


def draw_support(layout: str, share: float, seed: int) -> np.ndarray:
    """Pairs of labels that training sees.

    Each component gets a random spanning tree, then random pairs until the share is reached.

    Args:
        layout: a name in `LAYOUTS`.
        share: share of all pairs of the grid, in (0, 1].
        seed: seed of the random pairs.

    Returns:
        Seen pairs, boolean, shape (amplitudes, phases).

    Raises:
        ConfigError: an unknown layout, or a share too small to connect its components, or too large for them.
    """
    part = components(layout)
    count = round(share * LABELS**2)
    parts = np.unique(part)
    least, most = 2 * LABELS - len(parts), round(largest_share(layout) * LABELS**2)
    if not least <= count <= most:
        raise ConfigError(
            f"share={share} is {count} pairs; a '{layout}' support has {least} to {most} of {LABELS**2}."
        )
    rng = np.random.default_rng((seed, LAYOUTS.index(layout)))
    seen = np.zeros((LABELS, LABELS), bool)
    for one in parts:
        _add_tree(seen, np.flatnonzero(part == one), rng)
    free = np.argwhere((part[:, None] == part[None, :]) & ~seen)
    extra = free[rng.permutation(len(free))[: count - seen.sum()]]
    seen[extra[:, 0], extra[:, 1]] = True
    return seen


def _add_tree(seen: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> None:
    """Mark a random spanning tree over the amplitudes and phases of some labels.

    Kruskal's algorithm on randomly ordered pairs.
    """
    rows = {int(label): int(label) for label in labels}
    columns = {int(label): LABELS + int(label) for label in labels}
    pairs = [(row, column) for row in rows for column in columns]
    for i in rng.permutation(len(pairs)):
        row, column = pairs[i]
        if rows[row] != columns[column]:
            old, new = columns[column], rows[row]
            rows = {k: new if v == old else v for k, v in rows.items()}
            columns = {k: new if v == old else v for k, v in columns.items()}
            seen[row, column] = True
