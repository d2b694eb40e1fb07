"""The report page of the transfer study: every number, its pictures, and a film in the other engine."""

import base64
import dataclasses
import re
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from dmcm.cli import main
from dmcm.plots import CYCLE
from dmcm.quadruped.body.properties import RobotProperties
from dmcm.quadruped.body.robot_table import load_robot
from dmcm.quadruped.conditioned.films import FRAMES_PER_SECOND, Walker, film
from dmcm.quadruped.conditioned.suite import ENOUGH
from dmcm.quadruped.standin.gap import RealityGap
from dmcm.quadruped.standin.simulation import StandIn, stand_in
from dmcm.quadruped.transfer import report
from dmcm.quadruped.transfer.page import build_page
from dmcm.quadruped.transfer.pictures import success_bars, success_curves
from dmcm.quadruped.transfer.scenario import GROUNDS, WAYS, TransferConfig, stand_ins
from dmcm.quadruped.transfer.table import ALL, series, success_tables
from dmcm.quadruped.walking.commands import CommandRanges
from dmcm.quadruped.walking.guides import Vectors
from dmcm.quadruped.walking.observations import OBSERVATION, PRIVILEGED
from dmcm.quadruped.walking.policy import Policy
from dmcm.quadruped.world.arena import Arena
from dmcm.quadruped.world.terrain import Terrain
from dmcm.report import Film, Page, Picture, Table, render, show_cell, show_number, write_page
from dmcm.runs import RunFolder

FILM = Film(b"GIF89a, so to say", "Three robots.", "On waves")
SECONDS = "seconds of data"
GAP = "size of the gap"
POLICY = Policy(sum(OBSERVATION.values()), sum(PRIVILEGED.values()), 12, widths=(8, 8), key=jax.random.key(0))


def cells(rng):
    """One way's cells; every number is another one."""
    return {
        name: {
            "success": float(rng.uniform(0.1, 0.9)),
            "ci95": float(rng.uniform(0.02, 0.2)),
            "distance_m": float(rng.uniform(1, 4)),
            "velocity_rmse": float(rng.uniform(0.1, 0.5)),
            "energy_j_per_m": float(rng.uniform(100, 400)),
            "ci95_over_seeds": {"distance_m": float(rng.uniform(0.1, 0.9))},
            "falls": int(rng.integers(1, 140)),
            "episodes": 48,
            "seeds": 3,
        }
        for name in (*GROUNDS, ALL)
    }


def make_table(names=tuple(WAYS)):
    """A table in the layout of results/transfer.json, with curves."""
    rng = np.random.default_rng(len(names))
    return {
        "methods": {name: cells(rng) for name in names},
        "titles": {name: f"what {name} is told" for name in names},
        "seconds": {
            name: {"10": cells(rng), "1": cells(rng)} for name in ("single", "dmcm") if name in names
        },
        "gap": {
            name: {"0": cells(rng), "2": cells(rng)}
            for name in ("vanilla", "dmcm", "oracle")
            if name in names
        },
        "differences": {
            name: {"mean": float(rng.uniform(-1, 1)), "ci95": 0.0412, "per_seed": [0.1, 0.2, 0.3]}
            for name in names
            if "dmcm" in names and name != "dmcm"
        },
        "suite": {"robots": 12, "seconds": 8.0, "seed": 0},
        "command": "dmcm quadruped transfer",
        "environment": {"dmcm": "0"},
    }


TABLE = make_table()
SMALL = {
    **make_table(("vanilla", "dmcm")),
    "seconds": {"dmcm": {}},
    "gap": {"vanilla": {}},
    "differences": {"vanilla": {"mean": -0.0417, "ci95": None, "per_seed": [-0.0417]}},
}
"""One of a single seed, without curves."""


@pytest.fixture(scope="module")
def page():
    """Of the whole table, with a film."""
    return build_page(TABLE, [FILM])


