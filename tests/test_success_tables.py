"""Tables of success: intervals over seeds and robots, against known spreads and by drawing both again."""

import math

import numpy as np
import pytest

from dmcm.quadruped.conditioned.table import differences, mean_over_seeds, overall, together
from dmcm.studies import half_width_of_groups, student_95, wilson, wilson_of_groups


def cell(outcomes):
    """What one seed's walks give, outcomes 0 or 1 of each robot."""
    return {
        "success": float(np.mean(outcomes)),
        "distance_m": 4.0,
        "velocity_rmse": None,
        "energy_j_per_m": 150.0,
        "falls": int(np.sum(1 - np.asarray(outcomes))),
        "episodes": len(outcomes),
        "per_robot": list(outcomes),
    }


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


def test_a_cell_takes_both_seeds_and_robots_for_drawn():
    runs = [cell([1, 1, 1, 0]), cell([1, 1, 0, 0]), cell([1, 1, 1, 0])]
    found = mean_over_seeds(runs)
    seeds = student_95(3) * np.std([0.75, 0.5, 0.75], ddof=1) / math.sqrt(3)
    robots = wilson_of_groups(np.array([[1, 1, 2 / 3, 0]]), 12)
    assert found["ci95"] == pytest.approx(math.hypot(seeds, robots))
    assert found["success"] == pytest.approx(2 / 3)
    assert (found["episodes"], found["seeds"], found["falls"]) == (4, 3, 4)
    assert "per_robot" not in found
    assert mean_over_seeds(runs[:1])["ci95"] == wilson(3, 4)


def test_cells_of_the_same_robots_are_averaged_and_of_others_put_side_by_side():
    flat, stairs = cell([1, 1]), cell([1, 0])
    np.testing.assert_array_equal(together([flat, stairs])["per_robot"], [[1.0, 0.5]])
    found = together([together([flat, stairs]), together([stairs, stairs])], same_robots=False)
    np.testing.assert_array_equal(found["per_robot"], [[1.0, 0.5], [1.0, 0.0]])
    assert found["success"] == pytest.approx(0.625)
    assert found["episodes"] == 8
    assert found["velocity_rmse"] is None


def test_differences_are_paired_by_seed_and_robot():
    """Robots that are hard for both say nothing of which is better."""
    own = {"all": overall([cell([1, 1, 1, 0]), cell([1, 1, 1, 0])])}
    other = {"all": overall([cell([0, 1, 1, 0]), cell([1, 1, 0, 0])])}
    found = differences({"dmcm": own, "single": other, "vanilla": own, "old": {"all": {"success": 1}}}, "all")
    assert set(found) == {"single", "vanilla"}
    assert found["vanilla"] == {"mean": 0.0, "ci95": 0.0, "per_seed": [0.0, 0.0]}
    assert found["single"]["mean"] == pytest.approx(0.25)
    assert found["single"]["per_seed"] == [0.25, 0.25]
    assert found["single"]["ci95"] == pytest.approx(student_95(4) * np.sqrt(1 / 12) / 2, rel=1e-4)
    alone = {name: {"all": overall([cell([1, 0])])} for name in ("dmcm", "single")}
    assert differences(alone, "all")["single"]["ci95"] is None
    assert differences({"single": other}, "all") == {}
