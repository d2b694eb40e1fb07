"""Every error DMCM raises on purpose: what was wrong, what is valid, what to try."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class DmcmError(Exception):
    """Base class of all errors of this library; catch it to catch them all."""


class FactorError(DmcmError):
    """A factor's name or size is unknown, missing or impossible."""


class ContextMismatchError(DmcmError):
    """Contexts of different models, sizes or batch shapes were mixed."""


class ShapeError(DmcmError):
    """An array does not have the shape that the model or the call needs."""


class DataError(DmcmError):
    """Samples, labels or tables cannot be learned from as they are."""


class ConfigError(DmcmError):
    """A setting is outside its range, or settings contradict each other."""


class StorageError(DmcmError):
    """A file could not be read or written, or is not what it claims to be."""


class CheckpointError(StorageError):
    """There is no usable checkpoint, or it is of another run."""


class BankError(StorageError):
    """A context bank or one of its files is missing, damaged or of another model."""


class ClusterError(DmcmError):
    """A cluster job kept failing after all retries."""


class DivergenceError(DmcmError):
    """Optimisation produced numbers that are not finite and could not recover."""


class InterruptedRun(DmcmError):
    """The user stopped a run; the state reached is saved."""


def unknown_name(kind: str, name: object, valid: Iterable[str]) -> str:
    """Message for a name that does not exist: lists those that do and suggests the closest one.

    Args:
        kind: what the name should refer to, such as "factor" or "column".
        name: the name given.
        valid: the names that exist.
    """
    names = list(valid)
    listing = ", ".join(names) if names else "none"
    message = f"there is no {kind} '{name}'. Valid: {listing}."
    guess = difflib.get_close_matches(str(name), names, n=1)
    return f"{message} Did you mean '{guess[0]}'?" if guess else message