@pytest.fixture(scope="module")
def small_page():
    """Of the small table, without a film."""
    return build_page(SMALL, [])


def section(page, title):
    """The blocks of one section."""
    (found,) = (section for section in page.sections if section.title == title)
    return found.blocks


def titles(page):
    """Of the page's sections."""
    return [section.title for section in page.sections]


def test_every_way_and_number_stands_on_the_page(page):
    text = render(page)
    for name, found in TABLE["methods"].items():
        assert f"what {name} is told" in text
        for cell in found.values():
            assert f'<td class="number">{show_number(100 * cell["success"])} ± ' in text
            assert f" ± {show_number(100 * cell['ci95'])}</td>" in text
        distance, within = found[ALL]["distance_m"], found[ALL]["ci95_over_seeds"]["distance_m"]
        assert f'<td class="number">{show_number(distance)} ± {show_number(within)}</td>' in text
        assert f"{found[ALL]['velocity_rmse']:.2f}" in text
        assert f"{found[ALL]['energy_j_per_m']:.0f}" in text
    for name in ("dmcm", "vanilla", "single"):
        cell = TABLE["methods"][name][ALL]
        number = f"{100 * cell['success']:.0f} ± {100 * cell['ci95']:.0f} %"
        assert f"<strong>{number}</strong><span>{name}: success over all grounds</span>" in text
    for name, more in TABLE["differences"].items():
        assert f'<td>{name}</td><td class="number">{show_number(100 * more["mean"])} ± 4.12</td>' in text
    for field in dataclasses.fields(RealityGap):
        assert f"<td>{field.name}</td>" in text
    assert base64.b64encode(FILM.gif).decode() in text


def test_the_page_needs_no_other_file(tmp_path):
    path = write_page(RunFolder(tmp_path), build_page(SMALL, [FILM]))
    assert path == tmp_path / "report.html"
    assert (tmp_path / "plots" / "on-waves.gif").read_bytes() == FILM.gif
    text = path.read_text()
    assert "<script" not in text
    assert "<link" not in text
    assert not re.findall(r'(?:src|href)="(?!data:)', text)
    assert not re.search(r"url\((?!#)|@import", text)


def test_falls_are_a_share_of_the_episodes_of_all_seeds(page):
    (shown,) = section(page, "Falls, distance, speed and energy")
    for name, share, *_ in shown.rows:
        assert share == pytest.approx(100 * TABLE["methods"][name][ALL]["falls"] / (3 * 48))


def test_curves_and_their_tables_are_there_only_with_data(page, small_page):
    blocks = section(page, "Less data, other gaps")
    assert [type(block) for block in blocks] == [Picture, Table, Table]
    assert "Less data, other gaps" not in titles(small_page)
    *_, gap = section(small_page, "The reality gap")
    assert gap.columns[2:] == ("size 1",)
    one = {**TABLE, "gap": {}}
    assert list(series(one)) == [SECONDS]
    assert len(success_curves(one["methods"], series(one)).axes) == 1


def test_a_page_without_dmcm_and_film_lacks_what_is_about_them():
    alone = make_table(("history",))
    page = build_page(alone, [])
    assert "history: success over all grounds" in str(page.blocks)
    assert titles(page) == [
        "What was compared",
        "How often they succeed",
        "Falls, distance, speed and energy",
        "The reality gap",
        "This run",
    ]
    assert "against" not in [
        block.columns[0] for block in page.sections[1].blocks if isinstance(block, Table)
    ]


def test_one_seed_has_differences_without_interval(small_page):
    shown = section(small_page, "How often they succeed")[-1]
    assert [[show_cell(cell) for cell in row] for row in shown.rows] == [["vanilla", "-4.17"]]


def test_the_gap_is_shown_in_all_its_sizes(page):
    *_, shown = section(page, "The reality gap")
    assert shown.columns[2:] == ("size 0", "size 1", "size 2")
    rows = {row[0]: row for row in shown.rows}
    assert rows["torque_lag_s"][2:] == ["0", "0.004", "0.008"]
    assert rows["no_load_speeds_rad_s"][2:] == 3 * ["30.1, 30.1, 20.06"]
    assert rows["force_noise_n"][1] == "Standard deviation of its noise."


