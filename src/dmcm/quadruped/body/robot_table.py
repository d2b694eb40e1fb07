"""A quadruped as a table of facts: masses, inertias, geometry, limits. Read from TOML, checked, frozen."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import tomllib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from dmcm.errors import DataError, unknown_name

LEGS = ("FR", "FL", "RR", "RL")
"""Front right, front left, rear right, rear left: Unitree's order, used by every array of twelve joints."""
JOINTS = ("hip", "thigh", "calf")
"""Joints of a leg from the trunk down: abduction about x, flexion about y, knee about y."""
JOINT_NAMES = tuple(f"{leg}_{joint}" for leg in LEGS for joint in JOINTS)
"""All twelve joints in order."""

_TABLES = resources.files("dmcm.quadruped.body") / "robots"
_MIRRORS = ("right", "rear")


@dataclasses.dataclass(frozen=True)
class Link:
    """One rigid part."""

    mass_kg: float
    """Mass."""
    com_m: tuple[float, float, float]
    """Centre of mass in the link's frame, whose origin is the link's joint."""
    inertia_kgm2: tuple[float, float, float, float, float, float]
    """xx, yy, zz, xy, xz, yz about the centre of mass, in the link's axes."""
    mirrored: tuple[str, ...] = ()
    """Sides whose links are mirror images of the front left one: "right" flips y, "rear" flips x."""

    def inertia(self) -> np.ndarray:
        """Inertia tensor about the centre of mass, shape (3, 3), kg m²."""
        xx, yy, zz, xy, xz, yz = self.inertia_kgm2
        return np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])

    def on_leg(self, leg: str) -> Link:
        """The same link on another leg, mirrored where the table says so."""
        flip_x = -1.0 if leg[0] == "R" and "rear" in self.mirrored else 1.0
        flip_y = -1.0 if leg[1] == "R" and "right" in self.mirrored else 1.0
        x, y, z = self.com_m
        xx, yy, zz, xy, xz, yz = self.inertia_kgm2
        return dataclasses.replace(
            self,
            com_m=(flip_x * x, flip_y * y, z),
            inertia_kgm2=(xx, yy, zz, flip_x * flip_y * xy, flip_x * xz, flip_y * yz),
        )


@dataclasses.dataclass(frozen=True)
class Joint:
    """One joint of every leg."""

    range_rad: tuple[float, float]
    """Lower and upper limit."""
    home_rad: float
    """Angle of the standing pose."""
    peak_torque_nm: float
    """Largest torque the motor gives, in either direction."""


@dataclasses.dataclass(frozen=True)
class RobotTable:
    """Facts of a quadruped with four legs of three joints. Frames: x forward, y left, z up."""

    name: str
    """Short name, such as go1."""
    title: str
    """Full name."""
    sources: tuple[str, ...]
    """Where the figures come from."""
    home_height_m: float
    """Height of the trunk frame above the ground in the standing pose."""
    trunk: Link
    """The body that carries the legs."""
    trunk_half_size_m: tuple[float, float, float]
    """Half edges of the box that represents the trunk in collisions."""
    hip_position_m: tuple[float, float]
    """Abduction axis of the front left leg in the trunk frame, x and y; the other legs mirror it."""
    hip_offset_m: float
    """Sideways distance from the abduction axis to the plane of the leg."""
    thigh_length_m: float
    """From hip flexion to knee."""
    calf_length_m: float
    """From knee to the centre of the foot."""
    foot_radius_m: float
    """Radius of the spherical foot."""
    links: Mapping[str, Link]
    """hip, thigh and calf of the front left leg."""
    joints: Mapping[str, Joint]
    """hip, thigh and calf joint."""
    p_gain_nm_per_rad: float
    """Nominal position gain of the joint controllers."""
    d_gain_nms_per_rad: float
    """Nominal velocity gain of the joint controllers."""
    armature_kgm2: float
    """Inertia of a rotor, reflected to its joint."""
    joint_friction_nm: float
    """Dry friction of a joint."""
    joint_damping_nms_per_rad: float
    """Viscous friction of a joint."""

    @property
    def digest(self) -> str:
        """Hash of all facts; whatever is made with this robot stores it."""
        return hashlib.sha256(json.dumps(dataclasses.asdict(self), sort_keys=True).encode()).hexdigest()

    @property
    def mass_kg(self) -> float:
        """Total mass."""
        return self.trunk.mass_kg + 4 * sum(link.mass_kg for link in self.links.values())

    @property
    def home_pose_rad(self) -> np.ndarray:
        """Standing joint angles, shape (12,), in the order of `JOINT_NAMES`."""
        return np.array([self.joints[joint].home_rad for _ in LEGS for joint in JOINTS])

    @property
    def joint_limits_rad(self) -> np.ndarray:
        """Lower and upper limits, shape (12, 2)."""
        return np.array([self.joints[joint].range_rad for _ in LEGS for joint in JOINTS])

    @property
    def peak_torque_nm(self) -> np.ndarray:
        """Torque limits, shape (12,)."""
        return np.array([self.joints[joint].peak_torque_nm for _ in LEGS for joint in JOINTS])

    def hip_m(self, leg: str) -> np.ndarray:
        """Abduction axis of a leg in the trunk frame, shape (3,)."""
        x, y = self.hip_position_m
        return np.array([x if leg[0] == "F" else -x, y if leg[1] == "L" else -y, 0.0])

    def side_offset_m(self, leg: str) -> float:
        """Signed `hip_offset_m`: positive to the left."""
        return self.hip_offset_m if leg[1] == "L" else -self.hip_offset_m


