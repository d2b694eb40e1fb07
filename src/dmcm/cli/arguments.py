"""Values given as text on the command line: name=value pairs and ranges."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dmcm.errors import ConfigError

_MOST_POINTS = 1_000_000


def parse_pairs(texts: Sequence[str], option: str, example: str) -> dict[str, str]:
    """`("variety=P", "year=1990")` as `{"variety": "P", "year": "1990"}`.

    Args:
        texts: what followed the option.
        option: its name, such as "--mix".
        example: example values for the error message.

    Raises:
        ConfigError: text without '=', an empty name or value, or a name given twice.
    """
    pairs: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (name and equals and value):
            raise ConfigError(
                f"{option} takes name=value pairs, not '{text}'. For example: {option} {example}"
            )
        if name in pairs:
            raise ConfigError(
                f"{option} names '{name}' twice ({pairs[name]} and {value}); give it one value."
            )
        pairs[name] = value
    return pairs


def parse_sizes(texts: Sequence[str], option: str) -> dict[str, int]:
    """`("variety=2",)` as `{"variety": 2}`.

    Raises:
        ConfigError: as for `parse_pairs`, or a size that is not a whole number of at least 1.
    """
    example = "variety=2 year=2"
    sizes: dict[str, int] = {}
    for name, value in parse_pairs(texts, option, example).items():
        if not value.isascii() or not value.isdigit() or int(value) < 1:
            raise ConfigError(
                f"{option} {name}={value}: the context size must be a whole number of at least 1. For "
                f"example: {option} {example}"
            )
        sizes[name] = int(value)
    return sizes


def parse_range(text: str, inputs: Sequence[str]) -> np.ndarray:
    """`day=14:84:2` as the inputs 14, 16, …, 84, shape (points, 1); the end is included if a step hits it.

    Args:
        text: what followed `--range`.
        inputs: input columns of the model.

    Raises:
        ConfigError: another form, a model with several inputs, or a range without points.
    """
    example = f"For example: --range {inputs[0]}=0:10:0.5 (first, last, step)"
    name, _, rest = text.rpartition("=")
    parts = rest.split(":")
    if len(inputs) != 1:
        raise ConfigError(
            f"--range works for models with one input; this one has {', '.join(inputs)}. Use --inputs."
        )
    if name != inputs[0] or len(parts) != 3:
        raise ConfigError(f"--range takes the input '{inputs[0]}' and three numbers, not '{text}'. {example}")
    try:
        first, last, step = (float(part) for part in parts)
    except ValueError:
        raise ConfigError(f"--range takes numbers, not '{rest}'. {example}") from None
    if not np.all(np.isfinite([first, last, step])) or step == 0 or (last - first) / step < 0:
        raise ConfigError(
            f"--range {text} has no points: the step must lead from the first to the last. {example}"
        )
    count = (last - first) / step
    if count >= _MOST_POINTS:
        raise ConfigError(f"--range {text} has more than {_MOST_POINTS:,} points; take a larger step.")
    # Rounding must not drop the end point.
    return (first + step * np.arange(int(np.floor(count + 1e-9)) + 1))[:, None]
