"""Documentation of a dataclass's fields: the texts below them, as the command line shows them."""

from __future__ import annotations

import ast
import inspect
import textwrap
from itertools import pairwise


def field_texts(kind: type) -> dict[str, str]:
    """The text below each field of a class, on one line, in the order of the source.

    Args:
        kind: a class whose source can be read; inherited fields are not included.
    """
    body = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0].body  # type: ignore[attr-defined]
    return {
        field.target.id: " ".join(text.value.value.split())
        for field, text in pairwise(body)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
        and isinstance(text.value.value, str)
    }
