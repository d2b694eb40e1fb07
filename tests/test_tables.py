"""Tables in and out: what is written is read back, and every flaw is named by column, row and value."""

import csv
import io
import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmcm.data import FactorDataset
from dmcm.errors import DataError, DmcmError, ShapeError, StorageError
from dmcm.tables import column_names, read_samples, write_table

SUFFIXES = ["csv", "tsv", "tab", "parquet", "pq"]
ROLES = {"task": "run", "factors": ("robot", "year"), "inputs": ("u", "v"), "outputs": ("z",)}
HEADER = "run,robot,year,u,v,z\n"
ROWS = [
    ("a", "go1", 1988, 0.0, 1.0, 10.0),
    ("a", "go1", 1988, 1.0, 1.5, 11.0),
    ("b", "spot", 1990, 2.0, 2.5, 12.0),
    ("b", "spot", 1990, 3.0, 3.5, 13.0),
    ("b", "spot", 1990, 4.0, 4.5, 14.0),
]
BODY = "".join(",".join(map(str, row)) + "\n" for row in ROWS)


@pytest.fixture
def written(tmp_path):
    """Write text into a file and return its path."""

    def write(text, name="table.csv"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def replaced(old, new):
    """The table with one cell or line changed."""
    assert BODY.count(old) >= 1
    return HEADER + BODY.replace(old, new, 1)


def as_parquet(**columns):
    content = io.BytesIO()
    pl.DataFrame(columns).write_parquet(content)
    return content.getvalue()


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_table_becomes_tasks_with_labels_and_samples(tmp_path, suffix):
    path = tmp_path / f"table.{suffix}"
    names = HEADER.strip().split(",")
    write_table(path, {name: [row[i] for row in ROWS] for i, name in enumerate(names)})
    data = FactorDataset.from_table(path, shots=1, **ROLES)
    assert column_names(path) == tuple(names)
    assert data.task_names == ("a", "b")
    assert data.levels == {"robot": ("go1", "spot"), "year": (1988, 1990)}
    assert data.combinations() == {("go1", 1988): 1, ("spot", 1990): 1}
    assert (data.input_names, data.output_names, data.shots) == (("u", "v"), ("z",), 1)
    x, y = data.task("b")
    np.testing.assert_array_equal(x, [[2.0, 2.5], [3.0, 3.5], [4.0, 4.5]])
    np.testing.assert_array_equal(y, [[12.0], [13.0], [14.0]])


def test_rows_of_a_task_need_not_be_neighbours(written):
    lines = BODY.splitlines(keepends=True)
    data = FactorDataset.from_table(written(HEADER + "".join(lines[i] for i in (2, 0, 3, 1, 4))), **ROLES)
    assert data.task_names == ("b", "a")
    np.testing.assert_array_equal(data.task("b")[1][:, 0], [12.0, 13.0, 14.0])
    np.testing.assert_array_equal(data.task("a")[1][:, 0], [10.0, 11.0])


def test_without_a_task_column_combinations_of_labels_are_the_tasks(written):
    data = FactorDataset.from_table(written(HEADER + BODY), **{**ROLES, "task": None})
    assert data.task_names == ("robot=go1, year=1988", "robot=spot, year=1990")
    assert data.weight.sum(axis=1).tolist() == [2, 3]


@pytest.mark.parametrize(
    "text",
    [
        (HEADER + BODY).replace("\n", "\r\n"),
        "\ufeff" + HEADER + BODY,
        HEADER + BODY + "\n\n",
        (HEADER + BODY).replace(",", " , "),
        HEADER.replace("robot", '"robot"') + BODY.replace("go1", '"go1"'),
    ],
    ids=["CRLF", "byte order mark", "blank lines at the end", "blanks", "quotes"],
)
def test_harmless_differences_of_csv_change_nothing(written, text):
    plain = FactorDataset.from_table(written(HEADER + BODY), **ROLES)
    other = FactorDataset.from_table(written(text), **ROLES)
    np.testing.assert_array_equal(plain.x, other.x)
    np.testing.assert_array_equal(plain.y, other.y)
    assert (plain.levels, plain.task_names) == (other.levels, other.task_names)


@pytest.mark.parametrize(
    ("labels", "levels"),
    [
        (["10", "9"], (9, 10)),
        (["2.5", "10"], (2.5, 10)),
        (["1e1", "9"], (9, 10)),
        (["-1", "-2"], (-2, -1)),
        (["007", "7"], ("007", "7")),
        (["12345678901234567890", "12345678901234567891"], ("12345678901234567890", "12345678901234567891")),
        (["1", "b"], ("1", "b")),
        (["inf", "1"], ("1", "inf")),
        (["none", "wind"], ("none", "wind")),
        (["true", "false"], ("false", "true")),
        # What only looks like the beginning of a number is a name.
        (["+", "-"], ("+", "-")),
        (["E1", "E2"], ("E1", "E2")),
        (["1E3", "2E3"], ("1E3", "2E3")),
        (["1e-3", "2e-3"], (0.001, 0.002)),
        (["-", "1"], ("-", "1")),
    ],
)
def test_labels_are_numbers_where_that_loses_nothing(written, labels, levels):
    text = "l,x,y\n" + "".join(f"{label},{i},{i}\n" for label in labels for i in range(2))
    data = FactorDataset.from_table(written(text), factors=["l"], inputs=["x"], outputs=["y"])
    assert data.levels["l"] == levels
    assert [type(level) for level in data.levels["l"]] == [
        str if isinstance(level, str) else type(data.levels["l"][0]) for level in levels
    ]
    assert len(data) == 2


def test_parquet_types_of_labels(tmp_path):
    columns = {
        "t": ["p", "p", "q", "q"],
        "whole": [1.0, 1.0, 2.0, 2.0],
        "flag": [True, True, False, False],
        "kind": pl.Series(["k", "k", "m", "m"], dtype=pl.Categorical),
        "x": [0, 1, 2, 3],
        "y": [0.5, 1.5, 2.5, 3.5],
    }
    path = tmp_path / "t.parquet"
    path.write_bytes(as_parquet(**columns))
    data = FactorDataset.from_table(
        path, task="t", factors=["whole", "flag", "kind"], inputs="x", outputs="y"
    )
    assert data.levels == {"whole": (1, 2), "flag": ("false", "true"), "kind": ("k", "m")}


# Each flaw with words the message must have.
FLAWS = {
    "text for a number": (replaced("1.0,1.5", "one,1.5"), ["'u'", "row 2", "'one'"]),
    "decimal comma": (replaced("1.0,1.5", '"1,0",1.5'), ["'u'", "row 2", "'1,0'"]),
    "no number": (replaced("1.0,1.5", ",1.5"), ["'u'", "row 2", "missing"]),
    "not a number": (replaced("13.0", "nan"), ["'z'", "row 4", "'nan'"]),
    "infinite": (replaced("13.0", "-inf"), ["'z'", "row 4", "'-inf'"]),
    "too large for float32": (replaced("13.0", "1e39"), ["'z'", "row 4", "'1e39'"]),
    "R's NA": (replaced("13.0", "NA"), ["'z'", "row 4", "'NA'"]),
    "no label": (replaced("b,spot", "b,"), ["'robot'", "row 3", "missing"]),
    "label NA": (replaced("b,spot", "b,NA"), ["'robot'", "row 3", "'NA'"]),
    "no task": (replaced("b,spot", ",spot"), ["'run'", "row 3", "missing"]),
    "two labels": (replaced("b,spot,1990,3", "b,spot,1991,3"), ["'b'", "'year'", "1990", "1991", "row 4"]),
    "short line": (HEADER + BODY + "b,spot\n", ["'u'", "row 6"]),
    "header alone": (HEADER, ["no rows"]),
    "blank lines alone": (HEADER + "\n\n", ["no rows"]),
    "nothing": ("", ["empty"]),
    "blank": ("\n \n", ["empty"]),
    "one name for two columns": (HEADER.replace("v", "u") + BODY, ["more than one column 'u'"]),
    "another separator": ((HEADER + BODY).replace(",", ";"), ["'run'", "separator"]),
    "times since 1970": (
        HEADER + "".join(f"a,go1,1988,{1_700_000_000 + i},{i},0\n" for i in range(5)),
        ["column u", "1.7e+09", "offset"],
    ),
}


@pytest.mark.parametrize("flaw", FLAWS)
def test_flaws_in_the_data_are_named(written, flaw):
    text, words = FLAWS[flaw]
    with pytest.raises(DataError) as caught:
        FactorDataset.from_table(written(text), **ROLES)
    assert not [word for word in words if word not in str(caught.value)], str(caught.value)


@pytest.mark.parametrize(
    ("roles", "words"),
    [
        ({"task": "rum"}, ["task", "'rum'", "Valid: run, robot, year, u, v, z", "mean 'run'"]),
        ({"factors": ["robot", "yeer"]}, ["factors", "'yeer'", "mean 'year'"]),
        ({"inputs": ["w"]}, ["inputs", "'w'", "Valid: run"]),
        ({"outputs": ["w"]}, ["outputs", "'w'"]),
        ({"inputs": ["u", "u"]}, ["'u'", "twice in inputs"]),
        ({"outputs": ["u"]}, ["'u'", "in inputs and in outputs"]),
        ({"factors": ["run"]}, ["'run'", "in task and in factors"]),
        ({"factors": []}, ["factors"]),
        ({"inputs": []}, ["inputs"]),
        ({"outputs": []}, ["outputs"]),
        ({"shots": 2}, ["2 support samples", "a (2)"]),
    ],
)
def test_wrong_roles_are_named(written, roles, words):
    with pytest.raises(DataError) as caught:
        FactorDataset.from_table(written(HEADER + BODY), **{**ROLES, **roles})
    assert not [word for word in words if word not in str(caught.value)], str(caught.value)


def test_parquet_flaws_are_named(tmp_path):
    path = tmp_path / "t.parquet"
    good = {"l": ["a", "b", "a", "b"], "x": [1.0, 2.0, 3.0, 4.0], "y": [1, 2, 3, 4]}
    roles = {"factors": ["l"], "inputs": ["x"], "outputs": ["y"]}
    for column, values, words in [
        ("x", [1.0, None, 3.0, 4.0], "row 2: the value is missing"),
        ("x", [1.0, math.nan, 3.0, 4.0], "row 2: nan is not"),
        ("x", [True, False, True, False], "Boolean"),
        ("x", [[1.0]] * 4, "List"),
        ("l", [[1.0]] * 4, "List"),
        ("l", ["a", None, "a", "b"], "row 2: the label is missing"),
        ("l", [1.0, math.nan, 1.0, 2.0], "row 2: the label is missing"),
    ]:
        path.write_bytes(as_parquet(**{**good, column: values}))
        with pytest.raises(DataError, match=words):
            FactorDataset.from_table(path, **roles)


def test_files_that_are_no_tables_are_refused(tmp_path, written):
    for path, words in [
        (tmp_path / "none.csv", "there is no file"),
        (tmp_path / "table.xlsx", r"Valid: \.csv"),
        (written(b"\xff\xfe\x00a", "binary.csv"), "UTF-8"),
        (written(HEADER + BODY + "a,b,c,d,e,f,g\n"), "number of columns"),
        (written(HEADER + BODY, "text.parquet"), "PARQUET"),
    ]:
        with pytest.raises(StorageError, match=words):
            FactorDataset.from_table(path, **ROLES)
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(StorageError, match="cannot be read"):
        FactorDataset.from_table(tmp_path / "folder.csv", **ROLES)


def test_truncated_parquet_never_reads(tmp_path):
    whole = as_parquet(x=[float(i) for i in range(50)], y=list(range(50)))
    path = tmp_path / "t.parquet"
    for cut in range(1, len(whole), 37):
        path.write_bytes(whole[:cut])
        with pytest.raises(StorageError):
            read_samples(path, ["x"])


def test_file_names_are_no_patterns(tmp_path):
    write_table(tmp_path / "run1.csv", {"x": [1.0]})
    with pytest.raises(StorageError, match="there is no file"):
        read_samples(tmp_path / "run*.csv", ["x"])


def test_samples_of_one_situation(written):
    path = written(HEADER + BODY)
    x, y = read_samples(path, ["v", "u"], ["z"])
    np.testing.assert_array_equal(x, [[row[4], row[3]] for row in ROWS])
    np.testing.assert_array_equal(y, [[row[5]] for row in ROWS])
    assert read_samples(path, ["u"])[1] is None
    with pytest.raises(DataError, match="no column 'w'"):
        read_samples(path, ["w"])
    with pytest.raises(DataError, match="outputs"):
        read_samples(path, ["u"], [])
    with pytest.raises(DataError, match="row 2"):
        read_samples(written(replaced("1.0,1.5", "x,1.5")), ["u"])


def test_bad_columns_are_not_written(tmp_path):
    path = tmp_path / "out.csv"
    path.write_text("before")
    for columns, error in [
        ({}, DataError),
        ({"a": [1.0], "b": [1.0, 2.0]}, ShapeError),
        ({"a": np.zeros((2, 1))}, ShapeError),
        ({"a": [None, 1.0]}, DataError),
        ({"a": np.ma.masked_equal([1.0, 2.0], 2.0)}, DataError),
        ({"a": np.array([1.0], np.longdouble)}, DataError),
    ]:
        with pytest.raises(error):
            write_table(path, columns)
    with pytest.raises(StorageError):
        write_table(tmp_path / "out.txt", {"a": [1.0]})
    assert path.read_text() == "before"


def test_written_csv_is_what_other_readers_expect(tmp_path):
    path = tmp_path / "out.csv"
    write_table(path, {"label": ['a,"b', "c"], "value": np.asarray([0.1, -2.0])})
    with path.open(newline="") as handle:
        assert list(csv.reader(handle)) == [["label", "value"], ['a,"b', "0.1"], ["c", "-2.0"]]


numbers = st.floats(width=32, allow_nan=False, allow_infinity=False)
# Nothing that stripping or reading as a missing value would change.
words = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1).filter(
    lambda text: text not in ("NA", "NaN", "nan", "null")
)


