"""`dmcm adapt`: turn samples of a situation into contexts and keep them in a bank."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from dmcm.bank import ContextBank
from dmcm.cli.arguments import parse_pairs
from dmcm.cli.contexts import show_vector
from dmcm.cli.runs import Run, load_run
from dmcm.cli.show import show_path, show_table
from dmcm.cli.situations import Situations, read_situations
from dmcm.contexts import Contexts
from dmcm.errors import BankError, ConfigError
from dmcm.report import Table
from dmcm.tabular.measures import pooled_positions

EXAMPLES = """
dmcm adapt runs/plants new.csv --bank bank                      each task of the table
dmcm adapt runs/plants new.csv --bank bank --task 1990P8        one of them
dmcm adapt runs/plants plants.csv --bank bank --pool variety    one context per variety, from all its tasks
dmcm adapt runs/robots log.csv --bank bank --only robot --given terrain=flat --name spot-3
"""


@dataclasses.dataclass(frozen=True)
class AdaptConfig:
    """Turn a few samples of a situation into contexts, and keep them in a bank.

    The table needs the run's input and output columns. If it has the task column, each task is adapted on
    its own; otherwise all rows are one situation, named by --name. --pool combines all tasks of a label.
    """

    run: tyro.conf.Positional[Path]
    """Run folder."""
    table: tyro.conf.Positional[Path]
    """Samples: a table or an NPZ file."""
    bank: Path
    """Folder of the bank; created if it does not exist."""
    task: str | None = None
    """Adapt only to the task with this name."""
    where: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=LABEL …", help_behavior_hint="")] = ()
    """Adapt only to tasks with these labels."""
    pool: str | None = None
    """Factor to pool: all tasks that share its label are combined into one context per label."""
    only: tuple[str, ...] = ()
    """Factors to adapt; the others are held at --given, or else at the prior mean. `dmcm fit` does not train
    a model for the latter, so give them if you can."""
    given: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=ENTRY …", help_behavior_hint="")] = ()
    """Contexts from the bank to hold while the others adapt."""
    name: str | None = None
    """Name of the entry; default the task's name or the pooled label."""
    overwrite: bool = False
    """Replace entries of the same name."""


CONFIG = AdaptConfig


@dataclasses.dataclass(frozen=True)
class _Entry:
    """What goes into the bank."""

    name: str
    contexts: Contexts
    samples: int
    error: float | None
    source: str


def run(config: AdaptConfig) -> None:
    """Adapt, save, print."""
    opened = load_run(config.run)
    bank = ContextBank(config.bank)
    where = parse_pairs(config.where, "--where", "variety=P")
    held = parse_pairs(config.given, "--given", "terrain=flat")
    given = bank.mix(opened.learner, **held) if held else None
    opened.learner.factors.check([*config.only, *([config.pool] if config.pool else [])])
    if config.pool and config.only:
        raise ConfigError("--pool adapts only the pooled factor, so it cannot be combined with --only.")
    if config.pool in held:
        raise ConfigError(f"--pool adapts {config.pool}, so --given cannot hold it.")
    if both := [name for name in config.only if name in held]:
        raise ConfigError(f"--only adapts {both[0]} and --given holds it: name it in only one of them.")
    if not config.only and not set(opened.learner.factors) - set(held):
        raise ConfigError("--given holds every factor, so there is nothing to adapt. Leave one out.")
    needs_labels = bool(where or config.pool)
    found = read_situations(opened, config.table, labelled=needs_labels, name=config.name)
    found = found.select(config.task, where)
    adapt = _pooled if config.pool else _each
    entries = adapt(opened, found, config, given)
    if config.name is not None:
        if len(entries) > 1:
            what = "labels" if config.pool else "tasks"
            raise ConfigError(
                f"--name names one entry, but there are {len(entries)} {what}. Choose one with --task or "
                "--where, or leave out --name."
            )
        entries = [dataclasses.replace(entries[0], name=config.name)]
    _check_free(bank, entries, config.overwrite)
    rows = []
    for entry in entries:
        bank.save(
            entry.name,
            entry.contexts,
            opened.learner,
            source=entry.source,
            samples=entry.samples,
            overwrite=config.overwrite,
        )
        for factor, value in entry.contexts.values.items():
            vector = show_vector(tuple(np.asarray(value).tolist()))
            rows.append([factor, entry.name, vector, entry.samples, entry.error])
    caption = "Fit error: root mean square over the samples adapted to, " + (
        f"in units of {opened.outputs[0]}."
        if len(opened.outputs) == 1
        else "in standard deviations of the outputs."
    )
    show_table(
        Table(("factor", "name", "context", "samples", "fit error"), rows, "" if config.pool else caption)
    )
    show_path("bank", config.bank)


