"""Supports on a grid of labels, their sampler, and the study that trains on them."""

import dataclasses

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmcm.errors import ConfigError
from dmcm.sinusoid import sizes, support_study
from dmcm.sinusoid.methods import build_method
from dmcm.sinusoid.support import (
    LABELS,
    LAYOUTS,
    components,
    draw_support,
    grid_values,
    largest_share,
)
from dmcm.sinusoid.support_study import SupportConfig, SupportSampler, run_support, splits

SHARES = (1.0, 0.7, 0.5, 0.3, 0.15)
CASES = [(name, share) for name in LAYOUTS for share in SHARES if share <= largest_share(name)]


def reachable(seen: np.ndarray) -> np.ndarray:
    """Component of each label in the graph of seen pairs: amplitudes first, then phases."""
    rows, columns = seen.shape
    name = np.arange(rows + columns)
    for row, column in np.argwhere(seen):
        name[name == name[rows + column]] = name[row]
    return np.unique(name, return_inverse=True)[1]


def test_every_share_exists_that_can():
    assert len(CASES) == 5 + 3 + 3


@pytest.mark.parametrize(("layout", "share"), CASES)
@given(seed=st.integers(0, 2**32 - 1))
def test_support_has_its_share_and_its_components(layout, share, seed):
    seen = draw_support(layout, share, seed)
    assert seen.sum() == round(share * LABELS**2)
    assert seen.any(axis=0).all()
    assert seen.any(axis=1).all()
    found, expected = reachable(seen), np.tile(components(layout), 2)
    # Equal up to names: one label's component decides the other's.
    assert len(set(zip(found.tolist(), expected.tolist(), strict=True))) == len(set(found.tolist()))
    assert len(set(found.tolist())) == len(set(expected.tolist()))


def test_reachable_on_hand_made_graphs():
    path = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 1]], bool)
    assert len(set(reachable(path).tolist())) == 1
    apart = np.array([[1, 1, 0], [0, 0, 0], [0, 0, 1]], bool)
    rows_and_columns = reachable(apart).tolist()
    assert rows_and_columns[0] == rows_and_columns[3] == rows_and_columns[4]
    assert rows_and_columns[2] == rows_and_columns[5]
    assert len(set(rows_and_columns)) == 3


def test_a_tree_is_the_least_support():
    least = (2 * LABELS - 1) / LABELS**2
    assert len(set(reachable(draw_support("connected", least, 0)).tolist())) == 1
    with pytest.raises(ConfigError, match="27 to 196"):
        draw_support("connected", least - 1 / LABELS**2, 0)
    with pytest.raises(ConfigError, match="26 to 98"):
        draw_support("blocks", 0.7, 0)
    with pytest.raises(ConfigError, match="Did you mean 'blocks'"):
        draw_support("block", 0.5, 0)


def test_connected_supports_identify_sums_and_others_do_not():
    """The claim of the module's docstring, by the rank of the linear system y_ij = a_i + b_j."""
    for layout, unknown in (("connected", 1), ("blocks", 2), ("interleaved", 2)):
        row, column = np.nonzero(draw_support(layout, 0.15, 1))
        design = np.zeros((len(row), 2 * LABELS))
        design[np.arange(len(row)), row] = design[np.arange(len(row)), LABELS + column] = 1
        assert 2 * LABELS - np.linalg.matrix_rank(design) == unknown


@pytest.mark.parametrize(("layout", "share"), [("connected", 0.5), ("blocks", 0.15)])
def test_sampler_draws_only_seen_pairs_with_donors(layout, share):
    seen = draw_support(layout, share, 0)
    sampler = SupportSampler(seen)
    batch = jax.vmap(sampler.sample)(jax.random.split(jax.random.key(0), 60))
    row, column = (np.asarray(batch.labels[name]) for name in ("amplitude", "phase"))
    assert seen[row, column].all()
    assert len(set(zip(row.ravel(), column.ravel(), strict=True))) == seen.sum()
    amplitudes, phases = grid_values()
    for samples in (batch.support, batch.query):
        expected = amplitudes[row][..., None] * np.sin(
            np.asarray(samples.x)[..., 0] - phases[column][..., None]
        )
        np.testing.assert_allclose(np.asarray(samples.y)[..., 0], expected, atol=2e-5)
    assert not np.array_equal(batch.support.x[0], batch.support.x[1])
    assert not np.array_equal(batch.support.x, batch.query.x)
    # Equal tasks are equal pairs, and the other way round.
    pair = row * LABELS + column
    same_task = batch.task[:, :, None] == batch.task[:, None, :]
    assert np.array_equal(np.asarray(same_task), pair[:, :, None] == pair[:, None, :])
    if len(np.argwhere(seen)) > 36:
        anchors = slice(0, 12)
        for label, others in ((row, slice(12, 24)), (column, slice(24, 36))):
            assert np.array_equal(label[:, anchors], label[:, others])
            assert (pair[:, anchors] != pair[:, others]).mean() > 0.9


