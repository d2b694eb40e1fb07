"""The vectors that an exported policy is given: checked, and from a context bank."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from dmcm.bank import ContextBank
from dmcm.errors import BankError, FactorError, ShapeError, unknown_name
from dmcm.quadruped.conditioned.contract import Contract
from dmcm.quadruped.deployment.robot import Numbers


def vector_row(contract: Contract, vectors: Mapping[str, Numbers]) -> np.ndarray:
    """Vectors in the contract's order.

    Args:
        contract: says which kinds the policy reads, and their sizes.
        vectors: one vector per kind.

    Returns:
        Shape (1, size), single precision; size 0 for a policy without vectors.

    Raises:
        FactorError: a kind too many or too few.
        ShapeError: a vector of another size, or not finite.
    """
    _check_kinds(contract, vectors)
    parts: list[np.ndarray] = [np.zeros(0, np.float32)]
    for kind, size in contract.vectors:
        try:
            value = np.asarray(vectors[kind], np.float32)
        except (TypeError, ValueError) as error:
            raise ShapeError(f"the vector '{kind}' = {vectors[kind]!r} holds no numbers: {error}.") from error
        if value.shape != (size,) or not np.all(np.isfinite(value)):
            raise ShapeError(
                f"the vector '{kind}' must be {size} finite numbers, not {value.tolist()} of shape "
                f"{value.shape}: those of the kind used in the policy's training, from {_origin(contract)}."
            )
        parts.append(value)
    return np.concatenate(parts)[None]


def bank_vectors(contract: Contract, bank: ContextBank, names: Mapping[str, str]) -> dict[str, np.ndarray]:
    """Vectors from a bank by the names of entries, without loading a model.

    Args:
        contract: of the policy that reads them.
        bank: where they are kept.
        names: one entry per kind: {"robot": "ours", "terrain": "stairs"}.

    Returns:
        One vector per kind.

    Raises:
        FactorError: a kind too many or too few, or a policy that reads the truth, which no bank holds.
        BankError: no such bank or entry, a damaged one, or one of another model than the policy's.
    """
    _check_kinds(contract, names)
    if names and contract.vectors_model is None:
        raise FactorError(
            f"this policy reads the truth ({', '.join(names)}), which no bank holds: give its numbers as "
            "arrays."
        )
    entries, found = bank.entries() if names else [], {}
    for kind, name in names.items():
        there = {entry.name: entry for entry in entries if entry.factor == kind}
        if name not in there:
            raise BankError(f"In {bank.path}, factor '{kind}': {unknown_name('entry', name, there)}")
        entry = there[name]
        if entry.problem is not None:
            raise BankError(entry.problem)
        if entry.model != contract.vectors_model:
            raise BankError(
                f"entry '{name}' of '{kind}' in {bank.path} was made by model {entry.model[:12]}, but the "
                f"policy was trained with vectors of model {str(contract.vectors_model)[:12]}. A vector "
                "means something only to its own model: adapt the policy's model to the robot's data, or use "
                "a policy that was trained with this one."
            )
        found[kind] = np.asarray(entry.value, np.float32)
    return found


def _origin(contract: Contract) -> str:
    model = contract.vectors_model
    return "the truth" if model is None else f"the dynamics model {model[:12]}"


def _check_kinds(contract: Contract, given: Mapping[str, object]) -> None:
    kinds = [kind for kind, _ in contract.vectors]
    for name in given:
        if name not in kinds:
            raise FactorError(f"for this policy {unknown_name('vector', name, kinds)}")
    if missing := [f"{kind} ({size} numbers)" for kind, size in contract.vectors if kind not in given]:
        raise FactorError(f"the policy needs more vectors: give {', '.join(missing)} as well.")
