"""README and docs only show figures that are in the results files."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [(page, name) for page in ("README.md", "docs/sinusoid.md") for name in ("sinusoid", "ablation")]
PAGES += [
    ("docs/sinusoid.md", "ablation_deep"),
    ("docs/pendulum.md", "pendulum"),
    ("docs/pendulum.md", "pendulum_concat"),
]


def columns(results: str) -> list[tuple[str, str]]:
    """Measure and split of each column."""
    unseen = "unseen_combination" if results.startswith("pendulum") else "unseen_pair"
    return [(way, split) for way in ("few_shot", "zero_shot") for split in ("seen", unseen)]


def rows(page: str, results: str) -> list[tuple[str, list[str]]]:
    """Method and figures of each table row that follows the page's mark of a results file."""
    text = (ROOT / page).read_text(encoding="utf-8")
    found = []
    for part in text.split(f"<!-- results: results/{results}.json -->")[1:]:
        own = part.split("<!-- results:")[0]
        for line in own.splitlines():
            match = re.match(r"\|.*\(`(\w+)`\) \|(.*)\|$", line)
            if match:
                found.append((match[1], [cell.strip() for cell in match[2].split("|")]))
    return found


@pytest.mark.skipif(not (ROOT / "results").is_dir(), reason="an sdist has no results")
@pytest.mark.parametrize(("page", "results"), PAGES)
def test_every_figure_of_a_table_is_measured(page, results):
    shown = rows(page, results)
    if (page, results) != ("README.md", "ablation"):
        assert shown, f"{page} shows no table of results/{results}.json"
    measured = json.loads((ROOT / "results" / f"{results}.json").read_text())["methods"] if shown else {}
    for method, cells in shown:
        for (way, split), cell in zip(columns(results), cells, strict=True):
            value = measured[method][way][split]
            expected = f"{value['mean']:.1e} ± {value['ci95']:.0e}"
            assert cell == expected, (page, method, way, split)


def share(cell):
    return "–" if cell is None or cell["gain_share"] is None else f"{cell['gain_share']:.2f}"


@pytest.mark.skipif(not (ROOT / "results").is_dir(), reason="an sdist has no results")
def test_every_share_of_the_dynamics_tables_is_measured():
    text = (ROOT / "docs" / "quadruped.md").read_text(encoding="utf-8")
    table = json.loads((ROOT / "results" / "dynamics.json").read_text())
    outputs = [name for group in table["groups"].values() for name in group]
    checked = 0
    for part in text.split("<!-- results: results/dynamics.json ")[1:]:
        split = part.split(" -->")[0]
        for line in part.split("\n\n")[0].splitlines():
            match = re.match(r"\|.*\(`(\w+)`\) \|(.*)\|$", line)
            if not match:
                continue
            measured = table["methods"][match[1]][split]
            for name, cell in zip(outputs, match[2].split("|"), strict=True):
                if match[1] == "none":
                    expected = f"{measured[name]['nrmse']:.3f}"
                elif match[1] == "oracle":
                    expected = f"{100 * measured[name]['oracle_gain']:.0f}"
                else:
                    expected = share(measured.get(name))
                assert cell.strip() == expected, (split, match[1], name)
                checked += 1
    assert checked > 100


@pytest.mark.skipif(not (ROOT / "results").is_dir(), reason="an sdist has no results")
def test_every_figure_of_the_table_of_more_robots_is_measured():
    splits = json.loads((ROOT / "results" / "outside_robots.json").read_text())["splits"]
    places = [splits[split] for split in ("ood_robot", "ood_both")]
    cells = [place[f"joint_rollout_{ahead}s"] for place in places for ahead in ("0.1", "0.5", "1")]
    shown = dict(rows("docs/quadruped.md", "outside_robots"))
    apart = [cell["in_place_minus_recombined"]["dmcm_near"] for cell in cells]
    assert shown.pop("difference") == [f"{one['share']:.2f} ± {one['ci95']:.2f}" for one in apart]
    assert len(shown) == 6
    for way, row in shown.items():
        assert row == [f"{cell['nrmse'][way]:.3f}" for cell in cells]


@pytest.mark.skipif(not (ROOT / "results").is_dir(), reason="an sdist has no results")
def test_every_figure_of_the_walking_table_is_measured():
    text = (ROOT / "docs" / "quadruped.md").read_text(encoding="utf-8")
    cells = json.loads((ROOT / "results" / "simulation.json").read_text())["walking"]
    lines = text.split("<!-- results: results/simulation.json -->")[1].split("\n\n")[0].splitlines()
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in lines if not line.startswith("|--")
    ]
    shown = {row[0]: row[1:] for row in rows if row and row[0] in cells}
    assert shown.keys() == cells.keys()
    for name, row in shown.items():
        cell = cells[name]
        assert row == [
            f"{cell['success']:.2f} ± {cell['ci95']:.2f}",
            str(cell["falls"]),
            f"{cell['progress']:.2f}",
            f"{cell['velocity_error_m_s']:.2f}",
        ]


