"""Labelled tasks: what goes in, what is refused, and batches with correct splits and donors."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.helpers import same_bits, sines

from dmcm import FactorDataset
from dmcm.errors import DataError, ShapeError, StorageError

NAN = float("nan")


def ragged(sizes, *, inputs=2, outputs=1, seed=0):
    """Arrays whose first input column numbers all samples from 1, so that each can be recognised."""
    rng = np.random.default_rng(seed)
    x = [rng.normal(size=(n, inputs)) for n in sizes]
    first = np.split(np.arange(1, sum(sizes) + 1), np.cumsum(sizes)[:-1])
    for one, numbers in zip(x, first, strict=True):
        one[:, 0] = numbers
    return x, [rng.normal(size=(n, outputs)) for n in sizes]


def dataset(sizes=(4, 6, 5, 4), labels=None, **options):
    x, y = ragged(sizes)
    labels = labels or {"robot": ["a", "b"] * (len(sizes) // 2), "load": [1, 1, 2, 2][: len(sizes)]}
    return FactorDataset.from_arrays(x, y, labels, **options)


def test_tasks_come_out_as_they_went_in():
    x, y = ragged((4, 6, 5))
    data = FactorDataset.from_arrays(x, y, {"robot": ["b", "a", "b"], "load": [3, 1.5, 3]}, shots=2)
    assert (len(data), data.inputs, data.outputs, data.shots) == (3, 2, 1, 2)
    assert data.factor_names == ("robot", "load")
    assert data.levels == {"robot": ("a", "b"), "load": (1.5, 3)}
    assert data.task_names == ("task 0", "task 1", "task 2")
    assert (data.input_names, data.output_names) == (("x0", "x1"), ("y0",))
    for i in range(3):
        for index in (i, i - 3, f"task {i}"):
            found_x, found_y = data.task(index)
            np.testing.assert_allclose(found_x, x[i], rtol=1e-6)
            np.testing.assert_allclose(found_y, y[i], rtol=1e-6)
    assert [data.label("robot", i) for i in range(3)] == ["b", "a", "b"]
    assert data.label("load", -1) == 3
    assert data.combinations() == {("b", 3): 2, ("a", 1.5): 1}
    assert float(data.samples().weight.sum()) == 15


def test_default_shots_are_half_of_the_smallest_task_and_at_most_ten():
    assert dataset((4, 6, 5, 9)).shots == 2
    assert dataset((40, 60, 50, 30)).shots == 10
    x, y = ragged((4, 4, 4, 4))
    fixed = FactorDataset.from_arrays(x, y, {"a": [0, 1, 0, 1]}, query_x=np.stack(x), query_y=np.stack(y))
    assert fixed.shots == 4


@pytest.mark.parametrize(
    ("raw", "levels"),
    [
        (["10", "9", "a"], ("10", "9", "a")),
        ([10, 9, 9.5], (9, 9.5, 10)),
        (np.array([10, 9, 9]), (9, 10)),
        (np.array(["x", "y", "x"]), ("x", "y")),
        (jnp.array([10, 9, 9]), (9, 10)),
        ([np.float64(1), np.int32(2), jnp.asarray(3)], (1, 2, 3)),
        ([True, False, True], ("False", "True")),
        ([1, "one", 2], ("1", "2", "one")),
        ([b"a", b"b", b"a"], ("a", "b")),
        (np.float32([0.1, 0.2, 0.1]), (0.1, 0.2)),
        (jnp.float32([0.1, 0.2, 0.1]), (0.1, 0.2)),
        (pl.Series([0.1, 0.2, 0.1], dtype=pl.Float32), (0.1, 0.2)),
        (pl.Series(["x", "y", "x"]), ("x", "y")),
        (pa.array([1, 10, 2]), (1, 2, 10)),
        (list(pa.array([1, 10, 2])), (1, 2, 10)),
        (pa.chunked_array([["p", "q"], ["p"]]), ("p", "q")),
        (np.array(["2020-01-01", "2020-01-02"] * 2, "datetime64[ns]")[:3], (
            "2020-01-01 00:00:00", "2020-01-02 00:00:00",
        )),
    ],
)  # fmt: skip
def test_labels_are_numbers_or_text(raw, levels):
    x, y = ragged((3, 3, 3))
    data = FactorDataset.from_arrays(x, y, {"f": raw})
    assert data.levels["f"] == levels
    numeric = all(isinstance(level, (int, float)) for level in levels)
    values = data.sampler().values
    assert (values is not None) is numeric
    if values is not None:
        expected = [float(data.label("f", i)) for i in range(3)]
        np.testing.assert_array_equal(np.asarray(values["f"])[:, 0], np.float32(expected))


class Nothing:
    """As pandas' NA: neither equal to anything nor different from it."""

    def __eq__(self, other):
        return self

    __ne__, __hash__ = __eq__, object.__hash__

    def __bool__(self):
        raise TypeError("boolean value of NA is ambiguous")


