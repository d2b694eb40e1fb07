"""Checks of settings that many places share."""

import numpy as np
import pytest

from dmcm.checks import as_counts, as_names, chosen_names, is_count, is_positive
from dmcm.errors import ConfigError, DataError, FactorError


@pytest.mark.parametrize("value", [1, 7, np.int64(3), np.uint8(1)])
def test_whole_numbers_of_python_and_numpy_count(value):
    assert is_count(value)
    assert is_count(value, least=1)
    assert type(as_counts(steps=value)[0]) is int


@pytest.mark.parametrize("value", [0, -1, True, 1.0, "1", None, np.float64(2), np.nan])
def test_what_is_no_whole_number_of_at_least_one_is_named(value):
    assert not is_count(value)
    with pytest.raises(ConfigError, match=r"depth=.*: give a whole number of at least 1"):
        as_counts(width=3, depth=value)


def test_the_least_count_is_the_caller_s():
    assert is_count(0, least=0)
    assert not is_count(1, least=2)


@pytest.mark.parametrize(("value", "right"), [(0.5, True), (np.float32(2), True), (3, True)])
def test_positive_numbers(value, right):
    assert is_positive(value) is right


@pytest.mark.parametrize("value", [0, -1.0, np.inf, np.nan, "1", None, True, [1.0]])
def test_what_is_no_positive_number(value):
    assert not is_positive(value)


def test_one_name_or_many():
    assert as_names("robot", "only") == ("robot",)
    assert as_names(iter(["robot", "terrain"]), "only") == ("robot", "terrain")
    with pytest.raises(FactorError, match="only takes names, not 5"):
        as_names(5, "only")
    with pytest.raises(DataError, match="inputs takes names, not 1"):
        as_names(["day", 1], "inputs", DataError)


def test_all_stands_for_every_name_and_a_repeated_one_counts_once():
    assert chosen_names("method", ("b", "a", "b"), ["a", "b", "c"]) == ("b", "a")
    assert chosen_names("method", ("b", "all"), ["a", "b", "c"]) == ("a", "b", "c")


@pytest.mark.parametrize(
    ("asked", "told"), [((), r"at least one method, or all\. Valid: dmcm, cavia"), (("dmcn",), "'dmcm'")]
)
def test_none_and_unknown_names_are_refused(asked, told):
    with pytest.raises(ConfigError, match=told):
        chosen_names("method", asked, ["dmcm", "cavia"])
