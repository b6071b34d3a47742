"""The roofline of a run: which peaks, how long at least, and what limits each layer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO

from rich.table import Table
from rich.text import Text

from tonnage.analyses.roofline import Bound, Peak, Roofline, UsefulBatch
from tonnage.render.text import Glyphs, console_for, glyphs_for, shortened, without_trailing_spaces
from tonnage.units import format_bandwidth, format_count

LAYERS = 20
"""Rows of the table; what they leave out is one row more."""
_FIXED = 42
"""Cells of the columns beside the layer's name, gaps included."""


def roofline_page(
    roofline: Roofline,
    stream: IO[str],
    *,
    useful: UsefulBatch | None = None,
    most: int = LAYERS,
    width: int | None = None,
) -> str:
    """The bound of the run, the layers that take longest (`most` of them), and the batch that is large enough."""
    console = console_for(stream, width=width)
    glyphs = glyphs_for(console.encoding)
    with console.capture() as captured:
        console.print(Text(glyphs.clean(f"roofline of {roofline.card}: a lower bound, no prediction"), style="bold"))
        console.print(_peaks(roofline, glyphs))
        console.print()
        console.print(_passes(roofline))
        console.print()
        console.print(_layers(roofline, glyphs, most, console.width - _FIXED))
        console.print()
        for remark in _remarks(roofline, useful):
            console.print(Text(glyphs.clean(remark)))
    return without_trailing_spaces(captured.get())


def format_seconds(seconds: float) -> str:
    """`seconds` to three digits, in the largest unit that keeps it at 1 or more.

    >>> format_seconds(0.00234), format_seconds(12.5), format_seconds(80e-9)
    ('2.34 ms', '12.5 s', '80.0 ns')
    """
    if not seconds:
        return "0"
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= size:
            return f"{_three_digits(seconds / size)} {unit}"
    return f"{_three_digits(seconds * 1e9)} ns"


def _three_digits(value: float) -> str:
    """
    >>> _three_digits(2.345), _three_digits(23.45), _three_digits(2345.0)
    ('2.35', '23.4', '2,345')
    """
    return f"{value:,.{2 if value < 10 else 1 if value < 100 else 0}f}"


def _table(*columns: str) -> Table:
    """The first column folds, the others are numbers."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    first, *rest = columns
    table.add_column(first, overflow="fold")
    for column in rest:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def _peaks(roofline: Roofline, glyphs: Glyphs) -> Table:
    table = _table("work", "peak", "TFLOP/s", "ridge, FLOP/B")
    for peak in roofline.peaks:
        table.add_row(Text(glyphs.clean(f"{peak.work}, {peak.dtype}: {peak.reason}")), *_figures(peak))
    known = "" if roofline.verified else ", not verified"
    bandwidth = format_bandwidth(roofline.bandwidth) if roofline.bandwidth else "not known"
    table.add_row(Text(f"memory: {bandwidth}{known}"), "", "", "")
    return table


def _figures(peak: Peak) -> tuple[str, str, str]:
    if peak.flops_per_second is None:
        return peak.precision, "not known", ""
    ridge = "" if peak.ridge is None else _three_digits(peak.ridge)
    return peak.precision, _three_digits(peak.flops_per_second / 1e12), ridge


def _passes(roofline: Roofline) -> Table:
    table = _table("", "at least", "products alone", "FLOPs", "FLOP/B", "limit")
    for name, bound in roofline.passes.items():
        table.add_row(name, *_bound(bound))
    if len(roofline.passes) > 1:
        table.add_row("step", *_bound(roofline.step), style="bold")
    return table


def _bound(bound: Bound) -> tuple[str, str, str, str, str]:
    return (
        format_seconds(bound.seconds),
        format_seconds(bound.product_seconds),
        format_count(bound.flops),
        _intensity(bound),
        bound.limit,
    )


def _intensity(bound: Bound) -> str:
    return "" if bound.intensity is None else _three_digits(bound.intensity)


def _layers(roofline: Roofline, glyphs: Glyphs, most: int, room: int) -> Table:
    """`forward` has a column of its own where there is more than that."""
    several = len(roofline.passes) > 1
    table = _table("layer", *(["forward", "step"] if several else ["forward"]), "share", "FLOP/B", "limit")
    whole = roofline.step.seconds
    for layer in roofline.layers[:most]:
        forward = [format_seconds(layer.forward.seconds)] if several else []
        table.add_row(
            Text(shortened(glyphs.clean(layer.path or layer.type or "outside of modules"), room)),
            *forward,
            format_seconds(layer.step.seconds),
            f"{layer.step.seconds / whole:.1%}",
            _intensity(layer.step),
            layer.step.limit,
        )
    rest = roofline.layers[most:]
    if rest:
        seconds = sum(layer.step.seconds for layer in rest)
        blank = [""] if several else []
        table.add_row(f"{len(rest)} more", *blank, format_seconds(seconds), f"{seconds / whole:.1%}", "", "")
    return table


def _remarks(roofline: Roofline, useful: UsefulBatch | None) -> Iterator[str]:
    if useful is not None and useful.batch is not None:
        yield (
            f"From batch {useful.batch:,} on a bigger batch only takes longer: "
            f"{format_seconds(useful.seconds_per_sample)} a sample there, "
            f"{format_seconds(useful.least_seconds_per_sample)} at any, "
            f"{format_seconds(useful.seconds_per_sample_alone)} alone."
        )
    elif useful is not None:
        yield f"No batch can be named from which on a bigger one only takes longer: {useful.reason}."
    for missing in roofline.missing:
        times = f", {missing.times} times" if missing.times > 1 else ""
        yield f"Not in the bound: {missing.what} ({missing.reason}{times})."
    for what in roofline.beaten_by:
        yield f"Faster than the bound can be: {what}."
    yield f"Peaks: {roofline.peaks_source or 'none'}. Bandwidth: {roofline.bandwidth_source or 'none'}."
