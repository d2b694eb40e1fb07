"""The report page of a sinusoid run: the swap, the protocol's figures, contexts, training."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dmcm.learner import Learner
from dmcm.models import load_learner
from dmcm.report import (
    CONTEXTS_CAPTION,
    Block,
    Headline,
    Page,
    Picture,
    Section,
    Table,
    about_run,
    show_cell,
    show_number,
    stored_values,
    training_section,
    write_page,
)
from dmcm.runs import RunFolder
from dmcm.sinusoid import pictures
from dmcm.sinusoid.methods import method_named
from dmcm.sinusoid.protocol import SPLITS, TASKS, has_both_factors
from dmcm.storage import read_json

CONTROL = "control"
"""Folder, inside a run, of a second run to compare with."""
EXPECTED_STEPS = 20_000
"""Outer steps after which `EXPECTED` holds."""
EXPECTED: dict[str, dict[str, float | None]] = {
    "few_shot": {"seen": 1.2e-6, "unseen_pair": 6.1e-6, "range": None},
    "zero_shot": {"seen": 2.0e-6, "unseen_pair": 1.0e-5, "range": None},
}
"""Mean errors of method "dmcm" after `EXPECTED_STEPS` steps with seed 0, by measure and split.

None where a few tasks dominate the mean: beyond the training range it differs tenfold between seeds.
"""


def write_report(folder: RunFolder, about: Mapping[str, Any]) -> None:
    """Draw and write `report.html` from the files in the run folder.

    Raises:
        StorageError: the run has no model or no metrics, or they cannot be read.
    """
    with stored_values(folder):
        write_page(folder, build_page(folder, about))


def build_page(folder: RunFolder, about: Mapping[str, Any]) -> Page:
    """The page of a run; raises the same errors as `write_report`."""
    metrics, learner = folder.read_metrics(), load_learner(folder.model)
    control = read_control(folder)
    method = method_named(about["method"])
    table = error_table(about, metrics, control)
    sections: list[Section] = []
    if has_both_factors(learner):
        sections.append(_swap(learner, control))
    sections += [
        Section(
            "How well it predicts",
            (
                f"Mean squared errors over {TASKS:,} test tasks a split, on 100 points each. Training saw "
                "amplitudes from 0.1 to 5 and phases from 0 to π, but never both above 2.5 and π/2. Seen "
                "tasks lie outside that block, unseen pairs inside it; out of range means an amplitude up "
                "to 7 or a phase up to 1.25 π.",
                table,
                *expected_tables(about),
                median_table(about, metrics, control),
            ),
        ),
        Section(
            "Ten points are enough",
            (
                "Few-shot adaptation: the network stays fixed; only the contexts are fitted to ten points.",
                Picture.of(
                    pictures.fitted_picture(learner),
                    "The given points, and the prediction on top of the pale truth. Upper row: pairs like "
                    "those in training; lower row: pairs of amplitude and phase that training never saw.",
                    "Fitted curves",
                ),
            ),
        ),
        Section(
            "Where it errs",
            (
                Picture.of(
                    pictures.plane_picture(learner),
                    "One dot a task. The frame marks the pairs kept out of training. Left, contexts from ten "
                    "points of the task itself; right, amplitude and phase contexts from two other tasks.",
                    "Errors over amplitude and phase",
                ),
            ),
        ),
        _contexts(learner, metrics),
        _shots(metrics),
        training_section(folder),
        about_run(folder, about),
    ]
    few, zero = (metrics["protocol"][name]["unseen_pair"]["mean"] for name in ("few_shot", "zero_shot"))
    items = [
        (show_cell(few), "few-shot error on unseen pairs: ten points of the task itself"),
        (show_cell(zero), "zero-shot error on unseen pairs: not one point of the task"),
    ]
    if control is not None:
        other = control[1]["protocol"]["zero_shot"]["unseen_pair"]["mean"]
        items.append((show_cell(other), "the same for a single context, trained in the same way"))
    return Page(
        "Sinusoids, one context for each factor" if has_both_factors(learner) else "Sinusoids",
        f"y = A·sin(x − φ), where amplitude A and phase φ vary from task to task. {method.title}; "
        f"{about['steps']:,} training steps, seed {about['seed']}.",
        (Headline(tuple(items)),),
        tuple(section for section in sections if section.blocks),
    )


def error_table(
    about: Mapping[str, Any],
    metrics: Mapping[str, Any],
    control: tuple[Learner, Mapping[str, Any], Mapping[str, Any]] | None = None,
) -> Table:
    """Mean errors few-shot and zero-shot on all splits."""
    rows = [_error_row(method_named(about["method"]).title, metrics, "mean")]
    if control is not None:
        rows.append(_error_row(method_named(control[2]["method"]).title, control[1], "mean"))
    caption = "Mean over tasks; lower is better, the best is bold."
    if control is not None:
        caption += (
            " A single context cannot be taken apart: its zero-shot figure is the best of three ways to "
            "combine two."
        )
    return _split_table(rows, caption)


def expected_tables(about: Mapping[str, Any]) -> tuple[Table, ...]:
    """The errors to expect of a run, if they are known."""
    if (about["method"], about["steps"]) != ("dmcm", EXPECTED_STEPS):
        return ()
    caption = (
        "The authors' result of this command, with seed 0. Another processor rounds differently, which "
        "training amplifies: errors a few times higher or lower are no cause for concern."
    )
    row = _error_row("to expect of DMCM", {"protocol": _as_protocol(EXPECTED)}, "mean")
    return (_split_table([row], caption),)


def median_table(
    about: Mapping[str, Any],
    metrics: Mapping[str, Any],
    control: tuple[Learner, Mapping[str, Any], Mapping[str, Any]] | None = None,
) -> Table:
    """Like `error_table`, with medians."""
    rows = [_error_row(method_named(about["method"]).title, metrics, "median")]
    if control is not None:
        rows.append(_error_row(method_named(control[2]["method"]).title, control[1], "median"))
    return _split_table(rows, "Median over tasks: the error of a typical task, without the few that fail.")


def _as_protocol(means: Mapping[str, Mapping[str, float | None]]) -> dict[str, Any]:
    return {m: {split: {"mean": value} for split, value in splits.items()} for m, splits in means.items()}


def _split_table(rows: list[list[Any]], caption: str) -> Table:
    splits = tuple(pictures.SPLIT_NAMES[split] for split in SPLITS)
    count = len(SPLITS)
    return Table(
        ("method", *splits, *splits),
        rows,
        caption,
        best=tuple(range(1, 1 + 2 * count)),
        groups=(("", 1), ("few-shot: 10 own points", count), ("zero-shot: no own point", count)),
    )


def _error_row(title: str, metrics: Mapping[str, Any], kind: str) -> list[Any]:
    errors = metrics["protocol"]
    return [title] + [
        errors[measure][split][kind] for measure in ("few_shot", "zero_shot") for split in SPLITS
    ]


def read_control(folder: RunFolder) -> tuple[Learner, dict[str, Any], dict[str, Any]] | None:
    """Model, metrics and configuration of the run to compare with, if there is one."""
    path: Path = folder.path / CONTROL
    if not (path / "metrics.json").exists():
        return None
    other = RunFolder(path)
    return load_learner(other.model), other.read_metrics(), read_json(path / "config.json")


def _swap(learner: Learner, control: tuple[Learner, Any, Any] | None) -> Section:
    example = pictures.swap_example(learner)
    other = pictures.swap_example(control[0]) if control is not None else None
    names = {"a": "A", "b": "B", "mixed": "the mix"}
    errors = ", ".join(f"{show_number(example.error(key))} ({name})" for key, name in names.items())
    blocks: list[Block] = [
        "Situation A has a large amplitude, situation B a late phase. From ten points of each, the model "
        "found a context for the amplitude and one for the phase. Put together, A's amplitude and B's phase "
        "predict a third sinusoid. The model saw no point of it, and no training task had such a pair.",
        Picture.of(
            pictures.swap_picture(example, other),
            f"Prediction on top of the pale truth. Mean squared errors: {errors}.",
            "Two situations mixed into a third",
        ),
    ]
    return Section("Two situations make a third", tuple(blocks))


def _contexts(learner: Learner, metrics: Mapping[str, Any]) -> Section:
    blocks: list[Block] = [
        Picture.of(
            pictures.contexts_picture(learner),
            CONTEXTS_CAPTION,
            "Contexts coloured by the true factors",
        )
    ]
    if "probes" in metrics:
        rows = [
            [f"{name} context", row["amplitude"], row["phase"]] for name, row in metrics["probes"].items()
        ]
        blocks.append(
            Table(
                ("R² of a probe", "amplitude", "phase"),
                rows,
                "How much of each factor a kernel regression reads off contexts it was not trained on: 1 is "
                "everything, 0 nothing.",
            )
        )
    if "swap" in metrics:
        rows = [
            [f"{name} swapped", row["amplitude"]["rms"], row["phase"]["rms"]]
            for name, row in metrics["swap"].items()
        ]
        blocks.append(
            Table(
                ("swap test", "amplitude is off by", "phase is off by"),
                rows,
                "One context is replaced by another task's: the swapped factor should follow the donor, the "
                "other should stay. Root mean squares in units of the factor's standard deviation over "
                "tasks, so 1 is as bad as a constant.",
            )
        )
    if "clamp" in metrics:
        clamp = metrics["clamp"]
        rows = [["none", clamp["free"], None]]
        rows += [[name, row["replaced"], row["held"]] for name, row in clamp.items() if name != "free"]
        blocks.append(
            Table(
                ("context at the prior mean", "after adapting", "while the other adapts"),
                rows,
                "Mean squared error with one factor's context clamped: what the model loses without it.",
            )
        )
    return Section("What each context carries", tuple(blocks))


def _shots(metrics: Mapping[str, Any]) -> Section:
    blocks: list[Block] = []
    if "shots" in metrics:
        blocks.append(
            Picture.of(
                pictures.shots_picture(metrics["shots"]),
                "Few-shot error against the number of points given; training always gave ten.",
                "Error against the number of points",
            )
        )
    if metrics.get("inner_steps"):
        blocks.append(
            Picture.of(
                pictures.inner_steps_picture(metrics["inner_steps"]),
                "Errors against the number of inner steps at use. Flat lines are good: contexts that depend "
                "on the length of the search for them do not mix.",
                "Error against the number of inner steps",
            )
        )
    return Section("More points, more steps", tuple(blocks))
