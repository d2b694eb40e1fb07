"""Mapping files: which topics or columns of a log are which quantities, in which order, sign and unit."""

from __future__ import annotations

import dataclasses
import math
import tomllib
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np

from dmcm.errors import DataError, unknown_name
from dmcm.quadruped.body.robot_table import JOINT_NAMES
from dmcm.quadruped.logs.quantities import MAPPED, ORIENTATION, Quantity

_SHIPPED = resources.files("dmcm.quadruped.logs") / "mappings"
NOTHING = "-"
"""In `order`: a number that is not read."""
_CLOCK_UNITS = {"s": 1e9, "ms": 1e6, "us": 1e3, "ns": 1.0}
_STAMPS = ("header", "log")
_ENTRIES = ("topic", "field", "names", "columns", "order", "sign", "offset", "unit", "rate_hz", "on_change")

Stamp = Literal["header", "log"]


@dataclasses.dataclass(frozen=True)
class Clock:
    """Which times are used."""

    column: str | None = None
    """In a table: the column of times. Where the column holds dates, its unit is ignored."""
    unit_ns: float = 1e9
    """In a table: nanoseconds in one unit of that column."""
    stamp: Stamp = "header"
    """In MCAP: the stamp in a message's header where it has one, or the time when it was logged."""


@dataclasses.dataclass(frozen=True)
class Source:
    """Where one quantity is in a log, and how its numbers become the library's.

    A number of the log becomes `scale · number + offset`.
    """

    topic: str | None
    """In MCAP: the topic of its messages."""
    fields: tuple[str, ...]
    """In MCAP: paths of its numbers in a message, each a number or a list of numbers."""
    names: str | None
    """In MCAP: path of a list of joint names that gives the order in each message."""
    columns: tuple[str, ...]
    """In a table: one column per number."""
    order: tuple[str, ...]
    """Which part each number is; "-" for one that is not read."""
    scale: tuple[float, ...]
    """For each number: unit times sign."""
    offset: tuple[float, ...]
    """For each number, in the library's unit."""
    rate_hz: float | None
    """Expected samples per second, if known."""
    on_change: bool
    """Whether it is only written when it changes, so that a long silence is not a gap."""

    def convert(self, numbers: np.ndarray, quantity: Quantity) -> np.ndarray:
        """Numbers of a log, shape (n, len(order)), as values, shape (n, parts), of the library."""
        at = [self.order.index(part) for part in quantity.parts]
        return numbers[:, at] * np.array(self.scale)[at] + np.array(self.offset)[at]


@dataclasses.dataclass(frozen=True)
class LogMapping:
    """How to read a log."""

    sources: Mapping[str, Source]
    """By names of `MAPPED`."""
    clock: Clock = dataclasses.field(default_factory=Clock)
    """Which times are used."""
    robot: str | None = None
    """Name of the robot the mapping is for; None for any."""
    joint_names: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """The log's names of joints, by the library's names; joints not listed have the same name."""


def mapping_names() -> tuple[str, ...]:
    """Mappings that come with the package."""
    names = (entry.name for entry in _SHIPPED.iterdir())
    return tuple(sorted(name.removesuffix(".toml") for name in names if name.endswith(".toml")))


def load_mapping(mapping: str | Path) -> LogMapping:
    """Read and check a mapping file.

    Args:
        mapping: name of a mapping that comes with the package, or path of a TOML file laid out like
            mappings/ros2.toml or mappings/flat.toml.

    Raises:
        DataError: no such mapping or file, or one with entries that are unknown, missing or contradictory.
    """
    path = Path(mapping)
    if path.suffix == ".toml":
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"cannot read the mapping {path}: {error}.") from error
    elif str(mapping) in mapping_names():
        text = (_SHIPPED / f"{mapping}.toml").read_text(encoding="utf-8")
    else:
        raise DataError(
            f"{unknown_name('mapping', mapping, mapping_names())} Or give the path of a .toml file."
        )
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise DataError(f"the mapping {mapping} is not valid TOML: {error}.") from error
    return parse_mapping(table)


