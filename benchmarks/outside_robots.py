"""Vectors from elsewhere against vectors in place, for many robots outside training.

    dmcm quadruped collect --grid.seed 2 --grid.robots 12 --grid.ood-robots 60 --out runs/quadruped-outside
    python -m benchmarks.outside_robots

results/dynamics.json has twelve such robots, for which the oracle gains so little that shares of its gain are
uncertain. Here the same models meet sixty others, and each factor's vector comes from the pair itself or from
elsewhere, so that it shows which of them gains from a log of the pair. Robots are taken in groups, so that
intervals can treat seeds and robots as random. Needs the models of `dmcm quadruped dynamics`, dmcm and oracle
among them.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from dmcm.learner import Learner
from dmcm.models import load_learner
from dmcm.quadruped.data.collection import Collection, read_collection
from dmcm.quadruped.data.windows import cut
from dmcm.quadruped.dynamics.base import base_errors
from dmcm.quadruped.dynamics.cells import TERRAIN, Cells, describe_cells
from dmcm.quadruped.dynamics.evaluation import JOINT_ROLLOUTS
from dmcm.quadruped.dynamics.measures import Measures
from dmcm.quadruped.dynamics.model import trained_model
from dmcm.quadruped.dynamics.table import LEAST_GAIN, ratio_of_means, unitless
from dmcm.runs import environment
from dmcm.storage import read_json, write_json

RESULTS = Path("results/outside_robots.json")
DATA, DYNAMICS, KEPT = (
    Path("runs") / name for name in ("quadruped-outside", "quadruped-dynamics", "outside")
)
SEEDS, GROUPS = 3, 5
SPLITS = ("ood_robot", "ood_both")
OUTPUTS = ("torque_nm", *JOINT_ROLLOUTS, "tracking_error_1s", "height_change_1s", "pitch_1s")
Errors = dict[str, list[dict[str, dict[str, float]]]]
"""By way, in each group of robots: errors by split and output."""


def measured(seed: int) -> Errors:
    """Errors of one seed's models with vectors of each origin, kept once they are known."""
    path = KEPT / f"seed-{seed}.json"
    collection = read_collection(DATA)
    model = trained_model(DYNAMICS, "dmcm", seed)
    oracle = load_learner(DYNAMICS / "oracle" / f"seed-{seed}" / "model.safetensors")
    about = {
        "data": collection.digest,
        "models": [learner.fingerprint() for learner in (model.base, model.learner, oracle)],
        "groups": GROUPS,
    }
    if path.exists() and (kept := read_json(path))["about"] == about:
        return kept["errors"]
    split = np.array([cell.split for cell in collection.grid.cells])
    robot = np.array([cell.robot for cell in collection.grid.cells])
    found: Errors = {}
    for group in np.array_split(np.unique(robot[split == "ood_robot"]), GROUPS):
        # With the cells that the grounds' vectors come from.
        kept = np.isin(split, ("seen_pair", "ood_terrain")) | np.isin(robot, group)
        some = _only(collection, np.flatnonzero(kept))
        cells = describe_cells(some, cut(some.data, model.windows))
        wrong = base_errors(cells.windows, model.base)

        def measures(
            learner: Learner | None, some: Collection = some, cells: Cells = cells, wrong: np.ndarray = wrong
        ) -> Measures:
            return Measures(some, cells, wrong, model.base, learner, model.windows)

        ways = {
            "none": {"in_place": measures(None).errors()},
            "oracle": measures(oracle).everything(detailed=False),
            "dmcm": _of_vectors(measures(model.learner)),
        }
        for name, origins in ways.items():
            for origin, errors in origins.items():
                way = name if origin == "in_place" else f"{name}_{origin.removeprefix('in_place_')}"
                found.setdefault(way, []).append({split: errors[split] for split in SPLITS})
        print(f"seed {seed}: robots {group.tolist()}", flush=True)
    write_json(path, {"about": about, "errors": found})
    return found


def _of_vectors(measures: Measures) -> dict[str, Any]:
    """Errors with vectors of the pair, or of elsewhere; of next steps alone, also with one of each."""
    found = measures.everything(detailed=False)
    fit, everyone = measures.near, np.arange(len(measures.robot_donor))
    for name, robot, terrain in (
        ("own_ground_near", measures.robot_donor, everyone),
        ("own_robot_near", everyone, measures.terrain_donor),
    ):
        grounds = fit.vectors[TERRAIN][terrain]
        found[name] = measures.near_errors(
            fit, robot, lambda which, grounds=grounds: jnp.asarray(grounds[which])
        )
    return found


def _only(collection: Collection, which: np.ndarray) -> Collection:
    """Some cells of a collection."""
    cells = tuple(collection.grid.cells[cell] for cell in which)
    grid = dataclasses.replace(collection.grid, cells=cells)
    return dataclasses.replace(collection, grid=grid, data=collection.data[which])


def share(part: np.ndarray, whole: np.ndarray) -> dict[str, float]:
    """Ratio of means, and half of its 95 % interval with seeds and groups of robots as random.

    Args:
        part: shape (seeds, groups).
        whole: what it is a share of, of the same shape.
    """
    over_seeds, over_groups = (ratio_of_means(part.mean(axis=i), whole.mean(axis=i)) for i in (1, 0))
    return {"share": over_seeds[0], "ci95": float(np.hypot(over_seeds[1] or 0.0, over_groups[1] or 0.0))}


def table(seeds: list[Errors]) -> dict[str, Any]:
    """Per split and output: errors of all ways, shares of the oracle's gain, and how far these differ."""
    found: dict[str, Any] = {}
    for split in SPLITS:
        for name in OUTPUTS:
            ways = {
                way: np.array([[group[split][name] for group in run[way]] for run in seeds])
                for way, groups in seeds[0].items()
                if name in groups[0][split]
            }
            gain = ways["none"] - ways["oracle"]
            cell: dict[str, Any] = {
                "nrmse": {way: float(errors.mean()) for way, errors in ways.items()},
                "oracle_gain": float(gain.mean() / ways["none"].mean()),
            }
            if cell["oracle_gain"] >= LEAST_GAIN:
                cell["shares"] = {
                    way: share(ways["none"] - errors, gain)
                    for way, errors in ways.items()
                    if way not in ("none", "oracle")
                }
                pairs = (("dmcm", "dmcm_recombined"), ("dmcm_near", "dmcm_recombined_near"))
                cell["in_place_minus_recombined"] = {
                    place: share(ways[elsewhere] - ways[place], gain)
                    for place, elsewhere in pairs
                    if place in ways
                }
            found.setdefault(split, {})[unitless(name)] = cell
    return found


def main() -> None:
    """Measure all seeds and write the table."""
    collection = read_collection(DATA)
    seeds = [measured(seed) for seed in range(SEEDS)]
    write_json(
        RESULTS,
        {
            "splits": table(seeds),
            "data": collection.config,
            "seeds": SEEDS,
            "groups": GROUPS,
            "command": "python -m benchmarks.outside_robots",
            "environment": environment(),
        },
    )


if __name__ == "__main__":
    main()
