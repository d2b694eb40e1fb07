"""Every error DMCM raises on purpose: what was wrong, what is valid, what to try."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class DmcmError(Exception):
    """Base of all errors of this library; catch it to catch them all."""


class FactorError(DmcmError):
    """A factor's name or size is unknown, missing or impossible."""


class ContextMismatchError(DmcmError):
    """Contexts of different models, sizes or batch shapes were mixed."""


class ShapeError(DmcmError):
    """An array has another shape than the model or the call needs."""


class DataError(DmcmError):
    """Samples, labels or tables that cannot be learned from as they are."""


class ConfigError(DmcmError):
    """A setting is outside its range, or settings contradict each other."""


class StorageError(DmcmError):
    """A file could not be read or written, or is not what it claims to be."""


class CheckpointError(StorageError):
    """No usable checkpoint, or one of another run."""


class BankError(StorageError):
    """A context bank or one of its files is missing, damaged or of another model."""


class ClusterError(DmcmError):
    """Machines that work together lost work more often than it was tried again."""


class DivergenceError(DmcmError):
    """Optimisation left the finite numbers and could not be brought back."""


class InterruptedRun(DmcmError):
    """The user stopped a run; what had been reached is saved."""


def unknown_name(kind: str, name: object, valid: Iterable[str]) -> str:
    """Message for a name that does not exist: lists those that do, guesses the one that was meant.

    Args:
        kind: what the name should have named, such as "factor" or "column".
        name: the name given.
        valid: the names that exist.
    """
    names = list(valid)
    listing = ", ".join(names) if names else "none"
    message = f"there is no {kind} '{name}'. Valid: {listing}."
    guess = difflib.get_close_matches(str(name), names, n=1)
    return f"{message} Did you mean '{guess[0]}'?" if guess else message
