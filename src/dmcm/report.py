"""One self-contained HTML page from text, tables and figures. Knows no domain; escapes all its input."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import importlib.resources
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from dmcm.errors import StorageError
from dmcm.plots import learning_curves, plain, to_svg
from dmcm.runs import RunFolder
from dmcm.storage import read_json, write_atomic


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A measured number, with the half-width of its interval if there is one."""

    value: int | float | None
    half_width: int | float | None = None


CONTEXTS_CAPTION = (
    "One dot a task, drawn on the two main axes of the context vectors. Ordered colours mean that the "
    "context carries the factor, mixed colours that it does not. Ideally, the diagonal is ordered and the "
    "rest is mixed."
)
"""How to read `dmcm.plots.context_panels`."""
Cell = str | int | float | Estimate | None
"""Content of a table cell; None is shown as a dash."""


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows of text and numbers.

    Attributes:
        columns: one heading a column.
        rows: cells; columns of numbers are right-aligned.
        caption: what to see, in one or two sentences.
        best: columns whose lowest number is set in bold.
        groups: headings over several columns, (text, number of columns) each, covering all columns.
    """

    columns: tuple[str, ...]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""
    best: tuple[int, ...] = ()
    groups: tuple[tuple[str, int], ...] = ()

    def numeric(self, column: int) -> bool:
        """Whether a column holds only numbers (and dashes)."""
        return bool(self.rows) and not any(isinstance(row[column], str) for row in self.rows)

    def is_best(self, row: int, column: int) -> bool:
        """Whether a cell is bold: the lowest number of a column in `best`, or displayed the same as it."""
        if column not in self.best or len(self.rows) < 2:
            return False
        values = [cell_value(each[column]) for each in self.rows]
        known = [value for value in values if value is not None]
        value = values[row]
        return value is not None and show_number(value) == show_number(min(known))


@dataclasses.dataclass(frozen=True)
class Picture:
    """A figure with a caption that says what to see.

    Attributes:
        svg: the figure as SVG text.
        caption: text under the figure.
        title: short description, for readers who cannot see the figure; also the name of its file.
    """

    svg: str
    caption: str
    title: str

    @classmethod
    def of(cls, figure: Figure, caption: str, title: str) -> Picture:
        """From a figure drawn with `dmcm.plots`."""
        return cls(to_svg(figure), caption, title)

    def file_name(self) -> str:
        """The title as a file name."""
        return _file_name(self.title, "svg")


@dataclasses.dataclass(frozen=True)
class Film:
    """A moving picture with a caption that says what to see.

    Attributes:
        gif: the animation, as the bytes of a GIF file.
        caption: text under the animation.
        title: short description, for readers who cannot see it; also the name of its file.
    """

    gif: bytes
    caption: str
    title: str

    def file_name(self) -> str:
        """The title as a file name."""
        return _file_name(self.title, "gif")


@dataclasses.dataclass(frozen=True)
class Headline:
    """A few numbers in large type.

    Attributes:
        items: one (number as text, what it is) a number.
    """

    items: tuple[tuple[str, str], ...]


@dataclasses.dataclass(frozen=True)
class Facts:
    """Settings and versions, as names and values; nested mappings are flattened.

    Attributes:
        values: what to list.
        title: the line that unfolds the list; without it, the list is always open.
    """

    values: Mapping[str, Any]
    title: str = ""


Block = str | Table | Picture | Film | Headline | Facts
"""A part of a section; text is a paragraph."""


@dataclasses.dataclass(frozen=True)
class Section:
    """A heading and the content below it."""

    title: str
    blocks: tuple[Block, ...]


@dataclasses.dataclass(frozen=True)
class Page:
    """A whole report.

    Attributes:
        title: the page's heading.
        lead: what the page shows and the main result, in two or three sentences.
        blocks: content before the first section.
        sections: the rest.
    """

    title: str
    lead: str
    blocks: tuple[Block, ...] = ()
    sections: tuple[Section, ...] = ()

    def pictures(self) -> list[Picture | Film]:
        """All pictures and films in order."""
        blocks = [*self.blocks, *(block for section in self.sections for block in section.blocks)]
        return [block for block in blocks if isinstance(block, Picture | Film)]


def write_page(folder: RunFolder, page: Page) -> Path:
    """Write `report.html`, without scripts or external resources, and its pictures into `plots/`.

    Returns:
        The page's file.

    Raises:
        StorageError: a file cannot be written.
    """
    taken: dict[str, int] = {}
    for picture in page.pictures():
        content = picture.gif if isinstance(picture, Film) else picture.svg.encode()
        name = Path(picture.file_name())
        # Titles that differ only in punctuation have the same file name.
        taken[name.name] = count = taken.get(name.name, 0) + 1
        write_atomic(
            folder.plots / (f"{name.stem}-{count}{name.suffix}" if count > 1 else name.name), content
        )
    write_atomic(folder.report, render(page).encode())
    return folder.report


def render(page: Page) -> str:
    """The page as HTML text."""
    sections = "".join(
        f"<section><h2>{_text(section.title)}</h2>{''.join(map(_block, section.blocks))}</section>"
        for section in page.sections
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{_text(page.title)}</title><style>{_style()}</style></head><body><main>"
        f'<header><h1>{_text(page.title)}</h1><p class="lead">{_text(page.lead)}</p>'
        f"{''.join(map(_block, page.blocks))}</header>{sections}</main></body></html>\n"
    )


@contextlib.contextmanager
def stored_values(folder: RunFolder) -> Iterator[None]:
    """Turn a value that a run's JSON files lack into an error that says so.

    Raises:
        StorageError: code in the `with` block looked up a name that is missing.
    """
    try:
        yield
    except KeyError as error:
        raise StorageError(
            f"the files of {folder.path} lack {error}: they were edited, or written by another version. "
            "Measure the run again with `dmcm evaluate`."
        ) from error


def training_section(folder: RunFolder) -> Section:
    """A section on how the losses fell during training."""
    caption = (
        "Query losses during training. Own contexts: each task with its own contexts. Recombined: each "
        "factor's context from another task with the same label."
    )
    return Section("Training", (Picture.of(learning_curves(folder.history()), caption, "Learning curves"),))


def about_run(folder: RunFolder, about: Mapping[str, Any]) -> Section:
    """A section on the settings, versions and machine of a run.

    Args:
        folder: the run's folder; `environment.json` in it may be missing.
        about: the run's configuration.
    """
    file = folder.path / "environment.json"
    environment = read_json(file) if file.exists() else {}
    git = environment.get("git") or {}
    blocks: list[Block] = []
    if environment:
        packages = environment.get("packages", {})
        line = f"dmcm {packages.get('dmcm', '?')}"
        if git:
            line += f" at commit {git['commit'][:12]}{', with uncommitted changes' if git['dirty'] else ''}"
        blocks.append(f"{line}; JAX {packages.get('jax', '?')}, Python {environment.get('python', '?')}.")
        blocks.append(Facts(environment, "Versions and machine"))
    return Section("This run", (*blocks, Facts(about, "Settings")))


def cell_value(cell: Cell) -> int | float | None:
    """The number in a cell; None for text, dashes and numbers that are not finite."""
    value = cell.value if isinstance(cell, Estimate) else cell
    if value is None or isinstance(value, str) or not math.isfinite(value):
        return None
    return value


def show_cell(cell: Cell) -> str:
    """A cell as text."""
    if isinstance(cell, str):
        return plain(cell)
    value = cell_value(cell)
    if value is None:
        return "–"
    half = cell.half_width if isinstance(cell, Estimate) else None
    return show_number(value) if half is None else f"{show_number(value)} ± {show_number(half)}"


def show_number(value: int | float) -> str:
    """A number with two to three significant digits; whole numbers in full."""
    if isinstance(value, int):
        return f"{value:,}"
    size = abs(value)
    if size == 0 or not math.isfinite(size):
        return "0" if size == 0 else "–"
    if size < 1e-4:
        mantissa, exponent = f"{value:.1e}".split("e")
        return f"{mantissa}e{int(exponent)}"
    if size < 1:
        return f"{value:.{1 - math.floor(math.log10(size))}f}"
    return f"{value:,.{max(0, 2 - math.floor(math.log10(size)))}f}"


def flatten(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested mappings as (dotted name, value as text), in order."""
    rows: list[tuple[str, str]] = []
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            rows += flatten(value, f"{prefix}{name}.")
        elif isinstance(value, (list, tuple)):
            rows.append((f"{prefix}{name}", ", ".join(map(str, value)) or "–"))
        else:
            rows.append((f"{prefix}{name}", "–" if value is None or value == {} else str(value)))
    return rows


