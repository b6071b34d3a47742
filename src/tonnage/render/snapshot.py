"""The page of a memory snapshot: its peak, and the places in the code that hold it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tonnage.analyses.holders import Holder, Holders, SnapshotSummary
from tonnage.render.notes import LABEL, listed, paragraph, wrapped
from tonnage.render.text import Glyphs, console_for, glyphs_for, without_trailing_spaces
from tonnage.units import KiB, format_bytes

_MOST_HOLDERS = 12
_MOST_REMARKS = 8
_COLUMNS = (12, 6, 7)
"""Cells for bytes, share and blocks; the place has the rest."""


def snapshot_page(summary: SnapshotSummary, stream: IO[str], *, width: int | None = None) -> str:
    """The page, in the width, encoding and colours that `stream` has."""
    console = console_for(stream, width=width)
    glyphs = glyphs_for(console.encoding)
    with console.capture() as captured:
        _print(console, summary, glyphs)
    return without_trailing_spaces(captured.get())


def _print(console: Console, summary: SnapshotSummary, glyphs: Glyphs) -> None:
    what = f"{summary.device}, {'measured' if summary.measured else 'predicted'}"
    title = f" {glyphs.dot} ".join([glyphs.clean(summary.name), "memory snapshot", glyphs.clean(what)])
    for line in wrapped(console, title, console.width, most=2):
        console.print(Text(line, style="bold"))
    console.print()
    for label, text in _figures(summary):
        paragraph(console, label, wrapped(console, glyphs.clean(text), console.width - LABEL, most=3))
    if summary.peak is not None:
        console.print()
        console.print(Text("held at the peak by", style="bold"))
        console.print(_table(summary.peak, glyphs, console.width))
    console.print()
    remarks = [(item.what, "") for item in summary.assumptions], [(n.what, n.reason) for n in summary.not_counted]
    for label, items in zip(("assumed", "not counted"), remarks, strict=True):
        clean = [glyphs.clean(f"{what} ({why})" if why else what) for what, why in items] or ["nothing"]
        paragraph(console, label, listed(console, clean, console.width - LABEL, most=_MOST_REMARKS))


def _figures(summary: SnapshotSummary) -> Iterator[tuple[str, str]]:
    peak = summary.peak
    if peak is None:
        yield "peak", "nothing was allocated"
    else:
        yield "peak", f"{_exactly(peak.allocated_bytes)} allocated, {peak.place}"
        if set(peak.by_category) != {"temporary"}:
            parts = (f"{name} {format_bytes(nbytes)}" for name, nbytes in peak.by_category.items())
            yield "of that", ", ".join(parts)
        yield "reserved", f"{_recorded(summary)}; {_exactly(peak.reserved_bytes)} by the replayed allocator"
    yield "at the end", f"{_exactly(summary.end_allocated_bytes)} allocated"
    for event in summary.out_of_memory:
        tried, free = format_bytes(event.tried_bytes), format_bytes(event.free_bytes)
        yield "ran out", f"tried to allocate {tried} with {free} free on the card"


def _recorded(summary: SnapshotSummary) -> str:
    reserved = summary.recorded_reserved_bytes
    return "not in the snapshot" if reserved is None else f"{_exactly(reserved)} in the snapshot"


def _exactly(nbytes: int) -> str:
    return f"{format_bytes(nbytes)} ({nbytes:,} B)" if nbytes >= KiB else format_bytes(nbytes)


def _table(peak: Holders, glyphs: Glyphs, width: int) -> Table:
    table = Table.grid(padding=(0, 1, 0, 0))
    for column_width in _COLUMNS:
        table.add_column(justify="right", width=column_width)
    table.add_column(width=max(width - sum(_COLUMNS) - len(_COLUMNS) - 1, 20), overflow="fold")
    shown, rest = peak.holders[:_MOST_HOLDERS], peak.holders[_MOST_HOLDERS:]
    table.add_row("", "", "blocks", "where", style="dim")
    for holder in shown:
        table.add_row(*_cells(holder.nbytes, holder.blocks, peak), glyphs.clean(_where(holder)))
    if rest:
        nbytes, blocks = sum(holder.nbytes for holder in rest), sum(holder.blocks for holder in rest)
        table.add_row(*_cells(nbytes, blocks, peak), f"{len(rest)} more places; --json has all")
    return table


def _cells(nbytes: int, blocks: int, peak: Holders) -> tuple[str, str, str]:
    return format_bytes(nbytes), f"{nbytes / peak.allocated_bytes:.1%}", f"{blocks:,}"


def _where(holder: Holder) -> str:
    if not holder.phase:
        return "not known"
    return ", ".join(part for part in (holder.phase, holder.module, holder.operator) if part)
