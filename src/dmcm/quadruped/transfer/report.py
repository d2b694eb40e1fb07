"""The report of a finished transfer study, with a film of one stand-in robot."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dmcm.quadruped.body.robot_table import load_robot
from dmcm.quadruped.conditioned.films import Walker, encode_gif, film
from dmcm.quadruped.conditioned.study import guide_of, trained_policy
from dmcm.quadruped.standin.gap import RealityGap
from dmcm.quadruped.standin.simulation import stand_in
from dmcm.quadruped.transfer.page import build_page
from dmcm.quadruped.transfer.scenario import GROUNDS, WAYS, TransferConfig, stand_ins
from dmcm.quadruped.transfer.vectors import VectorSource
from dmcm.quadruped.walking.policy import load_walker
from dmcm.quadruped.walking.suite import OVER_GROUND
from dmcm.report import Film, write_page
from dmcm.runs import RunFolder

FILMED = ("vanilla", "single", "dmcm", "dmcm_gait")
"""Ways that are filmed side by side."""
GROUND = "waves"
"""Where they are filmed."""


def report_transfer(config: TransferConfig, table: Mapping[str, Any]) -> Path:
    """Film the policies of seed 0 and write `report.html` into `config.out`.

    Args:
        config: as given to `run_transfer`.
        table: what it returned.

    Returns:
        The page's file.

    Raises:
        DmcmError: policies or models that cannot be read, or a file that cannot be written.
    """
    # Not all of the table: rows of earlier commands may be of other policies.
    names = [name for name in FILMED if name in config.names()]
    drawn = _film(config, names) if names else None
    return write_page(RunFolder(config.out), build_page(table, [] if drawn is None else [drawn]))


def _film(config: TransferConfig, names: list[str]) -> Film | None:
    """The first robot on `GROUND`; None where this machine cannot draw."""
    table = load_robot(config.robot)
    walker, _ = load_walker(config.walker, config.robot, table)
    source = VectorSource(config, table, walker)
    row, walkers = list(GROUNDS).index(GROUND) * config.robots, []
    for name in names:
        way = WAYS[name]
        policy, _ = trained_policy(config.policies, config.dynamics, way.policy, 0, config.robot)
        values = source.told(way.parts, seed=0, gap=1.0, data_s=20.0)
        mine = None if values is None else values[row : row + 1]
        walkers.append(Walker(name, policy, guide_of(way.policy, mine, 1)))
    robot = stand_ins(config)[0]
    frames = film(
        walkers,
        table,
        robot,
        GROUNDS[GROUND],
        commands=OVER_GROUND,
        physics=stand_in(RealityGap(), config.seed + 1),
        seed=config.seed,
    )
    if frames is None:
        return None
    caption = (
        f"The first stand-in robot, not hand-picked (P gain {robot.p_gain_nm_per_rad:.0f} N m/rad, load "
        f"{robot.payload_kg:.1f} kg), with policies of seed 0, from the same start with the same commands. A "
        "pane stops where its robot falls."
    )
    return Film(encode_gif(frames), caption, f"A stand-in robot on {GROUND.replace('_', ' ')}")