@given(st.lists(st.tuples(numbers, numbers), min_size=1, max_size=20), st.sampled_from(SUFFIXES))
def test_numbers_come_back_exactly(tmp_path_factory, rows, suffix):
    path = tmp_path_factory.mktemp("table") / f"t.{suffix}"
    columns = np.asarray(rows)
    write_table(path, {"x": columns[:, 0], "y": columns[:, 1]})
    x, y = read_samples(path, ["x"], ["y"])
    np.testing.assert_array_equal(np.hstack([x, y]), columns)


@given(st.lists(words, min_size=1, max_size=6, unique=True), st.sampled_from(SUFFIXES), st.data())
def test_tasks_come_back_with_their_labels(tmp_path_factory, names, suffix, data):
    path = tmp_path_factory.mktemp("table") / f"t.{suffix}"
    counts = [data.draw(st.integers(2, 4)) for _ in names]
    labels = ["x" + data.draw(words) for _ in names]
    years = [data.draw(st.integers(-(2**62), 2**62)) for _ in names]
    order = data.draw(st.permutations([i for i, count in enumerate(counts) for _ in range(count)]))
    write_table(
        path,
        {
            "task": ["t" + names[i] for i in order],
            "label": [labels[i] for i in order],
            "year": [years[i] for i in order],
            "x": np.arange(len(order)),
            "y": [float(i) for i in order],
        },
    )
    found = FactorDataset.from_table(
        path, task="task", factors=["label", "year"], inputs=["x"], outputs=["y"]
    )
    assert sorted(found.task_names) == sorted("t" + name for name in names)
    for i, name in enumerate(names):
        at = found.task_names.index("t" + name)
        assert (found.label("label", at), found.label("year", at)) == (labels[i], years[i])
        x, y = found.task("t" + name)
        np.testing.assert_array_equal(x[:, 0], np.flatnonzero(np.asarray(order) == i))
        np.testing.assert_array_equal(y[:, 0], np.full(counts[i], i))


