"""The soybean table, the controls against hand calculation, and a swap that beats the grand mean."""

import csv
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from dmcm import FactorDataset, growth
from dmcm.errors import ConfigError, DataError
from dmcm.growth import experiment
from dmcm.growth.controls import MeanCurve, between_plots, controls

ROOT = Path(__file__).parent.parent
DOCUMENT, RESULTS = ROOT / "docs" / "real-table.md", ROOT / "results" / "growth.json"
PAIRS = [(variety, year) for variety in "FP" for year in (1988, 1989, 1990)]


@pytest.fixture(scope="module")
def plots():
    return growth.load()


def rows():
    """The table, read without the library."""
    with growth.table().open(newline="") as handle:
        return list(csv.DictReader(handle))


def made_up(levels, days=(10, 20, 30), plots=2):
    """A data set of the table's form whose pairs follow given functions of the day; plots differ by ±0.1."""
    labels = [(pair, i) for pair in levels for i in range(plots)]
    x = np.asarray(days, float)[:, None]
    return FactorDataset.from_arrays(
        [x] * len(labels),
        [levels[pair](x) + 0.1 * (-1) ** i for pair, i in labels],
        {"variety": [v for (v, _), _ in labels], "year": [y for (_, y), _ in labels]},
    )


def test_table_has_the_published_form():
    table = rows()
    assert list(table[0]) == ["plot", "variety", "year", "day", "weight_g"]
    assert len(table) == 412
    # The first and the last row, as nlme prints them.
    assert list(table[0].values()) == ["1988F1", "F", "1988", "14", "0.106"]
    assert len({row["plot"] for row in table}) == 48
    assert all(row["plot"][:5] == row["year"] + row["variety"] for row in table)


def test_plots_are_tasks_in_log_weight(plots):
    assert plots.combinations() == dict.fromkeys(plots.combinations(), 8)
    assert sorted(plots.combinations()) == PAIRS
    assert (plots.input_names, plots.output_names, plots.shots) == (("day",), ("log_weight",), 4)
    for name in ("1988F1", "1990P8"):
        x, y = plots.task(name)
        own = [row for row in rows() if row["plot"] == name]
        np.testing.assert_allclose(x[:, 0], [float(row["day"]) for row in own])
        np.testing.assert_allclose(np.exp(y[:, 0]), [float(row["weight_g"]) for row in own], rtol=1e-6)
    assert np.all(np.isfinite(plots.y))


def test_spread_between_plots_is_a_share_of_the_weight(plots):
    """Why logarithms: over the season the spread in grams grows a hundredfold, in the logarithm it stays."""

    def spread(part):
        logs, grams = [], []
        for variety, year in PAIRS:
            pair = plots.where(variety=variety, year=year)
            for day in np.unique(pair.x[pair.weight > 0])[part]:
                values = pair.y[..., 0][(pair.x[..., 0] == day) & (pair.weight > 0)]
                logs.append(values.std(ddof=1))
                grams.append(np.exp(values).std(ddof=1))
        return np.median(logs), np.median(grams)

    (early_log, early_grams), (late_log, late_grams) = spread(slice(3)), spread(slice(-3, None))
    assert late_grams > 20 * early_grams
    assert 0.5 < late_log / early_log < 2


def test_mean_curve_is_straight_between_and_beyond():
    data = made_up({("F", 1): lambda x: 0.2 * x, ("P", 1): lambda x: x**2})
    curve = MeanCurve.of(data.where(variety="P"))
    np.testing.assert_allclose(curve.days, [10, 20, 30])
    np.testing.assert_allclose(curve.logs, [100, 400, 900], rtol=1e-6)
    at = np.asarray([[10.0, 15.0], [5.0, 32.0]])
    np.testing.assert_allclose(curve(at), [[100.0, 250.0], [-50.0, 1000.0]], rtol=1e-5)
    with pytest.raises(DataError, match="two days"):
        MeanCurve.of(made_up({("F", 1): lambda x: x, ("P", 1): lambda x: x}, days=(10,) * 3))


