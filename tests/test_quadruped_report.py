"""The report of a dynamics comparison: pictures show the table's numbers, the page is self-contained."""

import base64
import importlib
import re
from html.parser import HTMLParser

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dmcm.contexts import Contexts, Factors
from dmcm.learner import Learner
from dmcm.models import save_learner
from dmcm.networks import ConcatNetwork, TensorProductNetwork
from dmcm.quadruped.body.robot_table import load_robot
from dmcm.quadruped.data.collection import Collection
from dmcm.quadruped.data.grid import GridConfig, make_grid
from dmcm.quadruped.data.recording import COLUMNS, column
from dmcm.quadruped.data.windows import SECOND, WindowConfig, cut, output
from dmcm.quadruped.dynamics import pictures
from dmcm.quadruped.dynamics import report as dynamics_report
from dmcm.quadruped.dynamics.cells import describe_cells
from dmcm.quadruped.dynamics.page import build_page, describe_method, gain_table
from dmcm.quadruped.dynamics.report import report_run, view_grounds
from dmcm.quadruped.dynamics.study import DynamicsConfig
from dmcm.quadruped.world import rendering
from dmcm.quadruped.world.terrain import Terrain
from dmcm.report import write_page
from dmcm.runs import RunFolder
from dmcm.solvers import LevenbergMarquardt

GROUPS = {
    "robot": ["torque", "joint_rollout_1s", "mean_torque_1s"],
    "terrain": ["pitch_1s", "front_load_1s"],
}
OUTPUTS = [name for names in GROUPS.values() for name in names]
METHODS = ("none", "oracle", "dmcm", "dmcm_recombined", "dmcm_robot_only", "dmcm_terrain_only", "encoders")
SECONDS = ("1", "5", "20")
STEPS = 300


def cells_of(rng, share):
    return {
        name: {"nrmse": rng.uniform(0.2, 0.9), "ci95": 0.01, "gain_share": share, "oracle_gain": 0.1}
        for name in OUTPUTS
    }


@pytest.fixture
def table():
    """Made-up numbers in the layout of results/dynamics.json; the oracle gains nothing in front load."""
    rng = np.random.default_rng(0)
    methods = {m: {s: cells_of(rng, 0.0) for s in ("seen_pair", "unseen_pair")} for m in METHODS}
    for splits in methods.values():
        for outputs in splits.values():
            for cell in outputs.values():
                cell["gain_share"] = rng.uniform(-0.4, 1.4)
            outputs["front_load_1s"]["gain_share"] = None
    seconds = {s: {"unseen_pair": cells_of(rng, 0.0)} for s in SECONDS}
    # Nothing is rolled out where a vector is left out or made of less data.
    for splits in (methods["dmcm_robot_only"], methods["dmcm_terrain_only"], *seconds.values()):
        del splits["unseen_pair"]["joint_rollout_1s"]
    return {
        "methods": methods,
        "seconds": seconds,
        "probes": {
            "robot": {"p_gain": 0.93, "terrain_kind": 0.2},
            "terrain": {"p_gain": 0.04, "terrain_kind": 0.8},
            "chance": {"terrain_kind": 0.17},
        },
        "groups": GROUPS,
        "cells": {"seen_pair": 20, "unseen_pair": 9},
        "left_out": 1,
        "seeds": 3,
        "steps": 4,
        "data": {"robot": "go1"},
        "command": "dmcm quadruped dynamics --data <here> --seeds 3",
        "environment": {"python": "3"},
    }


@pytest.fixture(scope="module")
def collection():
    """Noise in place of robots, and no falls."""
    grid = make_grid(GridConfig(robots=3, ood_robots=0, coverage=0.5, seed=3))
    rng = np.random.default_rng(0)
    data = rng.normal(size=(len(grid.cells), STEPS, sum(COLUMNS.values()))).astype(np.float32)
    for name in ("begins", "falls", "diverges"):
        data[..., column(name)] = 0
    return Collection({"seconds": STEPS / 50, "robot": "go1"}, grid, data)


@pytest.fixture(scope="module")
def cells(collection):
    return describe_cells(collection, cut(collection.data, WindowConfig()))