def _each(opened: Run, found: Situations, config: AdaptConfig, given: Contexts | None) -> list[_Entry]:
    """Every situation on its own."""
    learner = opened.learner
    contexts = learner.adapt_samples(found.samples, only=config.only or None, given=given)
    # In double precision: in very small or large units, squares leave the range of single precision.
    gaps = np.asarray(learner.predict(contexts, found.samples.x), float) - np.asarray(found.samples.y)
    if len(opened.outputs) > 1 and learner.scaler is not None:
        gaps = gaps / np.asarray(learner.scaler.y_std)
    weight = np.asarray(found.samples.weight)
    errors = np.sqrt(np.sum(np.mean(gaps**2, axis=-1) * weight, axis=1) / np.sum(weight, axis=1))
    held = set(given.values) if given is not None else set()
    moved = config.only or tuple(name for name in learner.factors if name not in held)
    return [
        _Entry(
            name,
            contexts.at(i).select(*moved),
            found.count(i),
            float(errors[i]),
            f"{config.table.name}, {name}",
        )
        for i, name in enumerate(found.names)
    ]


def _pooled(opened: Run, found: Situations, config: AdaptConfig, given: Contexts | None) -> list[_Entry]:
    """All situations of a label together."""
    assert config.pool is not None
    entries = []
    labels = found.label_column(config.pool)
    for label in dict.fromkeys(labels):
        carriers = [i for i, own in enumerate(labels) if own == label]
        used = [carriers[i] for i in pooled_positions(len(carriers))]
        contexts = opened.learner.adapt_pooled([found.task(i) for i in used], shared=config.pool, given=given)
        source = f"{config.table.name}, {config.pool} {label}: {len(used)} of {len(carriers)} tasks pooled"
        entries.append(_Entry(str(label), contexts, sum(found.count(i) for i in used), None, source))
    return entries


def _check_free(bank: ContextBank, entries: list[_Entry], overwrite: bool) -> None:
    """Refuse before anything is saved, so that either all entries are saved or none."""
    names = [entry.name for entry in entries]
    if alike := [name for name in names if sum(n.casefold() == name.casefold() for n in names) > 1]:
        raise BankError(
            f"entries {', '.join(alike)} differ only in upper and lower case, which some file systems do not "
            "distinguish. Nothing was saved. Adapt one at a time with --task and --name."
        )
    advice = "To choose other names, adapt one at a time: --name with --task or, for a pool, with --where."
    clashes = []
    for entry in entries:
        for factor in entry.contexts.values:
            try:
                bank.check_free(entry.name, [factor], overwrite=overwrite)
            except BankError as error:
                clashes.append((f"{factor}/{entry.name}", error))
    if len(clashes) == 1:
        raise BankError(f"{clashes[0][1]} Nothing was saved. {advice}")
    if clashes:
        named = ", ".join(name for name, _ in clashes[:4])
        more = f" and {len(clashes) - 4} more" if len(clashes) > 4 else ""
        raise BankError(
            f"{named}{more} cannot be saved. Nothing was saved. The first problem was: {clashes[0][1]} To "
            f"replace existing entries, use --overwrite. {advice}"
        )
