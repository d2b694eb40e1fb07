"""The report page of the transfer study."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from dmcm.fields import field_texts
from dmcm.quadruped.conditioned.page import WALK_HEADS, difference_tables, walk_numbers
from dmcm.quadruped.conditioned.suite import ENOUGH
from dmcm.quadruped.standin.gap import RealityGap
from dmcm.quadruped.transfer import pictures
from dmcm.quadruped.transfer.scenario import GROUNDS
from dmcm.quadruped.transfer.table import ALL, series, success_tables
from dmcm.quadruped.world.terrain import Terrain
from dmcm.report import (
    Block,
    Facts,
    Film,
    Headline,
    Page,
    Picture,
    Section,
    Table,
)

HEADLINE = ("dmcm_gait", "dmcm", "vanilla", "single")
"""Ways whose success is shown at the top."""


def build_page(table: Mapping[str, Any], films: Sequence[Film]) -> Page:
    """The page.

    Args:
        table: in the layout of results/transfer.json.
        films: of policies side by side.
    """
    success, *others = success_tables(table, ENOUGH).values()
    against = difference_tables(table, "over all grounds")
    sections = [
        Section("What was compared", _compared(table)),
        Section("How often they succeed", (*_bars(table), success, *against)),
        Section("Less data, other gaps", (*_curves(table), *others)),
        Section("Side by side", tuple(films)),
        Section("Falls, distance, speed and energy", (_numbers(table),)),
        Section("The reality gap", _gap(table)),
        Section("This run", (Facts({"command": table["command"], **table["environment"]}, "settings"),)),
    ]
    return Page(
        "From twenty seconds on flat ground",
        "Robots with bodies outside training walked 20 s on flat ground in another physics engine, with "
        "other motors and sensors. Policies trained in simulation then walked them on hard grounds without "
        "any data from there, given what these logs and simulation tell, other information, or nothing.",
        (_headline(table),),
        tuple(section for section in sections if section.blocks),
    )


def _headline(table: Mapping[str, Any]) -> Headline:
    methods = table["methods"]
    cells = {name: methods[name][ALL] for name in HEADLINE if name in methods}
    cells = cells or {name: found[ALL] for name, found in methods.items()}
    return Headline(
        tuple(
            (f"{100 * cell['success']:.0f} ± {100 * cell['ci95']:.0f} %", f"{name}: success over all grounds")
            for name, cell in cells.items()
        )
    )


def _compared(table: Mapping[str, Any]) -> tuple[Block, ...]:
    seeds = next(iter(table["methods"].values()))[ALL]["seeds"]
    suite, texts = table["suite"], field_texts(Terrain)
    return (
        f"Robots: {suite['robots']}, each once on each ground for {suite['seconds']:g} s, with policies of "
        f"{seeds} {'seed' if seeds == 1 else 'seeds'}. An episode succeeds without a fall and with at least "
        f"{ENOUGH:.0%} of the commanded distance.",
        Table(
            ("name", "what the policy is given"),
            [[name, title] for name, title in table["titles"].items()],
            "A log is 20 seconds of walking. A log on the ground itself exists only once the robot is there.",
        ),
        Table(
            ("ground", "vertical size", "horizontal size, m"),
            [[name.replace("_", " "), ground.size, ground.length_m] for name, ground in GROUNDS.items()],
            f"{texts['size']} {texts['length_m']}",
        ),
    )


def _bars(table: Mapping[str, Any]) -> tuple[Block, ...]:
    methods = table["methods"]
    return (
        Picture.of(
            pictures.success_bars(methods, [ALL]),
            "Mean over the grounds. Lines are 95 % intervals.",
            "Success over all grounds",
        ),
        Picture.of(
            pictures.success_bars(methods, list(GROUNDS)),
            "The same on each ground.",
            "Success by ground",
        ),
    )


def _curves(table: Mapping[str, Any]) -> tuple[Block, ...]:
    found = series(table)
    if not found:
        return ()
    caption = (
        "Mean over the grounds, with 95 % intervals. The usual setting is 20 seconds of data and a gap of "
        "size 1; a gap of size 0 leaves only the other engine."
    )
    figure = pictures.success_curves(table["methods"], found)
    return (Picture.of(figure, caption, "Success by data and gap"),)


def _numbers(table: Mapping[str, Any]) -> Table:
    rows = [[name, *walk_numbers(cells[ALL])] for name, cells in table["methods"].items()]
    return Table(("told", *WALK_HEADS), rows, "Means over the grounds, with 95 % intervals over seeds.")


def _gap(table: Mapping[str, Any]) -> tuple[Block, ...]:
    sizes = {1.0, *(float(size) for more in table["gap"].values() for size in more)}
    gaps = [dataclasses.asdict(RealityGap().scaled(size)) for size in sorted(sizes)]
    heads = [f"size {size:g}" for size in sorted(sizes)]
    rows = [
        [name, text, *(_setting(values[name]) for values in gaps)]
        for name, text in field_texts(RealityGap).items()
    ]
    about = " ".join((inspect.getdoc(RealityGap) or "").split())
    return (about, Table(("setting", "what it is", *heads), rows))


def _setting(value: float | tuple[float, ...]) -> str:
    return ", ".join(f"{each:.4g}" for each in (value if isinstance(value, tuple) else (value,)))