def test_additive_control_is_exact_where_factors_add():
    def curve(variety, year):
        return lambda x: 0.3 * x + {"F": 0.0, "P": 1.5}[variety] + {1: 0.0, 2: -0.5, 3: 2.0}[year] * x

    data = made_up({(v, y): curve(v, y) for v in "FP" for y in (1, 2, 3)})
    day = np.asarray([12.0, 25.0])
    found = controls(data.without(variety="P", year=3), "P", 3)
    np.testing.assert_allclose(found["additive"](day), curve("P", 3)(day), rtol=1e-5)
    np.testing.assert_allclose(found["other_varieties"](day), curve("F", 3)(day), rtol=1e-5)
    years = np.mean([curve("P", y)(day) for y in (1, 2)], axis=0)
    np.testing.assert_allclose(found["other_years"](day), years, rtol=1e-5)
    others = [curve(v, y)(day) for v in "FP" for y in (1, 2, 3) if (v, y) != ("P", 3)]
    np.testing.assert_allclose(found["grand_mean"](day), np.mean(others, axis=0), rtol=1e-5)


def test_between_plots_leaves_each_plot_out():
    data = made_up({("F", 1): lambda x: 0.1 * x, ("P", 1): lambda x: x}, plots=2).where(variety="F")
    # Two plots at ±0.1: each is predicted by the other.
    np.testing.assert_allclose(between_plots(data), data.y[::-1, :, 0], rtol=1e-5)
    assert experiment.score(between_plots(data), data)["log"] == pytest.approx(0.2, rel=1e-4)


def test_score_counts_the_right_samples(plots):
    held = plots.where(variety="F", year=1988)
    assert (held.weight.sum(axis=1) < held.weight.shape[1]).any()
    predicted = held.y[..., 0] + np.where(held.weight > 0, 0.5, 1e6)
    assert experiment.score(predicted, held)["log"] == pytest.approx(0.5, rel=1e-5)
    grams = np.exp(held.y[..., 0][held.weight > 0])
    expected = np.sqrt(np.mean((grams * (np.exp(0.5) - 1)) ** 2))
    assert experiment.score(np.where(held.weight > 0, predicted, 0), held)["grams"] == pytest.approx(expected)
    # Samples that few-shot adaptation saw do not count among the unseen.
    seen = held.y[..., 0].copy()
    seen[:, [0, 2, 4, 6]] += 3.0
    assert experiment.score(seen, held, unseen=True) == {"log": 0.0, "grams": 0.0}
    assert experiment.score(seen, held)["log"] > 1.0


def test_no_held_out_sample_reaches_the_controls(plots):
    """Wrong weights in the held-out pair change no zero-shot prediction of it."""
    pair = {"variety": "P", "year": 1990}
    day = np.linspace(14, 80, 9)
    before = controls(plots.without(**pair), "P", 1990)
    damaged = plots.y.copy()
    held = (plots.labels["variety"] == 1) & (plots.labels["year"] == 2)
    assert held.sum() == 8
    damaged[held] = 100.0
    after = controls(dataclasses.replace(plots, y=damaged).without(**pair), "P", 1990)
    for name, curve in before.items():
        np.testing.assert_array_equal(curve(day), after[name](day))


@pytest.mark.slow
def test_swap_predicts_an_unseen_pair_better_than_the_grand_mean(plots):
    train, held = plots.without(variety="P", year=1990), plots.where(variety="P", year=1990)
    learner = experiment.train_learner(train, size=1, seed=0, steps=300)
    shared = experiment.swap(learner, train, "P", 1990)
    predicted = np.asarray(learner.predict(shared, held.x.reshape(-1, 1))).reshape(held.x.shape)[..., 0]
    zero_shot = experiment.without_learner(plots, "P", 1990)["zero_shot"]
    assert experiment.score(predicted, held)["log"] < 0.85 * zero_shot["grand_mean"]["log"]
    # Four samples of its own bring every plot closer than the grand mean, too.
    own = np.asarray(learner.predict(experiment.few_shot(learner, held), held.x))[..., 0]
    assert experiment.score(own, held, unseen=True)["log"] < 0.85 * zero_shot["grand_mean"]["log"]


