"""The report page of a run on a table: errors, fitted curves, contexts by label, the held-out swap."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dmcm.data import FactorDataset
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
    stored_values,
    training_section,
    write_page,
)
from dmcm.runs import RunFolder
from dmcm.tabular.pictures import contexts_picture, fitted_picture, held_out_picture
from dmcm.tabular.runs import TableConfig, TableSplit, read_own, split_tasks


def write_report(folder: RunFolder, about: Mapping[str, Any]) -> None:
    """Draw and write `report.html` from the files in the run folder and the run's table.

    Raises:
        StorageError: the run has no model or metrics, they cannot be read, or its table is gone.
        DmcmError: as for `TableConfig.read`.
    """
    with stored_values(folder):
        write_page(folder, build_page(folder, about))


def build_page(folder: RunFolder, about: Mapping[str, Any]) -> Page:
    """The page of a run; raises the same errors as `write_report`."""
    config = TableConfig.from_about(about)
    data = read_own(config, about)
    split = split_tasks(config, data)
    metrics, learner = folder.read_metrics(), load_learner(folder.model)
    sections = [
        Section("Tasks", (combination_table(data, split),)),
        Section("How well it predicts", (_errors_text(), error_table(metrics))),
    ]
    if split.held_out is not None:
        sections.append(_held_out(learner, split, metrics, config))
    sections += [
        _fitted(learner, split.train),
        Section(
            "What each context carries",
            (
                Picture.of(
                    contexts_picture(learner, data),
                    CONTEXTS_CAPTION,
                    "Contexts coloured by the labels",
                ),
            ),
        ),
        training_section(folder),
        about_run(folder, about),
    ]
    items = [
        (
            show_cell(metrics["few_shot"].get("mean")),
            "few-shot error on training tasks, own samples held back",
        )
    ]
    if "mean" in metrics["swap"]:
        items.append(
            (
                show_cell(metrics["swap"]["mean"]),
                "with every context taken from other tasks with the same label",
            )
        )
    zero = metrics.get("held_out", {}).get("zero_shot", {}).get("mean")
    if zero is not None:
        items.append((show_cell(zero), "on the held-out combination, without any of its samples"))
    return Page(
        f"{config.table.name}: {', '.join(data.output_names)}",
        f"{len(data)} tasks, {int(data.weight.sum()):,} samples; one context for each of "
        f"{_listed(config.factors)}. Errors are mean squares in units of the outputs' variance: 0 is "
        "perfect, 1 as bad as the overall mean.",
        (Headline(tuple(items)),),
        tuple(section for section in sections if section.blocks),
    )


def combination_table(data: FactorDataset, split: TableSplit | None = None) -> Table:
    """Number of tasks of each combination of labels and, where they differ, how the tasks are used."""
    names = data.factor_names
    parts = {} if split is None else {"held out": split.held_out, "choose the model": split.validation}
    apart = {use: part.combinations() for use, part in parts.items() if part is not None}
    rows = []

    def order(found: tuple[tuple[Any, ...], int]) -> list[int]:
        return [data.levels[name].index(label) for name, label in zip(names, found[0], strict=True)]

    for labels, count in sorted(data.combinations().items(), key=order):
        uses = {use: found[labels] for use, found in apart.items() if labels in found}
        if (rest := count - sum(uses.values())) > 0:
            uses = {"trained on": rest, **uses}
        told = [use if len(uses) == 1 else f"{n} {use}" for use, n in uses.items()]
        rows.append([*map(str, labels), count, *([", ".join(told)] if apart else [])])
    return Table((*names, "tasks", *(["use"] if apart else [])), rows, "Tasks by their labels.")


def error_table(metrics: Mapping[str, Any], tasks: str = "training tasks") -> Table:
    """All errors a table run measured, mean and median over tasks.

    Args:
        metrics: measures from `tabular.measures`.
        tasks: what to call the tasks that are not held out.
    """
    held = metrics.get("held_out", {})
    rows = [
        (f"{tasks}, few-shot: rest of the samples", metrics.get("few_shot")),
        (f"{tasks}, swapped: contexts of other tasks", metrics.get("swap")),
        ("held out, zero-shot: pooled contexts of the labels", held.get("zero_shot")),
        ("held out, mean curve of tasks sharing a label", held.get("label_curve")),
        ("held out, mean curve of all training tasks", held.get("mean_curve")),
        ("held out, few-shot: own samples", held.get("few_shot")),
    ]
    cells = [[name, found["mean"], found["median"]] for name, found in rows if found and "mean" in found]
    return Table(
        ("error", "mean", "median"),
        cells,
        "Over tasks. 0 is perfect, 1 as bad as predicting the mean of the training samples.",
    )


def _errors_text() -> str:
    return (
        "Few-shot: a task's contexts are fitted to some of its samples and tested on the rest. Swapped: "
        "every context comes from another task with the same label. Zero-shot: each label's context is "
        "fitted to all training tasks with that label, and the contexts are then mixed. The mean curves need "
        "no contexts."
    )


def _held_out(
    learner: Learner, split: TableSplit, metrics: Mapping[str, Any], config: TableConfig
) -> Section:
    """The swap as a picture, one a held-out combination (at most four)."""
    assert split.held_out is not None
    mixed = "zero_shot" in metrics.get("held_out", {})
    how = (
        "It predicts them from contexts of other tasks, each of which shares one label with them."
        if mixed
        else "Each has a label that no training task carries, so no contexts can be mixed for it."
    )
    blocks: list[Block] = [
        f"Held out: {', '.join(f'{name} {label}' for name, label in config.hold_out.items())}. The model "
        f"never trained on these tasks. {how}"
    ]
    if learner.inputs == 1 and mixed:
        names = split.held_out.factor_names
        combinations = [
            (labels, split.held_out.where(**dict(zip(names, labels, strict=True))))
            for labels in split.held_out.combinations()
        ]
        # A label without training tasks has no context to mix.
        known = [
            (labels, own)
            for labels, own in combinations
            if all(own.labels[name][0] in split.train.labels[name] for name in names)
        ]
        for labels, own in known[:4]:
            blocks.append(
                Picture.of(
                    held_out_picture(learner, split.train, own, 0),
                    "Left, the training tasks each context was pooled from. Right, the prediction from their "
                    "mix, the measurements of the held-out combination, and the mean curve of all training "
                    "tasks, which needs no contexts.",
                    f"Held out: {', '.join(str(label) for label in labels)}, predicted by a swap",
                )
            )
    return Section(f"A {'combination' if mixed else 'label'} outside training", tuple(blocks))


def _fitted(learner: Learner, data: FactorDataset) -> Section:
    blocks: list[Block] = []
    for output, name in enumerate(data.output_names[:3]):
        kind = "Prediction" if learner.inputs == 1 else "Predicted against measured; on the line they agree"
        blocks.append(
            Picture.of(
                fitted_picture(learner, data, output),
                f"{kind}: {name} of some training tasks, adapted to the filled points and tested on the "
                "hollow ones.",
                f"Fitted curves of {name}",
            )
        )
    return Section("Fitted curves", tuple(blocks))


def _listed(names: Mapping[str, int]) -> str:
    return " and ".join(names) if len(names) < 3 else ", ".join(names)
