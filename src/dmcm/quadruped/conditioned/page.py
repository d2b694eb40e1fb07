"""The report page of a comparison of policies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dmcm.quadruped.conditioned import pictures
from dmcm.quadruped.conditioned.methods import METHODS
from dmcm.quadruped.conditioned.suite import TRAINING
from dmcm.quadruped.conditioned.table import OUTSIDE
from dmcm.report import (
    Block,
    Cell,
    Estimate,
    Facts,
    Film,
    Headline,
    Page,
    Picture,
    Section,
    Table,
)

WALK_HEADS = ("falls, % of episodes", "distance before a fall, m", "velocity error, m/s", "energy, J/m")
"""Heads of columns for `walk_numbers`."""


def build_page(table: Mapping[str, Any], films: Sequence[Film]) -> Page:
    """The page.

    Args:
        table: in the layout of results/policy.json.
        films: of policies side by side.
    """
    seeds = next(iter(table["methods"].values()))[OUTSIDE]["seeds"]
    sections = [
        Section("What was compared", _compared(table)),
        Section("How often they succeed", _success(table)),
        Section("Side by side", tuple(films)),
        Section("What the vectors do", _vectors(table)),
        Section("Distance, speed and energy", _numbers(table)),
        Section("This run", (Facts({"command": table["command"], **table["environment"]}, "settings"),)),
    ]
    return Page(
        "Policies that are given vectors of robot and ground",
        "Walking policies that differ in what they are given besides what they sense, and in how they use "
        "it. All walk with bodies outside training, on easy and on hard ground, by their mean action. "
        f"{seeds} {'seed' if seeds == 1 else 'seeds'}, {table['suite']['episodes']} robots per condition, "
        "each once on every ground.",
        _headline(table),
        tuple(section for section in sections if section.blocks),
    )


def _headline(table: Mapping[str, Any]) -> tuple[Block, ...]:
    items = [
        (f"{100 * table['methods'][name][OUTSIDE]['success']:.0f} %", f"{name}: success outside training")
        for name in _shown(table)
    ]
    return (Headline(tuple(items)),)


def _shown(table: Mapping[str, Any]) -> list[str]:
    """What pictures and headline show: the methods, or all where only variants of them were evaluated."""
    names = list(table["methods"])
    return [name for name in names if name in METHODS] or names


def _compared(table: Mapping[str, Any]) -> tuple[Block, ...]:
    return (
        f"An episode succeeds without a fall and with at least {100 * table['suite']['enough']:.0f} % of the "
        "commanded distance.",
        Table(
            ("name", "what the policy is given"),
            [[name, title] for name, title in table["titles"].items()],
            "A log is 20 seconds of walking. A robot's vector comes from its log on flat ground, a ground's "
            "from a log of the nominal robot there.",
        ),
        Table(
            ("condition", "what is unusual"),
            [[name, title] for name, title in table["conditions"].items()],
            "All but the first lie outside training.",
        ),
    )


def success_table(table: Mapping[str, Any], columns: Sequence[str], names: Sequence[str]) -> Table:
    """Success in percent, one row per method."""
    rows: list[list[Cell]] = []
    for name in names:
        cells = [table["methods"][name][column] for column in columns]
        rows.append([name, *(Estimate(100 * c["success"], 100 * c["ci95"]) for c in cells)])
    return Table(
        ("told", *(pictures.LABELS.get(column, column) for column in columns)),
        rows,
        "Percent of episodes, with 95 % intervals over seeds and robots.",
    )


def _success(table: Mapping[str, Any]) -> tuple[Block, ...]:
    methods = table["methods"]
    names = _shown(table)
    columns = [*table["conditions"], OUTSIDE]
    grounds = [name for name in methods[names[0]] if name.startswith(f"{TRAINING} on ")]
    blocks: list[Block] = [
        Picture.of(
            pictures.success_picture(methods, names, columns),
            "Training bodies on the left, then the conditions outside training, and their mean on the right.",
            "Success by condition",
        ),
        success_table(table, columns, list(methods)),
    ]
    for ground in (name.removeprefix(f"{TRAINING} on ") for name in grounds):
        cells = [f"{condition} on {ground}" for condition in table["conditions"]]
        found = success_table(table, cells, names)
        heads = ("told", *table["conditions"])
        blocks.append(Table(heads, found.rows, f"On {ground.replace('_', ' ')}: percent of episodes."))
    return tuple(blocks)


def difference_tables(table: Mapping[str, Any], where: str) -> list[Block]:
    """Differences of success in points, one row per policy that another is compared with.

    Args:
        table: in the layout of results/policy.json or results/transfer.json.
        where: the robots and grounds, in words.
    """
    blocks: list[Block] = []
    for own, name in (("dmcm", "differences"), ("dmcm_gait", "gait_differences")):
        rows: list[list[Cell]] = [
            [other, Estimate(100 * more["mean"], None if more["ci95"] is None else 100 * more["ci95"])]
            for other, more in table.get(name, {}).items()
        ]
        if rows:
            caption = f"Points by which {own} succeeds more often {where}, paired by seed and robot."
            blocks.append(Table(("against", "points"), rows, caption))
    return blocks


def _vectors(table: Mapping[str, Any]) -> tuple[Block, ...]:
    blocks: list[Block] = difference_tables(table, "outside training")
    if table["gait"]:
        # Tables of an earlier version do not say whose gait it is.
        policy = table["gait"].get("method", "dmcm_ground")
        blocks.append(
            Picture.of(
                pictures.gait_picture(table["gait"]["directions"]),
                f"The nominal robot on flat ground at 0.5 m/s with the policy {policy}. Only its vectors "
                "change: from those of flat ground and of the training robots (0) to those named (1), and "
                "beyond.",
                "The gait along a vector",
            )
        )
    return tuple(blocks)


def _numbers(table: Mapping[str, Any]) -> tuple[Block, ...]:
    rows: list[list[Cell]] = [
        [name, pictures.LABELS.get(column, column), *walk_numbers(cells[column])]
        for name, cells in table["methods"].items()
        for column in (TRAINING, OUTSIDE)
    ]
    caption = "Means over grounds and conditions, with 95 % intervals over seeds."
    return (Table(("told", "condition", *WALK_HEADS), rows, caption),)


def walk_numbers(cell: Mapping[str, Any]) -> list[Cell]:
    """What `WALK_HEADS` names, of a cell of `table.mean_over_seeds`."""
    within = cell.get("ci95_over_seeds", {})
    # Falls are counted over all seeds, episodes per seed.
    falls = 100 * cell["falls"] / (cell["episodes"] * cell["seeds"])
    names = ("distance_m", "velocity_rmse", "energy_j_per_m")
    return [falls, *(Estimate(cell[name], within.get(name)) for name in names)]
