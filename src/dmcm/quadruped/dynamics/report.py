"""The report of a finished comparison: the page, and pictures that need its models and data."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dmcm.contexts import Contexts
from dmcm.models import load_learner
from dmcm.quadruped.data.collection import Collection, read_collection
from dmcm.quadruped.data.windows import cut
from dmcm.quadruped.dynamics import pictures
from dmcm.quadruped.dynamics.base import base_errors
from dmcm.quadruped.dynamics.cells import ROBOT, TERRAIN, Cells, describe_cells
from dmcm.quadruped.dynamics.donors import robot_donors, terrain_donors
from dmcm.quadruped.dynamics.evaluation import adapt_cells
from dmcm.quadruped.dynamics.page import build_page, count
from dmcm.quadruped.dynamics.pictures import SPLIT
from dmcm.quadruped.dynamics.study import MAIN, DynamicsConfig
from dmcm.report import Block, Picture, show_number, write_page
from dmcm.runs import RunFolder

_NO_VIEW = (
    "There is no picture of the grounds: drawing them needs OpenGL without a display (EGL), which the "
    "machine that wrote this page lacked."
)


def report_run(config: DynamicsConfig, table: Mapping[str, Any]) -> Path:
    """Draw what the models of seed 0 know, and write `report.html` into the folder of a finished comparison.

    Args:
        config: as given to `run_dynamics`.
        table: what it returned.

    Returns:
        The page's file.

    Raises:
        DmcmError: data or models that cannot be read, or a file that cannot be written.
    """
    collection = read_collection(config.data)
    drawn: dict[str, Block] = {"grounds": view_grounds(collection)}
    if MAIN in table["methods"]:
        cells = describe_cells(collection, cut(collection.data, config.windows))
        drawn |= _what_vectors_know(config, collection, cells)
    return write_page(RunFolder(config.out), build_page(table, drawn))


def view_grounds(collection: Collection) -> Block:
    """The robot standing on each ground of a collection, or a sentence on why there is no picture."""
    figure = pictures.terrain_picture(collection.table(), collection.grid.terrains)
    if figure is None:
        return _NO_VIEW
    caption = (
        "The robot at rest on each ground, seen from its right; it walks to the right, the orange end is its "
        "head. Slopes are named by their rise per metre, stairs and blocks by their height, waves and rough "
        "ground by the distance from lowest to highest point. Each ground goes on for ever. Compare the "
        "pitch of the trunk: it differs most from ground to ground."
    )
    return Picture.of(figure, caption, "The robot on each ground")


def _what_vectors_know(config: DynamicsConfig, collection: Collection, cells: Cells) -> dict[str, Block]:
    """Vectors of the pairs of training robots and grounds, and one roll-out with recombined ones."""
    base, learner = (
        load_learner(config.out / name / "seed-0" / "model.safetensors") for name in ("base", MAIN)
    )
    which = np.sort(np.concatenate([cells.of("seen_pair"), cells.of(SPLIT)]))
    contexts = adapt_cells(learner, cells.windows, base_errors(cells.windows, base), which)
    found: dict[str, Block] = {
        "contexts": Picture.of(
            pictures.context_picture(collection, cells, contexts, which),
            "A dot is one robot on one ground, drawn on the two main axes of its vectors, here called "
            "contexts. Upper row: P gain and payload should be in order, kinds of ground mixed. Lower row: "
            "P gain and payload should be mixed, kinds in clusters of their own. Order where there should "
            "be none is leakage.",
            "Vectors coloured by the truth",
        )
    }
    targets = cells.of(SPLIT)
    robots, grounds = robot_donors(cells, targets), terrain_donors(cells, targets)
    row = np.full(len(cells.sound), -1)
    row[which] = np.arange(len(which))
    rollouts = []
    for cell, robot, ground in zip(targets.tolist(), robots, grounds, strict=True):
        if robot >= 0 and ground >= 0:
            mixed = Contexts(
                {ROBOT: contexts[ROBOT][row[[robot]]], TERRAIN: contexts[TERRAIN][row[[ground]]]}, None
            )
            rollouts.append(pictures.roll_out(base, learner, mixed, collection, cells, cell))
    if rollouts:
        found["rollout"] = _middle_rollout(rollouts, collection)
    return found


def _middle_rollout(rollouts: list[pictures.Rollout], collection: Collection) -> Picture:
    """The roll-out whose gain is the median, so that half of them gain more and half less."""
    pairs = [[pictures.rollout_error(each, way) for way in ("none", "recombined")] for each in rollouts]
    ratio = np.nan_to_num([with_ / without for without, with_ in pairs], nan=np.inf)
    middle = int(np.argsort(ratio, kind="stable")[(len(ratio) - 1) // 2])
    shown, (without, with_) = rollouts[middle], pairs[middle]
    robot = collection.grid.robots[shown.robot]
    return Picture.of(
        pictures.rollout_picture(shown),
        f"Robot {shown.robot} (P gain {robot.p_gain_nm_per_rad:.0f} N m/rad, payload "
        f"{robot.payload_kg:.1f} kg) on {shown.terrain.label}, a pair that training never saw. The model is "
        "given the joint targets that were sent and otherwise its own predictions, for 50 steps. The closer "
        "to the pale truth, the better. Root mean squared error over all 12 joints and the second: "
        f"{show_number(without)} rad without a vector, {show_number(with_)} rad with recombined vectors. Of "
        f"{count(len(rollouts), 'unseen pair')} this is the one whose gain is the median: half gain more, "
        "half less.",
        "One second of joint angles",
    )
