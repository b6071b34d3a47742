"""The parameter page: the closed form in symbols and in numbers, its proof, each part of it, and the counts."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import IO

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tonnage.analyses.closed_form.latex import latex_of
from tonnage.analyses.expressions import parse
from tonnage.analyses.forms import Component, ParameterForm, Symbol
from tonnage.render.header import header
from tonnage.render.notes import paragraph
from tonnage.render.text import Glyphs, console_for, glyphs_for, without_trailing_spaces
from tonnage.report import ParameterReport
from tonnage.units import format_bytes, format_count, short_count

_NUMBERS = 22
"""Cells of the columns of parameters and shares, and of the gaps."""
_LATEX_SIGN = re.compile(r"[#$%&_{}]")
_REPEATS = re.compile(r"^.*\{[\d,-]+\}")
"""The part of a folded path up to the last run of repeats."""


def params_page(report: ParameterReport, stream: IO[str], *, width: int | None = None) -> str:
    """The page of one subject, in the width, encoding and colours that `stream` has."""
    console = console_for(stream, width=width)
    glyphs = glyphs_for(console.encoding)
    with console.capture() as captured:
        for line in header(console, report.subject, glyphs):
            console.print(line)
        console.print()
        for label, lines in _paragraphs(report, glyphs):
            paragraph(console, label, lines)
        console.print()
        form = report.parameters.form
        if form is not None:
            console.print(_components(form, glyphs, console))
            console.print()
        paragraph(console, "counts", list(_counts(report)))
    return without_trailing_spaces(captured.get())


def params_markdown(report: ParameterReport, stream: IO[str]) -> str:
    """The same as Markdown: the formula in LaTeX, its symbols, and a table of the components."""
    form = report.parameters.form
    assert form is not None, "a parameter report has a form"
    lines = [f"# Parameters of {report.subject.name}", "", f"**{format_count(form.total)}**, each tensor counted once."]
    if form.formula:
        lines += ["", f"$${form.latex}$$", "", "| symbol | field | value |", "| --- | --- | ---: |"]
        lines += [f"| ${latex_of(s.symbol)}$ | `{s.field}` | {s.value:,} |" for s in form.symbols]
    lines += ["", "| component | once | in numbers | times | parameters |", "| --- | --- | --- | ---: | ---: |"]
    for c in form.components:
        symbols, numbers = _shown(c)
        name = (c.path or c.kind).replace("|", r"\|")
        lines.append(f"| `{name}` | `{symbols}` | `{numbers}` | {_times(c)} | {format_count(c.total)} |")
    return "\n".join([*lines, f"| **total** | | | | **{format_count(form.total)}** |", ""])


def params_latex(report: ParameterReport, stream: IO[str]) -> str:
    """The derivation as LaTeX: the formula as an equation and the components as a table (booktabs)."""
    form = report.parameters.form
    assert form is not None, "a parameter report has a form"
    lines = [f"% {report.subject.name}: {format_count(form.total)} parameters"]
    if form.formula:
        number = f"{form.total:,}".replace(",", "{,}")
        lines += [r"\begin{equation}", f"  N = {form.latex} = {number}", r"\end{equation}"]
    lines += [r"\begin{tabular}{llrr}", r"  \toprule", r"  component & once & times & parameters \\", r"  \midrule"]
    for c in form.components:
        name = _LATEX_SIGN.sub(r"\\\g<0>", c.path or c.kind)
        lines.append(rf"  \texttt{{{name}}} & ${latex_of(_shown(c)[0])}$ & ${latex_of(c.times)}$ & {c.total:,} \\")
    return "\n".join([*lines, r"  \bottomrule", r"\end{tabular}", ""])


def _shown(row: Component) -> tuple[str, str]:
    """In symbols and in numbers; where nothing varies, as a textbook counts this kind of module."""
    if row.formula == row.substituted:
        return row.arithmetic or row.worked, row.worked
    return row.formula, row.substituted


def _times(row: Component) -> str:
    return row.times if row.times.isdecimal() else f"{row.times} = {row.repeats}"


def _paragraphs(report: ParameterReport, glyphs: Glyphs) -> Iterator[tuple[str, list[str | Text]]]:
    count, form = report.parameters, report.parameters.form
    total = f"{format_count(count.total)} ({short_count(count.total)}), each tensor counted once; {count.known}"
    yield "parameters", [Text(total, style="bold")]
    if form is None:
        return
    if form.formula:
        yield "formula", [Text(form.formula, style="bold")]
        yield "in numbers", [f"{form.substituted} = {format_count(form.total)}", _agreement(count.total, form, glyphs)]
        if (constant := _constant(form)) * 2 > form.total:
            yield "", [f"{format_count(constant)} of it follow no size: the table below says what they are"]
        yield "proved", list(_proofs(form, glyphs))
        yield "where", [_symbol(symbol) for symbol in form.symbols]
    else:
        yield "formula", [f"none of sizes: {form.reason}; the arithmetic of each module instead"]
        yield "in numbers", [f"{form.arithmetic} = {format_count(form.total)}", _agreement(count.total, form, glyphs)]
    conditions = list(_conditions(form))
    if conditions:
        yield "holds for", list(conditions)
    if report.guesses:
        yield "guessed", [glyphs.clean(guess) for guess in report.guesses]


def _constant(form: ParameterForm) -> int:
    """What components add in which no symbol stands."""
    letters = {symbol.symbol for symbol in form.symbols}
    return sum(c.total for c in form.components if not letters & (parse(c.formula).symbols | parse(c.times).symbols))


def _agreement(total: int, form: ParameterForm, glyphs: Glyphs) -> str:
    sign = glyphs.tick if total == form.total else glyphs.cross
    return f"{sign} the sum over the model's own tensors: {format_count(total)}"


def _proofs(form: ParameterForm, glyphs: Glyphs) -> Iterator[str]:
    if not form.proofs:
        yield f"{glyphs.cross} no other configuration could be built"
        return
    held = sum(proof.holds for proof in form.proofs)
    sign = glyphs.tick if form.proved else glyphs.cross
    yield f"{sign} {held} of {len(form.proofs)} configurations that it was not derived from, such as"
    proof = max(form.proofs, key=lambda proof: len(proof.changes))
    letters = {symbol.field: symbol.symbol for symbol in form.symbols}
    changes = ", ".join(f"{letters[name]}={value}" for name, value in proof.changes.items() if name in letters)
    yield f"{changes}: {format_count(proof.predicted)} predicted, {format_count(proof.counted)} counted"


def _symbol(symbol: Symbol) -> str:
    name = f" {symbol.field}" if symbol.field != symbol.symbol else ""
    follows = f", which is {symbol.definition} unless it is given" if symbol.definition else ""
    return f"{symbol.symbol} = {format_count(symbol.value)}{name}{follows}"


def _conditions(form: ParameterForm) -> Iterator[str]:
    fixed = [f"{name}={value}" for name, value in form.settings.items() if name not in form.switches]
    if fixed:
        yield ", ".join(fixed)
    for name, added in form.switches.items():
        yield f"{name}={form.settings[name]}; otherwise + {added}".replace("+ -", "- ")
    for one, other in form.apart:
        yield f"{one} other than {other}"
    for name, size in form.least.items():
        yield f"{name} of {size} and more"
    if form.whole:
        yield f"sizes with which {', '.join(form.whole)} {'is a whole number' if len(form.whole) == 1 else 'are whole'}"
    for follower, leader in form.moves.items():
        yield f"{follower} in proportion to {leader}"
    for name, reason in form.held.items():
        yield f"{name}={form.sizes[name]}: {reason}"


def _components(form: ParameterForm, glyphs: Glyphs, console: Console) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", width=console.width)
    table.add_column("component", overflow="fold", ratio=9)
    table.add_column("formula", overflow="fold", ratio=8)
    room = (console.width - _NUMBERS) * 9 // 17
    table.add_column("parameters", justify="right", no_wrap=True)
    table.add_column("share", justify="right", no_wrap=True)
    blocks: dict[object, list[Component]] = {}
    for number, component in enumerate(form.components):
        blocks.setdefault(_block(component) or number, []).append(component)
    for rows in blocks.values():
        block = _block(rows[0])
        if block is not None and rows[0].repeats > 1:
            _add_block(table, block, rows, form, glyphs, room)
        else:
            for row in rows:
                _add(table, row.path, row, form, glyphs, room)
    return table


def _block(component: Component) -> tuple[str, str] | None:
    found = _REPEATS.match(component.path)
    return (found[0], component.times) if found else None


def _add_block(
    table: Table, block: tuple[str, str], rows: Sequence[Component], form: ParameterForm, glyphs: Glyphs, room: int
) -> None:
    path, times = block
    total = sum(row.total for row in rows)
    label = f"{times} = {rows[0].repeats}" if not times.isdecimal() else times
    count = f"{label} {glyphs.times} {format_count(sum(row.each for row in rows))}"
    table.add_row(Text(glyphs.clean(path)), Text(count), Text(format_count(total)), _share(total, form), style="bold")
    for row in rows:
        _add(table, f"  {row.path.removeprefix(path).removeprefix('.')}", row, form, glyphs, room, once=True)


def _add(
    table: Table, path: str, row: Component, form: ParameterForm, glyphs: Glyphs, room: int, *, once: bool = False
) -> None:
    name = path if path.strip() else f"{path}{row.kind}"
    if row.kind and row.path and not row.arithmetic and row.parameters != ["weight"]:
        name += f".{','.join(row.parameters)}" if len(row.parameters) < 3 else ""
    number = row.each if once else row.total
    share = Text("") if once else _share(row.total, form)
    table.add_row(_broken(glyphs.clean(name), room), Text(_formula(row, once)), Text(format_count(number)), share)


def _broken(path: str, room: int) -> Text:
    """A path in lines of `room` cells, broken behind a dot where it can be."""
    lines, indent = [""], " " * (len(path) - len(path.lstrip()) + 2)
    for piece in re.findall(r"[^.]*[.]?", path):
        if cell_len(lines[-1] + piece) > room and lines[-1].strip():
            lines.append(indent)
        lines[-1] += piece
    return Text("\n".join(lines))


def _formula(row: Component, once: bool) -> str:
    symbols, numbers = _shown(row)
    times = "" if once or row.times == "1" else f"{row.times}*"
    return f"{times}{_bracketed(symbols, times)} = {numbers}" if symbols != numbers else f"{times}{symbols}"


def _bracketed(text: str, times: str) -> str:
    return f"({text})" if times and " " in text else text


def _share(total: int, form: ParameterForm) -> Text:
    share = total / form.total if form.total else 0.0
    return Text("<0.1%" if 0 < share < 0.001 else f"{share:.1%}")


def _counts(report: ParameterReport) -> Iterator[str]:
    count = report.parameters
    yield f"{format_count(count.total)} unique tensors: what sum(p.numel() for p in model.parameters()) gives"
    if count.tied:
        twice = format_count(count.total + count.tied)
        yield f"{twice} with tied tensors counted under each of their names, as sums over modules do"
    if count.active is not None:
        yield f"{format_count(count.active)} active for one token, the others in experts that it is not sent to"
    yield f"{format_count(count.trainable)} trainable, {format_count(count.frozen)} frozen"
    if count.embedding:
        other = format_count(count.total - count.embedding)
        yield f"{format_count(count.embedding)} in embedding tables, {other} elsewhere"
    if count.buffers:
        yield f"{format_count(count.buffers)} in buffers, not counted above ({format_bytes(count.buffer_bytes)})"
    yield ", ".join(f"{dtype} {format_bytes(size)}" for dtype, size in count.bytes_by_dtype.items())
