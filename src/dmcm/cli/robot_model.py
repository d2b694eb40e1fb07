"""The dynamics model of a robot: that of the package, or files of the user's own."""

from __future__ import annotations

from pathlib import Path

from dmcm.errors import ConfigError
from dmcm.quadruped.body.robot_table import RobotTable, load_robot
from dmcm.quadruped.dynamics.model import DynamicsModel, load_dynamics_model


def load_robot_model(
    robot: str, *, base: Path | None, model: Path | None
) -> tuple[DynamicsModel, RobotTable]:
    """A robot's dynamics model and table.

    Args:
        robot: name of its table, or the table's path.
        base: file of the base network; None for the one in the package.
        model: file of the model that corrects it; None for the one in the package.

    Raises:
        ConfigError: one file without the other, or another robot than that of the model in the package
            without a model of its own.
        DmcmError: as `load_robot` and `load_dynamics_model`.
    """
    table = load_robot(robot)
    if (base is None) != (model is None):
        raise ConfigError(
            "a model corrects the base network that it was trained with: give both files, --model and "
            "--base, or neither for those in the package."
        )
    if model is None and table.name != "go1":
        raise ConfigError(
            f"the model in the package is of the robot go1, not {table.name}. Give --model and --base of "
            f"that robot: dmcm quadruped collect --robot {robot}, then dmcm quadruped dynamics."
        )
    return load_dynamics_model(base_path=base, path=model), table