def robot_names() -> tuple[str, ...]:
    """Robots whose tables come with the package."""
    return tuple(sorted(p.name.removesuffix(".toml") for p in _TABLES.iterdir() if p.name.endswith(".toml")))


def load_robot(robot: str | Path) -> RobotTable:
    """Read and check a robot's table.

    Args:
        robot: name of a robot that comes with the package, or path of a TOML file laid out like
            robots/go1.toml.

    Raises:
        DataError: no such robot or file, or an incomplete or impossible table.
    """
    path = Path(robot)
    if path.suffix == ".toml":
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"cannot read the robot table {path}: {error}.") from error
    elif str(robot) in robot_names():
        text = (_TABLES / f"{robot}.toml").read_text(encoding="utf-8")
    else:
        raise DataError(f"{unknown_name('robot', robot, robot_names())} Or give the path of a .toml table.")
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise DataError(f"the robot table {robot} is not valid TOML: {error}.") from error
    return parse_robot(table)


def parse_robot(table: Mapping[str, Any]) -> RobotTable:
    """Check a table of facts and build a robot from it.

    Args:
        table: nested mappings, laid out like robots/go1.toml.

    Raises:
        DataError: something is missing, unknown, or physically impossible; the message names the entry.
    """
    top = _section(
        table, "", {"name", "title", "sources", "home_height_m", "trunk", "leg", "joints", "actuators"}
    )
    trunk = _section(top["trunk"], "trunk", {"mass_kg", "com_m", "inertia_kgm2", "half_size_m"})
    leg = _section(
        top["leg"],
        "leg",
        {"hip_position_m", "hip_offset_m", "thigh_length_m", "calf_length_m", "foot_radius_m", *JOINTS},
    )
    joints = _section(top["joints"], "joints", set(JOINTS))
    actuators = _section(
        top["actuators"],
        "actuators",
        {
            "p_gain_nm_per_rad",
            "d_gain_nms_per_rad",
            "armature_kgm2",
            "joint_friction_nm",
            "joint_damping_nms_per_rad",
        },
    )
    lengths = {
        key: _positive(leg[key], f"leg.{key}")
        for key in ("hip_offset_m", "thigh_length_m", "calf_length_m", "foot_radius_m")
    }
    half_size = _numbers(trunk["half_size_m"], "trunk.half_size_m", 3)
    hip_position = _numbers(leg["hip_position_m"], "leg.hip_position_m", 2)
    for key, values in (("trunk.half_size_m", half_size), ("leg.hip_position_m", hip_position)):
        if min(values) <= 0:
            raise DataError(f"robot table: {key} = {list(values)} must be positive lengths in metres.")
    return RobotTable(
        name=str(top["name"]),
        title=str(top["title"]),
        sources=_texts(top["sources"], "sources"),
        home_height_m=_positive(top["home_height_m"], "home_height_m"),
        trunk=_link({key: trunk[key] for key in ("mass_kg", "com_m", "inertia_kgm2")}, "trunk"),
        trunk_half_size_m=half_size,  # type: ignore[arg-type]
        hip_position_m=hip_position,  # type: ignore[arg-type]
        **lengths,
        links={name: _link(leg[name], f"leg.{name}") for name in JOINTS},
        joints={name: _joint(joints[name], f"joints.{name}") for name in JOINTS},
        **{key: _positive(value, f"actuators.{key}", zero=True) for key, value in actuators.items()},
    )


