"""Walks with random gaits on the robots and grounds of a collection, from which gaits are learned."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from dmcm.errors import StorageError
from dmcm.progress import piece_bar
from dmcm.quadruped.conditioned.draws import Draw, draw_cells
from dmcm.quadruped.conditioned.suite import ENOUGH
from dmcm.quadruped.conditioned.widening import read_gains, widen
from dmcm.quadruped.data.collection import Collection
from dmcm.quadruped.dynamics.cells import ROBOT, TERRAIN, robot_truth
from dmcm.quadruped.walking.evaluation import evaluate_walking
from dmcm.quadruped.walking.gait import SETTINGS
from dmcm.quadruped.walking.guides import Vectors
from dmcm.quadruped.walking.policy import Policy
from dmcm.quadruped.walking.suite import OVER_GROUND
from dmcm.storage import digest, load_arrays, save_arrays, tree_arrays

TRIED = {
    "swing_height_m": (0.10, 0.20),
    "stance_height_m": (0.27, 0.31),
    "shift_m": (-0.04, 0.03),
    "forward_share": (0.8, 1.6),
}
"""Range from which each setting of `gait.SETTINGS` is drawn; those of `told_gait.BOUNDS` lie within it."""
BATCHES = 20
"""Batches of trials; each is stored when it is finished."""
KIND = "quadruped gait trials"


@dataclasses.dataclass(frozen=True, eq=False)
class GaitTrials:
    """n walks of eight seconds, each with a random gait."""

    draw: Draw
    """The cells that were walked, as rows of the list of training cells."""
    settings: np.ndarray
    """Settings of each gait in the order of `gait.SETTINGS`, shape (n, 4)."""
    succeeded: np.ndarray
    """Whether it walked to the end and covered `suite.ENOUGH` of the commanded distance, shape (n,)."""
    progress: np.ndarray
    """Share of the commanded distance that it covered, shape (n,)."""


def gait_trials(
    folder: Path,
    actor: Policy,
    collection: Collection,
    cells: np.ndarray,
    *,
    robots: int,
    seed: int,
    threads: int = 0,
    progress: bool = True,
) -> GaitTrials:
    """Let an actor walk with random gaits, with joint targets matched to the true gains.

    What is stored in `folder` is not walked again. All methods learn from the same trials.

    Args:
        folder: where finished batches are kept.
        actor: reads only what robots sense.
        collection: source of robots and grounds.
        cells: numbers of its training cells, shape (cells,).
        robots: that walk in parallel.
        seed: for cells, gaits, starts and commands.
        threads: physics threads; 0 means one per core.
        progress: show a progress bar.

    Raises:
        StorageError: a batch that cannot be read or written, or of another actor or other data.
    """
    grid, table = collection.grid, collection.table()
    robot = np.array([grid.cells[cell].robot for cell in cells])
    terrain = np.array([grid.cells[cell].terrain for cell in cells])
    bodies = [grid.robots[number] for number in robot]
    truth = {"true_robot": robot_truth(bodies)}
    walker = widen(actor, "oracle", truth, read_gains("oracle", truth, bodies, table))
    about = {
        "kind": KIND,
        "actor": digest(tree_arrays(actor)),
        "data": collection.digest,
        "cells": digest({"cells": cells}),
        "robots": robots,
        "seed": seed,
    }
    low, high = np.array([TRIED[name] for name in SETTINGS]).T
    batches: list[dict[str, np.ndarray]] = []
    with piece_bar(show=progress) as bar:
        task = bar.add_task("walks with random gaits", total=BATCHES)
        for number in range(BATCHES):
            path = folder / f"batch-{number:02d}.safetensors"
            if (kept := _kept(path, about)) is None:
                rng = np.random.default_rng([seed, number, 7])
                draw = draw_cells(robot, terrain, robots, rng)
                settings = rng.uniform(low, high, (robots, len(SETTINGS)))
                walk = evaluate_walking(
                    walker,
                    table,
                    [bodies[row] for row in draw.rows],
                    [grid.terrains[terrain[row]] for row in draw.rows],
                    commands=OVER_GROUND,
                    guide=Vectors(truth["true_robot"][draw.rows]),
                    gait=settings,
                    seed=int(rng.integers(2**31)),
                    threads=threads,
                )
                kept = {
                    "rows": draw.rows,
                    **draw.donors,
                    "settings": settings,
                    "succeeded": walk.success(ENOUGH),
                    "progress": walk.progress,
                }
                save_arrays(path, kept, about)
            batches.append(kept)
            bar.advance(task)
    found = {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}
    draw = Draw(found["rows"], {factor: found[factor] for factor in (ROBOT, TERRAIN)})
    return GaitTrials(draw, found["settings"], found["succeeded"], found["progress"])


def _kept(path: Path, about: dict[str, Any]) -> dict[str, np.ndarray] | None:
    """A finished batch; None if there is none."""
    if not path.exists():
        return None
    arrays, found = load_arrays(path)
    if found != about:
        raise StorageError(
            f"{path} holds walks of another actor, other data or another number of robots. Delete "
            f"{path.parent} to walk again, or choose another folder with --training.trials."
        )
    return arrays