@pytest.mark.parametrize(
    ("raw", "match"),
    [
        (pa.array([1, None, 1]), "task 1 has no label"),
        (pl.Series([1, None, 1]), "task 1 has no label"),
        (np.ma.array([1, 2, 1], mask=[0, 1, 0]), "masked labels"),
        (np.array(["2020-01-01", "NaT", "2020-01-02"], "datetime64[D]"), "task 1 has no label"),
        ([1.0, float("inf"), 2.0], "task 1 has no label"),
        (["a", Nothing(), "b"], "task 1 has no label"),
    ],
)
def test_missing_labels_are_no_labels(raw, match):
    x, y = ragged((3, 3, 3))
    with pytest.raises(DataError, match=match):
        FactorDataset.from_arrays(x, y, {"f": raw})


def test_selections():
    data = dataset()
    assert data.where(robot="a").task_names == ("task 0", "task 2")
    assert data.where(robot="a", load=2).task_names == ("task 2",)
    assert data.where(load="2").task_names == ("task 2", "task 3")
    assert data.without(robot="a", load=2).task_names == ("task 0", "task 1", "task 3")
    assert data.where().task_names == data.task_names
    doses = dataset(labels={"dose": [1, 2.5, 1, 2.5], "plate": ["01", "1", "01", "1"]})
    assert doses.where(dose="1").task_names == doses.where(dose=1).task_names == ("task 0", "task 2")
    assert doses.where(dose="2.50", plate="1").task_names == ("task 1", "task 3")
    some = data.subset([3, -4])
    assert some.task_names == ("task 3", "task 0")
    np.testing.assert_array_equal(some.task(0)[0], data.task(3)[0])
    # Levels stay, so that codes mean the same in all parts.
    assert some.levels == data.levels
    assert [some.label("robot", i) for i in (0, 1)] == ["b", "a"]
    assert data.subset(np.array([True, False, False, True])).task_names == ("task 0", "task 3")


def test_selections_keep_fixed_queries_with_their_tasks():
    x, y = ragged((4, 4, 4))
    query_x, query_y = np.stack(x) + 100, np.stack(y)
    data = FactorDataset.from_arrays(x, y, {"f": [0, 1, 2]}, query_x=query_x, query_y=query_y)
    np.testing.assert_allclose(data.subset([2, 0]).query.x, query_x[[2, 0]], rtol=1e-6)


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (lambda d: d.where(robo="a"), "no factor 'robo'.*Did you mean 'robot'"),
        (lambda d: d.where(robot="c"), "no label of 'robot' 'c'. Valid: a, b"),
        (lambda d: d.where(robot="a").without(robot="a"), "no task is left"),
        (lambda d: d.without(), "no task is left"),
        (lambda d: d.subset([]), "no task is left"),
        (lambda d: d.subset([4]), "no task 4; the dataset has 4"),
        (lambda d: d.subset([-5]), "no task -5"),
        (lambda d: d.subset([0, -4]), "chosen twice"),
        (lambda d: d.subset([True, False]), "mask of shape"),
        (lambda d: d.subset(np.array([0.5])), "whole numbers"),
        (lambda d: d.task(9), "no task 9"),
        (lambda d: d.task("tusk 1"), "no task 'tusk 1'.*Did you mean 'task 1'"),
        (lambda d: d.label("robot", 4), "no task 4"),
        (lambda d: d.label("rebot", 0), "no factor 'rebot'"),
        (lambda d: d.sampler(tasks_per_batch=0), "tasks_per_batch=0"),
        (lambda d: d.where(robot="a").sampler(), r"factor 'robot' has only one label \('a'\)"),
    ],
)
def test_selections_that_cannot_be_meant(action, message):
    with pytest.raises(DataError, match=message):
        action(dataset())


