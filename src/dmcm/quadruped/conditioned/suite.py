"""The fixed suite for policies: bodies from outside training on easy and hard grounds."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from dmcm.quadruped.body.properties import TRAINING_RANGES, RobotProperties
from dmcm.quadruped.world.terrain import Terrain


@dataclasses.dataclass(frozen=True)
class Condition:
    """What is unusual about robots or ground.

    Attributes:
        title: in a few words.
        ranges: properties that are drawn from other ranges than those of training.
        friction: of the ground.
        off_centre: whether the load lies near an end of the trunk.
    """

    title: str
    ranges: Mapping[str, tuple[float, float]] = dataclasses.field(default_factory=dict)
    friction: float = Terrain().friction
    off_centre: bool = False

    def __add__(self, other: Condition) -> Condition:
        """Both at once."""
        return Condition(
            f"{self.title}, {other.title}",
            {**self.ranges, **other.ranges},
            min(self.friction, other.friction),
            self.off_centre or other.off_centre,
        )

    def draw(self, rng: np.random.Generator, count: int) -> list[RobotProperties]:
        """Robots of this condition."""
        ranges = {**TRAINING_RANGES, **self.ranges}
        robots = []
        for _ in range(count):
            values = {name: float(rng.uniform(*limits)) for name, limits in ranges.items()}
            end = rng.choice([-1.0, 1.0])
            if self.off_centre:
                values["payload_x_m"] = end * float(rng.uniform(*_OFF_CENTRE_M))
            robots.append(RobotProperties(**values))
        return robots

    def on(self, ground: Terrain) -> Terrain:
        """A ground with this condition's friction."""
        return dataclasses.replace(ground, friction=self.friction)


_OFF_CENTRE_M = (0.06, 0.15)
_SOFT = Condition("P gain 14 to 24", {"p_gain_nm_per_rad": (14.0, 24.0)})
_LOADED = Condition("3 to 6 kg off-centre", {"payload_kg": (3.0, 6.0)}, off_centre=True)
_WEAK = Condition("motors at 0.5 to 0.75", {"motor_strength": (0.5, 0.75)})
_LATE = Condition("delay 20 to 30 ms", {"action_delay_s": (0.02, 0.03)})
_SLIPPERY = Condition("friction 0.3", friction=0.3)

ENOUGH = 0.8
"""Smallest fraction of the commanded distance that counts as success."""
TRAINING = "training"
CONDITIONS: Mapping[str, Condition] = {
    TRAINING: Condition("bodies of training"),
    "soft": _SOFT,
    "loaded": _LOADED,
    "weak": _WEAK,
    "late": _LATE,
    "slippery": _SLIPPERY,
    "soft+loaded": _SOFT + _LOADED,
    "soft+late": _SOFT + _LATE,
    "soft+slippery": _SOFT + _SLIPPERY,
    "loaded+weak": _LOADED + _WEAK,
    "loaded+late": _LOADED + _LATE,
}
"""All but the first lie outside training, in one respect or in two at once."""

GROUNDS: Mapping[str, Terrain] = {
    "flat": Terrain(),
    "rough": Terrain("rough", 0.06, 0.2),
    "waves": Terrain("waves", 0.12, 1.0),
    "stairs_up": Terrain("stairs_up", 0.08),
    "stairs_down": Terrain("stairs_down", 0.08),
}
"""The grounds of each condition, all seen in training except slippery ones."""