@pytest.mark.parametrize("columns", [[ALL], list(GROUNDS)])
def test_bars_are_as_long_as_the_success_with_its_interval(columns):
    figure = success_bars(TABLE["methods"], columns)
    assert len(figure.axes) == len(columns)
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == list(WAYS)
    for axis, column in zip(figure.axes, columns, strict=True):
        bars, lines = axis.containers[1], axis.collections[0].get_segments()
        assert axis.get_xlim()[0] == 0
        for number, (bar, line, name) in enumerate(zip(bars, lines, WAYS, strict=True)):
            cell = TABLE["methods"][name][column]
            assert bar.get_width() == pytest.approx(100 * cell["success"])
            assert np.ptp(line[:, 0]) == pytest.approx(200 * cell["ci95"])
            assert bar.get_y() + bar.get_height() / 2 == pytest.approx(number)
    # The first way is on top.
    assert figure.axes[0].get_ylim()[0] > figure.axes[0].get_ylim()[1]


def test_curves_go_through_the_success_in_order_with_what_is_usual():
    figure = success_curves(TABLE["methods"], series(TABLE))
    wanted = [("seconds", "20", [1, 10, 20]), ("gap", "1", [0, 1, 2])]
    for axis, (key, usual, places) in zip(figure.axes, wanted, strict=True):
        assert axis.get_ylim()[0] == 0
        assert list(axis.get_xticks()) == places
        drawn = {container.get_label(): container for container in axis.containers}
        assert set(drawn) == set(TABLE[key])
        for name, container in drawn.items():
            points = {**TABLE[key][name], usual: TABLE["methods"][name]}
            line, _, (spans,) = container
            # Aside of its place so that intervals do not hide each other, but not by much.
            drawn_x, drawn_y = (np.array(values, float) for values in line.get_data())
            np.testing.assert_allclose(drawn_x, places, atol=0.03 * (places[-1] - places[0]))
            expected = [points[str(at)][ALL] for at in places]
            np.testing.assert_allclose(drawn_y, [100 * cell["success"] for cell in expected])
            lengths = [float(span[1, 1] - span[0, 1]) for span in spans.get_segments()]
            np.testing.assert_allclose(lengths, [200 * cell["ci95"] for cell in expected])


def test_ways_look_the_same_in_all_panels_and_never_like_another():
    names = [f"way {number}" for number in range(len(CYCLE) + 3)]
    table = make_table(names)
    table["gap"] = {name: {"0": table["methods"][name]} for name in names}
    table["seconds"] = {name: {"1": table["methods"][name]} for name in names[1:]}
    first, second = success_curves(table["methods"], series(table)).axes

    def looks(axis):
        return {
            one.get_label(): (one.lines[0].get_color(), one.lines[0].get_linestyle())
            for one in axis.containers
        }

    assert len(set(looks(second).values())) == len(names)
    assert looks(first).items() <= looks(second).items()


def test_tables_keep_the_ways_cells_when_they_are_read_along_a_setting():
    found = success_tables(TABLE, ENOUGH)[f"By {GAP}"]
    assert found.columns == ("told", "0", "1", "2")
    assert found.rows[0][2].value == pytest.approx(100 * TABLE["methods"]["vanilla"][ALL]["success"])