@pytest.mark.skipif(not (ROOT / "results").is_dir(), reason="an sdist has no results")
def test_every_figure_of_the_policies_table_is_measured():
    text = (ROOT / "docs" / "policies.md").read_text(encoding="utf-8")
    table = json.loads((ROOT / "results" / "policy.json").read_text())
    columns, checked = [*table["conditions"], "outside"], 0
    for line in text.splitlines():
        match = re.match(r"\| `(\w+)` \|(.*±.*)\|$", line)
        if match:
            cells = [cell.strip() for cell in match[2].split("|")]
            measured = [table["methods"][match[1]][column] for column in columns]
            assert cells == [f"{100 * cell['success']:.0f} ± {100 * cell['ci95']:.0f}" for cell in measured]
            checked += 1
    assert checked == len(table["methods"])


@pytest.mark.skipif(not (ROOT / "results").is_dir(), reason="an sdist has no results")
def test_every_figure_of_the_gaits_table_is_measured():
    text = (ROOT / "docs" / "gaits.md").read_text(encoding="utf-8")
    table = json.loads((ROOT / "results" / "gaits.json").read_text())
    outside, checked = [name for name in table["conditions"] if name != "training"], 0
    for line in text.splitlines():
        match = re.match(r"\| `(\w+)` \|(.*±.*)\|$", line)
        if match:
            cells = table["methods"][match[1]]
            over = cells["outside"]
            on = [
                [cells[f"{name} on {ground}"]["success"] for name in outside]
                for ground in ("flat", "rough", "waves", "stairs_up", "stairs_down")
            ]
            assert [cell.strip() for cell in match[2].split("|")] == [
                percent(cells["training"]),
                *(f"{100 * sum(shares) / len(shares):.0f}" for shares in on),
                percent(over),
                f"{100 * over['falls'] / (over['episodes'] * over['seeds']):.1f}",
                f"{over['velocity_rmse']:.2f}",
            ]
            checked += 1
    assert checked == len(table["methods"])


@pytest.mark.skipif(not (ROOT / "results").is_dir(), reason="an sdist has no results")
def test_every_figure_of_the_transfer_tables_is_measured():
    text = (ROOT / "docs" / "transfer.md").read_text(encoding="utf-8")
    table = json.loads((ROOT / "results" / "transfer.json").read_text())
    readings = json.loads((ROOT / "results" / "readings.json").read_text())["log_error"]
    columns, rows, walks, series, read = ("rough", "waves", "stairs_up", "slope_up", "all"), [], [], [], []
    for line in text.splitlines():
        match = re.match(r"\| `(\w+)` \|(.*)\|$", line)
        if match:
            cells = [cell.strip() for cell in match[2].split("|")]
            if len(cells) == 6:
                rows.append(match[1])
                measured = [percent(table["methods"][match[1]][column]) for column in columns]
                assert cells == [table["titles"][match[1]], *measured]
            elif len(cells) == 3:
                walks.append(match[1])
                cell = table["methods"][match[1]]["all"]
                within = cell.get("ci95_over_seeds", {})
                measured = [f"{100 * cell['falls'] / (cell['episodes'] * cell['seeds']):.0f}"]
                for name, digits in (("distance_m", 1), ("velocity_rmse", 2)):
                    half = f" ± {within[name]:.{digits}f}" if name in within else ""
                    measured.append(f"{cell[name]:.{digits}f}{half}")
                assert cells == measured
            elif len(cells) == 5:
                series.append(match[1])
                values = [table["seconds"].get(match[1], {}).get(value) for value in ("1", "5", "10")]
                values += [table["gap"].get(match[1], {}).get(value) for value in ("0", "2")]
                assert cells == ["" if value is None else percent(value["all"]) for value in values]
            elif len(cells) == 9:
                read.append(match[1])
                values = [readings["seconds"][value] for value in ("1", "2", "5", "10", "20")]
                values += [readings["gap"][value] for value in ("0", "1", "2")] + [readings["ground"]["hard"]]
                assert cells == [scatter(value[match[1]]) for value in values]
    assert read == ["dmcm", "single"]
    assert sorted(rows) == sorted(walks) == sorted(table["methods"])
    assert sorted(series) == sorted({*table["seconds"], *table["gap"]})


def percent(cell):
    return f"{100 * cell['success']:.0f} ± {100 * cell['ci95']:.0f}"


def scatter(cell):
    return f"{100 * cell['mean']:.0f} ± {100 * cell['ci95']:.0f}"
