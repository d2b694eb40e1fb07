"""Figures over many tasks, seeds and episodes, against closed forms and known spreads."""

import numpy as np
import pytest

from dmcm.summaries import (
    half_width_of_groups,
    student_95,
    summarise_best,
    summarise_cells,
    summarise_seeds,
    wilson,
    wilson_of_groups,
)


def test_seeds_are_summarised():
    values = [{"mean": m, "median": m / 2, "max": 9.0} for m in (1.0, 2.0, 3.0)]
    found = summarise_seeds(values)
    assert found["mean"] == 2.0
    assert found["median"] == 1.0
    assert found["per_seed"] == [1.0, 2.0, 3.0]
    # Student's t with two degrees of freedom: 4.303·1/√3.
    assert found["ci95"] == pytest.approx(4.303 / np.sqrt(3), rel=1e-3)
    assert summarise_seeds(values[:1])["ci95"] is None
    assert "way" not in found


def test_a_seed_that_exploded_is_not_hidden():
    values = [{"mean": 1.0, "median": 1.0}, {"mean": None, "median": None}]
    assert np.isnan(summarise_seeds(values)["mean"])


def test_most_frequent_way_is_named():
    values = [{"mean": 1.0, "median": 1.0, "way": way} for way in ("mean", "phase_donor", "mean")]
    assert summarise_seeds(values)["way"] == "mean"


def test_the_best_way_is_the_one_of_least_mean():
    ways = {"mean": np.array([1.0, 5.0]), "donor": np.array([2.0, 2.0])}
    assert summarise_best(ways) == {"mean": 2.0, "median": 2.0, "max": 2.0, "way": "donor"}


def test_tables_of_seeds_are_summarised_leaf_by_leaf():
    cells = [
        {"few": {"seen": {"mean": m, "median": m}}, "zero": {"mean": -m, "median": 0}, "r2": {"a": m}}
        for m in (1.0, 3.0)
    ]
    found = summarise_cells(cells)
    assert found["few"]["seen"]["per_seed"] == [1.0, 3.0]
    assert found["zero"]["mean"] == -2.0
    assert found["r2"]["a"] == {"mean": 2.0, "ci95": pytest.approx(12.706), "per_seed": [1.0, 3.0]}
    assert found.keys() == {"few", "zero", "r2"}


def test_trials_in_groups_count_as_the_groups_where_these_end_alike():
    """A robot that always falls tells as much in fifteen walks as in one."""
    assert wilson_of_groups(np.repeat([1.0, 0.0], [30, 10])[None], 40 * 15) == pytest.approx(
        wilson(30, 40), rel=0.02
    )
    assert wilson_of_groups(np.ones((1, 40)), 600) == wilson(40, 40)
    assert wilson_of_groups(np.zeros((1, 40)), 600) == wilson(0, 40)
    assert wilson_of_groups(np.array([[0.5]]), 10) == wilson(0.5, 1)


def test_trials_in_groups_count_singly_where_groups_are_no_other_than_chance():
    assert wilson_of_groups(np.full((1, 40), 0.8), 600) == wilson(480, 600)
    shares = np.random.default_rng(0).binomial(15, 0.8, size=(1, 4_000)) / 15
    assert wilson_of_groups(shares, 60_000) == pytest.approx(wilson(60_000 * shares.mean(), 60_000), rel=0.05)


def test_the_interval_of_groups_holds_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(1)
    held = []
    for _ in range(2_000):
        shares = rng.binomial(15, rng.beta(3, 1, size=(1, 40))) / 15
        held.append(abs(shares.mean() - 0.75) <= wilson_of_groups(shares, 600))
    assert 0.93 < np.mean(held) < 0.98


def test_conditions_that_differ_make_no_interval_wider():
    """What lies between conditions is no chance: all of them are always walked."""
    easy, hard = np.array([1.0, 1.0, 1.0, 0.5]), np.array([0.0, 0.0, 0.5, 0.0])
    both = half_width_of_groups(np.stack([easy, hard]))
    assert both == pytest.approx(student_95(7) * np.sqrt(0.0625 / 4 * 2) / 2)
    assert both < half_width_of_groups(np.concatenate([easy, hard])[None]) / 1.7
    assert wilson_of_groups(np.stack([easy, hard]), 80) < wilson_of_groups(
        np.concatenate([easy, hard])[None], 80
    )
    rng, held = np.random.default_rng(2), []
    for _ in range(2_000):
        shares = rng.binomial(1, np.array([[0.9], [0.2]]), size=(2, 30))
        held.append(abs(shares.mean() - 0.55) <= wilson_of_groups(shares, 60))
    assert 0.93 < np.mean(held) < 0.98
