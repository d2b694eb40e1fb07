"""README and docs show only figures that are in the results files."""

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
