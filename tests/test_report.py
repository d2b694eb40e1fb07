"""The report page: well-formed, self-contained, everything escaped, numbers shown as they are."""

import base64
import math
import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmcm import FactorDataset, Factors, GradientDescent, Learner, TensorProductNetwork
from dmcm.errors import ConfigError
from dmcm.plots import (
    context_panels,
    fitted_panel,
    house_style,
    learning_curves,
    panels,
    plain,
    prediction_curves,
    principal_axes,
    save_figure,
    short,
    to_svg,
)
from dmcm.report import (
    Estimate,
    Facts,
    Headline,
    Page,
    Picture,
    Section,
    Table,
    about_run,
    flatten,
    render,
    show_cell,
    show_number,
    write_page,
)
from dmcm.runs import RunFolder
from dmcm.tabular.pictures import fitted_picture

NASTY = '</td><script>alert("x")</script>&amp;\x00\x1b[31m\ud800 “é” 𝛼'


class Reader(HTMLParser):
    """Texts and attributes of a page; raises if tags do not nest."""

    VOID = frozenset({"meta", "img"})

    def __init__(self):
        super().__init__()
        self.open_tags, self.tags, self.texts, self.sources = [], set(), [], []

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.sources += [value for name, value in attributes if name in ("src", "href")]
        self.texts += [value for name, value in attributes if name == "alt"]
        if tag not in self.VOID:
            self.open_tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open_tags.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def read(page):
    """The parsed page."""
    reader = Reader()
    reader.feed(render(page))
    reader.close()
    assert reader.open_tags == []
    return reader


def page_of(*blocks, title="T", lead="L"):
    """A page with one section."""
    return Page(title, lead, (), (Section("S", blocks),))


def parse_svg(svg):
    """The parsed picture; raises if it is not well-formed."""
    return ElementTree.fromstring(svg)


def svg_texts(svg):
    """All texts in a picture."""
    return [element.text for element in parse_svg(svg).iter("{http://www.w3.org/2000/svg}text")]


@given(st.text(max_size=40))
def test_any_text_comes_back_as_text(text):
    picture = Picture("<svg></svg>", text, text)
    table = Table((text, "n"), [[text, 1.0]], text, groups=((text, 2),))
    blocks = (text, table, picture, Headline(((text, text),)), Facts({text: text}, text))
    reader = read(Page(text, text, (text,), (Section(text, blocks),)))
    assert reader.tags <= {
        *("html", "head", "meta", "title", "style", "body", "main", "header", "section", "h1", "h2", "p"),
        *("figure", "figcaption", "img", "table", "thead", "tbody", "tr", "th", "td", "div", "strong"),
        *("span", "dl", "dt", "dd", "details", "summary"),
    }
    assert "".join(reader.texts).count(plain(text)) >= 15


def test_nasty_text_is_harmless_everywhere():
    reader = read(page_of(NASTY, Table((NASTY,), [[NASTY]]), title=NASTY, lead=NASTY))
    assert "script" not in reader.tags
    assert "\x00" not in "".join(reader.texts)
    assert "𝛼" in "".join(reader.texts)


@pytest.mark.parametrize("name", [NASTY, "$x_{", "a\nb", "<&>\"'", "名前", ""])
def test_labels_in_pictures_are_text_too(name):
    rng = np.random.default_rng(0)
    labels = [name if i % 2 else "other" for i in range(12)]
    figure = context_panels({name or "f": rng.normal(size=(12, 3))}, {name or "f": labels})
    texts = svg_texts(to_svg(figure))
    assert any(short(name) in (text or "") for text in texts)
    assert all(len(text or "") <= 60 for text in texts)


def test_page_fetches_nothing_and_runs_nothing():
    figure, _ = panels(1, 1, height=2.0)
    reader = read(page_of(Picture.of(figure, "c", "t")))
    assert reader.tags.isdisjoint({"script", "link", "iframe", "object", "embed"})
    assert all(source.startswith("data:image/svg+xml;base64,") for source in reader.sources)
    svg = base64.b64decode(reader.sources[0].partition(",")[2]).decode()
    parse_svg(svg)
    outside = [v for e in parse_svg(svg).iter() for k, v in e.attrib.items() if k.endswith("href")]
    assert all(value.startswith(("#", "data:")) for value in outside)
    assert "@import" not in render(page_of()) + svg
    assert not re.search(r"url\((?!#)", render(page_of()) + svg)