GOOD_X, GOOD_Y = ragged((4, 4, 4))
LABELS = {"f": [0, 1, 0]}


def spoiled(arrays, i, value):
    copies = [np.array(a) for a in arrays]
    copies[i][1, 0] = value
    return copies


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((GOOD_X, GOOD_Y[:2], LABELS), ShapeError, "x has 3 tasks, y has 2"),
        (([], [], {"f": []}), DataError, "x has no tasks"),
        ((GOOD_X, GOOD_Y, {}), DataError, "no factor: give at least one"),
        ((GOOD_X, GOOD_Y, {"f": [0, 1]}), ShapeError, "2 labels for 3 tasks"),
        ((GOOD_X, GOOD_Y, {"f": [0, None, 1]}), DataError, "task 1 has no label of factor 'f'"),
        ((GOOD_X, GOOD_Y, {"f": [0, NAN, 1]}), DataError, "task 1 has no label"),
        ((GOOD_X, GOOD_Y, {"f": ["u", "v", ""]}), DataError, "task 2 has no label"),
        ((GOOD_X, GOOD_Y, {"f": np.zeros((3, 1))}), ShapeError, "one label a task"),
        ((GOOD_X, GOOD_Y, {"f": "abc"}), ShapeError, "list with one label a task"),
        (
            (spoiled(GOOD_X, 2, NAN), GOOD_Y, LABELS),
            DataError,
            "task 2 has NaN.*in x, the first in row 1, column 0",
        ),
        ((GOOD_X, spoiled(GOOD_Y, 1, np.inf), LABELS), DataError, "task 1 has NaN, infinite.* in y"),
        ((GOOD_X, spoiled(GOOD_Y, 1, 1e200), LABELS), DataError, "too large values in y"),
        (([*GOOD_X[:2], GOOD_X[2][:3]], GOOD_Y, LABELS), ShapeError, "task 2 has 3 rows of x and 4 of y"),
        (([*GOOD_X[:2], GOOD_X[2][:, :1]], GOOD_Y, LABELS), ShapeError, "task 2 has 1 input and 1 output"),
        (([x[:0] for x in GOOD_X], [y[:0] for y in GOOD_Y], LABELS), DataError, "task 0 has no samples"),
        (([x[:, 0] for x in GOOD_X], GOOD_Y, LABELS), ShapeError, r"x of task 0 has shape \(4,\)"),
        ((GOOD_X, [y[:, :0] for y in GOOD_Y], LABELS), ShapeError, r"y of task 0 has shape \(4, 0\)"),
        (
            ([x + 0j for x in GOOD_X], GOOD_Y, LABELS),
            DataError,
            "x is not a list of arrays of numbers: complex",
        ),
        ((np.array([[["a"]]] * 3), GOOD_Y, LABELS), DataError, "x is not a list of arrays of numbers"),
        ((GOOD_X, GOOD_Y, {"f": [1, "1", 2]}), DataError, "labels 1 and '1', which read the same"),
    ],
)
def test_arrays_that_cannot_be_tasks(arguments, error, message):
    with pytest.raises(error, match=message):
        FactorDataset.from_arrays(*arguments)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"shots": 4}, DataError, r"4 support samples.*too few in task 0 \(4\), task 1 \(4\)"),
        ({"shots": 0}, DataError, "shots=0"),
        ({"task_names": ["a", "b"]}, ShapeError, "2 task names for 3 tasks"),
        ({"task_names": ["a", "b", "a"]}, DataError, "'a' occurs more than once"),
        ({"input_names": ["a"]}, ShapeError, "1 names for 2 x columns"),
        ({"output_names": ["a", "b"]}, ShapeError, "2 names for 1 y columns"),
        ({"query_x": np.stack(GOOD_X)}, DataError, "query_x and query_y go together"),
        ({"query_x": GOOD_X[:2], "query_y": GOOD_Y[:2]}, ShapeError, "query data of 2 and 2 tasks for 3"),
        ({"query_x": GOOD_Y, "query_y": GOOD_Y}, ShapeError, r"task 0 \(query\) has 1 input"),
        ({"query_x": GOOD_X, "query_y": spoiled(GOOD_Y, 0, NAN)}, DataError, r"task 0 \(query\) has NaN"),
    ],
)
def test_options_that_cannot_be_meant(options, error, message):
    with pytest.raises(error, match=message):
        FactorDataset.from_arrays(GOOD_X, GOOD_Y, LABELS, **options)


