"""Settings of commands that use a robot's dynamics model: that of the package, or files of the user's own."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from dmcm.errors import ConfigError
from dmcm.quadruped.body.robot_table import RobotTable, load_robot
from dmcm.quadruped.dynamics.model import DynamicsModel, load_dynamics_model
from dmcm.quadruped.walking.policy import POLICY


@dataclasses.dataclass(frozen=True, kw_only=True)
class RobotModel:
    """A robot, its dynamics model, and the policy that collected the model's data."""

    robot: str = "go1"
    """The robot's table: a name, or the path of a .toml file."""
    walker: Path = POLICY
    """File of the policy that collected the model's data; simulated robots walk with it."""
    base: Path | None = None
    """File of the base network; default the one in the package."""
    model: Path | None = None
    """File of the model that corrects the base network; default the one in the package."""

    def load(self) -> tuple[DynamicsModel, RobotTable]:
        """The robot's dynamics model and table.

        Raises:
            ConfigError: one file without the other, or another robot than that of the model in the package
                without a model of its own.
            DmcmError: as `load_robot` and `load_dynamics_model`.
        """
        table = load_robot(self.robot)
        if (self.base is None) != (self.model is None):
            raise ConfigError(
                "a model corrects the base network that it was trained with: give both files, --model and "
                "--base, or neither for those in the package."
            )
        if self.model is None and table.name != "go1":
            raise ConfigError(
                f"the model in the package is of the robot go1, not {table.name}. Give --model and --base of "
                f"that robot: dmcm quadruped collect --robot {self.robot}, then dmcm quadruped dynamics."
            )
        return load_dynamics_model(base_path=self.base, path=self.model), table
