"""Tables that keep what an earlier command measured."""

import copy

import pytest

from dmcm.errors import StorageError
from dmcm.results import earlier_table, with_earlier
from dmcm.storage import write_json

SAME, PARTS = ("suite", "seeds"), ("methods", "titles", "seconds", "gait", "ms")


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
    kept, merged = copy.deepcopy((first, second)), with_earlier(second, first, same=SAME, parts=PARTS)
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
    third = with_earlier(table("third", methods={"b": 20}, gait={"by": 3}), merged, same=SAME, parts=PARTS)
    assert third["methods"] == {"b": 20, "a": 10}
    assert third["gait"] == {"by": 3}
    made = {name: made["command"] for name, made in third["earlier"].items()}
    assert made["a"] == "second"
    assert "b" not in made
    assert made["ms"] == made["seconds of a"] == "first"
    assert "gait of by" not in made


@pytest.mark.parametrize("change", [{"suite": {"seed": 1}}, {"seeds": 5}])
def test_nothing_stays_of_another_setting(change):
    first, second = table("first", methods={"a": 1}) | change, table("second", methods={"b": 2})
    assert with_earlier(second, first, same=SAME, parts=PARTS) == second
    assert with_earlier(second, {}, same=SAME, parts=PARTS) == second
    assert with_earlier(second, second, same=SAME, parts=PARTS) == second


def test_a_file_that_holds_no_table_is_refused(tmp_path):
    path = tmp_path / "results.json"
    assert earlier_table(None) == earlier_table(path) == {}
    write_json(path, {"methods": {}})
    assert earlier_table(path) == {"methods": {}}
    path.write_text("[]")
    with pytest.raises(StorageError, match="choose another file"):
        earlier_table(path)
