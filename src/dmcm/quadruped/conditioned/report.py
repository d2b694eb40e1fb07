"""The report of a finished comparison of policies, with films of some of its episodes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dmcm.quadruped.body.robot_table import load_robot
from dmcm.quadruped.conditioned.evaluation import bodies, grounds
from dmcm.quadruped.conditioned.films import Walker, encode_gif, film
from dmcm.quadruped.conditioned.page import build_page
from dmcm.quadruped.conditioned.sources import SOURCES, told
from dmcm.quadruped.conditioned.study import PolicyStudy, guide_of, parts_of, vector_maker
from dmcm.quadruped.conditioned.suite import CONDITIONS, GROUNDS
from dmcm.quadruped.conditioned.suite_vectors import SuiteVectors
from dmcm.quadruped.walking.policy import POLICY_FILE, load_policy
from dmcm.quadruped.walking.suite import OVER_GROUND
from dmcm.report import Film, write_page
from dmcm.runs import RunFolder

FILMED = ("vanilla", "single", "dmcm", "dmcm_gait")
SCENES: Mapping[str, tuple[str, str]] = {
    "Low P gain on waves": ("soft", "waves"),
    "A load off-centre on stairs": ("loaded", "stairs_up"),
}
"""Title, condition and ground of each film."""


def report_policies(config: PolicyStudy, table: Mapping[str, Any]) -> Path:
    """Film the policies of seed 0 and write `report.html` into the folder of the policies.

    Args:
        config: as given to `run_policy_study`.
        table: what it returned.

    Returns:
        The page's file.

    Raises:
        DmcmError: policies or models that cannot be read, or a file that cannot be written.
    """
    shown = [name for name in FILMED if name in table["methods"]]
    films: list[Film] = []
    if shown:
        vectors = vector_maker(dataclasses.replace(config, seeds=1)).make(parts_of(shown))[0]
        made = (_film(config, title, *scene, shown, vectors) for title, scene in SCENES.items())
        films = [drawn for drawn in made if drawn is not None]
    return write_page(RunFolder(config.policies), build_page(table, films))


def _film(
    config: PolicyStudy, title: str, condition: str, ground: str, names: list[str], vectors: SuiteVectors
) -> Film | None:
    """The first robot of a condition on a ground; None where this machine cannot draw."""
    place = list(GROUNDS).index(ground)
    row, walkers = place * config.suite.episodes, []
    for name in names:
        values = told(SOURCES[name], vectors[condition], config.suite.episodes)
        policy, _ = load_policy(config.policies / SOURCES[name].method / "seed-0" / POLICY_FILE)
        mine = None if values is None else values[row : row + 1]
        walkers.append(Walker(name, policy, guide_of(SOURCES[name].method, mine, 1)))
    frames = film(
        walkers,
        load_robot(config.robot),
        bodies(config.suite, condition)[0],
        grounds(condition)[place],
        commands=OVER_GROUND,
        seed=config.suite.seed,
        threads=config.suite.threads,
    )
    if frames is None:
        return None
    caption = (
        f"The first robot of the condition “{CONDITIONS[condition].title}”, not hand-picked, with policies "
        "of seed 0, from the same start with the same commands. A pane stops where its robot falls."
    )
    return Film(encode_gif(frames), caption, title)