def _section(value: Any, where: str, keys: set[str]) -> Mapping[str, Any]:
    """A mapping with exactly these keys."""
    name = f"[{where}]" if where else "the top level"
    if not isinstance(value, Mapping):
        raise DataError(f"robot table: {name} must be a table with {', '.join(sorted(keys))}.")
    if missing := sorted(keys - value.keys()):
        raise DataError(
            f"robot table: {name} lacks {', '.join(missing)}. Lay the table out like robots/go1.toml."
        )
    if unknown := sorted(value.keys() - keys):
        raise DataError(f"robot table, {name}: {unknown_name('entry', unknown[0], sorted(keys))}")
    return value


def _numbers(value: Any, where: str, count: int) -> tuple[float, ...]:
    try:
        array = np.asarray(value, float)
    except (TypeError, ValueError):
        array = np.array(np.nan)
    if array.shape != (count,) or not np.all(np.isfinite(array)):
        raise DataError(f"robot table: {where} = {value!r} must be {count} finite numbers.")
    return tuple(array.tolist())


def _texts(value: Any, where: str) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not all(isinstance(text, str) for text in value):
        raise DataError(f"robot table: {where} = {value!r} must be a list of texts.")
    return tuple(value)


def _positive(value: Any, where: str, *, zero: bool = False) -> float:
    ok = isinstance(value, int | float) and not isinstance(value, bool) and np.isfinite(value)
    if not ok or value < 0 or (value == 0 and not zero):
        raise DataError(f"robot table: {where} = {value!r} must be a number {'≥' if zero else '>'} 0.")
    return float(value)


def _link(value: Any, where: str) -> Link:
    keys = {"mass_kg", "com_m", "inertia_kgm2"}
    section = _section(value, where, keys if where == "trunk" else keys | {"mirrored"})
    mirrored = _texts(section.get("mirrored", []), f"{where}.mirrored")
    for side in mirrored:
        if side not in _MIRRORS:
            raise DataError(f"robot table, {where}.mirrored: {unknown_name('side', side, _MIRRORS)}")
    link = Link(
        mass_kg=_positive(section["mass_kg"], f"{where}.mass_kg"),
        com_m=_numbers(section["com_m"], f"{where}.com_m", 3),  # type: ignore[arg-type]
        inertia_kgm2=_numbers(section["inertia_kgm2"], f"{where}.inertia_kgm2", 6),  # type: ignore[arg-type]
        mirrored=mirrored,
    )
    moments = np.linalg.eigvalsh(link.inertia())
    if moments[0] <= 0:
        raise DataError(
            f"robot table: {where}.inertia_kgm2 is not positive definite (principal moments "
            f"{', '.join(f'{m:.3g}' for m in moments)} kg m²). The order is xx, yy, zz, xy, xz, yz."
        )
    # Of any mass distribution, the largest principal moment is at most the sum of the other two.
    if moments[2] > (moments[0] + moments[1]) * (1 + 1e-3):
        raise DataError(
            f"robot table: no body has the principal moments "
            f"{', '.join(f'{m:.3g}' for m in moments)} kg m² of {where}.inertia_kgm2: the largest exceeds "
            "the sum of the others. Is it about the centre of mass?"
        )
    return link


def _joint(value: Any, where: str) -> Joint:
    section = _section(value, where, {"range_rad", "home_rad", "peak_torque_nm"})
    lower, upper = _numbers(section["range_rad"], f"{where}.range_rad", 2)
    (home,) = _numbers([section["home_rad"]], f"{where}.home_rad", 1)
    if not lower < home < upper:
        raise DataError(
            f"robot table: {where} needs lower < home < upper, not {lower} < {home} < {upper} rad. "
            "Are they in degrees?"
        )
    return Joint((lower, upper), home, _positive(section["peak_torque_nm"], f"{where}.peak_torque_nm"))