@pytest.fixture(scope="module")
def learners(cells):
    """A base network and a model of two contexts, both untrained."""
    inputs, outputs = cells.windows.x.shape[-1], cells.windows.y.shape[-1]
    one, two = Factors(all=1), Factors(robot=2, terrain=2)
    return {
        "base": Learner(
            ConcatNetwork(one, inputs, outputs, width=8, depth=1, key=jax.random.key(0)),
            LevenbergMarquardt(),
            one,
        ),
        "dmcm": Learner(
            TensorProductNetwork(two, inputs, outputs, width=8, depth=1, key=jax.random.key(1)),
            LevenbergMarquardt(2, condensed=True),
            two,
        ),
    }


class Sources(HTMLParser):
    """What a page fetches."""

    def __init__(self):
        super().__init__()
        self.found, self.text = [], ""

    def handle_starttag(self, tag, attributes):
        assert tag not in ("script", "link", "iframe")
        self.found += [value for name, value in attributes if name in ("src", "href", "srcset")]

    def handle_data(self, data):
        self.text += data


def read(path):
    sources = Sources()
    sources.feed(path.read_text())
    return sources


def test_bars_are_the_shares_of_the_table(table):
    figure = pictures.ablation_picture(table)
    shown = (["torque", "mean_torque_1s"], ["pitch_1s"])
    for axis, names in zip(figure.axes, shown, strict=True):
        for bars, method in zip(axis.containers, pictures.WAYS, strict=True):
            cells = table["methods"][method]["unseen_pair"]
            heights = [bar.get_height() for bar in bars]
            assert heights == pytest.approx([cells[name]["gain_share"] for name in names])
    ticks = [[label.get_text() for label in axis.get_xticklabels()] for axis in figure.axes]
    assert ticks == [["torque", "mean\ntorque"], ["pitch"]]  # the others lack shares


def test_no_bars_without_shares(table):
    for name in OUTPUTS:
        table["methods"]["dmcm"]["unseen_pair"][name]["gain_share"] = None
    assert pictures.ablation_picture(table) is None


def test_lines_over_seconds_are_relative_to_no_vector(table):
    figure = pictures.seconds_picture(table)
    for axis, names in zip(figure.axes, GROUPS.values(), strict=True):
        lines = {line.get_label(): line for line in axis.lines}
        assert "joints 1 s" not in lines
        for name in set(names) - {"joint_rollout_1s"}:
            unit = table["methods"]["none"]["unseen_pair"][name]["nrmse"]
            wanted = [table["seconds"][s]["unseen_pair"][name]["nrmse"] / unit for s in SECONDS]
            line = lines[pictures.output_name(name)]
            np.testing.assert_allclose(line.get_xdata(), [1, 5, 20])
            np.testing.assert_allclose(line.get_ydata(), wanted)


def test_tables_hold_percent_and_dashes(table):
    found = gain_table(table, "unseen_pair", "terrain")
    assert found.columns == ("method", "pitch", "front load")
    assert [row[0] for row in found.rows] == list(METHODS)
    for method, pitch, load in found.rows:
        share = table["methods"][method]["unseen_pair"]["pitch_1s"]["gain_share"]
        assert (pitch, load) == (round(100 * share), None)
    robot = gain_table(table, "unseen_pair", "robot")
    missing = [row[0] for row in robot.rows if row[2] is None]
    assert missing == ["dmcm_robot_only", "dmcm_terrain_only"]
    for splits in table["methods"].values():
        splits["unseen_pair"]["pitch_1s"]["gain_share"] = None
    assert "no shares" in gain_table(table, "unseen_pair", "terrain")


def test_the_page_stands_alone_and_names_every_method(table, tmp_path):
    path = write_page(RunFolder(tmp_path), build_page(table, {"grounds": "no view"}))
    assert path == tmp_path / "report.html"
    page = read(path)
    assert len(page.found) == 2
    for source in page.found:
        head, _, data = source.partition(",")
        assert head == "data:image/svg+xml;base64"
        links = re.findall(r'href="([^"]*)"', base64.b64decode(data).decode())
        assert all(link.startswith(("#", "data:")) for link in links)
    for text in (*METHODS, table["command"], "no view", "0.93", "1 cell with too many falls"):
        assert text in page.text


def test_a_page_without_oracle_or_dmcm_says_so(table):
    del table["seconds"], table["probes"]
    table["methods"] = {"none": table["methods"]["none"]}
    for outputs in table["methods"]["none"].values():
        for cell in outputs.values():
            cell["gain_share"] = None
    page = build_page(table, {})
    assert page.pictures() == []
    titles = [section.title for section in page.sections]
    assert "What either vector is worth" not in titles
    assert "The errors themselves" in titles
    gains = next(section for section in page.sections if section.title.startswith("How much of"))
    assert "oracle was not among" in gains.blocks[-1]