def test_run_writes_means_over_seeds_and_pairs(tmp_path, monkeypatch):
    """Bookkeeping on made-up scores: seed + 10·size in the logarithm, the pair's number in grams."""
    numbers = {pair: i for i, pair in enumerate(PAIRS)}

    def pretend(data, variety, year, *, size, seed, steps):
        made = {"log": float(seed + 10 * size), "grams": float(numbers[variety, year])}
        return {"swap": made, "few_shot": made}

    monkeypatch.setattr(experiment, "with_learner", pretend)
    written = experiment.run(tmp_path / "deep" / "growth.json", seeds=3, progress=False)
    assert json.loads((tmp_path / "deep" / "growth.json").read_text()) == json.loads(json.dumps(written))
    assert sorted(written["pairs"]) == [f"{variety} {year}" for variety, year in PAIRS]
    swap = written["pairs"]["P 1989"]["context_size_2"]["swap"]
    # t(2 degrees of freedom) · standard deviation 1 / √3.
    assert swap["log"] == {
        "mean": 21.0,
        "ci95": pytest.approx(4.303 / 3**0.5),
        "per_seed": [20.0, 21.0, 22.0],
    }
    assert swap["grams"]["mean"] == 4.0
    means = written["mean_over_pairs"]
    assert means["context_size_1"]["few_shot"]["grams"]["per_seed"] == [2.5, 2.5, 2.5]
    grand = [written["pairs"][name]["zero_shot"]["grand_mean"]["log"] for name in written["pairs"]]
    assert means["zero_shot"]["grand_mean"]["log"] == pytest.approx(np.mean(grand))
    assert set(written["pairs_where_swap_is_closer"]["context_size_1"].values()) == {0}
    assert "growth.json --seeds 3" in written["command"]


@pytest.mark.skipif(not DOCUMENT.exists(), reason="an sdist has no docs")
def test_documented_numbers_are_those_of_the_results():
    results = json.loads(RESULTS.read_text())
    text = DOCUMENT.read_text()

    def shown(score, unit="log"):
        value = score[unit]
        if isinstance(value, dict):
            return f"{value['mean']:.2f} ± {value['ci95']:.2f}"
        return f"{value:.2f}"

    for name, pair in {**results["pairs"], "mean": results["mean_over_pairs"]}.items():
        cells = [pair["context_size_1"]["swap"], *pair["zero_shot"].values(), pair["between_plots"]["all"]]
        assert f"| {name} | {' | '.join(map(shown, cells))} |" in text
    means = results["mean_over_pairs"]
    one, few = means["context_size_1"], means["few_shot"]
    cells = [one["few_shot"], few["shifted_mean"], one["swap_unseen"], few["additive"]]
    assert f"| {' | '.join(map(shown, [*cells, means['between_plots']['unseen']]))} |" in text
    zero, closer = means["zero_shot"], results["pairs_where_swap_is_closer"]["context_size_1"]
    for words in [
        f"{one['swap']['grams']['mean']:.2f} g for the swap",
        f"{zero['additive']['grams']:.2f} g additive",
        f"{zero['grand_mean']['grams']:.2f} g mean of all",
        f"come out at {shown(means['context_size_2']['swap'])}",
        "{grand_mean} for the mean of all pairs, {other_varieties} for the same year, {other_years} for the "
        "same variety, {additive} for additive".format(**closer),
        results["command"],
    ]:
        assert words in " ".join(text.split())


def test_run_refuses_no_seeds_and_no_steps(tmp_path):
    for settings in ({"seeds": 0}, {"steps": 0}):
        with pytest.raises(ConfigError):
            experiment.run(tmp_path / "growth.json", progress=False, **settings)
    assert not (tmp_path / "growth.json").exists()