@given(st.binary(max_size=200), st.sampled_from(["csv", "tsv"]))
def test_no_bytes_end_in_another_error(tmp_path_factory, content, suffix):
    path = tmp_path_factory.mktemp("table") / f"t.{suffix}"
    path.write_bytes(b"l,x,y\n" + content)
    try:
        data = FactorDataset.from_table(path, factors=["l"], inputs=["x"], outputs=["y"])
    except DmcmError:
        return
    assert np.all(np.isfinite(data.x))
    assert np.all(np.isfinite(data.y))


@pytest.mark.parametrize(
    ("one", "other"), [("1.1", "1.10"), ("1E1", "10.0"), ("0.12345678901234567891", "0.12345678901234567892")]
)
def test_labels_that_are_one_number_in_two_ways_are_refused(written, one, other):
    """Neither silently merged nor silently told apart."""
    body = "".join(f"{label},{i},{i}\n" for label in (one, other, "2") for i in range(3))
    use = {"factors": ("plot",), "inputs": ("x",), "outputs": ("y",)}
    with pytest.raises(DataError, match=f"'{one}' and '{other}', which are the same number") as told:
        FactorDataset.from_table(written("plot,x,y\n" + body), **use)
    assert "prefix every value with a letter" in str(told.value)
    lettered = "".join(f"p{line}\n" for line in body.splitlines())
    assert len(FactorDataset.from_table(written("plot,x,y\n" + lettered), **use)) == 3