def test_every_method_of_a_comparison_is_explained():
    for name in (*METHODS, "single", "single_from_robot", "history_from_terrain", "encoders_in_place"):
        assert len(describe_method(name)) > 10
    assert describe_method("encoders") != describe_method("encoders_in_place")
    assert describe_method("of_another_version") == "–"


def test_without_a_way_to_draw_there_is_a_sentence(collection, monkeypatch):
    def nothing(name):
        raise OSError(f"no {name}")

    monkeypatch.setattr(importlib, "import_module", nothing)
    assert rendering.open_context() is None
    assert pictures.terrain_picture(load_robot("go1"), [Terrain()]) is None
    block = view_grounds(collection)
    assert isinstance(block, str)
    assert "OpenGL" in block


def test_the_robot_stands_on_its_ground_and_forward_is_right():
    images = rendering.standing_images(load_robot("go1"), [Terrain(), Terrain("slope_up", 0.24)])
    if images is None:
        pytest.skip("this machine cannot draw without a display")
    for image in images:
        assert image.shape == (rendering.IMAGE_HEIGHT, rendering.IMAGE_WIDTH, 4)
        assert image.dtype == np.uint8
        assert not image[0, :, 3].any()  # sky
        assert image[-1, :, 3].all()  # ground
    dark = images[0][..., :3].max(axis=-1) < 70
    assert dark[:, 100:220].sum() > 300  # the trunk
    # Rows are counted from the top: the ground rises to the right.
    skyline = [int(np.argmax(images[1][:, x, 3] > 0)) for x in (60, 250)]
    assert skyline[1] < skyline[0] - 10
    figure = pictures.terrain_picture(load_robot("go1"), [Terrain(), Terrain("slope_up", 0.24)])
    assert [axis.get_title("left") for axis in figure.axes][:2] == ["flat", "slope up"]


def test_a_rollout_begins_with_the_model_s_next_step(collection, cells, learners):
    base, learner = learners["base"], learners["dmcm"]
    cell, windows = int(cells.of("unseen_pair")[0]), cells.windows
    row = {"robot": jnp.array([[0.7, -0.4]]), "terrain": jnp.array([[-0.5, 0.9]])}
    found = pictures.roll_out(base, learner, Contexts(row, None), collection, cells, cell)
    sample = windows.count[cell, 1] // 2
    x, at = windows.x[cell, 1, sample : sample + 1], windows.step[cell, 1, sample]
    angles = collection["joint_angles_rad"][cell]
    change = np.asarray(base.predict(base.prior_contexts(), x))[0, output("joint_angle_change_rad")]
    np.testing.assert_allclose(found.none[0], angles[at] + change, atol=1e-4)
    own = Contexts({name: value[0] for name, value in row.items()}, None)
    more = np.asarray(learner.predict(own, x))[0, output("joint_angle_change_rad")]
    assert np.abs(more).max() > 1e-2
    change = change + more
    np.testing.assert_allclose(found.recombined[0], angles[at] + change, atol=1e-4)
    np.testing.assert_array_equal(found.truth, angles[at + 1 : at + 1 + SECOND])
    wrong = np.sqrt(np.mean((found.none - found.truth) ** 2))
    assert pictures.rollout_error(found, "none") == pytest.approx(wrong)
    figure = pictures.rollout_picture(found)
    for axis, joint in zip(figure.axes, range(3), strict=True):
        truth, none, recombined = axis.lines
        for line, values in ((truth, found.truth), (none, found.none), (recombined, found.recombined)):
            np.testing.assert_array_equal(line.get_ydata(), values[:, joint])


def test_a_finished_comparison_gets_its_page(table, collection, learners, tmp_path, monkeypatch):
    monkeypatch.setattr(dynamics_report, "read_collection", lambda _: collection)
    monkeypatch.setattr(rendering, "open_context", lambda: None)
    for name, learner in learners.items():
        (tmp_path / name / "seed-0").mkdir(parents=True)
        save_learner(tmp_path / name / "seed-0" / "model.safetensors", learner)
    path = report_run(DynamicsConfig(out=tmp_path), table)
    page = read(path)
    assert len(page.found) == 4  # and no grounds
    pairs = len([cell for cell in collection.grid.cells if cell.split == "unseen_pair"])
    known = re.search(r"Of (\d+) unseen pairs", page.text)
    assert known is not None
    assert 0 < int(known[1]) <= pairs
    assert "drawing them needs OpenGL" in page.text
