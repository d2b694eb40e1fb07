"""Context bank: a folder of context vectors to keep, share and mix, one file per factor and name."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from dmcm.checks import as_names, is_count
from dmcm.contexts import Contexts, check_sizes, share
from dmcm.errors import BankError, DmcmError, FactorError, StorageError, unknown_name
from dmcm.learner import Learner
from dmcm.storage import load_arrays, read_json, save_arrays, sole_writer, write_json

_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.,=\- ]*[A-Za-z0-9_\-])?")
_LONGEST_NAME = 100
# Windows opens devices under these names, whatever the suffix.
_RESERVED = {"con", "prn", "aux", "nul"} | {f"{port}{i}" for port in ("com", "lpt") for i in range(10)}
_TEXTS = ("factor", "name", "source", "model", "created")


@dataclasses.dataclass(frozen=True)
class BankEntry:
    """One context vector in a bank, and where it comes from.

    Attributes:
        factor: the factor it is a context of.
        name: what it was saved as.
        value: the vector.
        prior_mean: mean of the model's prior, one number a dimension.
        prior_precision: diagonal precision of the prior, in units of 1/context².
        source: which data it was fitted to, as described by whoever saved it.
        samples: number of samples it was fitted to.
        model: fingerprint of the model.
        created: when it was saved, ISO 8601 in UTC.
        path: the safetensors file.
        problem: why the entry cannot be used, in which case the fields from `value` to `created` are empty;
            None if it can.
    """

    factor: str
    name: str
    value: tuple[float, ...]
    prior_mean: tuple[float, ...]
    prior_precision: tuple[float, ...]
    source: str
    samples: int
    model: str
    created: str
    path: Path
    problem: str | None = None

    @property
    def size(self) -> int:
        """Context size."""
        return len(self.value)


class ContextBank:
    """A folder of context vectors: `<bank>/<factor>/<name>.safetensors`, each with a readable `.json` copy.

    Both hold the same content; the safetensors file is authoritative. A `.json` that disagrees makes the
    entry unusable until one of the two is removed or the entry is saved again, so a mismatch is never missed.
    A missing `.json` does no harm.
    """

    def __init__(self, path: Path | str):
        """Name the folder; `save` creates it."""
        self.path = Path(path)

    def save(
        self,
        name: str,
        contexts: Contexts,
        learner: Learner,
        *,
        source: str,
        samples: int,
        factors: Iterable[str] | None = None,
        overwrite: bool = False,
    ) -> list[Path]:
        """Keep the vectors of one task, one file per factor.

        Args:
            name: name of the entries; it becomes part of file names.
            contexts: what `adapt` or `adapt_pooled` returned, of a single task.
            learner: the model that made them.
            source: which data they were fitted to, in a few words.
            samples: number of samples they were fitted to.
            factors: factors to keep; default all in `contexts`.
            overwrite: replace entries of this name.

        Returns:
            The safetensors files written.

        Raises:
            BankError: an unusable name, contexts of another model or size, of several tasks or of unknown
                origin, no source, an impossible number of samples, or an existing entry. In these cases
                nothing is written.
            FactorError: factors that are not in `contexts` or not the model's.
            StorageError: a file cannot be written.
        """
        _check_name(name)
        if not isinstance(contexts, Contexts):
            raise BankError(f"a bank keeps Contexts, as returned by adapt, not {type(contexts).__name__}.")
        chosen = contexts if factors is None else contexts.select(*_chosen(factors, contexts))
        self._check_contexts(chosen, learner)
        if not isinstance(source, str) or not source.strip():
            raise BankError("say which data the context comes from: source='…'.")
        if not is_count(samples, least=0):
            raise BankError(f"samples={samples!r}: give the number of samples the context was fitted to.")
        # A label of the entry, not a result: nothing depends on the clock.
        created = datetime.now(UTC).isoformat(timespec="seconds")
        mean, precision = learner.prior.start(), learner.prior.precision()
        written = []
        # If two processes save under one name at once, one must see what the other wrote.
        with sole_writer(self.path, wait=True):
            self.check_free(name, chosen.values, overwrite=overwrite)
            for factor, value in chosen.values.items():
                path = self._file(factor, name)
                arrays = {
                    "value": np.asarray(value, np.float32),
                    "prior_mean": np.asarray(mean[factor], np.float32),
                    "prior_precision": np.asarray(precision[factor], np.float32),
                }
                about = {
                    "factor": factor,
                    "name": name,
                    "source": source,
                    "samples": int(samples),
                    "model": chosen.model,
                    "created": created,
                }
                # After a crash between the two writes, an old description would contradict the new vector.
                with contextlib.suppress(OSError):
                    path.with_suffix(".json").unlink()
                save_arrays(path, arrays, about)
                write_json(path.with_suffix(".json"), _description(arrays, about))
                written.append(path)
        return written

    def load(self, factor: str, name: str, learner: Learner) -> Contexts:
        """The vector of one entry, as contexts of that factor alone.

        Raises:
            FactorError: the model has no such factor.
            BankError: no such entry, a damaged one, or one of another model or size.
        """
        return self.load_many(factor, (name,), learner).at(0)

    def load_many(self, factor: str, names: Iterable[str], learner: Learner) -> Contexts:
        """The vectors of several entries, as contexts of that factor alone, of batch shape (names,).

        Raises:
            FactorError, BankError: as for `load`.
        """
        learner.factors.check((factor,))
        there, names = self._names(factor), list(names)
        vectors = [self._vector(factor, name, there, learner) for name in names]
        values = np.asarray(vectors, np.float32).reshape(len(names), learner.factors[factor])
        return Contexts({factor: jnp.asarray(values)}, learner.fingerprint())

    def _vector(self, factor: str, name: str, there: list[str], learner: Learner) -> tuple[float, ...]:
        if name not in there:
            raise BankError(f"In {self.path}, factor '{factor}': {unknown_name('entry', name, there)}")
        entry = self._read(factor, name)
        if entry.model != learner.fingerprint():
            raise BankError(
                f"entry '{name}' of '{factor}' in {self.path} was made by model {entry.model[:12]}, but this "
                f"is model {(learner.fingerprint() or 'unknown')[:12]}. A context is only meaningful to the "
                "model that made it: load that model, or adapt this one to the same data (source: "
                f"{entry.source}) and save with overwrite=True (--overwrite)."
            )
        if entry.size != learner.factors[factor]:
            raise BankError(
                f"entry '{name}' of '{factor}' in {self.path} has size {entry.size}, but the model's "
                f"contexts of '{factor}' have size {learner.factors[factor]}."
            )
        return entry.value

    def mix(self, learner: Learner, /, **names: str) -> Contexts:
        """Contexts from several entries: `bank.mix(learner, amplitude="a", phase="b")`.

        Factors that are not named are left out; add them with `share`, or adapt them with `given`.

        Raises:
            FactorError: no factor named, or one the model does not have.
            BankError: as for `load`.
        """
        if not names:
            raise FactorError(
                "name an entry per factor, e.g. mix(learner, "
                f"{', '.join(f'{f}=…' for f in learner.factors)})."
            )
        return share(**{factor: self.load(factor, name, learner) for factor, name in names.items()})

    def entries(self) -> list[BankEntry]:
        """All entries, sorted by factor and name.

        Damaged entries are listed with their `problem` instead of raising an error, so that one bad file does
        not hide the good ones.

        Raises:
            BankError: the folder does not exist or cannot be read.
        """
        found = []
        for factor in self._factors():
            for name in self._names(factor):
                try:
                    found.append(self._read(factor, name))
                except BankError as error:
                    found.append(
                        BankEntry(
                            factor, name, (), (), (), "", 0, "", "", self._file(factor, name), str(error)
                        )
                    )
        return found

    def _check_contexts(self, contexts: Contexts, learner: Learner) -> None:
        learner.factors.check(contexts.values)
        if contexts.batch_shape:
            raise BankError(
                f"these contexts are of several tasks (batch shape {contexts.batch_shape}). Save one, "
                "contexts.at(i), or one vector for all of them from adapt_pooled."
            )
        try:
            check_sizes(contexts.values, learner.factors)
        except DmcmError as error:
            raise BankError(f"not saved: {error}") from error
        if contexts.model is None:
            raise BankError(
                "not saved: the model that produced these contexts is unknown. If it was this one, pass "
                "Contexts(values, learner.fingerprint())."
            )
        if contexts.model != learner.fingerprint():
            raise BankError(
                f"not saved: these contexts are of model {contexts.model[:12]}, but this is model "
                f"{(learner.fingerprint() or 'unknown')[:12]}. Save with the model that made them, or adapt "
                "again."
            )
        mean, precision = learner.prior.start(), learner.prior.precision()
        for factor, value in contexts.values.items():
            if not np.all(np.isfinite([value, mean[factor], precision[factor]])):
                raise BankError(f"not saved: the context or the prior of '{factor}' is not finite: {value}.")

    def check_free(self, name: str, factors: Iterable[str], *, overwrite: bool = False) -> None:
        """Raise `BankError` unless `save` could keep entries of this name, or replace them if asked to."""
        _check_name(name)
        there = next(path for path in (self.path, *self.path.absolute().parents) if path.exists())
        if not there.is_dir():
            raise BankError(f"{there} is a file, so no bank can be there. Name a folder.")
        if not os.access(there, os.W_OK | os.X_OK):
            raise BankError(f"you may not write to {there}. Choose another folder for the bank.")
        for factor in factors:
            for other in self._names(factor) if (self.path / factor).is_dir() else ():
                if other == name and not overwrite:
                    raise BankError(
                        f"{self.path} already has an entry '{name}' of '{factor}'. Choose another name, or "
                        "replace it with overwrite=True (--overwrite)."
                    )
                if other != name and other.casefold() == name.casefold():
                    raise BankError(
                        f"{self.path} has an entry '{other}' of '{factor}', which some file systems do not "
                        f"distinguish from '{name}'. Choose a name that differs in more than upper and lower "
                        "case."
                    )

    def _file(self, factor: str, name: str) -> Path:
        # Not with_suffix: names may contain dots.
        return self.path / factor / f"{name}.safetensors"

    def _factors(self) -> list[str]:
        if not self.path.is_dir():
            raise BankError(
                f"there is no context bank at {self.path}. Save contexts into it first: `dmcm adapt` or "
                "ContextBank(path).save(name, contexts, learner, …)."
            )
        return [folder.name for folder in _listing(self.path) if folder.is_dir() and folder.name[0] != "."]

    def _names(self, factor: str) -> list[str]:
        """Entries of a factor, including those whose vector or description file is lost."""
        known = self._factors()
        if factor not in known:
            raise BankError(f"In {self.path}: {unknown_name('factor', factor, known)}")
        return sorted(
            {
                path.stem
                for path in _listing(self.path / factor)
                if path.suffix in (".safetensors", ".json") and path.name[0] != "."
            }
        )

    def _read(self, factor: str, name: str, *, again: bool = True) -> BankEntry:
        path = self._file(factor, name)
        try:
            arrays, about = load_arrays(path)
        except StorageError as error:
            raise BankError(
                f"entry '{name}' of '{factor}' cannot be used: {error} Save it again with overwrite=True, or "
                "delete it."
            ) from error
        _check_content(path, arrays, about)
        if (about["factor"], about["name"]) != (factor, name):
            raise BankError(
                f"{path} holds entry '{about['name']}' of '{about['factor']}': it was renamed or moved. Move "
                "it back, or save it again under the new name."
            )
        beside = path.with_suffix(".json")
        if beside.exists():
            try:
                same = read_json(beside) == json.loads(json.dumps(_description(arrays, about)))
            except StorageError:
                same = False
            if not same and again:
                # Another process may have saved the entry again between the two reads.
                return self._read(factor, name, again=False)
            if not same:
                raise BankError(
                    f"{beside} does not match {path.name}, which is authoritative: it was edited or damaged, "
                    f"or comes from another entry. Delete {beside.name} to use the entry, or save it again "
                    "with overwrite=True."
                )
        vectors = {key: tuple(float(v) for v in arrays[key]) for key in arrays}
        return BankEntry(path=path, **vectors, **about)


def _chosen(factors: Iterable[str], contexts: Contexts) -> tuple[str, ...]:
    names = as_names(factors, "factors")
    if not names:
        raise FactorError(
            f"name at least one factor to save; these contexts have {', '.join(contexts.values)}."
        )
    return names


def _check_name(name: str) -> None:
    if (
        not isinstance(name, str)
        or not _NAME.fullmatch(name)
        or len(name) > _LONGEST_NAME
        or name.partition(".")[0].lower() in _RESERVED
    ):
        raise BankError(
            f"{name!r} cannot name an entry, because entry names become file names: up to {_LONGEST_NAME} "
            "letters a–z, digits, '_' and '-' are valid, not starting with '-', with dots, commas, '=' and "
            "spaces only inside, and no device name such as 'con'. Choose another name."
        )


def _listing(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise BankError(f"{folder} cannot be read: {error.strerror or error}.") from error


def _check_content(path: Path, arrays: dict[str, np.ndarray], about: dict[str, Any]) -> None:
    """Raise unless an undamaged file holds a context."""
    value = arrays.get("value")
    fine = (
        arrays.keys() == {"value", "prior_mean", "prior_precision"}
        and about.keys() == {*_TEXTS, "samples"}
        and all(isinstance(about[key], str) for key in _TEXTS)
        and isinstance(about["samples"], int)
        and value is not None
        and value.ndim == 1
        and all(array.shape == value.shape and array.dtype == np.float32 for array in arrays.values())
        and all(bool(np.all(np.isfinite(array))) for array in arrays.values())
    )
    if not fine:
        raise BankError(f"{path} is a file of this library but holds no context; move it out of the bank.")


def _description(arrays: dict[str, np.ndarray], about: dict[str, Any]) -> dict[str, Any]:
    """What the JSON beside a vector says."""
    return {
        "factor": about["factor"],
        "name": about["name"],
        "size": len(arrays["value"]),
        "value": arrays["value"].tolist(),
        "prior": {"mean": arrays["prior_mean"].tolist(), "precision": arrays["prior_precision"].tolist()},
        "source": about["source"],
        "samples": about["samples"],
        "model": about["model"],
        "created": about["created"],
    }
