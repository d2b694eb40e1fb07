"""Tables of success: intervals over seeds and robots, against known spreads and by drawing both again."""

import math

import numpy as np
import pytest

from dmcm.quadruped.conditioned.table import differences, mean_over_seeds, overall, together
from dmcm.summaries import student_95, wilson, wilson_of_groups


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


def test_distance_and_speed_have_intervals_over_the_seeds_that_know_them():
    runs = [
        {**cell([1, 1]), "distance_m": metres, "velocity_rmse": wrong}
        for metres, wrong in ((3.0, 0.1), (4.0, None), (5.0, 0.3))
    ]
    within = mean_over_seeds(runs)["ci95_over_seeds"]
    assert within["distance_m"] == pytest.approx(student_95(3) / math.sqrt(3))
    assert within["velocity_rmse"] == pytest.approx(student_95(2) * np.std([0.1, 0.3], ddof=1) / math.sqrt(2))
    assert within["energy_j_per_m"] == 0.0
    assert mean_over_seeds(runs[:1])["ci95_over_seeds"]["distance_m"] is None
    assert "velocity_rmse" not in mean_over_seeds([cell([1, 0])] * 2)["ci95_over_seeds"]


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
    turned = differences({"dmcm": own, "single": other}, "all", "single")
    assert turned["dmcm"]["mean"] == pytest.approx(-0.25)
    alone = {name: {"all": overall([cell([1, 0])])} for name in ("dmcm", "single")}
    assert differences(alone, "all")["single"]["ci95"] is None
    assert differences({"single": other}, "all") == {}
