"""The page of FLOPs: how much work a run is, in which module and operator, and what is not known of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import IO

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from tonnage.analyses.compute import Compute, OperatorWork, Work
from tonnage.analyses.forms import ParameterForm
from tonnage.render.folding import Folded, folded
from tonnage.render.header import header
from tonnage.render.notes import LABEL, listed, paragraph, wrapped
from tonnage.render.scenario import in_words
from tonnage.render.text import Glyphs, console_for, glyphs_for, without_trailing_spaces
from tonnage.report import ComputeReport
from tonnage.units import format_work

ROWS = 20
"""Rows of the table of modules, where nobody says how deep it goes."""
OPERATORS = 8
UNSUPPORTED = 8


def compute_page(report: ComputeReport, stream: IO[str], *, depth: int | None = None, width: int | None = None) -> str:
    """The work of one subject as a page, in the width, encoding and colours that `stream` has.

    The table of modules goes `depth` names deep, by default as deep as leaves it short.
    """
    console = console_for(stream, width=width)
    glyphs = glyphs_for(console.encoding)
    with console.capture() as captured:
        for line in header(console, report.subject, glyphs):
            console.print(line)
        for part in wrapped(console, glyphs.clean(in_words(report.scenario)), console.width, most=2):
            console.print(Text(part))
        _print_passes(console, report.compute)
        _print_forms(console, report, glyphs)
        if report.finding.sentence:
            console.print()
            paragraph(console, "where", [glyphs.clean(report.finding.sentence)])
        _print_body(console, report.compute, glyphs, depth)
    return without_trailing_spaces(captured.get())


def _print_body(console: Console, compute: Compute, glyphs: Glyphs, depth: int | None) -> None:
    _print_other(console, compute)
    _print_table(console, _modules(compute, glyphs, depth))
    _print_table(console, _operators(compute, glyphs))
    _print_unsupported(console, compute, glyphs)


def _print_forms(console: Console, report: ComputeReport, glyphs: Glyphs) -> None:
    """The forward MACs in closed form: in the sizes of the input, and in those of the config."""
    form = report.compute.form
    if form is None:
        return
    console.print()
    if not form.formula:
        paragraph(console, "formula", [f"none: {form.reason}"])
        return
    where = ", ".join(f"{s.symbol} = {s.value:,} {s.field}" for s in form.symbols)
    paragraph(console, "formula", [Text(form.formula, style="bold"), f"forward MACs, where {where}"])
    sign = glyphs.tick if form.proved else glyphs.cross
    held = sum(proof.holds for proof in form.proofs)
    lines = [f"{sign} {held} of {len(form.proofs)} sizes that it was not derived from"]
    lines += [f"holds for whole {step}" for step in form.steps]
    lines += [f"{name} held: {reason}" for name, reason in form.held.items()]
    paragraph(console, "proved", lines)
    if report.config_form is not None:
        paragraph(console, "in config", list(_config_lines(report.config_form, glyphs)))


def _config_lines(form: ParameterForm, glyphs: Glyphs) -> Iterator[str | Text]:
    yield Text(form.formula, style="bold")
    yield ", ".join(f"{s.symbol} = {s.value:,}{f' {s.field}' if s.field != s.symbol else ''}" for s in form.symbols)
    sign = glyphs.tick if form.proved else glyphs.cross
    yield f"{sign} {sum(proof.holds for proof in form.proofs)} of {len(form.proofs)} other configs and sizes"


def _print_passes(console: Console, compute: Compute) -> None:
    """MACs and FLOPs of each pass that there is, and of all of them."""
    passes = [("forward", compute.forward)]
    for name, work in (("recomputed", compute.recomputation), ("backward", compute.backward)):
        passes += [(name, work)] if work.macs or work.at_least else []
    if compute.optimizer.macs or compute.optimizer.at_least:
        passes.append(("optimizer", compute.optimizer))
    for name, work in passes:
        console.print()
        paragraph(console, name, list(_counts(work, compute.known)))
    if len(passes) > 1:
        console.print()
        paragraph(console, "step", [_amount(compute.step_macs, "MAC", at_least=compute.at_least)])


def _counts(work: Work, known: str) -> Iterator[str]:
    yield f"{_amount(work.macs, 'MAC', at_least=work.at_least)}; {known}"
    yield f"{_amount(work.flops, 'FLOP', at_least=work.at_least)}, 2 per MAC"
    yield f"{_amount(work.textbook_flops, 'FLOP', at_least=work.at_least)}, textbook convention"


def _amount(n: int, unit: str, *, at_least: bool) -> str:
    return f"{'at least ' if at_least else ''}{n:,} {unit}s ({format_work(n, unit)})"


def _print_other(console: Console, compute: Compute) -> None:
    """The forward work that MACs leave out."""
    other = compute.forward.other
    table = _table("other work, forward", "FLOPs")
    for kind, flops in other.items():
        table.add_row(kind, f"{flops:,}")
    _print_table(console, table)


def _modules(compute: Compute, glyphs: Glyphs, depth: int | None) -> Table:
    working = [module for module in compute.by_module if module.macs or module.backward_macs]
    rows = _shown(folded(working), depth)
    backward = ["backward MACs"] if compute.backward.macs else []
    table = _table("module, with all it calls", "calls", "MACs", *backward, "share")
    rows = [row for row in rows if not _only_passes_on(row, rows)]
    for row, name in zip(rows, _names(rows), strict=True):
        macs, back = (sum(getattr(m, what) for m in row.modules) for what in ("macs", "backward_macs"))
        share = macs / compute.macs if compute.macs else 0.0
        table.add_row(
            Text(glyphs.clean(name)),
            f"{sum(m.calls for m in row.modules):,}",
            f"{macs:,}",
            *([f"{back:,}"] if backward else []),
            f"{share:.1%}" if share >= 0.001 or not macs else "<0.1%",
        )
    idle = len(compute.by_module) - len(working)
    if idle:
        table.add_row(f"{idle:,} without MACs")
    return table


def _only_passes_on(row: Folded, rows: Sequence[Folded]) -> bool:
    """Whether a row that follows it is all that it does: an encoder that is nothing but its layers."""
    return any(
        other.path.startswith(f"{row.path}.") and _work(other) == _work(row) and row.path
        for other in rows
        if other != row
    )


def _work(row: Folded) -> tuple[int, int]:
    return sum(module.macs for module in row.modules), sum(module.backward_macs for module in row.modules)


def _shown(rows: Sequence[Folded], depth: int | None) -> list[Folded]:
    """The rows down to `depth`; by default the deepest with which there are few enough, and one at the least."""
    if depth is None:
        deepest = max((row.depth for row in rows), default=0)
        fits = (d for d in range(deepest, 1, -1) if sum(row.depth <= d for row in rows) <= ROWS)
        depth = next(fits, 1)
    return [row for row in rows if row.depth <= depth]


def _names(rows: Sequence[Folded]) -> Iterator[str]:
    """Each row under the nearest row that holds it, by the rest of its path."""
    above: list[str] = []
    for row in rows:
        kind = row.modules[0].type
        while above and above[-1] and not row.path.startswith(f"{above[-1]}."):
            above.pop()
        rest = row.path.removeprefix(above[-1] if above else "").removeprefix(".")
        times = f"{len(row.modules)} x " if len(row.modules) > 1 else ""
        yield ("  " * len(above) + f"{rest}: {times}{kind}" if rest else kind) if kind else "outside of every module"
        if kind:
            above.append(row.path)


def _operators(compute: Compute, glyphs: Glyphs) -> Table:
    """The operators with the most MACs, and all others in one row."""
    table = _table("operator", "pass", "times", "MACs")
    working = [row for row in compute.by_operator if row.macs]
    for row in working[:OPERATORS]:
        name = row.operator.removesuffix(".default")
        table.add_row(Text(glyphs.clean(name)), row.during, f"{row.times:,}", f"{row.macs:,}")
    rest = [*working[OPERATORS:], *(row for row in compute.by_operator if not row.macs)]
    if rest:
        table.add_row(
            f"{_different(rest)} others", "", f"{sum(r.times for r in rest):,}", f"{sum(r.macs for r in rest):,}"
        )
    return table


def _different(rows: Sequence[OperatorWork]) -> int:
    return len({row.operator for row in rows})


def _print_unsupported(console: Console, compute: Compute, glyphs: Glyphs) -> None:
    items = [
        f"{u.operator}{f' in {u.module}' if u.module else ''}, {u.during}, {u.times:,} times: {u.reason}"
        for u in compute.unsupported
    ]
    console.print()
    clean = [glyphs.clean(item) for item in items] or ["nothing"]
    paragraph(console, "not counted", listed(console, clean, console.width - LABEL, most=UNSUPPORTED))


def _table(first: str, *others: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(first, overflow="fold")
    for name in others:
        table.add_column(name, justify="right", overflow="fold")
    return table


def _print_table(console: Console, table: Table) -> None:
    if table.row_count:
        console.print()
        console.print(Padding(table, 0))
