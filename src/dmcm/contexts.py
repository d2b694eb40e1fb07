"""Factors of a task and their context vectors; `share` mixes vectors from several situations."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dmcm.checks import is_count
from dmcm.errors import ContextMismatchError, FactorError, unknown_name

_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.\- ]*[A-Za-z0-9_\-])?")


class Factors:
    """Names and context sizes of the known factors of a task, in a fixed order.

    `Factors(amplitude=3, phase=3)` says that a task varies in amplitude and phase and that
    each gets a context vector of three numbers. Immutable and hashable.

    Raises:
        FactorError: no factor at all, an unusable name, or a size that is not a positive integer.
    """

    __slots__ = ("_sizes",)
    _sizes: tuple[tuple[str, int], ...]

    def __init__(self, /, **sizes: int | np.integer):
        """See the class; pass names that are not Python identifiers as `Factors(**{"hind leg": 2})`."""
        if not sizes:
            raise FactorError("a model needs at least one factor, e.g. Factors(robot=4, terrain=4).")
        for name, size in sizes.items():
            if not _NAME.fullmatch(name):
                raise FactorError(
                    f"factor name {name!r} cannot be used: letters a–z, digits, '_', '-' and inner dots and "
                    "spaces are valid, because the name becomes part of file names. Rename it, or the column."
                )
            if not is_count(size):
                raise FactorError(
                    f"factor '{name}' has context size {size!r}; give a whole number of at least 1 "
                    "(2 to 4 per factor is a good start)."
                )
        object.__setattr__(self, "_sizes", tuple((name, int(size)) for name, size in sizes.items()))

    def __setattr__(self, name: str, value: object) -> None:
        """Refuse: factors never change once made."""
        raise FactorError("Factors are immutable; make new ones instead.")

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy and unpickle through the constructor, because attributes cannot be set."""
        return _factors, (self.sizes,)

    @property
    def names(self) -> tuple[str, ...]:
        """Factor names in order."""
        return tuple(name for name, _ in self._sizes)

    @property
    def sizes(self) -> dict[str, int]:
        """Context size of each factor, in order."""
        return dict(self._sizes)

    @property
    def total(self) -> int:
        """Sum of all context sizes."""
        return sum(size for _, size in self._sizes)

    def check(self, names: Iterable[str]) -> None:
        """Raise `FactorError` unless every name is a factor of this model."""
        for name in names:
            if name not in self.names:
                raise FactorError(unknown_name("factor", name, self.names))

    def __getitem__(self, name: str) -> int:
        """Context size of one factor."""
        self.check((name,))
        return self.sizes[name]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names."""
        return iter(self.names)

    def __len__(self) -> int:
        """Return the number of factors."""
        return len(self._sizes)

    def __contains__(self, name: object) -> bool:
        """Whether a name is one of the factors."""
        return name in self.names

    def __eq__(self, other: object) -> bool:
        """Equal if names, sizes and order are equal."""
        return isinstance(other, Factors) and self._sizes == other._sizes

    def __hash__(self) -> int:
        """Hash of names, sizes and order."""
        return hash(self._sizes)

    def __repr__(self) -> str:
        """Show the expression that makes it."""
        return f"Factors({', '.join(f'{name}={size}' for name, size in self._sizes)})"


def _factors(sizes: dict[str, int]) -> Factors:
    return Factors(**sizes)


class Contexts(eqx.Module):
    """One context vector per factor: a pytree, so it can be stacked, mapped and differentiated.

    Attributes:
        values: `{factor: array (..., size)}`; all share the same leading batch shape.
        model: fingerprint of the model that made them, or None if unknown (inside `jax.jit`).
    """

    values: dict[str, Float[Array, "..."]]
    model: str | None = eqx.field(static=True, default=None)

    def __check_init__(self):
        """Raise `ContextMismatchError` unless there are arrays that share one batch shape."""
        if not self.values:
            raise ContextMismatchError("contexts need the vector of at least one factor.")
        for name, value in self.values.items():
            if len(getattr(value, "shape", ())) < 1:
                raise ContextMismatchError(
                    f"the context of '{name}' must be an array (..., size), not {value!r}."
                )
        shapes = {name: value.shape[:-1] for name, value in self.values.items()}
        if len(set(shapes.values())) > 1:
            raise ContextMismatchError(
                f"contexts in one set must share a batch shape, but these have {shapes}. "
                "Pick single tasks with `contexts.at(i)` before mixing."
            )

    def __getitem__(self, factor: str) -> Float[Array, "..."]:
        """The vector(s) of one factor, shape (..., size)."""
        if factor not in self.values:
            raise FactorError(unknown_name("context", factor, self.values))
        return self.values[factor]

    @property
    def sizes(self) -> dict[str, int]:
        """Context size of each factor."""
        return {name: value.shape[-1] for name, value in self.values.items()}

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """Leading shape shared by all vectors; `()` for a single task."""
        return next(iter(self.values.values())).shape[:-1]

    def at(self, index) -> Contexts:
        """Contexts of the task(s) at `index` of the leading batch axis: a position, a slice or an array.

        Raises:
            ContextMismatchError: no batch axis, or an index beyond it.
        """
        if not self.batch_shape:
            raise ContextMismatchError("these contexts are of one task; there is no batch axis to index.")
        if not isinstance(index, jax.core.Tracer):
            # For an index too large, JAX would return the last task.
            try:
                index = np.arange(self.batch_shape[0])[index]
            except (IndexError, TypeError) as error:
                raise ContextMismatchError(
                    f"no such task in contexts of batch shape {self.batch_shape}: {error}."
                ) from error
        return Contexts(jax.tree.map(lambda value: value[index], self.values), self.model)

    def select(self, *names: str) -> Contexts:
        """Only the named factors' contexts."""
        return Contexts({name: self[name] for name in names}, self.model)


