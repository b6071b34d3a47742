"""The memory ledger at the peak: categories that sum to allocated, and the bridge to what nvidia-smi shows."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from tonnage.analyses.verdict import Verdict
from tonnage.render.text import Glyphs, bar
from tonnage.report import Report
from tonnage.units import format_bytes

_NAMES = {
    "parameter": "parameters",
    "buffer": "buffers",
    "gradient": "gradients",
    "optimizer": "optimizer state",
    "input": "inputs",
    "activation": "activations kept",
    "output": "outputs",
    "workspace": "library workspaces",
    "temporary": "temporaries",
    "rounding": "allocator rounding",
}
"""Categories as users call them, in the order they are shown in."""

_FIXED = 69
"""Cells of every column but the bar: label 20, bytes 17, the same with a unit 12, share 6, how it is known 8, gaps."""


def ledger_table(report: Report, glyphs: Glyphs, width: int) -> Table:
    """Ledger, bridge and card as one table of `width` cells, the bytes exact in its second column."""
    room = min(max(width - _FIXED, 0), 32)
    table = Table.grid(padding=(0, 1, 0, 0))
    table.add_column(width=20)
    for column_width in (17, 12, 6):
        table.add_column(justify="right", width=column_width)
    table.add_column(width=room)
    table.add_column(width=8)
    _add_categories(table, report, glyphs, room)
    _add_bridge(table, report)
    if report.verdict is not None:
        _add_card(table, report, report.verdict)
    return table


def _add_categories(table: Table, report: Report, glyphs: Glyphs, room: int) -> None:
    peak = report.memory.peak
    for category, name in _NAMES.items():
        size = peak.by_category[category]
        if size:
            share = size / peak.allocated_bytes
            percent = f"{share:.1%}" if share >= 0.001 else "<0.1%"
            drawn = Text(bar(share, room, glyphs), style="cyan")
            known = peak.by_category_known[category]
            table.add_row(name, f"{size:,}", format_bytes(size), percent, drawn, known)


def _add_bridge(table: Table, report: Report) -> None:
    peak = report.memory.peak
    _add(table, "= allocated", peak.allocated_bytes, peak.allocated_known, style="bold", share="100.0%")
    if report.environment.device_type == "cuda":
        _add(table, "+ cached", peak.cached_bytes, peak.reserved_known)
        _add(table, "= reserved", peak.reserved_bytes, peak.reserved_known, style="bold")
        _add(table, "+ context, libraries", peak.context_bytes, peak.process_known)
    else:  # a CPU's allocator keeps nothing
        _add(table, "+ Python and code", peak.process_bytes - peak.allocated_bytes, peak.process_known)
    _add(table, "= process", peak.process_bytes, peak.process_known, style="bold")


def _add_card(table: Table, report: Report, verdict: Verdict) -> None:
    _add(
        table,
        "memory" if report.environment.device_type == "cpu" else "card offers",
        verdict.available_bytes,
        verdict.total_known,
    )
    if verdict.gives_back:
        _add(table, "least it runs in", verdict.needed_bytes, verdict.known)
    _add(table, "headroom", verdict.headroom_bytes, verdict.known, style="bold")


def _add(table: Table, name: str, size: int, known: str, *, style: str = "", share: str = "") -> None:
    table.add_row(name, f"{size:,}", format_bytes(size), share, "", known, style=style)