def test_many_short_tasks_are_not_all_named():
    x, y = ragged([2] * 9)
    with pytest.raises(DataError, match=r"and 4 more. Lower `shots`"):
        FactorDataset.from_arrays(x, y, {"f": range(9)}, shots=2)


def test_one_sample_tasks_are_not_told_to_lower_the_least_shots():
    with pytest.raises(DataError, match="Add samples to, or drop, these tasks"):
        dataset((1, 3, 3, 3), shots=1)


def test_columns_that_single_precision_cannot_hold_are_refused():
    x, y = ragged((4, 4, 4))
    seconds = [np.column_stack([one[:, 0], 1.7e9 + np.arange(4)]) for one in x]
    with pytest.raises(DataError, match=r"column time varies by .* Subtract an offset"):
        FactorDataset.from_arrays(seconds, y, LABELS, input_names=["n", "time"])
    FactorDataset.from_arrays([one - [[0, 1.7e9]] for one in seconds], y, LABELS)
    constant = [np.column_stack([one[:, 0], np.full(4, 1.7e9)]) for one in x]
    FactorDataset.from_arrays(constant, y, LABELS)
    with pytest.raises(DataError, match="column y0 varies"):
        FactorDataset.from_arrays(x, [1e6 + 0.01 * one for one in y], LABELS)
    # Months apart, so that together they vary; within a task all are the same number.
    days = [np.column_stack([1.7e9 + 3e6 * i + 15 * np.arange(4.0)]) for i in range(3)]
    with pytest.raises(DataError, match=r"column time varies by 16\.8 within a task .* each task's first"):
        FactorDataset.from_arrays(days, y, LABELS, input_names=["time"])
    # A single task that hardly varies is none the worse for it.
    FactorDataset.from_arrays([x[0], x[1], 1 + 1e-8 * x[2]], y, LABELS)


def test_labels_that_look_the_same_are_refused():
    x, y = ragged((4, 4, 4))
    with pytest.raises(DataError, match="two labels that look the same, 'caf\u00e9'"):
        FactorDataset.from_arrays(x, y, {"place": ["caf\u00e9", "cafe\u0301", "bar"]})


def write(path, **arrays):
    np.savez(path, **arrays)
    return path


def test_npz_files(tmp_path):
    x, y = (np.stack(a) for a in ragged((5, 5, 5)))
    plain = FactorDataset.from_npz(
        write(tmp_path / "a.npz", x=x, y=y, label_robot=np.array(["a", "b", "a"]), label_load=[1.5, 2, 2]),
        shots=2,
    )
    again = FactorDataset.from_arrays(x, y, {"robot": ["a", "b", "a"], "load": [1.5, 2, 2]}, shots=2)
    assert plain.levels == again.levels
    share, day = np.float32([0.1, 0.2, 0.3]), np.array(["2020-01-01", "2020-01-02", "2020-01-03"], "M8[ns]")
    file = write(tmp_path / "d.npz", x=x, y=y, label_share=share, label_day=day)
    assert FactorDataset.from_npz(file, shots=2).levels == {
        "share": (0.1, 0.2, 0.3),
        "day": ("2020-01-01 00:00:00", "2020-01-02 00:00:00", "2020-01-03 00:00:00"),
    }
    assert same_bits((plain.x, plain.y, plain.labels), (again.x, again.y, again.labels))
    weight = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1], [0, 1, 1, 1, 0]])
    x[weight == 0] = NAN  # padding may hold anything
    padded = FactorDataset.from_npz(write(tmp_path / "b.npz", x=x, y=y, label_f=[0, 1, 2], weight=weight))
    assert [len(padded.task(i)[0]) for i in range(3)] == [3, 5, 3]
    np.testing.assert_allclose(padded.task(2)[0], x[2, 1:4], rtol=1e-6)
    fixed = FactorDataset.from_npz(
        write(tmp_path / "c.npz", x=y, y=y, label_f=[0, 1, 2], query_x=y[:, :2], query_y=y[:, :2])
    )
    assert fixed.query.x.shape == (3, 2, 1)


