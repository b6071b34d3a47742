"""The page of `tonnage compare`: how far off a prediction is, and what makes up the difference, largest first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import IO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tonnage.analyses.comparison import Comparison, Figure, Part, Residual, Rest, SideFacts, Tier, bytes_of
from tonnage.render.notes import LABEL, paragraph, wrapped
from tonnage.render.scenario import in_words
from tonnage.render.text import Glyphs, console_for, glyphs_for, shortened, without_trailing_spaces
from tonnage.units import format_bytes

EVENTS = 8
"""Differences that are named; --events says how many."""
_PARTS = 4
"""Categories, phases and modules that are named each."""
_COLUMNS = 58
"""Cells of the columns beside a name."""
_AMOUNT = 13
"""Cells of an amount with its sign."""

_REST = {
    "another instant": "the lower peak is at another instant than the higher: {instant}",
    "rounding": "allocator rounding: blocks are larger than what is asked for",
    "cached": "cached by the allocator: unused parts of its segments, left behind by other events",
    "allocator": "the allocator: the same events, other segments than simulated",
    "outside": "outside the allocator: CUDA context, libraries, other code{unknown}",
}


def compared_page(found: Comparison, stream: IO[str], *, events: int = EVENTS, width: int | None = None) -> str:
    """Verdict, levels of the memory, and the `events` largest differences by name; then where, and at which marks."""
    console = console_for(stream, width=width)
    glyphs = glyphs_for(console.encoding)
    with console.capture() as captured:
        page = _Page(console, glyphs, found)
        page.print_sides()
        page.print_verdict()
        page.print_levels()
        page.print_causes(events)
        page.print_other_events(events)
        page.print_parts()
        page.print_marks()
        page.print_notes()
    return without_trailing_spaces(captured.get())


class _Page:
    """Prints the parts of one comparison; both sides are named for what they are."""

    def __init__(self, console: Console, glyphs: Glyphs, found: Comparison) -> None:
        self.console, self.glyphs, self.found = console, glyphs, found
        sides = found.predicted.environment.measured, found.measured.environment.measured
        self.names = ("predicted", "measured") if sides == (False, True) else ("first", "second")

    def print_sides(self) -> None:
        sides = self.found.predicted, self.found.measured
        facts = [_facts(side) for side in sides]
        shared = [one for one, other in zip(*facts, strict=True) if one and one == other]
        if shared:
            self._print("; ".join(shared), style="bold")
        for label, side, known in zip(self.names, sides, facts, strict=True):
            self._paragraph(label, ["; ".join([side.name, *(fact for fact in known if fact and fact not in shared)])])
        if self.found.differ:
            self._paragraph("differ in", ["; ".join(self.found.differ)])

    def print_verdict(self) -> None:
        verdict = self.found.verdict
        if verdict is None:
            return
        tier = self.found.tier(verdict.worst)
        style = "bold green" if verdict.within else "bold red"
        off = f"furthest off: {verdict.worst} {_off(tier.figure)}, {_signed(tier.figure.difference)}"
        off = off if tier.figure.difference else "nothing differs"
        answer = "WITHIN" if verdict.within else "NOT WITHIN"
        self._paragraph("verdict", [f"{answer} {100 * verdict.tolerance:.4g} %; {off}"], style)

    def print_levels(self) -> None:
        """Each level with its difference, then the same split by whose mistake it is."""
        levels = _table("at the peak", *self.names, "difference", "off")
        split = _table("difference in", "events", "allocator", "outside")
        for tier in self.found.peak:
            levels.add_row(tier.name, *_figures(tier.figure))
            if tier.figure.difference is not None:
                split.add_row(tier.name, *_errors(tier))
        for table in (levels, split):
            self.console.print()
            self.console.print(table)
        self._print(f"difference: {self.names[0]} less {self.names[1]}")

    def print_causes(self, most: int) -> None:
        causes = self.found.causes()
        self.console.print()
        title = f"what makes up {_signed(self.found.highest.figure.difference)} of {self.found.highest.name}"
        self._print(f"{title}, largest first" if causes else "nothing differs at the peak", style="bold")
        for cause in causes[:most]:
            self._entry(bytes_of(cause), self._rest(cause) if isinstance(cause, Rest) else self._residual(cause))
        self._print_more(causes[most:], sum(map(bytes_of, causes[most:])))

    def print_other_events(self, most: int) -> None:
        """What differs and is gone by the peak."""
        others = [residual for residual in self.found.residuals if not residual.at_peak]
        if not others:
            return
        self.console.print()
        self._print("not at the peak, over the whole run", style="bold")
        for residual in others[:most]:
            self._entry(residual.over_run, self._residual(residual))
        self._print_more(others[most:], sum(residual.over_run for residual in others[most:]))

    def print_parts(self) -> None:
        for title, parts in (
            ("category", self.found.by_category),
            ("phase", self.found.by_phase),
            ("module", self.found.by_module),
        ):
            self._print_parts(title, parts)

    def print_marks(self) -> None:
        levels = [tier.name for tier in self.found.peak]
        table = _table("difference at the mark", *levels)
        for moment in self.found.moments:
            differences = [tier.figure.difference for tier in moment.tiers]
            if any(differences):
                table.add_row(self.glyphs.clean(moment.name), *map(_signed_or_unknown, differences))
        equal = len(self.found.moments) - table.row_count
        self.console.print()
        if table.row_count:
            self.console.print(table)
        self._print(f"{equal:,} of {len(self.found.moments):,} common marks without a difference")

    def print_notes(self) -> None:
        events = self.found.events
        counts = (
            f"{events.predicted:,} allocations {self.names[0]}, {events.measured:,} {self.names[1]}: "
            f"{events.equal:,} equal, {events.in_another_order:,} in another order, "
            f"{events.of_another_size:,} of another size, {events.only_predicted:,} only {self._only(0)}, "
            f"{events.only_measured:,} only {self._only(1)}"
        )
        alone = (self.found.marks_only_predicted, self.found.marks_only_measured)
        marks = [f"only {self._only(which)}: {', '.join(names)}" for which, names in enumerate(alone) if names]
        self.console.print()
        self._paragraph("events", [counts])
        if marks:
            self._paragraph("marks", marks)
        self._paragraph("not known", self.found.notes or ["nothing"])

    def _side(self, which: int) -> str:
        name = self.names[which]
        return f"what was {name}" if name in ("predicted", "measured") else f"the {name}"

    def _only(self, which: int) -> str:
        name = self.names[which]
        return name if name in ("predicted", "measured") else f"in the {name}"

    def _print_parts(self, title: str, parts: Sequence[Part]) -> None:
        shown = [part for part in parts if part.at_peak.difference or part.over_run.difference]
        unknown = [which for which in (0, 1) if _lacks(parts, which)]
        if unknown:
            self.console.print()
            self._print(f"by {title}: not known of {' and '.join(self._side(which) for which in unknown)}")
        if not shown:
            return
        self.console.print()
        table = _table(f"peak by {title}", *self.names, "difference", "in all allocated")
        room = self.console.width - _COLUMNS
        for part in shown[:_PARTS]:
            name = part.name or ("outside of modules" if title == "module" else "no operator")
            figure = part.at_peak
            table.add_row(
                shortened(self.glyphs.clean(name), room),
                *map(_amount, (figure.predicted, figure.measured)),
                *map(_signed, (figure.difference, part.over_run.difference)),
            )
        self.console.print(table)
        if len(shown) > _PARTS:
            self._print(f"  and {len(shown) - _PARTS} more; --json FILE has all")

    def _residual(self, residual: Residual) -> str:
        times = f"{residual.times:,} {self.glyphs.times} "
        ours, theirs = residual.predicted_size, residual.measured_size
        if residual.kind == "another size":
            what = f"{times}{ours:,} B {self.names[0]}, {theirs:,} B {self.names[1]}"
        elif ours is None or theirs is None:
            what = f"{times}{theirs if ours is None else ours:,} B only {self._only(int(ours is None))}"
        else:
            what = f"{times}{ours:,} B {self._kind(residual)}"
        return f"{what}: {_place(residual)}"

    def _kind(self, residual: Residual) -> str:
        return {
            "alive longer in the prediction": f"in both, at the peak only {self._only(0)}",
            "alive longer when measured": f"in both, at the peak only {self._only(1)}",
        }.get(residual.kind, "in both, freed between other marks")

    def _rest(self, rest: Rest) -> str:
        elsewhere = self.found.elsewhere
        unknown = any(tier.name == "reserved" and tier.allocator_error is None for tier in self.found.peak)
        return _REST[rest.kind].format(
            instant=elsewhere.instant if elsewhere else "",
            unknown=", and the allocator's own error" if unknown else "",
        )

    def _entry(self, nbytes: int, text: str) -> None:
        lines = wrapped(self.console, self.glyphs.clean(text), self.console.width - _AMOUNT - 2, most=4)
        for number, line in enumerate(lines):
            amount = _signed(nbytes) if number == 0 else ""
            self.console.print(Text(f"{amount:>{_AMOUNT}}  {line}"))

    def _print_more(self, left: Sequence[object], nbytes: int) -> None:
        if left:
            self._print(f"{_signed(nbytes):>{_AMOUNT}}  {len(left):,} more; --events N names N of them")

    def _paragraph(self, label: str, texts: Sequence[str], style: str = "") -> None:
        lines = [
            Text(line, style=style)
            for text in texts
            for line in wrapped(self.console, self.glyphs.clean(text), self.console.width - LABEL, most=4)
        ]
        paragraph(self.console, label, lines)

    def _print(self, text: str, style: str = "") -> None:
        self.console.print(Text(self.glyphs.clean(text), style=style))


def _facts(side: SideFacts) -> tuple[str, str, str]:
    """What a side ran, as far as its file says, and on what."""
    scenario = in_words(side.scenario) if side.scenario is not None else ""
    return side.subject, scenario, f"{side.environment.device}, torch {side.environment.torch_rules}"


def _lacks(parts: Sequence[Part], which: int) -> bool:
    """Whether a side knows none of these names."""
    return not parts or any((part.at_peak.predicted, part.at_peak.measured)[which] is None for part in parts)


def _place(residual: Residual) -> str:
    """Where allocations were made: "aten.mm.default in layer.*.attention, backward, gradient"."""
    where = f" in {residual.module}" if residual.module else ""
    made = f"{'after ' if residual.after else ''}{residual.operator}{where}" if residual.operator else ""
    parts = (residual.line, made or _since(residual), residual.phase, residual.category)
    return ", ".join(part for part in parts if part)


def _since(residual: Residual) -> str:
    return f"after the mark {residual.since!r}" if residual.since else "at the very beginning"


def _errors(tier: Tier) -> tuple[str, str, str]:
    """Whose mistake how much is; "" for what a level has none of."""
    allocator = "" if tier.name == "requested" else _signed_or_unknown(tier.allocator_error)
    return _signed(tier.event_error), allocator, _signed(tier.outside_error)


def _figures(figure: Figure) -> Iterator[str]:
    yield from (_amount(figure.predicted), _amount(figure.measured), _signed(figure.difference), _off(figure))


def _amount(nbytes: int | None) -> str:
    return "not known" if nbytes is None else format_bytes(nbytes)


def _signed(nbytes: int | None) -> str:
    """An amount with its sign; "" where it is not known.

    >>> _signed(1536), _signed(-1536), _signed(0), _signed(None)
    ('+1.50 KiB', '-1.50 KiB', '0', '')
    """
    if not nbytes:
        return "" if nbytes is None else "0"
    return f"{'+' if nbytes > 0 else ''}{format_bytes(nbytes)}"


def _signed_or_unknown(nbytes: int | None) -> str:
    return "not known" if nbytes is None else _signed(nbytes)


def _off(figure: Figure) -> str:
    """By how much of the second side the first is off."""
    if figure.ratio is None or not figure.difference:
        return "0%" if figure.difference == 0 else ""
    off = figure.ratio - 1
    return f"{off:+.1%}" if abs(off) >= 0.0005 else "<0.1%"


def _table(first: str, *columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(first, overflow="fold")
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    return table