def test_pictures_follow_the_theme():
    svg = to_svg(learning_curves([{"step": 1, "own": 1.0}, {"step": 2, "own": 0.5}]))
    assert "prefers-color-scheme:dark" in svg
    used, defined = set(re.findall(r"var\((--c\d+)\)", svg)), set(re.findall(r"(--c\d+):", svg))
    assert used
    assert used <= defined
    assert svg == to_svg(learning_curves([{"step": 1, "own": 1.0}, {"step": 2, "own": 0.5}]))


def test_tables_align_numbers_and_mark_the_best():
    table = Table(
        ("method", "seen", "unseen", "text"),
        [["a", 0.5, Estimate(0.0301, 0.002), "x"], ["b", 0.25, Estimate(0.0299), "y"], ["c", None, 7, "z"]],
        "caption",
        best=(1, 2),
    )
    rows = re.findall(r"<tr>(.*?)</tr>", render(page_of(table)))
    cells = [re.findall(r"<td([^>]*)>(.*?)</td>", row) for row in rows[1:]]
    assert cells[0][1] == (' class="number"', "0.50")
    assert cells[1][1] == (' class="number best"', "0.25")
    # Both would be read as 0.030, so both are the best.
    assert [row[2] for row in cells] == [
        (' class="number best"', "0.030 ± 0.0020"),
        (' class="number best"', "0.030"),
        (' class="number"', "7"),
    ]
    assert cells[2][1] == (' class="number"', "–")
    assert cells[0][3] == ("", "x")
    assert 'class="number"' in re.findall(r"<th[^>]*>seen", rows[0])[0]


def test_one_row_and_rows_without_numbers_have_no_best():
    assert not Table(("a",), [[1.0]], best=(0,)).is_best(0, 0)
    table = Table(("a",), [[None], [math.nan], [2.0]], best=(0,))
    assert [table.is_best(i, 0) for i in range(3)] == [False, False, True]
    assert not Table(("a",), [[None], [None]], best=(0,)).is_best(0, 0)


@given(st.floats(1e-12, 1e12), st.booleans())
def test_numbers_keep_two_digits(size, negative):
    value = -size if negative else size
    shown = float(show_number(value).replace(",", ""))
    assert shown == pytest.approx(value, rel=0.051)
    assert len(show_number(size)) <= 17


def test_number_forms():
    assert [show_number(v) for v in (0.0, 5.1e-5, 0.00123, 0.25, 3.456, 14.32, 1234.5)] == [
        *("0", "5.1e-5", "0.0012", "0.25", "3.46", "14.3", "1,234"),
    ]
    assert show_number(1_000_000) == "1,000,000"
    assert [show_cell(v) for v in (None, math.nan, math.inf, Estimate(None), "text")] == [*"––––", "text"]


def test_settings_are_listed_flat():
    values = {"a": {"b": 1, "c": {"d": None}}, "e": [1, 2], "f": {}, "g": []}
    assert flatten(values) == [("a.b", "1"), ("a.c.d", "–"), ("e", "1, 2"), ("f", "–"), ("g", "–")]


def test_page_and_pictures_are_written(tmp_path):
    figure, _ = panels(1, 1, height=2.0)
    page = page_of(Picture.of(figure, "c", "Errors & such: über"))
    write_page(RunFolder(tmp_path / "run"), page)
    assert (tmp_path / "run" / "report.html").read_text() == render(page)
    assert [path.name for path in (tmp_path / "run" / "plots").iterdir()] == ["errors-such-über.svg"]


def test_runs_say_what_they_were(tmp_path):
    folder = RunFolder(tmp_path)
    assert len(about_run(folder, {"a": 1}).blocks) == 1
    folder.write_config({"a": 1})
    text = "".join(read(Page("t", "l", (), (about_run(folder, {"a": 1}),))).texts)
    assert "JAX" in text
    assert "Python" in text


def test_principal_axes_find_the_plane():
    rng = np.random.default_rng(3)
    flat = rng.normal(size=(200, 2)) * [5.0, 1.0]
    turn, _ = np.linalg.qr(rng.normal(size=(4, 4)))
    points, share = principal_axes(flat @ turn[:2] + 7.0)
    distances = np.linalg.norm(points[:, None] - points[None], axis=-1)
    expected = np.linalg.norm(flat[:, None] - flat[None], axis=-1)
    np.testing.assert_allclose(distances, expected, atol=1e-9)
    assert share.sum() == pytest.approx(1.0)
    assert share[0] == pytest.approx(np.linalg.eigvalsh(np.cov(flat.T))[1] / np.trace(np.cov(flat.T)))


