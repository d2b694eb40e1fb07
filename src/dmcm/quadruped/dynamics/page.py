"""The report page of a comparison of dynamics models: shares of the oracle's gain, pictures, probes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dmcm.quadruped.data.grid import SPLITS
from dmcm.quadruped.dynamics import pictures
from dmcm.quadruped.dynamics.cells import ROBOT, TERRAIN
from dmcm.quadruped.dynamics.methods import METHODS
from dmcm.quadruped.dynamics.pictures import OUTPUT_NOTE, SPLIT, output_name
from dmcm.quadruped.dynamics.study import MAIN
from dmcm.quadruped.dynamics.table import LEAST_GAIN
from dmcm.report import (
    Block,
    Cell,
    Estimate,
    Facts,
    Headline,
    Page,
    Picture,
    Section,
    Table,
)

SPLIT_TITLES: Mapping[str, str] = {
    "seen_pair": "Pairs that training saw",
    "unseen_pair": "Known robot, known ground, never together",
    "ood_robot": "Robots outside the training ranges",
    "ood_terrain": "Grounds outside training",
    "ood_both": "Robot and ground outside training",
}
"""What the splits are called."""
_ENDINGS: Mapping[str, str] = {
    "_recombined_near": "as the row before, but the robot's vector made from next steps alone; targets of "
    "late robots moved to when they act",
    "_from_robot_near": "as the row before, but the vector made from next steps alone; targets of late "
    "robots moved to when they act",
    "_near": "vectors from the cell's own first half, made from next steps alone; targets of late robots "
    "moved to when they act",
    "_recombined": "robot vector from another ground, ground vector from another robot",
    "_in_place": "vectors from the cell's own first half",
    "_robot_only": "robot vector from another ground, ground unknown",
    "_terrain_only": "ground vector from another robot, robot unknown",
    "_wrong_robot": "ground vector from another robot, robot vector of a wrong robot",
    "_wrong_terrain": "robot vector from another ground, ground vector of a wrong ground",
    "_from_robot": "the one vector, from the same robot on another ground",
    "_from_terrain": "the one vector, from another robot on the same ground",
}
_ORIGINS: Mapping[str, str] = {
    "none": "the base network alone, which knows neither robot nor ground",
    "oracle": "given the true properties of the robot and of the ground",
    "encoders": f"{METHODS['encoders'].title}; {_ENDINGS['_recombined']}",
}


def build_page(table: Mapping[str, Any], drawn: Mapping[str, Block]) -> Page:
    """The page.

    Args:
        table: in the layout of results/dynamics.json.
        drawn: pictures that need more than the table: `grounds`, `contexts`, `rollout`.
    """
    sections = [
        Section("What was compared", (*_compared(table), *_some(drawn, "grounds"))),
        Section("How much of the oracle's gain", _gains(table)),
        Section("What either vector is worth", _ablation(table)),
        Section("How much data a vector takes", _seconds(table)),
        Section("What each vector carries", (*_some(drawn, "contexts"), *_probes(table))),
        Section("A second ahead", _some(drawn, "rollout")),
        Section("The errors themselves", (_errors(table),)),
        Section("This run", _about(table)),
    ]
    return Page(
        "Quadruped dynamics, a vector for the robot and one for the ground",
        "Models that predict how a walking robot moves, for robots with different bodies on different "
        "grounds. They take a vector for the robot and one for the ground from recordings, and are tested on "
        f"pairs that training never saw together. {count(table['seeds'], 'seed')}, {table['steps']:,} "
        "training steps.",
        _headline(table),
        tuple(section for section in sections if section.blocks),
    )


def gain_table(table: Mapping[str, Any], split: str, group: str) -> Table | str:
    """Shares of the oracle's gain in percent, in one split: methods as rows, outputs of a group as columns.

    Returns a sentence instead if the oracle gains too little in all of them.
    """
    outputs = table["groups"][group]
    rows: list[list[Cell]] = []
    for method, splits in table["methods"].items():
        if split in splits:
            found = [pictures.shares(table, method, split, name) for name in outputs]
            rows.append([method, *(None if share is None else round(100 * share) for share in found)])
    title = f"{SPLIT_TITLES.get(split, split)} ({count(table['cells'][split], 'cell')})"
    heading = pictures.GROUP_TITLES.get(group, group)
    if all(cell is None for row in rows for cell in row[1:]):
        return f"{title}: no shares in outputs {heading.lower()}: the oracle hardly gains in any."
    return Table(
        ("method", *map(output_name, outputs)),
        rows,
        f"{title}. Percent of the oracle's gain.",
        groups=(("", 1), (heading, len(outputs))),
    )


def _headline(table: Mapping[str, Any]) -> tuple[Block, ...]:
    items: list[tuple[str, str]] = []
    for output, words in (("torque", "motor torques"), ("pitch_1s", "pitch over the coming second")):
        share = pictures.shares(table, f"{MAIN}_recombined", SPLIT, output)
        if share is not None:
            items.append(
                (f"{100 * share:.0f} %", f"of the oracle's gain in {words}, on pairs never seen together")
            )
    gain = table.get("probes", {}).get(ROBOT, {}).get("p_gain")
    if gain is not None:
        items.append((f"{gain:.2f}", "R² of the P gain, read off robot vectors"))
    return (Headline(tuple(items)),) if items else ()


def _compared(table: Mapping[str, Any]) -> tuple[Block, ...]:
    left_out = (
        f" {count(table['left_out'], 'cell')} with too many falls left out." if table["left_out"] else ""
    )
    return (
        "A base network first learns what any robot does on any ground. Every method then learns to predict "
        "what the base network gets wrong, from vectors found in the first half of a recording; errors are "
        f"measured in the second halves. A cell is one robot on one ground.{left_out}",
        Table(
            ("method", "what it is"),
            [[name, describe_method(name)] for name in table["methods"]],
            "Methods by their names in the tables below.",
        ),
        OUTPUT_NOTE,
    )


def describe_method(name: str) -> str:
    """Description of a row of the tables; a dash for a name of another version."""
    if name in _ORIGINS:
        return _ORIGINS[name]
    if name in METHODS:
        return f"{METHODS[name].title}; {_ENDINGS['_in_place']}"
    for ending, words in _ENDINGS.items():
        if name.endswith(ending) and name.removesuffix(ending) in METHODS:
            return f"{METHODS[name.removesuffix(ending)].title}; {words}"
    return "–"


def _gains(table: Mapping[str, Any]) -> tuple[Block, ...]:
    lines: list[Block] = [
        "0 is no better than the base network alone, 100 as good as knowing the truth; above 100 a vector "
        "holds something useful that the oracle could not derive from the truth, below 0 it does harm. A "
        f"dash stands where the oracle itself gains less than {100 * LEAST_GAIN:g} % or nothing was measured."
    ]
    if "oracle" not in table["methods"]:
        lines.append("The oracle was not among the methods, so there are no shares; see the errors below.")
        return tuple(lines)
    splits = [split for split in SPLITS if split in table["methods"]["oracle"]]
    return (*lines, *(gain_table(table, split, group) for split in splits for group in table["groups"]))


def _ablation(table: Mapping[str, Any]) -> tuple[Block, ...]:
    figure = pictures.ablation_picture(table)
    if figure is None:
        return ()
    caption = (
        "On pairs never seen together. The solid line at 0 is neither vector, the dashed one at 100 % the "
        "oracle. Where vectors are clean, blue comes near purple on the left, and orange near purple on the "
        "right: each vector does its own half, and both together do all. A bar below 0 means harm. A missing "
        "vector is the prior mean, which training taught to stand for unknown. Grey "
        "uses data of the pair itself; purple never does. Outputs in which the oracle gains too little are "
        "left out."
    )
    return (Picture.of(figure, caption, "Gain with either vector, both, or neither"),)


def _seconds(table: Mapping[str, Any]) -> tuple[Block, ...]:
    figure = pictures.seconds_picture(table)
    if figure is None:
        return ()
    caption = (
        "Errors on pairs never seen together, with recombined vectors, relative to no vector (dashed, at 1). "
        "Each vector comes from a recording cut to that many seconds. Dotted lines are the oracle, in the "
        "colour of the output. Where a line becomes flat, more data would not help. Bands, if any, are 95 % "
        "intervals over seeds."
    )
    return (Picture.of(figure, caption, "Error over seconds of data"),)


def _probes(table: Mapping[str, Any]) -> tuple[Block, ...]:
    probes = table.get("probes")
    if not probes:
        return ()
    names = list(probes[ROBOT])
    columns = (ROBOT, TERRAIN, "chance")
    rows: list[list[Cell]] = [
        [name.replace("_", " "), *(_rounded(probes.get(column, {}).get(name)) for column in columns)]
        for name in names
    ]
    caption = (
        "What a kernel probe reads from each vector of robots it was not trained on: R² of a property (1 is "
        "perfect, 0 nothing), and its accuracy for the kind of ground, next to that of guessing. Properties "
        "of the robot should be high in its own vector and near 0 in the ground's; the kind of ground the "
        "other way round."
    )
    return (Table(("truth", "robot vector", "ground vector", "chance"), rows, caption),)


def _errors(table: Mapping[str, Any]) -> Table:
    outputs = list(
        dict.fromkeys(name for splits in table["methods"].values() for name in splits.get(SPLIT, {}))
    )
    kept = {method: splits[SPLIT] for method, splits in table["methods"].items() if SPLIT in splits}
    rows: list[list[Cell]] = [
        [output_name(name), *(_estimate(cells.get(name)) for cells in kept.values())] for name in outputs
    ]
    caption = (
        "Root mean squared errors on pairs never seen together, in standard deviations of the output: 1 is "
        "as bad as a constant. Intervals, where there are several seeds, are 95 %."
    )
    return Table(("output", *kept), rows, caption)


def _about(table: Mapping[str, Any]) -> tuple[Block, ...]:
    return (
        "Written by this command:",
        Facts({"command": table["command"], "cells": table["cells"]}),
        Facts(table["data"], "How the data was collected"),
        Facts(table["environment"], "Versions and machine"),
    )


def _some(drawn: Mapping[str, Block], name: str) -> tuple[Block, ...]:
    return (drawn[name],) if name in drawn else ()


def _estimate(cell: Mapping[str, Any] | None) -> Cell:
    return None if cell is None else Estimate(cell["nrmse"], cell["ci95"])


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)


def count(number: int, what: str) -> str:
    """A number of things in words."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"
