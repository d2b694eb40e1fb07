"""`dmcm quadruped simulate-log`: write the log of a simulated robot as a real one would."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import tyro

from dmcm.cli.show import show_path
from dmcm.errors import ConfigError, unknown_name
from dmcm.quadruped.body.properties import PROPERTY_NAMES, RobotProperties, nominal
from dmcm.quadruped.body.robot_table import RobotTable, load_robot
from dmcm.quadruped.conditioned.logs import SECONDS, log_recording
from dmcm.quadruped.data.recording import without_truth
from dmcm.quadruped.logs.mcap_write import write_mcap
from dmcm.quadruped.walking.policy import POLICY, load_walker
from dmcm.quadruped.world.physics import PhysicsMaker
from dmcm.quadruped.world.simulation import Simulation
from dmcm.quadruped.world.terrain import parse_terrain

ENGINES = ("mujoco", "bullet")
_MOST_S = 3600.0


@dataclasses.dataclass(frozen=True)
class SimulateLog:
    """Let a robot walk and write what it measures as MCAP with ROS 2 messages.

    In MuJoCo the robot is simulated as in training, with perfect sensors. In Bullet it is a stand-in for a
    real robot, with other contacts, motors and sensors; this needs `dmcm[quadruped,standin]`.
    """

    out: tyro.conf.Positional[Path]
    """File to write, ending in .mcap."""
    engine: str = "mujoco"
    """mujoco or bullet."""
    gap: float = 1.0
    """In Bullet: how far motors and sensors differ from training's; 0 for no difference."""
    ground: str = "flat"
    """Ground, such as flat, slope_up-0.12 or stairs_up-0.08."""
    seconds: float = SECONDS
    """Length."""
    robot: str = "go1"
    """The robot's table: a name, or the path of a .toml file."""
    walker: Path = POLICY
    """File of the policy it walks with, made by `dmcm quadruped train-walking`."""
    body: RobotProperties = dataclasses.field(default_factory=RobotProperties)
    """How this robot differs from its table. Gains and friction left at the Go1's values are the table's."""
    seed: int = 0
    """Seed of commands, starts, exploration and sensors."""

    def check(self) -> SimulateLog:
        """Return self, or raise `ConfigError` for settings out of range."""
        if self.out.suffix != ".mcap":
            raise ConfigError(f"the log is written as MCAP, so {self.out} must end in .mcap.")
        if not 1 <= self.seconds <= _MOST_S or self.seed < 0:
            raise ConfigError(
                f"seconds={self.seconds} must be from 1 to {_MOST_S:g}, seed={self.seed} not negative."
            )
        if not 0 <= self.gap < math.inf or (self.engine == "mujoco" and self.gap != 1.0):
            raise ConfigError(
                f"gap={self.gap} must not be negative, and works only with --engine bullet: MuJoCo has none."
            )
        self.body.check()
        return self


CONFIG = SimulateLog
EXAMPLES = """
dmcm quadruped simulate-log walk.mcap --body.payload-kg 4
dmcm quadruped simulate-log walk.mcap --engine bullet --body.p-gain-nm-per-rad 20
"""


def run(config: SimulateLog) -> None:
    """Walk and write."""
    config.check()
    table, ground = load_robot(config.robot), parse_terrain(config.ground)
    policy, _ = load_walker(config.walker, config.robot, table)
    data = log_recording(
        policy,
        table,
        [_body(config.body, table)],
        [ground],
        seed=(config.seed,),
        seconds=config.seconds,
        physics=_physics(config),
    )
    write_mcap(config.out, without_truth(data[0]), table)
    show_path("log", config.out)


def _body(asked: RobotProperties, table: RobotTable) -> RobotProperties:
    """The requested robot; properties that were not requested are as published."""
    usual, published = RobotProperties(), nominal(table)
    left = [name for name in PROPERTY_NAMES if getattr(asked, name) == getattr(usual, name)]
    return dataclasses.replace(asked, **{name: getattr(published, name) for name in left})


def _physics(config: SimulateLog) -> PhysicsMaker:
    if config.engine not in ENGINES:
        raise ConfigError(unknown_name("engine", config.engine, ENGINES))
    if config.engine == "mujoco":
        return Simulation
    # Imported here, because the engine may not be installed.
    from dmcm.quadruped.standin.gap import RealityGap
    from dmcm.quadruped.standin.simulation import stand_in

    return stand_in(RealityGap().scaled(config.gap), config.seed)
