"""`dmcm quadruped adapt`: turn a robot's log into its vector."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import tyro

from dmcm.bank import ContextBank
from dmcm.cli.robot_model import RobotModel
from dmcm.cli.show import say, show_path, show_table
from dmcm.errors import ConfigError
from dmcm.quadruped.conditioned.ground_fit import simulated_log
from dmcm.quadruped.conditioned.robot_fit import RobotFit, check_length, fit_robot, make_reference
from dmcm.quadruped.dynamics.cells import ROBOT, TERRAIN
from dmcm.quadruped.dynamics.measured import measured_outputs
from dmcm.quadruped.logs.log import load_log
from dmcm.quadruped.logs.mapping import load_mapping
from dmcm.quadruped.walking.policy import load_walker
from dmcm.quadruped.world.simulation import CONTROL_PERIOD_S
from dmcm.quadruped.world.terrain import parse_terrain
from dmcm.report import Cell, Table


@dataclasses.dataclass(frozen=True)
class AdaptLog(RobotModel):
    """Turn a log of a robot walking on a known ground into its vector, check it and keep it in a bank.

    The ground's vector comes from simulation and is held. Both go into the bank: the robot's under --name,
    the ground's under its label.
    """

    log: tyro.conf.Positional[Path]
    """The log: .mcap, a rosbag2 folder, .csv, .tsv or .parquet."""
    bank: Path
    """Folder of the bank; created if it does not exist."""
    name: str
    """Name of the robot's entry."""
    mapping: str = "ros2"
    """Meaning of the topics or columns: ros2, flat, or the path of a .toml file; see docs/logs.md."""
    ground: str = "flat"
    """What the robot walked on, such as flat, slope_up-0.12 or stairs_up-0.08."""
    seed: int = 0
    """Seed of the simulated robots that the log is compared with."""
    overwrite: bool = False
    """Replace the robot's entry of the same name; a ground's that is there stays."""


CONFIG = AdaptLog
EXAMPLES = """
dmcm quadruped adapt walk.mcap --bank bank --name ours
dmcm quadruped adapt walk.csv --mapping columns.toml --ground slope_up-0.12 --bank bank --name ours
"""


def run(config: AdaptLog) -> None:
    """Read, check, adapt, save, print."""
    if config.seed < 0:
        raise ConfigError(f"seed={config.seed} must not be negative.")
    ground = parse_terrain(config.ground)
    model, table = config.load()
    log = load_log(config.log, load_mapping(config.mapping), table)
    for finding in log.findings:
        say(f"{finding.level}, {finding.kind}: {finding.text}", _STYLES[finding.level])
    check_length(model, log)
    walker, _ = load_walker(config.walker, config.robot, table)
    bank = ContextBank(config.bank)
    bank.check_free(config.name, (ROBOT,), overwrite=config.overwrite)
    reference = make_reference(model, walker, table, ground, measured_outputs(log.measured), seed=config.seed)
    fit = fit_robot(model, log, reference)
    learner = model.learner
    bank.save(
        config.name,
        fit.contexts.select(ROBOT),
        learner,
        source=f"{log.source} on {ground.label}",
        samples=fit.samples,
        overwrite=config.overwrite,
    )
    simulated = simulated_log(table.name, ground)
    there = [entry for entry in bank.entries() if (entry.factor, entry.name) == (TERRAIN, ground.label)]
    if not there:
        bank.save(
            ground.label,
            fit.contexts.select(TERRAIN),
            learner,
            source=simulated,
            samples=reference.samples,
        )
    elif (there[0].source, there[0].model) != (simulated, learner.fingerprint()):
        other = "" if there[0].model == learner.fingerprint() else ", of another model"
        say(
            f"note: the bank keeps its existing vector of terrain '{ground.label}' "
            f"({there[0].source}{other}); the robot's was adapted with a simulated one. `dmcm quadruped "
            f"ground-vectors {ground.label} --overwrite` replaces it.",
            "dim",
        )
    _show(fit)
    if fit.delay_steps:
        late_ms = 1e3 * CONTROL_PERIOD_S * fit.delay_steps
        say(f"note: joint targets act {late_ms:.0f} ms or more late; the vector allows for it.", "dim")
    for warning in fit.warnings:
        say(f"warning: {warning}", "yellow")
    show_path("bank", config.bank)


_STYLES = {"note": "dim", "warning": "yellow", "refused": "red"}


def _show(fit: RobotFit) -> None:
    numbers = zip(np.asarray(fit.contexts[ROBOT]), fit.half_width, fit.spread, strict=True)
    rows: list[list[Cell]] = [
        [str(i + 1), f"{value:.3f} ± {half:.3f}", f"{spread:.3f}"]
        for i, (value, half, spread) in enumerate(numbers)
    ]
    show_table(
        Table(
            ("number", "robot's vector", "robots differ by"),
            rows,
            "± half of the 95 % interval, from the scatter within the log. The column on the right is the "
            "standard deviation between the robots of training.",
        )
    )
    if fit.errors:
        rows = [
            [name, before, after, f"{100 * (1 - after / before):.0f} %"]
            for name, (before, after) in fit.errors.items()
        ]
        show_table(
            Table(
                ("output", "without", "with the vector", "less error"),
                rows,
                "Errors on seconds that the vector was not fitted to, in standard deviations of the output.",
            )
        )
