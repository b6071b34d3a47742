"""Several reports side by side, one row each."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group
from rich.table import Table
from rich.text import Text

from tonnage.render.scenario import scenario_line
from tonnage.render.text import Glyphs
from tonnage.report import Report
from tonnage.units import format_bytes, short_count

STYLES = {"fits": "bold green", "tight": "bold yellow", "does not fit": "bold red"}


def comparison(reports: Sequence[Report], glyphs: Glyphs) -> Group:
    """A row for each report; what they share is said once below, what they do not under each name."""
    lines = [scenario_line(report, glyphs) for report in reports]
    shared = len(set(lines)) == 1
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("subject", overflow="fold")
    for name in ("parameters", "allocated", "reserved", "process"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for report, line in zip(reports, lines, strict=True):
        name = glyphs.clean(report.subject.name)
        table.add_row(Text(name if shared else f"{name}\n{line}"), *_numbers(report), _verdict(report))
    remarks = [lines[0]] if shared else []
    remarks.append("assumptions and what is not counted: weigh one alone, or --json FILE")
    return Group(table, *map(Text, remarks))


def _numbers(report: Report) -> list[str]:
    peak = report.memory.peak
    sizes = (peak.allocated_bytes, peak.reserved_bytes, peak.process_bytes)
    return [short_count(report.parameters.total), *map(format_bytes, sizes)]


def _verdict(report: Report) -> Text:
    if report.verdict is None:
        return Text("none" if report.card else "no card")
    return Text(report.verdict.answer, style=STYLES[report.verdict.answer])