def same_model(models: Iterable[str | None]) -> str | None:
    """The one model that all contexts come from (None means unknown and matches any model).

    Raises:
        ContextMismatchError: two different models.
    """
    known = {model for model in models if model is not None}
    if len(known) > 1:
        raise ContextMismatchError(
            f"contexts come from different models ({', '.join(sorted(m[:12] for m in known))}). A context "
            "is only meaningful to the model that made it: adapt again with one model."
        )
    return known.pop() if known else None


def share(**sources: Contexts) -> Contexts:
    """Build contexts whose vectors come from different situations.

    `share(amplitude=c1, phase=c2)` takes the amplitude vector of `c1` and the phase vector of
    `c2`. The result predicts a situation for which no data were given.

    Args:
        **sources: for each factor, the contexts to take that factor's vector from.

    Raises:
        FactorError: no source, or a source without the factor it should provide.
        ContextMismatchError: sources of different models or batch shapes.
    """
    if not sources:
        raise FactorError("share() needs a source per factor, e.g. share(amplitude=c1, phase=c2).")
    for name, source in sources.items():
        if not isinstance(source, Contexts):
            raise ContextMismatchError(
                f"share({name}=…) takes Contexts, as returned by `adapt`, not {type(source).__name__}."
            )
    model = same_model(source.model for source in sources.values())
    return Contexts({name: source[name] for name, source in sources.items()}, model)


def stack(contexts: Iterable[Contexts]) -> Contexts:
    """Stack contexts of several tasks along a new leading axis.

    Raises:
        ContextMismatchError: nothing to stack, or contexts of different models or sizes.
    """
    items = list(contexts)
    if not items:
        raise ContextMismatchError("there is nothing to stack: give the contexts of at least one task.")
    model = same_model(item.model for item in items)
    if any(item.sizes != items[0].sizes or item.batch_shape != items[0].batch_shape for item in items):
        raise ContextMismatchError(
            f"contexts of different sizes cannot be stacked: {[item.sizes for item in items]}."
        )
    values = {name: jnp.stack([item[name] for item in items]) for name in items[0].values}
    return Contexts(values, model)


def check_compatible(contexts: Contexts, factors: Factors, model: str | None) -> None:
    """Raise unless `contexts` has a vector of the right size for each factor of this model.

    Raises:
        FactorError: a factor has no vector, or a vector belongs to no factor.
        ContextMismatchError: another size, or another model.
    """
    if not isinstance(contexts, Contexts):
        raise ContextMismatchError(
            f"Contexts are needed, as returned by `adapt` or `share`, not {type(contexts).__name__}."
        )
    factors.check(contexts.values)
    missing = [name for name in factors if name not in contexts.values]
    if missing:
        raise FactorError(
            f"no context given for {', '.join(missing)}. Complete it with "
            f"share({', '.join(f'{name}=…' for name in factors)})."
        )
    check_sizes(contexts.values, factors)
    same_model((contexts.model, model))


def check_sizes(values: Mapping[str, Array], factors: Factors) -> None:
    """Raise `ContextMismatchError` unless each vector has its factor's size."""
    for name, value in values.items():
        if value.ndim < 1 or value.shape[-1] != factors[name]:
            raise ContextMismatchError(
                f"the context of '{name}' has shape {tuple(value.shape)}; "
                f"in this model it has size {factors[name]}."
            )
