"""What a check of a log found."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Literal

from dmcm.errors import DataError

Level = Literal["note", "warning", "refused"]
LEVELS: tuple[Level, ...] = ("refused", "warning", "note")
"""Worst first."""


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that is wrong with a log, or worth knowing."""

    kind: str
    """A word or two, such as "order" or "dropped samples"."""
    level: Level
    """Whether the log can still be used."""
    text: str
    """What, where, and what to do about it."""


def worst_first(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Refusals, then warnings, then notes; equal levels keep their order."""
    return tuple(sorted(findings, key=lambda finding: LEVELS.index(finding.level)))


def about_all(findings: Iterable[tuple[str, Finding]]) -> list[Finding]:
    """Findings about quantities; equal findings about several are merged.

    Args:
        findings: pairs of a quantity's name and what was found about it.
    """
    names: dict[Finding, list[str]] = {}
    for name, finding in findings:
        names.setdefault(finding, []).append(name)
    return [
        dataclasses.replace(finding, text=f"{', '.join(own)}: {finding.text}")
        for finding, own in names.items()
    ]


def refuse_if_any(source: str, findings: Iterable[Finding]) -> None:
    """Raise if a log cannot be used.

    Args:
        source: the log's name.
        findings: of a check.

    Raises:
        DataError: there is a refusal among them; the message lists all refusals.
    """
    refused = [finding for finding in findings if finding.level == "refused"]
    if refused:
        listing = "\n".join(f"- {finding.kind}: {finding.text}" for finding in refused)
        raise DataError(
            f"{source} cannot be used as it is mapped:\n{listing}\nCorrect the mapping or the log, then load "
            "it again."
        )