X, Y = np.stack(GOOD_X), np.stack(GOOD_Y)


@pytest.mark.parametrize(
    ("arrays", "error", "message"),
    [
        ({"x": X, "y": Y}, DataError, "at least one label_<factor>; it has x, y"),
        ({"x": X, "label_f": [0, 1, 2]}, DataError, "needs arrays x, y"),
        ({}, DataError, "it has nothing"),
        ({"x": X, "y": Y, "label_f": 3}, ShapeError, "one label a task"),
        ({"x": X, "y": Y, "label_f": [[0], [1], [2]]}, ShapeError, "one label a task"),
        ({"x": X, "y": Y, "label_f": [0, 1, 2], "weight": np.ones((3, 5))}, ShapeError, "weight"),
        ({"x": X, "y": Y[:, :3], "label_f": [0, 1, 2], "weight": np.ones((3, 4))}, ShapeError, "weight"),
        ({"x": X[0], "y": Y[0], "label_f": [0] * 4, "weight": np.ones((4, 2))}, ShapeError, "weight"),
        ({"x": X, "y": Y, "label_f": [0, 1, 2], "weight": np.full((3, 4), NAN)}, DataError, "1 for samples"),
        ({"x": X, "y": Y, "label_f": [0, 1, 2], "weight": np.full((3, 4), "1")}, DataError, "1 for samples"),
        (
            {"x": X, "y": Y, "label_f": [0, 1, 2], "weight": np.zeros((3, 4))},
            DataError,
            "task 0 has no samples",
        ),
        ({"x": X, "y": Y, "label_f": [0, 1, 2], "query_x": X}, DataError, "go together"),
        ({"x": X, "y": Y, "label_f": np.array([0, None, {}], object)}, StorageError, "plain arrays"),
        ({"x": np.array([{}, 1], object), "y": Y, "label_f": [0]}, StorageError, "plain arrays"),
    ],
)
def test_npz_files_that_are_no_tasks(tmp_path, arrays, error, message):
    with pytest.raises(error, match=message):
        FactorDataset.from_npz(write(tmp_path / "a.npz", **arrays))


def test_damaged_npz_files(tmp_path):
    content = write(tmp_path / "a.npz", x=X, y=Y, label_f=[0, 1, 2]).read_bytes()
    broken = tmp_path / "broken.npz"
    for size in range(0, len(content), 37):
        broken.write_bytes(content[:size])
        with pytest.raises(StorageError, match=r"broken\.npz is not an NPZ"):
            FactorDataset.from_npz(broken)
    with pytest.raises(StorageError, match="no file"):
        FactorDataset.from_npz(tmp_path / "missing.npz")
    with pytest.raises(StorageError, match="is not an NPZ"):
        FactorDataset.from_npz(tmp_path)
    np.save(tmp_path / "one.npy", X)
    with pytest.raises(StorageError, match="is not an NPZ"):
        FactorDataset.from_npz(tmp_path / "one.npy")


@settings(max_examples=25)
@given(st.lists(st.integers(3, 5), min_size=3, max_size=3), st.integers(1, 2), st.integers(0, 50))
def test_support_and_query_are_a_partition_of_each_task(sizes, shots, seed):
    x, y = ragged(sizes)
    data = FactorDataset.from_arrays(x, y, {"f": range(len(sizes))}, shots=shots)
    batch = eqx.filter_jit(type(data.sampler()).sample)(data.sampler(), jax.random.key(seed))
    for row, task in enumerate(np.asarray(batch.task)):
        seen = []
        for part, count in ((batch.support, shots), (batch.query, len(x[task]) - shots)):
            real = np.asarray(part.weight[row]) == 1
            assert real.sum() == count
            numbers = np.asarray(part.x[row])[real, 0].astype(int)
            first = int(x[task][0, 0])
            # Outputs stay with their inputs.
            np.testing.assert_allclose(np.asarray(part.y[row])[real], y[task][numbers - first], rtol=1e-6)
            seen += numbers.tolist()
        assert sorted(seen) == x[task][:, 0].tolist()


