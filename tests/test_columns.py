"""Named columns in one array."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dmcm.columns import slices


@given(st.dictionaries(st.text(max_size=3), st.integers(1, 5), max_size=6))
def test_columns_lie_side_by_side_in_order(sizes):
    found, row = slices(sizes), np.arange(sum(sizes.values()))
    assert list(found) == list(sizes)
    parts = [row[where] for where in found.values()]
    assert [len(part) for part in parts] == list(sizes.values())
    np.testing.assert_array_equal(np.concatenate([[], *parts]), row)