def test_numbers_among_words_are_not_written_in_two_ways_either(written):
    use = {"factors": ("dose",), "inputs": ("x",), "outputs": ("y",)}

    def read(*labels):
        rows = "".join(f"{label},{i},{i}\n" for label in labels for i in range(3))
        return FactorDataset.from_table(written("dose,x,y\n" + rows), **use).levels["dose"]

    with pytest.raises(DataError, match=r"'1' and '1.0', which are the same number"):
        read("control", "1", "1.0")
    assert read("control", "1", "01", "2.5") == ("01", "1", "2.5", "control")
    assert read("A1", "1E1", "10") == ("10", "1E1", "A1")


def test_a_table_with_semicolons_and_decimal_commas_is_told_about_its_separator(written):
    with pytest.raises(StorageError, match=r"does the suffix.*decimal points"):
        FactorDataset.from_table(
            written("dose;x;y\n1;0,5;2,5\n2;1,5;3,5\n"), factors="dose", inputs="x", outputs="y"
        )


def test_durations_are_no_labels(written):
    lasts = pl.Series([1, 2, 3, 4], dtype=pl.Duration)
    path = written(as_parquet(lasts=lasts, x=[1.0, 2, 3, 4], y=[1.0, 2, 3, 4]), "table.parquet")
    with pytest.raises(DataError, match=r"holds Duration.*labels must be numbers or text"):
        FactorDataset.from_table(path, factors=("lasts",), inputs=("x",), outputs=("y",))
