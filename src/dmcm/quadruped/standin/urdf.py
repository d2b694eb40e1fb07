"""A robot as URDF text, which other engines read, from the table of facts."""

from __future__ import annotations

from xml.sax.saxutils import quoteattr

import numpy as np

from dmcm.quadruped.body.properties import RobotProperties
from dmcm.quadruped.body.robot_table import JOINTS, LEGS, Link, RobotTable


def robot_urdf(table: RobotTable, robot: RobotProperties) -> str:
    """URDF of one robot: links `trunk` and `FR_hip`, …, joints `FR_hip_joint`, ….

    The payload is part of the trunk. Joints have no limits, friction, damping or rotors.

    Args:
        table: the robot's facts.
        robot: its payload and the mass of its legs.
    """
    load = np.array([robot.payload_x_m, robot.payload_y_m, robot.payload_z_m])
    half = table.trunk_half_size_m
    shape = f'<box size="{_text([2 * h for h in half])}"/>'
    parts = [
        _link("trunk", *_with_point(table.trunk, robot.payload_kg, load), _collision(shape, np.zeros(3)))
    ]
    for leg in LEGS:
        parts += _leg(table, robot, leg)
    return (
        f'<?xml version="1.0"?>\n<robot name={quoteattr(table.name)}>\n' + "\n".join(parts) + "\n</robot>\n"
    )


def _leg(table: RobotTable, robot: RobotProperties, leg: str) -> list[str]:
    thigh, calf = table.thigh_length_m, table.calf_length_m
    foot = f'<sphere radius="{table.foot_radius_m!r}"/>'
    shapes = {
        "hip": "",
        "thigh": _collision(f'<capsule radius="0.02" length="{thigh!r}"/>', np.array([0, 0, -thigh / 2])),
        "calf": _collision(
            f'<capsule radius="0.012" length="{0.9 * calf!r}"/>', np.array([0, 0, -0.45 * calf])
        )
        + _collision(foot, np.array([0, 0, -calf])),
    }
    places = {
        "hip": table.hip_m(leg),
        "thigh": np.array([0, table.side_offset_m(leg), 0]),
        "calf": np.array([0, 0, -thigh]),
    }
    parts, parent = [], "trunk"
    for name in JOINTS:
        link = table.links[name].on_leg(leg)
        own, scale = f"{leg}_{name}", robot.leg_mass_scale
        parts.append(
            _link(own, scale * link.mass_kg, np.array(link.com_m), scale * link.inertia(), shapes[name])
        )
        axis = "1 0 0" if name == "hip" else "0 1 0"
        parts.append(
            f'<joint name="{own}_joint" type="continuous"><parent link="{parent}"/><child link="{own}"/>'
            f'<origin xyz="{_text(places[name])}"/><axis xyz="{axis}"/></joint>'
        )
        parent = own
    return parts


def _with_point(link: Link, mass_kg: float, at_m: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """Mass, centre of mass and inertia about it of a link with a point mass fixed to it."""
    total = link.mass_kg + mass_kg
    centre = (link.mass_kg * np.array(link.com_m) + mass_kg * at_m) / total

    def moved(mass: float, by: np.ndarray) -> np.ndarray:
        return mass * (by @ by * np.eye(3) - np.outer(by, by))

    inertia = link.inertia() + moved(link.mass_kg, np.array(link.com_m) - centre)
    return total, centre, inertia + moved(mass_kg, at_m - centre)


def _link(name: str, mass: float, com_m: np.ndarray, inertia: np.ndarray, collisions: str) -> str:
    entries = {f"i{'xyz'[i]}{'xyz'[j]}": repr(float(inertia[i, j])) for i in range(3) for j in range(i, 3)}
    tensor = " ".join(f'{key}="{value}"' for key, value in entries.items())
    return (
        f'<link name="{name}"><inertial><origin xyz="{_text(com_m)}"/><mass value="{float(mass)!r}"/>'
        f"<inertia {tensor}/></inertial>{collisions}</link>"
    )


def _collision(shape: str, at_m: np.ndarray) -> str:
    return f'<collision><origin xyz="{_text(at_m)}"/><geometry>{shape}</geometry></collision>'


def _text(numbers: np.ndarray | list[float]) -> str:
    return " ".join(repr(float(number)) for number in numbers)
