"""`dmcm contexts`: what a bank holds."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import tyro

from dmcm.bank import ContextBank
from dmcm.cli.show import say, show_table
from dmcm.report import Table

EXAMPLES = """
dmcm contexts bank
"""


@dataclasses.dataclass(frozen=True)
class ContextsConfig:
    """List the contexts in a bank: factor, name, value, and which data they were fitted to."""

    bank: tyro.conf.Positional[Path]
    """Folder of the bank."""


CONFIG = ContextsConfig


def run(config: ContextsConfig) -> None:
    """Print all entries; unusable ones with their problem."""
    entries = ContextBank(config.bank).entries()
    good = [entry for entry in entries if entry.problem is None]
    rows = [
        [e.factor, e.name, show_vector(e.value), e.samples, e.source, e.model[:12], e.created] for e in good
    ]
    if rows:
        show_table(Table(("factor", "name", "context", "samples", "source", "model", "saved (UTC)"), rows))
    for entry in entries:
        if entry.problem is not None:
            say(f"{entry.factor}/{entry.name} cannot be used: {entry.problem}", "yellow")
    if not entries:
        say(f"{config.bank} holds no contexts yet; add some with `dmcm adapt`.")


def show_vector(values: tuple[float, ...]) -> str:
    """A context vector as text."""
    shown = " ".join(f"{value:.3g}" for value in values[:8])
    return shown if len(values) <= 8 else f"{shown} … ({len(values)} numbers)"
