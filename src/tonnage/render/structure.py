"""The structure page: the tree of a model in columns, and below it what each part is."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import IO

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from tonnage.analyses.structure import Structure
from tonnage.render.sentences import LANGUAGES, Language, fill
from tonnage.render.text import Glyphs, console_for, glyphs_for, without_trailing_spaces
from tonnage.render.tree import OTHER_SHAPES, Branch, Line, branch_of, does_nothing, lines, shown_path
from tonnage.render.wrapping import wrap
from tonnage.units import format_bytes, format_count, short_count

_NARROW = 100
"""Below this width one cell between columns has to do."""
_LABEL = 40
"""Cells that the tree keeps before a further column is shown."""
_NO_BREAK = "\ue000"
"""Stands for a space while lines are broken; no text has it once it is clean."""
_SHORT = 4
"""Cells of a name that leaves room for its type beside it, such as a number."""
_INDENT = 4
"""Cells before a sentence."""
_FIRST = ("output", "parameters", "share")
_RAGGED = ("output", "dtype")
"""Columns that are aligned to the left."""
_FURTHER = ("macs", "kept", "dtype")
"""Columns that are shown where there is room, in the order in which they are worth it."""


def structure_page(
    structure: Structure,
    stream: IO[str],
    *,
    width: int | None = None,
    depth: int | None = None,
    lang: str = "en",
    explain: bool = True,
) -> str:
    """The structure as a page in the width, encoding and colours that `stream` has.

    `depth` is how many levels below the model are shown, `lang` a key of LANGUAGES; `explain` adds a sentence on each
    part. Wider terminals show more columns.
    """
    console = console_for(stream, width=width)
    glyphs, language = glyphs_for(console.encoding), LANGUAGES[lang]
    tree = branch_of(structure.root, language, depth=depth)
    with console.capture() as captured:
        _print_header(console, structure, language, glyphs)
        console.print()
        columns = _print_tree(console, list(lines(tree, glyphs)), language, glyphs)
        _print_notes(console, structure, tree, columns, language, glyphs)
        if explain:
            _print_sentences(console, tree, language, glyphs)
    return without_trailing_spaces(captured.get())


def _print_header(console: Console, structure: Structure, language: Language, glyphs: Glyphs) -> None:
    words = language.words
    said = [
        fill(words["total"], parameters=format_count(structure.parameters), short=short_count(structure.parameters)),
        ", ".join(structure.root.dtypes),
        fill(words["tied"], tied=format_count(structure.tied_parameters)) if structure.tied_parameters else "",
        fill(words["buffers"], buffers=format_count(structure.buffers)) if structure.buffers else "",
    ]
    _print(console, glyphs.clean(structure.name or structure.root.type), style="bold")
    for line in (structure.ran, language.differences["semicolon"].join(part for part in said if part)):
        if line:
            _print(console, glyphs.clean(line))


def _print_tree(console: Console, rows: Sequence[Line], language: Language, glyphs: Glyphs) -> Collection[str]:
    """Prints the tree and gives the columns that it has."""
    heading = {name: language.words[name] for name in ("module", *_FIRST, *_FURTHER)}
    widths = _column_widths(console.width, rows, heading)
    gap = _gap(console.width)
    longest = max(cell_len(row.bars + glyphs.clean(row.branch.label)) for row in rows)
    label = max(min(console.width - sum(width + gap for width in widths.values()), longest), 1)

    def show(line: Line, text: str, cells: Mapping[str, str]) -> None:
        style = "" if line.bars else "bold"
        shown = Text.assemble((line.bars, "dim"), (text, style))
        shown.append(" " * (label - shown.cell_len))
        for name, width in widths.items():
            cell = cells.get(name, "")
            padding = " " * (width - cell_len(cell))
            shown.append(" " * gap + (cell + padding if name in _RAGGED else padding + cell), style)
        console.print(shown)

    show(Line(Branch("", {}), "", ""), heading["module"], heading)
    for row in rows:
        text, hang = glyphs.clean(row.branch.label), cell_len(row.hang)
        first, *rest = _label_lines(text, label - cell_len(row.bars), label - hang)
        show(row, first, row.branch.cells)
        remarks = wrap(glyphs.clean(row.branch.remark), console.width - hang)
        for line, style in (*((line, "") for line in rest), *((line, "italic") for line in remarks if line)):
            console.print(Text.assemble((row.hang, "dim"), (line, style)))
    return widths


def _gap(width: int) -> int:
    return 1 if width < _NARROW else 2


def _label_lines(label: str, room: int, further: int) -> list[str]:
    """A label in a first line of `room` cells and further ones of `further`; a long name has the first for itself.

    A description breaks behind its commas.
    """
    name, colon, what = label.partition(": ")
    if cell_len(label) <= room:
        return [label]
    fits = all(cell_len(piece) < further for piece in what.split(", "))
    together = re.sub(r"(?<![,:]) ", _NO_BREAK, what) if fits else what
    if not colon or cell_len(name) <= _SHORT:
        found = wrap(f"{name}{colon}{together}", max(further, 8))
    else:
        found = [*wrap(f"{name}:", max(room, 8)), *wrap(together, max(further, 8))]
    return [line.replace(_NO_BREAK, " ") for line in found]


def _column_widths(width: int, rows: Sequence[Line], heading: Mapping[str, str]) -> dict[str, int]:
    """The cells of each column that there is something in and room for."""
    widths: dict[str, int] = {}
    for name in (*_FIRST, *_FURTHER):
        found = {row.branch.cells.get(name, "") for row in rows} - {""}
        wide = max(map(cell_len, (*found, heading[name])))
        taken = sum(widths.values()) + wide + _gap(width) * (len(widths) + 1)
        wanted = len(found) > 1 if name == "dtype" else bool(found)
        if wanted and (name in _FIRST or width - taken >= _LABEL):
            widths[name] = wide
    return widths


def _print_notes(
    console: Console,
    structure: Structure,
    tree: Branch,
    columns: Collection[str],
    language: Language,
    glyphs: Glyphs,
) -> None:
    """What the columns mean, as far as it is not plain."""
    words, nodes = language.words, [branch.node for branch in tree.walk() if branch.node is not None]
    notes = []
    if any(node.repeats > 1 for node in nodes):
        notes.append(words["folds"])
    if "kept" in columns:
        notes.append(words["kept_note"])
        if structure.kept_outside_bytes:
            notes.append(fill(words["kept_outside"], size=format_bytes(structure.kept_outside_bytes)))
    if "macs" in columns and any(node.macs_at_least for node in nodes):
        notes.append(words["at_least"])
    if any(node.outputs_differ for node in nodes):
        notes.append(fill(words["other_shapes"], mark=OTHER_SHAPES))
    if any(does_nothing(child) for node in nodes for child in node.children):
        notes.append(words["nothing"])
    if notes:
        console.print()
    for note in notes:
        _print(console, glyphs.clean(note), style="dim")


def _print_sentences(console: Console, tree: Branch, language: Language, glyphs: Glyphs) -> None:
    """A sentence on each part that is understood; equal ones once, with the first path that they are true of."""
    places: dict[str, list[str]] = {}
    for branch in tree.walk():
        node = branch.node
        if branch.whole and node is not None and node.explanation is not None:
            sentence = fill(language.sentences[node.explanation.kind], **node.explanation.numbers)
            places.setdefault(sentence, []).append(shown_path(node.path) or node.type)
    if not places:
        return
    console.print()
    _print(console, language.words["what"], style="bold")
    for sentence, paths in places.items():
        where = paths[0]
        if len(paths) > 1:
            where = fill(language.words["also"], path=where, more=len(paths) - 1)
        _print(console, glyphs.clean(where))
        for line in wrap(glyphs.clean(sentence), max(console.width - _INDENT, 8)):
            console.print(Text(" " * _INDENT + line, style="dim"))


def _print(console: Console, text: str, *, style: str = "") -> None:
    for line in wrap(text, console.width):
        console.print(Text(line, style=style))
