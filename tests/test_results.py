"""Tables keep what an earlier command measured."""

import copy

import pytest

from dmcm.errors import StorageError
from dmcm.results import earlier_table, with_earlier
from dmcm.storage import write_json

PARTS = ("methods", "titles", "seconds", "gait", "ms")


def table(command, **parts):
    return {"suite": {"seed": 0}, "seeds": 3, "command": command, "environment": {"by": command}, **parts}


def test_what_was_not_measured_stays_with_the_command_that_made_it():
    first = table(
        "first",
        methods={"a": 1, "b": 2},
        titles={"a": "A", "b": "B"},
        seconds={"a": {"1": 1}, "b": {"1": 2}},
        gait={"by": 1},
        ms=8,
    )
    second = table("second", methods={"a": 10}, titles={"a": "new"}, seconds={"a": {}}, gait={})
    kept, merged = copy.deepcopy((first, second)), with_earlier(second, first, parts=PARTS)
    assert merged["methods"] == {"a": 10, "b": 2}
    assert merged["titles"] == {"a": "new", "b": "B"}
    assert merged["seconds"] == {"a": {"1": 1}, "b": {"1": 2}}
    assert (merged["gait"], merged["ms"], merged["command"]) == ({"by": 1}, 8, "second")
    assert set(merged["earlier"]) == {"b", "seconds of a", "seconds of b", "gait of by", "ms"}
    assert all(
        made == {"command": "first", "environment": {"by": "first"}} for made in merged["earlier"].values()
    )
    assert (first, second) == kept  # neither is changed
    # A third time, and each part still has the command that made it.
    third = with_earlier(table("third", methods={"b": 20}, gait={"by": 3}), merged, parts=PARTS)
    assert third["methods"] == {"b": 20, "a": 10}
    assert third["gait"] == {"by": 3}
    made = {name: made["command"] for name, made in third["earlier"].items()}
    assert made["a"] == "second"
    assert "b" not in made
    assert made["ms"] == made["seconds of a"] == "first"
    assert "gait of by" not in made


def test_what_is_measured_anew_or_for_the_first_time_stands_alone():
    second = table("second", methods={"b": 2})
    assert with_earlier(second, {}, parts=PARTS) == second
    assert with_earlier(second, second, parts=PARTS) == second


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"suite": {"seed": 1}}, r"suite\.seed: 1, not 0"),
        ({"seeds": 5}, "seeds: 5, not 3"),
        ({"suite": {}, "seeds": None}, r"suite\.seed: None, not 0, seeds: None, not 3\)"),
    ],
)
def test_a_table_of_another_setting_is_not_replaced(tmp_path, change, told):
    path = tmp_path / "results.json"
    setting = {"suite": {"seed": 0}, "seeds": 3}
    write_json(path, table("first", methods={"a": 1}))
    assert earlier_table(path, setting)["methods"] == {"a": 1}
    write_json(path, table("first", methods={"a": 1}) | change)
    before = path.read_bytes()
    with pytest.raises(StorageError, match=told):
        earlier_table(path, setting)
    assert path.read_bytes() == before


def test_a_setting_is_compared_as_the_file_has_it(tmp_path):
    path = tmp_path / "results.json"
    setting = {"windows": (1, 2), "losses": {1: None}}
    write_json(path, {"methods": {}, **setting})
    assert earlier_table(path, setting)["methods"] == {}


def test_a_place_where_nothing_can_be_written_is_refused_before_the_work(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(StorageError, match="cannot make the folder"):
        earlier_table(tmp_path / "file" / "results.json", {})
    with pytest.raises(StorageError, match="it is a folder"):
        earlier_table(tmp_path, {})
    assert earlier_table(tmp_path / "new" / "results.json", {}) == {}


def test_a_file_that_holds_no_table_is_refused(tmp_path):
    path = tmp_path / "results.json"
    assert earlier_table(None, {}) == earlier_table(path, {}) == {}
    write_json(path, {"methods": {}})
    assert earlier_table(path, {}) == {"methods": {}}
    path.write_text("[]")
    with pytest.raises(StorageError, match="choose another file"):
        earlier_table(path, {})