def test_splits_differ_from_draw_to_draw_and_reach_every_sample():
    sampler = dataset((6, 6, 6, 6), shots=2).sampler()
    keys = jax.random.split(jax.random.key(0), 60)
    drawn = np.asarray(jax.vmap(lambda key: sampler.sample(key).support.x)(keys))[:, 0, :, 0]
    counts = np.bincount(drawn.astype(int).reshape(-1), minlength=7)[1:]
    assert counts.sum() == 120
    assert np.all(counts > 8)
    again = np.asarray(sampler.sample(keys[0]).support.x)[0, :, 0]
    np.testing.assert_array_equal(again, drawn[0])


def test_fixed_queries_stay_and_support_is_drawn_from_the_rest():
    x, y = ragged((5, 5, 5))
    qx, qy = np.stack(x) + 100, np.stack(y)
    data = FactorDataset.from_arrays(x, y, {"f": [0, 1, 0]}, query_x=qx, query_y=qy, shots=3)
    batch = data.sampler().sample(jax.random.key(0))
    np.testing.assert_allclose(batch.query.x, qx, rtol=1e-6)
    assert batch.support.x.shape == (3, 3, 2)
    for row in range(3):
        numbers = np.asarray(batch.support.x[row, :, 0])
        assert len(set(numbers)) == 3
        assert set(numbers) <= set(x[row][:, 0])


def test_batches_bring_a_donor_per_factor_along():
    rng = np.random.default_rng(0)
    codes = {"a": rng.integers(0, 12, 60).tolist(), "b": rng.integers(0, 9, 60).tolist()}
    codes["a"][7] = 99  # nobody else's
    x, y = ragged([3] * 60)
    sampler = FactorDataset.from_arrays(x, y, codes, shots=1).sampler(tasks_per_batch=5)
    sample = eqx.filter_jit(sampler.sample)
    reached = set()
    for seed in range(40):
        batch = sample(jax.random.key(seed))
        task = np.asarray(batch.task)
        assert len(task) == 15
        assert len(set(task[:5])) == 5
        assert np.all(batch.valid)
        for name in codes:
            labels = np.asarray(batch.labels[name])
            for i in range(5):
                others = [j for j in range(15) if labels[j] == labels[i] and task[j] != task[i]]
                assert others or (name == "a" and task[i] == 7)
        np.testing.assert_array_equal(np.asarray(batch.values["b"])[:, 0], np.asarray(codes["b"])[task])
        reached |= set(task.tolist())
    assert len(reached) == 60


def test_small_datasets_come_whole():
    batch = sines().sampler(tasks_per_batch=4).sample(jax.random.key(0))
    np.testing.assert_array_equal(batch.task, np.arange(9))
    np.testing.assert_array_equal(batch.labels["phase"], np.tile([0, 1, 2], 3))


def test_scaler_counts_real_samples_only():
    x, y = ragged((3, 9, 5))
    data = FactorDataset.from_arrays(x, y, {"f": [0, 1, 2]}, shots=1)
    joined = np.concatenate(x)
    np.testing.assert_allclose(data.scaler().x_mean, joined.mean(axis=0), rtol=1e-4)
    np.testing.assert_allclose(data.sampler().scaler().x_std, joined.std(axis=0), rtol=1e-4)


def test_one_long_task_among_short_ones_is_refused_before_it_is_padded(monkeypatch):
    monkeypatch.setattr("dmcm.task_arrays._MOST_PADDED", 10_000)
    sizes = [10] * 30 + [400]
    x = [np.random.default_rng(i).normal(size=(n, 1)) for i, n in enumerate(sizes)]
    names = [f"plot {i}" for i in range(31)]
    with pytest.raises(DataError, match=r"'plot 30' has 400 samples, but half of all tasks have at most 10"):
        FactorDataset.from_arrays(x, x, {"plot": names}, task_names=names)
    # What is large because all tasks are is a matter of the machine's memory.
    assert len(FactorDataset.from_arrays(x[30:] * 20, x[30:] * 20, {"plot": names[:20]})) == 20