@pytest.fixture
def filmed(monkeypatch):
    """Stands for all that takes time; keeps what was asked of it."""
    frames = [np.zeros((4, 4, 3), np.uint8)] * 2
    asked = SimpleNamespace(told=[], policies=[], film=None, frames=frames, films=None)

    class Source:
        def __init__(self, config, *_):
            self.rows = len(GROUNDS) * config.robots

        def told(self, parts, **case):
            asked.told.append((parts, case))
            return np.arange(self.rows, dtype=float)[:, None] if parts else None

    def policy(policies, dynamics, method, seed, robot):
        asked.policies.append((method, seed))
        return POLICY, {}

    def draw(walkers, table, robot, ground, **settings):
        asked.film = SimpleNamespace(walkers=walkers, robot=robot, ground=ground, **settings)
        return asked.frames

    def page(table, films):
        asked.films = films
        return Page("No study", "Nothing.")

    monkeypatch.setattr(report, "build_page", page)
    monkeypatch.setattr(report, "VectorSource", Source)
    monkeypatch.setattr(report, "trained_policy", policy)
    monkeypatch.setattr(report, "film", draw)
    return asked


def test_the_film_shows_one_robot_told_of_itself_and_its_ground(filmed, tmp_path):
    config = TransferConfig(robots=5, out=tmp_path)
    path = report.report_transfer(config, TABLE)
    assert path == tmp_path / "report.html"
    (shown,) = filmed.films
    assert shown.gif[:3] == b"GIF"
    names = ["vanilla", "single", "dmcm", "dmcm_gait"]
    assert [walker.title for walker in filmed.film.walkers] == names
    assert filmed.policies == [(name, 0) for name in names]
    assert [parts for parts, _ in filmed.told] == [WAYS[name].parts for name in names]
    assert filmed.film.robot == stand_ins(config)[0]
    assert filmed.film.ground == GROUNDS["waves"]
    nothing, *told = (walker.guide for walker in filmed.film.walkers)
    assert nothing is None
    # Episodes go ground by ground; waves are the second one.
    for guide in told:
        assert isinstance(guide, Vectors)
        np.testing.assert_array_equal(guide.read(np.zeros((1, 0)), np.array([0])), [[5.0]])
    engine = filmed.film.physics(load_robot("go1"), Arena([filmed.film.ground]), 1)
    assert isinstance(engine, StandIn)
    assert engine.gap == RealityGap()


def test_the_command_ends_in_the_page(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("dmcm.cli.quadruped_transfer.run_transfer", lambda config: make_table(("history",)))
    assert main(["quadruped", "transfer", "--ways", "history", "--out", str(tmp_path)]) == 0
    assert f"report: {tmp_path / 'report.html'}" in capsys.readouterr().out
    assert "history: success over all grounds" in (tmp_path / "report.html").read_text()


def test_only_ways_that_were_evaluated_now_are_filmed(filmed, tmp_path):
    """The table also has rows of earlier commands, whose policies may be gone."""
    config = TransferConfig(ways=("history", "dmcm"), robots=5, out=tmp_path)
    report.report_transfer(config, make_table(("history", "dmcm", "vanilla")))
    assert [walker.title for walker in filmed.film.walkers] == ["dmcm"]
    filmed.film = None
    report.report_transfer(dataclasses.replace(config, ways=("history",)), make_table(("history", "vanilla")))
    assert filmed.film is None
    assert filmed.films == []


def test_a_machine_that_cannot_draw_has_a_page_all_the_same(filmed, tmp_path):
    filmed.frames = None
    assert report.report_transfer(TransferConfig(robots=5, out=tmp_path), TABLE).name == "report.html"
    assert filmed.films == []


def test_films_are_walked_in_the_engine_they_are_given():
    made = []

    def engine(table, arena, count, *, threads=0):
        made.append(stand_in(RealityGap(), 1)(table, arena, count, threads=threads))
        return made[-1]

    frames = film(
        [Walker("gait", POLICY, None)],
        load_robot("go1"),
        RobotProperties(),
        Terrain("waves", 0.12, 1.0),
        seconds=0.08,
        commands=CommandRanges(),
        physics=engine,
        seed=1,
    )
    if frames is None:
        pytest.skip("this machine cannot draw without a display")
    assert [type(each) for each in made] == [StandIn]
    assert len(frames) == round(0.08 * FRAMES_PER_SECOND)
