"""What was measured, beside what was predicted for it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from tonnage.analyses.measurement import FORWARD, LOADED, Failure, Measurement, Spread
from tonnage.recording import Environment
from tonnage.render.header import header
from tonnage.render.notes import LABEL, listed, paragraph, wrapped
from tonnage.render.scenario import in_words
from tonnage.render.text import Glyphs, console_for, glyphs_for, without_trailing_spaces
from tonnage.report import Report
from tonnage.units import format_bytes

_ROWS = {
    "before": "model loaded",
    "after": "after forward",
    "increase": "= increase",
    "peak_allocated": "peak",
    "peak_tensors": "tensors alone",
    "peak_reserved": "peak reserved",
    "process_before": "process loaded",
    "process_after": "process after",
    "process_peak": "process peak",
}
"""Figures as a page calls them, in order."""
_TROUBLES = {
    "out of memory": "OUT OF MEMORY",
    "died": "THE PROCESS DIED",
    "failed": "FAILED",
    "interrupted": "INTERRUPTED",
}
_REMARKS = 8


def page(
    measurement: Measurement, report: Report | None, predicted: Report, stream: IO[str], *, width: int | None = None
) -> str:
    """The page of one measurement, in the width, encoding and colours that `stream` has."""
    console = console_for(stream, width=width)
    glyphs = glyphs_for(console.encoding)
    with console.capture() as captured:
        _print_page(console, measurement, report, predicted, glyphs)
    return without_trailing_spaces(captured.get())


def _print_page(
    console: Console, measurement: Measurement, report: Report | None, predicted: Report, glyphs: Glyphs
) -> None:
    for line in header(console, predicted.subject, glyphs):
        console.print(line)
    console.print(Text(in_words(predicted.scenario)))
    console.print()
    paragraph(console, "measured", wrapped(console, _how(measurement), console.width - LABEL, most=2))
    if measurement.spread:
        console.print(Padding(_figures(measurement, predicted), (0, 0, 0, 2)))
    if measurement.failure is not None:
        _print_failure(console, measurement, report, measurement.failure, glyphs)
    console.print()
    if report is not None:
        room = console.width - LABEL
        paragraph(console, "environment", listed(console, list(_environment(report.environment, glyphs)), room, most=6))
        for label, items in (
            ("inputs", [f"{i.name} {i.dtype} {list(i.shape)}" for i in report.inputs]),
            ("guessed", report.guesses),
            ("not counted", [f"{n.what} ({n.reason})" for n in report.not_counted]),
        ):
            clean = [glyphs.clean(item) for item in items] or ["nothing"]
            paragraph(console, label, listed(console, clean, room, most=_REMARKS))


def _how(measurement: Measurement) -> str:
    done = sum(run.complete for run in measurement.runs)
    runs = f"{done} of {measurement.repeats} runs" if done < measurement.repeats else _counted(done, "run")
    where = "in this process" if measurement.in_process else "in a process of its own"
    return f"{runs} on {measurement.device}, {where}, after {_counted(measurement.warmup, 'warm-up')}"


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _figures(measurement: Measurement, predicted: Report) -> Table:
    """Each figure: mean, spread, what was predicted, and by how much that is off."""
    expected = dict(_expected(predicted))
    table = Table.grid(padding=(0, 1, 0, 0))
    for justify in ("left", "right", "right", "right", "right", "right"):
        table.add_column(justify=justify, overflow="fold")
    table.add_row(*(Text(name, style="bold") for name in ("", "mean", "", "spread", "predicted", "off by")))
    for name, label in _ROWS.items():
        spread = measurement.spread.get(name)
        if spread is not None and not (name == "peak_reserved" and measurement.device == "cpu"):
            table.add_row(label, *_cells(spread, expected.get(name)))
    return table


def _cells(spread: Spread, expected: int | None) -> Iterator[str]:
    yield f"{spread.mean:,}"
    yield format_bytes(spread.mean)
    yield "none" if spread.least == spread.most else f"{format_bytes(spread.deviation)} sd"
    if expected is None:
        return
    yield f"{expected:,}"
    off = expected - spread.mean
    yield "equal" if off == 0 else f"{off / spread.mean:+.2%}" if spread.mean else f"{off:+,}"


def _expected(predicted: Report) -> Iterator[tuple[str, int]]:
    """What was predicted of each figure. On a CPU what kernels take for themselves is not predicted."""
    memory = predicted.memory
    marks = {instant.name: instant.allocated_bytes for instant in memory.instants}
    forward = [held for name, held in marks.items() if name.endswith(FORWARD)]
    if LOADED in marks and forward:
        yield from (("before", marks[LOADED]), ("after", forward[-1]), ("increase", forward[-1] - marks[LOADED]))
    if predicted.environment.device_type == "cpu":
        yield "peak_tensors", memory.peak.allocated_bytes
    else:
        yield "peak_allocated", memory.peak.allocated_bytes
        yield "peak_reserved", memory.peak.reserved_bytes
        yield "process_peak", memory.peak.process_bytes


def _print_failure(
    console: Console, measurement: Measurement, report: Report | None, failure: Failure, glyphs: Glyphs
) -> None:
    room = console.width - LABEL
    lines = wrapped(
        console, f"{_TROUBLES[failure.trouble]} in run {failure.run} of {measurement.repeats}", room, most=1
    )
    said = [failure.message, *([f"hint: {failure.hint}"] if failure.hint else [])]
    if report is not None and not any(run.complete for run in measurement.runs):
        peak = report.memory.peak
        said.append(f"held at most {format_bytes(peak.allocated_bytes)} until then: {peak.instant}")
    for text in said:
        lines += wrapped(console, glyphs.clean(text), room, most=3)
    console.print()
    paragraph(console, "ended early", [Text(lines[0], style="bold red"), *lines[1:]])


def _environment(environment: Environment, glyphs: Glyphs) -> Iterator[str]:
    """The device and what ran on it."""
    yield glyphs.clean(f"{environment.device}, {format_bytes(environment.total_memory)}")
    if environment.device_type == "cuda":
        major, minor = environment.compute_capability
        yield f"compute capability {major}.{minor}, {environment.sm_count} multiprocessors"
    versions = ", ".join(f"{name} {version}" for name, version in environment.libraries.items())
    yield glyphs.clean(f"Python {environment.python}, {versions}")