def parse_mapping(table: Mapping[str, Any]) -> LogMapping:
    """Check the content of a mapping file.

    Args:
        table: nested mappings, laid out like mappings/ros2.toml.

    Raises:
        DataError: an entry is unknown, missing or contradicts another; the message names it.
    """
    valid = ("robot", "clock", "joint_names", *MAPPED)
    for name, value in table.items():
        if name not in valid:
            raise DataError(f"mapping: {unknown_name('entry', name, valid)}")
        if name != "robot" and not isinstance(value, Mapping):
            raise DataError(f"mapping: {name} must be a table, headed by [{name}].")
    robot = table.get("robot")
    if robot is not None and not isinstance(robot, str):
        raise DataError(f"mapping: robot = {robot!r} must be the name of a robot.")
    if ORIENTATION in table and "gravity_direction" in table:
        raise DataError("mapping: give [gravity_direction] or [orientation], not both.")
    sources = {name: _source(table[name], name) for name in MAPPED if name in table}
    clock = _clock(table.get("clock", {}))
    for name, source in sources.items():
        if clock.column is not None and clock.column in source.columns:
            raise DataError(
                f"mapping: [{name}] reads '{clock.column}', the column of times. Name the column of {name}."
            )
    return LogMapping(
        sources=sources,
        clock=clock,
        robot=robot,
        joint_names=_joint_names(table.get("joint_names", {})),
    )


def _clock(section: Mapping[str, Any]) -> Clock:
    _check_entries(section, "clock", ("column", "unit", "time"))
    column = section.get("column")
    if column is not None:
        _text(column, "clock.column")
        # Without a unit, seconds read as milliseconds would go unnoticed.
        if "unit" not in section:
            raise DataError(f"mapping: [clock] lacks unit. Valid: {', '.join(_CLOCK_UNITS)}.")
    unit = _text(section.get("unit", "s"), "clock.unit")
    if unit not in _CLOCK_UNITS:
        raise DataError(f"mapping, clock.unit: {unknown_name('unit of time', unit, _CLOCK_UNITS)}")
    stamp = _text(section.get("time", "header"), "clock.time")
    if stamp not in _STAMPS:
        raise DataError(f"mapping, clock.time: {unknown_name('kind of stamp', stamp, _STAMPS)}")
    return Clock(column, _CLOCK_UNITS[unit], cast("Stamp", stamp))


def _joint_names(section: Mapping[str, Any]) -> Mapping[str, str]:
    _check_entries(section, "joint_names", JOINT_NAMES)
    for name, value in section.items():
        _text(value, f"joint_names.{name}")
    all_names = [section.get(name, name) for name in JOINT_NAMES]
    for name in all_names:
        if all_names.count(name) > 1:
            raise DataError(f"mapping: joint_names has two joints that the log calls '{name}'.")
    return dict(section)


def _source(section: Mapping[str, Any], where: str) -> Source:
    quantity = MAPPED[where]
    _check_entries(section, where, _ENTRIES)
    topic, fields = section.get("topic"), _texts(section, "field", where)
    columns = _texts(section, "columns", where)
    if (topic is None) != (not fields):
        raise DataError(f"mapping: [{where}] needs both topic and field to find it in MCAP.")
    if topic is None and not columns:
        raise DataError(
            f"mapping: [{where}] does not say where to look: give topic and field (MCAP) or columns (tables)."
        )
    if topic is not None:
        _text(topic, f"{where}.topic")
    names = section.get("names")
    if names is not None:
        _text(names, f"{where}.names")
        if quantity.parts != JOINT_NAMES or topic is None:
            raise DataError(f"mapping: {where}.names is for topics with joint names.")
    order = _order(section, where, quantity, named=names is not None)
    for kind, listed in (("columns", columns), ("field", fields if len(fields) > 1 else ())):
        if listed and len(listed) != len(order):
            raise DataError(
                f"mapping: [{where}] has {len(listed)} entries in {kind} for the {len(order)} numbers "
                f"{', '.join(order)}. Say in order which each is, with '{NOTHING}' for those not wanted."
            )
        wanted = [text for text, part in zip(listed, order, strict=False) if part != NOTHING]
        if twice := [text for text in wanted if wanted.count(text) > 1]:
            raise DataError(
                f"mapping: [{where}] has '{twice[0]}' twice in {kind}. Each number needs one of its own."
            )
    units = _units(section, where, quantity, order)
    signs = _numbers(section, "sign", where, len(order), 1.0)
    if any(abs(sign) != 1 for sign in signs):
        raise DataError(f"mapping: {where}.sign = {section['sign']!r} must consist of 1 and -1.")
    offsets = _numbers(section, "offset", where, len(order), 0.0)
    rate = section.get("rate_hz")
    if rate is not None and not (_is_number(rate) and rate > 0):
        raise DataError(f"mapping: {where}.rate_hz = {rate!r} must be a number > 0.")
    on_change = section.get("on_change", False)
    if not isinstance(on_change, bool) or (on_change and where != "command"):
        raise DataError(f"mapping: {where}.on_change must be true or false, and is for the command only.")
    return Source(
        topic,
        fields,
        names,
        columns,
        order,
        tuple(unit * sign for unit, sign in zip(units, signs, strict=True)),
        tuple(unit * offset for unit, offset in zip(units, offsets, strict=True)),
        None if rate is None else float(rate),
        on_change,
    )