def test_principal_axes_of_a_single_number_and_of_equal_points():
    points, share = principal_axes(np.array([[1.0], [2.0], [4.0]]))
    np.testing.assert_allclose(points, [[-4 / 3, 0], [-1 / 3, 0], [5 / 3, 0]])
    assert share.tolist() == [1.0, 0.0]
    points, share = principal_axes(np.ones((3, 2)))
    assert not points.any()
    assert not share.any()


def test_learning_curves_take_what_there_is():
    assert parse_svg(to_svg(learning_curves([]))) is not None
    history = [{"step": 500 * i, "own": 1.0 / i, "recombined": 0.0, "validation": 2.0} for i in (1, 2)]
    texts = svg_texts(to_svg(learning_curves(history)))
    assert "own contexts" in texts
    assert "validation, all parts of the loss" in texts
    assert "recombined contexts" not in texts


def test_text_labels_get_a_legend_and_numbers_a_scale():
    points = {"f": np.random.default_rng(0).normal(size=(30, 2))}
    texts = svg_texts(to_svg(context_panels(points, {"f": [f"level {i % 3}" for i in range(30)]})))
    assert {"level 0", "level 1", "level 2"} <= set(texts)
    many = svg_texts(to_svg(context_panels(points, {"f": [f"level {i}" for i in range(30)]})))
    assert not any("level" in text for text in many if text)
    numbers = svg_texts(to_svg(context_panels(points, {"f": list(range(30))}, shown={"f": "mass (kg)"})))
    assert "mass (kg)" in numbers


def test_fitted_panel_draws_what_it_is_given():
    x = np.arange(5.0)
    with house_style():
        figure, axes = panels(1, 1, height=2.0)
        fitted_panel(
            axes[0, 0], (x, x), title="task", note="note", support=(x, x), others=(x, x), truth=(x, x)
        )
        labels = axes[0, 0].get_legend_handles_labels()[1]
    assert set(labels) == {"truth", "predicted", "held back", "given"}
    assert {"task", "note"} <= set(svg_texts(to_svg(figure)))


def test_predictions_are_sorted_along_the_input(tmp_path):
    figure = prediction_curves(
        np.array([2.0, 0.0, 1.0]),
        np.array([[4.0], [0.0], [1.0]]),
        input_name="x",
        output_names=["y"],
        title="t",
    )
    line = figure.axes[0].lines[0]
    assert line.get_xdata().tolist() == [0, 1, 2]
    assert line.get_ydata().tolist() == [0, 1, 4]
    save_figure(figure, tmp_path / "p.PNG")
    assert (tmp_path / "p.PNG").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ConfigError, match=r"\.png, \.svg"):
        save_figure(figure, tmp_path / "p.jpg")


def test_long_titles_and_small_numbers_are_told_in_full():
    mixes = [f"{'variety of soybean with a long name, ' * 3}year {year}" for year in (1989, 1990)]
    x, use = np.arange(3.0), {"input_name": "x", "output_names": ["y"]}
    drawn = [svg_texts(to_svg(prediction_curves(x, 1e-12 * x[:, None], title=mix, **use))) for mix in mixes]
    assert "year 1989" in " ".join(drawn[0])
    assert "year 1990" in " ".join(drawn[1])
    # Once, in the label: above the axis it would lie on the title.
    assert [text for text in drawn[0] if "e\N{MINUS SIGN}12" in text] == ["y (× 1e\N{MINUS SIGN}12)"]


def test_the_lowest_panel_of_each_column_has_numbers():
    factors = Factors(f=1)
    network = TensorProductNetwork(factors, 1, 1, key=jax.random.key(0), width=4, depth=1)
    learner = Learner(network, GradientDescent(factors, steps=1), factors)
    x, y = np.zeros((4, 4, 1)) + np.arange(4.0)[:, None], np.ones((4, 4, 1)) * np.arange(4.0)[:, None]
    data = FactorDataset.from_arrays(x, y, {"f": [0, 1, 0, 1]})
    figure = fitted_picture(learner, data, 0)
    shown = [axis for axis in figure.axes if axis.get_visible()]
    assert [axis.xaxis.get_tick_params()["labelbottom"] for axis in shown] == [False, True, True, True]
    assert [axis.get_xlabel() for axis in shown] == ["", "x0", "x0", "x0"]


def test_the_house_style_stays_inside():
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    to_svg(learning_curves([{"step": 1, "own": 1.0}]))
    assert dict(mpl.rcParams) == before
