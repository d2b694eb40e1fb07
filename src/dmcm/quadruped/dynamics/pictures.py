"""Pictures of a comparison of dynamics models: what each vector is worth, carries, and needs."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, PercentFormatter

from dmcm.contexts import Contexts
from dmcm.learner import Learner
from dmcm.plots import (
    BLUE,
    CYCLE,
    INK,
    MUTED,
    ORANGE,
    PURPLE,
    TRUTH,
    context_panels,
    house_style,
    panels,
    plain_decades,
    set_title,
    shared_legend,
)
from dmcm.quadruped.body.robot_table import JOINT_NAMES, RobotTable
from dmcm.quadruped.data.collection import Collection
from dmcm.quadruped.data.recording import column
from dmcm.quadruped.data.windows import SECOND
from dmcm.quadruped.dynamics.cells import ROBOT, TERRAIN, Cells
from dmcm.quadruped.dynamics.evaluation import ROLLED, given_to_roll, roll
from dmcm.quadruped.world.rendering import standing_images
from dmcm.quadruped.world.simulation import CONTROL_PERIOD_S
from dmcm.quadruped.world.terrain import TRAINING_TERRAINS, Terrain

SPLIT = "unseen_pair"
"""What is drawn: pairs of a robot and a ground that training saw, but never together."""
WAYS: Mapping[str, tuple[str, str]] = {
    "dmcm_robot_only": ("robot vector only", BLUE),
    "dmcm_terrain_only": ("ground vector only", ORANGE),
    "dmcm_recombined": ("both, each from elsewhere", PURPLE),
    "dmcm": ("both, from the cell itself", MUTED),
}
"""Methods of the ablation with their names and colours; the method `none` has neither vector."""
GROUP_TITLES: Mapping[str, str] = {"robot": "Where a robot shows", "terrain": "Where a ground shows"}
SHOWN_JOINTS = ("FR_hip", "FR_thigh", "FR_calf")
"""Joints whose roll-out is drawn."""
OUTPUT_NOTE = (
    "Torque is the motors' at the end of the next control step; joints are the angles that many seconds "
    "ahead, predicted step by step from the model's own predictions. All others are of the coming second: "
    "mean size of the torques, mean distance of joints from their targets, climb of the trunk, forward "
    "speed, pitch, and the front feet's share of the load."
)
"""What the outputs of both groups are, by their short names."""
_OUTPUT_NAMES: Mapping[str, str] = {
    "mean_torque_1s": "mean torque",
    "tracking_error_1s": "tracking error",
    "height_change_1s": "climb",
    "forward_speed_1s": "speed",
    "pitch_1s": "pitch",
    "front_load_1s": "front load",
    "foot_duty_1s": "foot duty",
}
_COLUMNS = 5
_LEAST_FLOOR = -1.5


@dataclasses.dataclass(frozen=True)
class Rollout:
    """Joint angles over a second, open loop: true, and predicted in two ways, shape (SECOND, 12) each."""

    robot: int
    terrain: Terrain
    truth: np.ndarray
    none: np.ndarray
    recombined: np.ndarray


def output_name(name: str) -> str:
    """An output in a word or two, such as `joints 0.5 s`; see `OUTPUT_NOTE`."""
    if name in _OUTPUT_NAMES:
        return _OUTPUT_NAMES[name]
    if name.startswith("joint_rollout_"):
        return f"joints {name.removeprefix('joint_rollout_').removesuffix('s')} s"
    return name.replace("_", " ")


def shares(table: Mapping[str, Any], method: str, split: str, output: str) -> float | None:
    """A method's share of the oracle's gain; None if it was not measured or the oracle gains too little."""
    return table["methods"].get(method, {}).get(split, {}).get(output, {}).get("gain_share")


def terrain_picture(table: RobotTable, terrains: Sequence[Terrain]) -> Figure | None:
    """The robot standing on each ground; None where this machine cannot draw without a display."""
    images = standing_images(table, terrains)
    if images is None:
        return None
    rows = math.ceil(len(images) / _COLUMNS)
    with house_style():
        figure, axes = panels(rows, _COLUMNS, height=1.6 * rows)
        for axis in axes.flat:
            axis.set_axis_off()
        for axis, image, terrain in zip(axes.flat, images, terrains, strict=False):
            axis.imshow(image)
            set_title(axis, terrain.kind.replace("_", " "), _measures(terrain))
    return figure


def ablation_picture(table: Mapping[str, Any]) -> Figure | None:
    """Share of the oracle's gain with either vector, both, or the cell's own; None without such an output."""
    outputs = {
        group: [
            name for name in names if all(shares(table, method, SPLIT, name) is not None for method in WAYS)
        ]
        for group, names in table["groups"].items()
    }
    outputs = {group: names for group, names in outputs.items() if names}
    if not outputs:
        return None
    lowest = 0.0
    with house_style():
        figure = Figure(figsize=(9.2, 3.6), layout="constrained")
        widths = [len(names) for names in outputs.values()]
        axes = figure.subplots(1, len(outputs), squeeze=False, sharey=True, width_ratios=widths)[0]
        for axis, (group, names) in zip(axes, outputs.items(), strict=True):
            for k, (method, (label, colour)) in enumerate(WAYS.items()):
                values = [shares(table, method, SPLIT, name) or 0.0 for name in names]
                lowest = min(lowest, *values)
                at = np.arange(len(names)) + (k - 1.5) * 0.2
                axis.bar(at, values, 0.18, color=colour, label=label)
            axis.axhline(0, color=INK, linewidth=0.8)
            axis.axhline(1, color=INK, linewidth=0.8, linestyle="--")
            axis.set_xticks(range(len(names)), [output_name(name).replace(" ", "\n", 1) for name in names])
            axis.grid(visible=False, axis="x")
            axis.set_title(GROUP_TITLES.get(group, group))
            axis.yaxis.set_major_formatter(PercentFormatter(1.0))
        # A very harmful vector would leave no room for the rest; its number is in the table.
        axes[0].set_ylim(bottom=max(_LEAST_FLOOR, 1.08 * lowest))
        axes[0].set_ylabel("share of the oracle's gain")
        shared_legend(figure, axes[:1].tolist())
    return figure


def seconds_picture(table: Mapping[str, Any]) -> Figure | None:
    """Error, relative to no vector, over seconds of data to adapt to; None if that was not measured."""
    curve = {float(seconds): splits[SPLIT] for seconds, splits in table.get("seconds", {}).items()}
    if not curve:
        return None
    seconds = sorted(curve)
    none, oracle = (table["methods"].get(name, {}).get(SPLIT, {}) for name in ("none", "oracle"))
    with house_style():
        figure, axes = panels(1, len(table["groups"]), height=3.5, sharey=True)
        for axis, (group, names) in zip(axes[0], table["groups"].items(), strict=True):
            measured = [name for name in names if all(name in curve[s] for s in seconds)]
            for name, colour in zip(measured, CYCLE, strict=False):
                unit = none[name]["nrmse"]
                errors = np.array([curve[s][name]["nrmse"] for s in seconds]) / unit
                axis.plot(seconds, errors, color=colour, marker="o", markersize=4, label=output_name(name))
                half = [curve[s][name]["ci95"] for s in seconds]
                if None not in half:
                    half = np.array(half) / unit
                    axis.fill_between(seconds, errors - half, errors + half, color=colour, alpha=0.15, lw=0)
                if name in oracle:
                    axis.axhline(oracle[name]["nrmse"] / unit, color=colour, linewidth=1.0, linestyle=":")
            axis.axhline(1, color=INK, linewidth=0.8, linestyle="--")
            axis.set_xscale("log")
            plain_decades(axis.xaxis)
            axis.xaxis.set_minor_formatter(NullFormatter())
            axis.set_xticks(seconds, [f"{s:g}" for s in seconds])
            axis.set_title(GROUP_TITLES.get(group, group))
            axis.set_xlabel("seconds of data for each vector")
            axis.legend(loc="upper left", bbox_to_anchor=(0.0, -0.2), ncols=2, borderaxespad=0.0)
        axes[0, 0].set_ylabel("error relative to no vector")
    return figure


def context_picture(collection: Collection, cells: Cells, contexts: Contexts, which: np.ndarray) -> Figure:
    """Vectors on their main axes, coloured by the robot's P gain and payload and by the kind of ground.

    Args:
        collection: robots and grounds.
        cells: all cells.
        contexts: one row per cell of `which`.
        which: numbers of cells, shape (n,).
    """
    robots = [collection.grid.robots[i] for i in cells.robot[which]]
    kinds = [collection.grid.terrains[i].kind.replace("_", " ") for i in cells.terrain[which]]
    return context_panels(
        {"robot": np.asarray(contexts[ROBOT]), "ground": np.asarray(contexts[TERRAIN])},
        {
            "P gain": [robot.p_gain_nm_per_rad for robot in robots],
            "payload": [robot.payload_kg for robot in robots],
            "kind": kinds,
        },
        shown={"P gain": "N m/rad", "payload": "kg", "kind": ""},
    )


def roll_out(
    base: Learner,
    learner: Learner,
    contexts: Contexts,
    collection: Collection,
    cells: Cells,
    cell: int,
) -> Rollout:
    """A second of joint angles from the middle of a cell's second half, given the targets that were sent.

    Args:
        base: the network that knows neither robot nor ground.
        learner: what explains the rest.
        contexts: one row, for this cell.
        collection: the recordings.
        cells: all cells.
        cell: number of the cell.
    """
    windows = cells.windows
    begin = windows.step[cell, 1, windows.count[cell, 1] // 2]
    data = collection.data[cell, begin - windows.history + 1 : begin + SECOND][None, None]
    inputs = given_to_roll(data, windows.history)
    predicted = {
        name: np.asarray(roll(base, learner, values, *inputs))[0, 0, :, ROLLED["joint"]]
        for name, values in (("none", None), ("recombined", contexts.values))
    }
    truth = collection.data[cell, begin + 1 : begin + SECOND + 1, column("joint_angles_rad")]
    terrain = collection.grid.terrains[cells.terrain[cell]]
    return Rollout(int(cells.robot[cell]), terrain, truth, **predicted)


def rollout_picture(rollout: Rollout) -> Figure:
    """Angles of the joints of one leg: true, with no vector, and with recombined ones."""
    time = np.arange(1, len(rollout.truth) + 1) * CONTROL_PERIOD_S
    with house_style():
        figure, axes = panels(1, len(SHOWN_JOINTS), height=3.3, sharex=True)
        for axis, name in zip(axes[0], SHOWN_JOINTS, strict=True):
            joint = JOINT_NAMES.index(name)
            truth = rollout.truth[:, joint]
            axis.plot(time, truth, label="truth", **TRUTH)
            axis.plot(time, rollout.none[:, joint], color=ORANGE, label="no vector")
            axis.plot(time, rollout.recombined[:, joint], color=PURPLE, label="recombined vectors")
            _keep_truth_readable(axis, truth)
            axis.set_title(name.replace("FR_", "front right "))
            axis.set_xlabel("seconds ahead")
        axes[0, 0].set_ylabel("joint angle (rad)")
        shared_legend(figure, axes[0, :1].tolist())
    return figure


def rollout_error(rollout: Rollout, way: str) -> float:
    """Root mean square of the error of `none` or `recombined` over all joints and the second, rad."""
    return float(np.sqrt(np.mean((getattr(rollout, way) - rollout.truth) ** 2)))


def _keep_truth_readable(axis: Axes, truth: np.ndarray) -> None:
    """A prediction that runs away leaves the panel instead of flattening the truth."""
    low, high = axis.get_ylim()
    room = 1.5 * max(float(np.ptp(truth)), 0.05)
    axis.set_ylim(max(low, truth.min() - room), min(high, truth.max() + room))


def _measures(terrain: Terrain) -> str:
    """A ground's size and what sets it apart, in a few words."""
    parts = []
    if terrain.kind.startswith("slope"):
        parts.append(f"{terrain.size:.0%}")
    elif terrain.size:
        parts.append(f"{100 * terrain.size:g} cm")
    if terrain.friction != Terrain().friction:
        parts.append(f"friction {terrain.friction:g}")
    if terrain not in TRAINING_TERRAINS:
        parts.append("unseen")
    return ", ".join(parts) or "level"
