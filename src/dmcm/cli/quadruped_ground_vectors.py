"""`dmcm quadruped ground-vectors`: vectors of grounds from simulation."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import tyro

from dmcm.bank import ContextBank
from dmcm.cli.robot_model import RobotModel
from dmcm.cli.show import say, show_path, show_table
from dmcm.errors import ConfigError
from dmcm.quadruped.conditioned.ground_fit import fit_grounds, simulated_log
from dmcm.quadruped.dynamics.cells import TERRAIN
from dmcm.quadruped.walking.policy import load_walker
from dmcm.quadruped.world.terrain import parse_terrain
from dmcm.report import Cell, Table


@dataclasses.dataclass(frozen=True)
class GroundVectors(RobotModel):
    """Simulate the published robot on grounds, and keep the vector of each ground in a bank, under its label.

    Policies that read a ground's vector can then walk robots there that were only logged elsewhere. Simulated
    vectors of the same model that the bank has already stay.
    """

    grounds: tyro.conf.Positional[tuple[str, ...]]
    """Grounds, such as flat, stairs_up-0.08 or rough-0.06-every-0.2."""
    bank: Path
    """Folder of the bank; created if it does not exist."""
    seed: int = 0
    """Seed of commands and starts."""
    overwrite: bool = False
    """Replace entries of the same name."""


CONFIG = GroundVectors
EXAMPLES = """
dmcm quadruped ground-vectors stairs_up-0.08 rough-0.06-every-0.2 --bank bank
"""


def run(config: GroundVectors) -> None:
    """Simulate, adapt, save, print."""
    if config.seed < 0:
        raise ConfigError(f"seed={config.seed} must not be negative.")
    grounds = {ground.label: ground for ground in map(parse_terrain, config.grounds)}
    if not grounds:
        raise ConfigError("no ground is named. For example: stairs_up-0.08 rough-0.06-every-0.2")
    if len(grounds) < len(config.grounds):
        raise ConfigError(f"of {', '.join(config.grounds)} two are the same ground. Name each once.")
    model, table = config.load()
    walker, _ = load_walker(config.walker, config.robot, table)
    bank, made_by = ContextBank(config.bank), model.learner.fingerprint()
    sources = {label: simulated_log(table.name, ground) for label, ground in grounds.items()}
    there = {
        entry.name
        for entry in (bank.entries() if bank.path.is_dir() and not config.overwrite else [])
        if entry.factor == TERRAIN and (entry.source, entry.model) == (sources.get(entry.name), made_by)
    }
    missing = {label: ground for label, ground in grounds.items() if label not in there}
    for label in missing:
        bank.check_free(label, (TERRAIN,), overwrite=config.overwrite)
    if there:
        say(f"note: the bank has simulated vectors of {', '.join(sorted(there))} already; they stay.", "dim")
    fits = fit_grounds(model, walker, table, [*missing.values()], seed=config.seed) if missing else []
    rows: list[list[Cell]] = []
    for fit in fits:
        label = fit.ground.label
        bank.save(
            label,
            fit.contexts,
            model.learner,
            source=sources[label],
            samples=fit.samples,
            overwrite=config.overwrite,
        )
        numbers = " ".join(f"{value:.3f}" for value in np.asarray(fit.contexts[TERRAIN]))
        rows.append([label, numbers, str(fit.samples)])
    if rows:
        show_table(Table(("ground", "vector", "samples"), rows))
    show_path("bank", config.bank)
