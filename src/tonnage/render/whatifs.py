"""Exchanges of layers: what each holds and does, before and after, with the formulas."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import IO

from rich.table import Table
from rich.text import Text

from tonnage.analyses.findings import PLURALS, Finding, percent
from tonnage.analyses.whatifs import Amount, ModelWhatIf, Side, WhatIf
from tonnage.render.text import console_for, glyphs_for, without_trailing_spaces
from tonnage.units import format_count


def what_ifs_page(what_ifs: Sequence[WhatIf], stream: IO[str], *, width: int | None = None) -> str:
    """Each exchange for one layer: both sides, how each count comes about, and what else changes."""
    console = console_for(stream, width=width)
    glyphs = glyphs_for(console.encoding)
    with console.capture() as captured:
        for number, what_if in enumerate(what_ifs):
            if number:
                console.print()
            console.print(Text(glyphs.clean(what_if.name), style="bold"))
            for line in _lines(what_if):
                console.print(Text(glyphs.clean(f"  {line}")))
        if not what_ifs:
            console.print(Text("nothing that is known can stand in the place of this layer"))
    return without_trailing_spaces(captured.get())


def _lines(what_if: WhatIf) -> Iterator[str]:
    before, after = what_if.before, what_if.after
    yield f"parameters x {what_if.parameter_ratio:.4g}, MACs x {what_if.mac_ratio:.4g}{_field(before, after)}"
    for side in (before, after):
        yield f"{side.what}:"
        for name, amount in (
            ("parameters", side.parameters),
            ("MACs", side.macs),
            ("trainable", side.trainable),
            ("cache for each token", side.cache),
        ):
            if amount is not None:
                yield f"  {name} {_worked_out(amount)}"
    if what_if.remark:
        yield what_if.remark


def _worked_out(amount: Amount) -> str:
    return f"{amount.formula} = {amount.substituted} = {format_count(amount.value)}"


def _field(before: Side, after: Side) -> str:
    if before.receptive_field is None:
        return ""
    if before.receptive_field == after.receptive_field:
        return f", receptive field {before.receptive_field} as before"
    return f", receptive field {before.receptive_field} becomes {after.receptive_field}"


def model_what_ifs_page(
    what_ifs: Sequence[ModelWhatIf], stream: IO[str], *, finding: Finding | None = None, width: int | None = None
) -> str:
    """Each exchange made wherever a model offers it, after the sentence on where the work is."""
    console = console_for(stream, width=width)
    glyphs = glyphs_for(console.encoding)
    with console.capture() as captured:
        if finding is not None:
            console.print(Text(finding.sentence or "No kind of layer has half of the parameters or of the work."))
            console.print(_shares(finding))
            console.print()
        for what_if in what_ifs:
            console.print(Text(glyphs.clean(what_if.name), style="bold"))
            console.print(Text(f"  {len(what_if.layers)} of {what_if.convolutions} convolutions"))
            console.print(_totals(what_if))
        if not what_ifs:
            console.print(Text("no convolution that something can stand in the place of"))
    return without_trailing_spaces(captured.get())


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left", no_wrap=True)
    return table


def _shares(finding: Finding) -> Table:
    table = _table("kind of layer", "parameters", "", "MACs", "")
    parameters = sum(share.parameters for share in finding.shares)
    macs = sum(share.macs for share in finding.shares)
    for share in finding.shares:
        table.add_row(
            PLURALS[share.kind],
            format_count(share.parameters),
            percent(share.parameters, parameters) if parameters else "",
            format_count(share.macs),
            percent(share.macs, macs) if macs else "",
        )
    return table


def _totals(what_if: ModelWhatIf) -> Table:
    table = _table("", "before", "after", "after / before")
    for name, before, after in (
        ("  parameters", what_if.parameters_before, what_if.parameters_after),
        ("  MACs", what_if.macs_before, what_if.macs_after),
    ):
        table.add_row(name, format_count(before), format_count(after), f"{after / before:.4g}")
    return table
