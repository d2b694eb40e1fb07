"""The report of policies, films in pages, and what a vector does to the gait."""

import base64

import numpy as np
import pytest

from dmcm.errors import ShapeError
from dmcm.quadruped.body.robot_table import LEGS, load_robot
from dmcm.quadruped.conditioned.influence import SHARES, foot_heights, gait_along
from dmcm.quadruped.conditioned.methods import METHODS
from dmcm.quadruped.conditioned.page import build_page
from dmcm.quadruped.conditioned.pictures import GAIT
from dmcm.quadruped.conditioned.suite import CONDITIONS, GROUNDS
from dmcm.quadruped.conditioned.widening import widen
from dmcm.quadruped.walking.gait import Gait
from dmcm.quadruped.walking.policy import POLICY, load_policy
from dmcm.report import Film, Page, Section, render, write_page
from dmcm.runs import RunFolder

GO1 = load_robot("go1")
FILM = Film(b"GIF89a, so to say", "Three robots.", "On stairs")


@pytest.fixture(scope="module")
def table():
    """A table in the layout of results/policy.json; every cell has a number of its own."""
    rng = np.random.default_rng(0)
    names = [f"{c} on {g}" for c in CONDITIONS for g in GROUNDS] + [*CONDITIONS, "outside"]

    def cell():
        return {
            "success": float(rng.uniform(0.1, 0.9)),
            "ci95": 0.05,
            "distance_m": float(rng.uniform(1, 4)),
            "velocity_rmse": 0.1,
            "energy_j_per_m": 150.0,
            "falls": 3,
            "episodes": 200,
            "seeds": 3,
        }

    gait = {name: np.linspace(1, 2, len(SHARES)).tolist() for name in GAIT}
    return {
        "methods": {name: {column: cell() for column in names} for name in (*METHODS, "dmcm_in_place")},
        "titles": {name: f"what {name} is told" for name in (*METHODS, "dmcm_in_place")},
        "conditions": {name: condition.title for name, condition in CONDITIONS.items()},
        "suite": {"episodes": 200, "seconds": 8.0, "seed": 0, "enough": 0.8},
        "differences": {"vanilla": {"mean": 0.123, "ci95": 0.04, "per_seed": [0.12, 0.13, 0.12]}},
        "gait_differences": {"single": {"mean": 0.0678, "ci95": None, "per_seed": [0.0678]}},
        "gait": {"shares": list(SHARES), "directions": {"ground": {**gait, "clearance_m": [None] * 5}}},
        "command": "dmcm quadruped evaluate-policy",
        "environment": {"dmcm": "0"},
    }


def test_the_page_holds_every_method_and_condition(table, tmp_path):
    path = write_page(RunFolder(tmp_path), build_page(table, [FILM]))
    text = path.read_text()
    for name, cells in table["methods"].items():
        assert f"<td>{name}</td>" in text
        assert f"what {name} is told" in text
        assert f"{100 * cells['outside']['success']:.1f}"[:4] in text
    for condition in CONDITIONS.values():
        assert condition.title in text
    assert "12.3" in text
    assert "6.78" in text or "6.8" in text
    for own in ("dmcm", "dmcm_gait"):
        assert f"Points by which {own} succeeds more often outside training" in text
    assert base64.b64encode(FILM.gif).decode() in text
    assert (tmp_path / "plots" / "on-stairs.gif").read_bytes() == FILM.gif
    svgs = {file.name for file in (tmp_path / "plots").glob("*.svg")}
    assert svgs == {"success-by-condition.svg", "the-gait-along-a-vector.svg"}


def test_a_page_without_dmcm_and_films_lacks_their_sections(table):
    less = {**table, "methods": {"vanilla": table["methods"]["vanilla"]}, "differences": {}, "gait": {}}
    del less["gait_differences"]  # tables of earlier versions have none
    titles = [section.title for section in build_page(less, []).sections]
    assert titles == ["What was compared", "How often they succeed", "Distance, speed and energy", "This run"]


def test_a_page_of_variants_alone_shows_them(table):
    only = {**table, "methods": {"dmcm_in_place": table["methods"]["dmcm_in_place"]}, "gait": {}}
    page = build_page(only, [])
    assert "dmcm_in_place: success outside training" in str(page.blocks)
    assert "How often they succeed" in [section.title for section in page.sections]


def test_films_stand_in_pages_as_gifs():
    html = render(Page("A", "B", sections=(Section("C", (FILM,)),)))
    assert f'src="data:image/gif;base64,{base64.b64encode(FILM.gif).decode()}"' in html
    assert '<img alt="On stairs"' in html
    assert "Three robots." in html


def test_foot_heights_are_those_the_inverse_kinematics_was_asked_for():
    rng = np.random.default_rng(0)
    command, phase = rng.uniform(-0.5, 0.5, (20, 3)), rng.random(20)
    wanted = Gait().foot_targets(command, phase, GO1)[..., 2]
    found = foot_heights(Gait().joint_targets(command, phase, GO1), GO1)
    assert found.shape == (20, len(LEGS))
    np.testing.assert_allclose(found, wanted, atol=2e-3)


def test_the_gait_is_measured_along_the_way_from_one_vector_to_another():
    policy = widen(
        load_policy(POLICY)[0], "dmcm_told", {"robot": np.ones((2, 2)), "terrain": np.ones((2, 2))}
    )
    found = gait_along(policy, GO1, np.zeros(4), np.ones(4), threads=1)
    assert set(found) == {"clearance_m", "foot_lift_m", "foot_duty", "speed_m_s", "energy_j_per_m"}
    # A policy that does not listen yet walks the same whatever it is told.
    for values in found.values():
        assert len(values) == len(SHARES)
        assert np.ptp(values) < 0.1 * np.mean(values)
    assert 0.2 < np.mean(found["clearance_m"]) < 0.4
    assert 0.04 < np.mean(found["foot_lift_m"]) < 0.2
    assert 0.4 < np.mean(found["speed_m_s"]) < 0.6
    assert 0.3 < np.mean(found["foot_duty"]) < 0.9
    with pytest.raises(ShapeError, match="reads 55 numbers, but its observations have 54"):
        gait_along(policy, GO1, np.zeros(3), np.ones(3), threads=1)
