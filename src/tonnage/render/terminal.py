"""The terminal page: one report on one screen, several as a table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import IO

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from tonnage.analyses.attention import Attention
from tonnage.analyses.compute import Compute
from tonnage.analyses.forms import ComputeForm, ParameterForm
from tonnage.analyses.verdict import Verdict
from tonnage.render.comparison import STYLES, comparison
from tonnage.render.header import header
from tonnage.render.ledger import ledger_table
from tonnage.render.notes import LABEL, listed, paragraph, wrapped
from tonnage.render.scenario import scenario_line
from tonnage.render.text import Glyphs, console_for, glyphs_for, without_trailing_spaces
from tonnage.report import Report
from tonnage.units import format_bytes, format_count, format_work, short_count

SCREEN = 45
"""Lines of a page."""
REMARKS = (8, 5, 3, 2)
"""Lines that a list of remarks may take: the first of these with which the page is one screen."""


def page(reports: Sequence[Report], stream: IO[str], *, width: int | None = None) -> str:
    """One report as a page, several as a comparison, in the width, encoding and colours that `stream` has.

    No colour where it is no terminal or NO_COLOR is set.
    """
    console = console_for(stream, width=width)
    glyphs = glyphs_for(console.encoding)
    if len(reports) == 1:
        return _one_screen(console, reports[0], glyphs)
    with console.capture() as captured:
        console.print(comparison(reports, glyphs))
    return without_trailing_spaces(captured.get())


def _one_screen(console: Console, report: Report, glyphs: Glyphs) -> str:
    """The page with as much of the remarks as leaves it on one screen."""
    text = ""
    for most in REMARKS:
        with console.capture() as captured:
            _print_page(console, report, glyphs, most)
        text = without_trailing_spaces(captured.get())
        if text.count("\n") <= SCREEN:
            break
    return text


def _print_page(console: Console, report: Report, glyphs: Glyphs, most: int) -> None:
    for line in header(console, report.subject, glyphs):
        console.print(line)
    for part in wrapped(console, scenario_line(report, glyphs), console.width, most=2):
        console.print(Text(part))
    console.print()
    counts = [wrapped(console, line, console.width - LABEL, most=1)[0] for line in _parameters(report, glyphs)]
    paragraph(console, "parameters", counts + _formula(console, report.parameters.derived))
    console.print()
    paragraph(console, "compute", [*_work(report.compute), *_formula(console, report.compute.derived)])
    console.print()
    instant = glyphs.clean(report.memory.peak.instant)
    paragraph(console, "peak", wrapped(console, instant, console.width - LABEL, most=2))
    console.print(Padding(ledger_table(report, glyphs, console.width - 2), (0, 0, 0, 2)))
    console.print()
    if report.memory.attention is not None:
        paragraph(
            console, "attention", wrapped(console, _attention(report.memory.attention), console.width - LABEL, most=2)
        )
    _print_verdict(console, report, glyphs)
    console.print()
    _print_remarks(console, report, glyphs, most)


def _parameters(report: Report, glyphs: Glyphs) -> list[str]:
    count = report.parameters
    extras = []
    if count.tied:
        extras.append(f"{format_count(count.tied)} more under second names (tied)")
    if count.buffers:
        extras.append(f"buffers: {format_count(count.buffers)} ({format_bytes(count.buffer_bytes)})")
    lines = [
        f"{format_count(count.total)} ({short_count(count.total)}), each counted once; {count.known}",
        f"{format_count(count.trainable)} trainable, {format_count(count.frozen)} frozen",
        ", ".join(extras),
        ", ".join(f"{glyphs.clean(dtype)} {format_bytes(size)}" for dtype, size in count.bytes_by_dtype.items()),
    ]
    return [line for line in lines if line]


def _formula(console: Console, form: ParameterForm | ComputeForm | None) -> list[str]:
    """The closed form, if one was derived, in at most two lines."""
    if form is None or not form.formula:
        return []
    return wrapped(console, f"= {form.formula}", console.width - LABEL, most=2)


def _work(compute: Compute) -> Iterator[str]:
    least = "at least " if compute.at_least else ""
    forward, flops = format_work(compute.macs, "MAC"), format_work(compute.flops, "FLOP")
    yield f"{least}{format_count(compute.macs)} MACs forward ({forward}, {flops}); {compute.known}"
    if compute.step_macs != compute.macs:
        backward = format_count(compute.backward.macs)
        yield f"{least}{format_count(compute.step_macs)} MACs in the step, backward {backward}"


def _attention(attention: Attention) -> str:
    kernels = ", ".join(f"{name} ({calls} calls)" for name, calls in attention.calls.items())
    if not attention.most_scores_bytes:
        return f"{kernels}: scores are never in memory"
    at_peak, most = format_bytes(attention.scores_bytes), format_bytes(attention.most_scores_bytes)
    return f"{kernels}: scores take {at_peak} at the peak, {most} at most"


def _print_verdict(console: Console, report: Report, glyphs: Glyphs) -> None:
    width = console.width - LABEL
    verdict = report.verdict
    remarks = [_process(report)]
    style = ""
    if verdict is None:
        remarks.insert(0, f"none: {_why_no_verdict(report, glyphs)}")
    else:
        style = STYLES[verdict.answer]
        remarks = [f"{verdict.answer.upper()} {glyphs.clean(verdict.card)}{_headroom(verdict)}", *remarks]
        if verdict.runs_out:
            remarks.append(f"runs out in {glyphs.clean(verdict.runs_out)}")
        elif verdict.gives_back:
            remarks.append("the allocator has to give cached blocks back, which takes time")
    lines = [line for remark in remarks for line in wrapped(console, remark, width, most=2)]
    paragraph(console, "verdict", [Text(lines[0], style=style), *lines[1:]])


def _process(report: Report) -> str:
    """What the system would show, or showed, of the process."""
    peak, on_card = report.memory.peak, report.environment.device_type == "cuda"
    shown = "nvidia-smi" if on_card else "resident set"
    if peak.process_low == peak.process_high:
        return f"{shown}: {format_bytes(peak.process_bytes)}"
    by = "by driver and loaded libraries" if on_card else "by what is imported and what kernels take"
    return f"{shown}: {format_bytes(peak.process_low)} to {format_bytes(peak.process_high)}, {by}"


def _why_no_verdict(report: Report, glyphs: Glyphs) -> str:
    if report.environment.measured:
        return "this was measured, not predicted"
    if report.environment.device_type == "cpu":
        return "it is not known how much memory the machine has; --gpu-memory SIZE says so"
    return (
        f"no card was named, so kernels are those of {glyphs.clean(report.environment.device)} and memory has no limit"
    )


def _headroom(verdict: Verdict) -> str:
    if verdict.answer == "does not fit":
        return f": short by {format_bytes(-verdict.headroom_bytes)}"
    return f": headroom {format_bytes(verdict.headroom_low)} to {format_bytes(verdict.headroom_high)}"


def _print_remarks(console: Console, report: Report, glyphs: Glyphs, most: int) -> None:
    for label, items in (
        ("inputs", _inputs(report)),
        ("guessed", report.guesses),
        ("assumed", [_times(a.what, a.where, a.times) for a in report.assumptions]),
        ("not counted", [_times(n.what, n.reason, n.times) for n in report.not_counted]),
    ):
        clean = [glyphs.clean(item) for item in items] or ["nothing"]
        paragraph(console, label, listed(console, clean, console.width - LABEL, most=most))


def _inputs(report: Report) -> list[str]:
    """The inputs, those of one origin together."""
    by_origin: dict[str, list[str]] = {}
    for i in report.inputs:
        by_origin.setdefault(i.origin, []).append(f"{i.name} {i.dtype} {list(i.shape)}")
    return [
        f"{', '.join(described)} ({'given' if origin == 'given' else f'from {origin}'})"
        for origin, described in by_origin.items()
    ]


def _times(what: str, detail: str, times: int) -> str:
    return f"{what}{f' ({detail})' if detail else ''}{f', {times} times' if times > 1 else ''}"