@pytest.mark.parametrize(("layout", "share"), CASES)
def test_splits_are_a_partition_of_the_grid(layout, share):
    seen = draw_support(layout, share, 2)
    found = splits(seen, layout)
    assert np.array_equal(sum(pairs.astype(int) for pairs in found.values()), np.ones_like(seen))
    assert np.array_equal(found["seen"], seen)
    assert ("across" in found) == (layout != "connected")
    assert ("within" in found) == (share < largest_share(layout))
    for name in found.keys() - {"seen"}:
        part = components(layout)
        row, column = np.nonzero(found[name])
        assert np.all((part[row] == part[column]) == (name == "within"))


def test_donors_of_test_tasks_are_seen_pairs():
    seen = draw_support("blocks", 0.15, 0)
    amplitudes, phases = grid_values()
    label = lambda values, grid: np.argmin(np.abs(values[:, None] - grid), axis=1)  # noqa: E731
    for name, pairs in splits(seen, "blocks").items():
        drawn = support_study.draw_tasks(pairs, seen, np.random.default_rng(0), tasks=500)
        row, column = label(drawn.amplitude, amplitudes), label(drawn.phase, phases)
        assert pairs[row, column].all()
        donor_column = label(drawn.donor_phase, phases)
        donor_row = label(drawn.donor_amplitude, amplitudes)
        assert seen[row, donor_column].all()
        assert seen[donor_row, column].all()
        if name != "seen":
            assert (donor_column != column).all()
        # A seen pair is its own donor only where its label was seen nowhere else.
        alone = seen.sum(axis=1)[row] == 1
        assert np.array_equal(donor_column == column, alone & (name == "seen"))
        for samples, a, p in (
            (drawn.support, drawn.amplitude, drawn.phase),
            (drawn.amplitude_donor, drawn.amplitude, drawn.donor_phase),
            (drawn.phase_donor, drawn.donor_amplitude, drawn.phase),
        ):
            x = np.asarray(samples.x)[..., 0]
            y = a[:, None] * np.sin(x - p[:, None])
            np.testing.assert_allclose(np.asarray(samples.y)[..., 0], y, atol=2e-5)


def test_evaluate_reads_an_oracle_that_cannot_do_more_than_its_network():
    """Few-shot and zero-shot of the oracle agree: both get the true values."""
    seen = draw_support("blocks", 0.3, 0)
    learner = build_method("oracle", 0)
    table = support_study.evaluate(learner, seen, "blocks", seed=1, tasks=50)
    assert table["few_shot"].keys() == {"seen", "within", "across"}
    assert table["few_shot"] == table["zero_shot"]


def test_configuration_is_checked():
    assert len(SupportConfig().cases()) == 11
    assert len(SupportConfig(methods=("dmcm", "dmcm_no_recombination")).cases()) == 22
    for wrong in (
        {"seeds": 0},
        {"steps": 0},
        {"methods": ("dmc",)},
        {"layouts": ("rings",)},
        {"shares": (0.01,)},
        {"shares": (1.5,)},
        {"layouts": ("blocks",), "shares": (0.7,)},
        {"methods": ()},
    ):
        with pytest.raises(ConfigError):
            SupportConfig(**wrong).cases()


@pytest.fixture
def no_training(monkeypatch):
    """Cells that are counted instead of trained."""
    calls = []

    def cell(*arguments, **_):
        calls.append(arguments)
        value = {"mean": float(len(calls)), "median": 1.0, "max": 2.0}
        table = {"few_shot": {"seen": value}, "zero_shot": {"seen": value}}
        return {"training_seconds": 1.0, "weights": 5, "measures": table}

    monkeypatch.setattr(support_study, "run_cell", cell)
    monkeypatch.setattr(sizes, "run_cell", cell)
    return calls


def test_study_writes_a_table_of_all_cases(no_training, tmp_path):
    config = SupportConfig(
        shares=(1.0, 0.3), seeds=2, out=tmp_path / "runs", results=tmp_path / "support.json"
    )
    table = run_support(config, progress=False)
    assert len(no_training) == 2 * 4
    assert len({call[3] for call in no_training}) == 8, "cells need folders of their own"
    assert table["methods"]["dmcm"].keys() == set(LAYOUTS)
    assert table["methods"]["dmcm"]["blocks"].keys() == {"30%"}
    assert table["methods"]["dmcm"]["connected"]["100%"]["pairs"] == 196
    assert table["methods"]["dmcm"]["connected"]["100%"]["zero_shot"]["seen"]["mean"] == 1.5
    assert "--seeds 2" in table["command"]
    assert (tmp_path / "support.json").exists()


def test_size_study(no_training, tmp_path):
    config = sizes.SizesConfig(sizes=(1, 4), seeds=2, out=tmp_path, results=tmp_path / "s.json")
    table = sizes.context_size_study(config, progress=False)
    assert [dict(call[0].factors) for call in no_training] == [
        {"amplitude": size, "phase": size} for size in (1, 1, 4, 4)
    ]
    assert len({call[3] for call in no_training}) == 4
    assert table["sizes"].keys() == {"1", "4"}
    assert "--sizes 1 4" in table["command"]
    for wrong in ({"sizes": ()}, {"sizes": (0,)}, {"sizes": (2, 2)}, {"method": "cavia"}, {"seeds": 0}):
        with pytest.raises(ConfigError):
            sizes.context_size_study(dataclasses.replace(config, **wrong), progress=False)