def _order(section: Mapping[str, Any], where: str, quantity: Quantity, *, named: bool) -> tuple[str, ...]:
    if "order" not in section:
        if where == ORIENTATION:
            raise DataError(
                "mapping: [orientation] lacks order: ['x', 'y', 'z', 'w'] as in ROS, or ['w', 'x', 'y', 'z']."
            )
        return quantity.parts
    if named:
        raise DataError(f"mapping: [{where}] takes its order from names; leave order out.")
    order = _texts(section, "order", where)
    for part in order:
        if part != NOTHING and part not in quantity.parts:
            raise DataError(f"mapping, {where}.order: {unknown_name('part', part, quantity.parts)}")
        if part != NOTHING and order.count(part) > 1:
            raise DataError(f"mapping: {where}.order has '{part}' twice.")
    if missing := [part for part in quantity.parts if part not in order]:
        raise DataError(f"mapping: {where}.order lacks {', '.join(missing)}.")
    return order


def _units(
    section: Mapping[str, Any], where: str, quantity: Quantity, order: Sequence[str]
) -> tuple[float, ...]:
    """Size of each number's unit in the library's unit."""
    given, each = _texts(section, "unit", where), not isinstance(section.get("unit", ""), str)
    if each and len(given) != len(order):
        raise DataError(f"mapping: {where}.unit must be one unit, or {len(order)}, one per number.")
    sizes = []
    for at, part in enumerate(order):
        unit = given[at] if each else given[0] if given else None
        if part == NOTHING:
            sizes.append(1.0)
            continue
        valid = quantity.units[quantity.parts.index(part)]
        if unit is None:
            unit = next(iter(valid))
        if unit not in valid:
            mixed = len({tuple(units) for units in quantity.units}) > 1 and not each
            hint = " Give one unit per number, as a list." if mixed else ""
            raise DataError(f"mapping, {where}.unit of {part}: {unknown_name('unit', unit, valid)}{hint}")
        sizes.append(valid[unit])
    return tuple(sizes)


def _check_entries(section: Mapping[str, Any], where: str, valid: Sequence[str]) -> None:
    for name in section:
        if name not in valid:
            raise DataError(f"mapping, [{where}]: {unknown_name('entry', name, valid)}")


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str) or not value:
        raise DataError(f"mapping: {where} = {value!r} must be text.")
    return value


def _texts(section: Mapping[str, Any], entry: str, where: str) -> tuple[str, ...]:
    """A list of texts; a single text becomes a list of one, and None an empty list."""
    value = section.get(entry, ())
    listed = (value,) if isinstance(value, str) else value
    if not isinstance(listed, list | tuple) or (entry in section and not listed):
        raise DataError(f"mapping: {where}.{entry} = {value!r} must be text or a list of texts.")
    return tuple(_text(text, f"{where}.{entry}") for text in listed)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _numbers(
    section: Mapping[str, Any], entry: str, where: str, count: int, default: float
) -> tuple[float, ...]:
    """As many numbers as the log has; one number is for all."""
    value = section.get(entry, default)
    listed = [value] * count if _is_number(value) else value
    if not isinstance(listed, list) or len(listed) != count or not all(map(_is_number, listed)):
        raise DataError(
            f"mapping: {where}.{entry} = {value!r} must be a number for all, or a list of {count}, one for "
            "each number in the order of the log."
        )
    return tuple(float(number) for number in listed)
