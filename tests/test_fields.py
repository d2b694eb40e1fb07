"""What dataclasses say about their fields."""

import dataclasses

from dmcm.fields import field_texts


@dataclasses.dataclass
class Something:
    """A class's own text belongs to no field."""

    first: float = 1.0
    """On one
    line."""
    silent: int = 2
    last: tuple[int, ...] = (3,)
    """The last."""

    def act(self) -> None:
        """Nor does a method's."""


def test_texts_stand_with_the_field_above_them():
    assert field_texts(Something) == {"first": "On one line.", "last": "The last."}


def test_a_class_within_a_function_is_read_as_well():
    @dataclasses.dataclass
    class Inner:
        size: float = 0.0
        """How large."""

    assert field_texts(Inner) == {"size": "How large."}