def _block(block: Block) -> str:
    if isinstance(block, str):
        return f"<p>{_text(block)}</p>"
    if isinstance(block, Table):
        return _table(block)
    if isinstance(block, Picture | Film):
        kind, content = ("gif", block.gif) if isinstance(block, Film) else ("svg+xml", block.svg.encode())
        data = base64.b64encode(content).decode()
        return (
            f'<figure><img alt="{_text(block.title)}" src="data:image/{kind};base64,{data}">'
            f"<figcaption>{_text(block.caption)}</figcaption></figure>"
        )
    if isinstance(block, Headline):
        items = "".join(
            f"<div><strong>{_text(number)}</strong><span>{_text(name)}</span></div>"
            for number, name in block.items
        )
        return f'<div class="headline">{items}</div>'
    rows = "".join(
        f"<div><dt>{_text(name)}</dt><dd>{_text(value)}</dd></div>" for name, value in flatten(block.values)
    )
    facts = f"<dl>{rows}</dl>"
    return f"<details><summary>{_text(block.title)}</summary>{facts}</details>" if block.title else facts


def _table(table: Table) -> str:
    numeric = [table.numeric(j) for j in range(len(table.columns))]
    head = ""
    if table.groups:
        cells = "".join(
            f'<th colspan="{span}"{_mark(group=bool(text))} scope="colgroup">{_text(text)}</th>'
            for text, span in table.groups
        )
        head = f"<tr>{cells}</tr>"
    heads = zip(table.columns, numeric, strict=True)
    head += "<tr>" + "".join(f'<th scope="col"{_mark(number=n)}>{_text(c)}</th>' for c, n in heads) + "</tr>"
    body = ""
    for i, row in enumerate(table.rows):
        cells = "".join(
            f"<td{_mark(number=numeric[j], best=table.is_best(i, j))}>{_text(show_cell(cell))}</td>"
            for j, cell in enumerate(row)
        )
        body += f"<tr>{cells}</tr>"
    caption = f"<figcaption>{_text(table.caption)}</figcaption>" if table.caption else ""
    grid = f"<table><thead>{head}</thead><tbody>{body}</tbody></table>"
    return f'<figure><div class="scroll">{grid}</div>{caption}</figure>'


def _file_name(title: str, suffix: str) -> str:
    words = re.findall(r"[^\W_]+", title.lower())
    return f"{'-'.join(words)}.{suffix}"


def _mark(**classes: bool) -> str:
    """A class attribute with the names that are true."""
    names = " ".join(name for name, wanted in classes.items() if wanted)
    return f' class="{names}"' if names else ""


def _text(value: str) -> str:
    return escape(plain(value), quote=True)


def _style() -> str:
    return importlib.resources.files("dmcm").joinpath("report.css").read_text(encoding="utf-8")
