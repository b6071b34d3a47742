"""Each level of the memory on both sides, and its difference split by whose mistake it is."""

from __future__ import annotations

from typing import NamedTuple

from tonnage.allocator import Timeline
from tonnage.analyses.comparison.figures import Tier, TierName, figure
from tonnage.analyses.comparison.sides import HIGHEST, Instant, Side
from tonnage.analyses.known import Known


class Held(NamedTuple):
    """What one side holds at one instant: as its allocator was simulated and, where known, as the card said."""

    requested: int
    allocated: int | None
    reserved: int | None
    card_allocated: int | None
    card_reserved: int | None
    process: int | None

    def simulated(self, name: TierName) -> int | None:
        return self.allocated if name == "allocated" else self.reserved

    def card(self, name: TierName) -> int | None:
        return self.card_allocated if name == "allocated" else self.card_reserved

    def shown(self, name: TierName) -> int | None:
        """The best that is known of an allocator's figure: the card's own."""
        card = self.card(name)
        return self.simulated(name) if card is None else card

    @property
    def outside(self) -> int | None:
        """What the process holds beyond what the allocator, or without one the program, took."""
        inside = self.requested if self.reserved is None else self.shown("reserved")
        return None if self.process is None or inside is None else self.process - inside


def held_at(side: Side, instant: Instant, timeline: Timeline) -> Held:
    """What `side` holds at a mark, its events through the allocator of `timeline`."""
    position = side.instants[instant]
    said = side.card.get(instant)
    reserved = timeline.reserved[position] if side.on_card else None
    return Held(
        requested=side.requested[position],
        allocated=timeline.allocated[position] if side.on_card else None,
        reserved=reserved,
        card_allocated=None if said is None else said.allocated,
        card_reserved=None if said is None else said.reserved,
        process=side.process.get(instant, _with_context(side, reserved)),
    )


def held_at_peak(side: Side, timeline: Timeline) -> Held:
    """The most that `side` holds from its start on of each; what is requested is that of the allocated peak."""
    reserved = max(timeline.reserved[side.start :]) if side.on_card else None
    said = side.card.get(HIGHEST)
    process = side.highest_process
    return Held(
        requested=side.requested[side.peak_at],
        allocated=max(timeline.allocated[side.start :]) if side.on_card else None,
        reserved=reserved,
        card_allocated=None if said is None else said.allocated,
        card_reserved=None if said is None else said.reserved,
        process=_with_context(side, reserved) if process is None else process,
    )


def tiers(predicted: Held, measured: Held, crossed: Held, *, measuring: bool, same_allocator: bool) -> list[Tier]:
    """The levels that both sides have. `crossed` are the measured events through the predicted side's allocator.

    The process on a card and the one on a CPU are different things: then there is no level of it.
    """
    found = [_requested(predicted, measured)]
    outside_of = found[0]
    if predicted.allocated is not None and measured.allocated is not None:
        names: tuple[TierName, ...] = ("allocated", "reserved")
        found += [
            _allocator(name, predicted, measured, crossed, measuring=measuring, same=same_allocator) for name in names
        ]
        outside_of = found[-1]
    alike = (predicted.reserved is None) == (measured.reserved is None)
    if alike and not (predicted.process is measured.process is None):
        found.append(_process(predicted, measured, outside_of, measuring=measuring))
    return found


def _requested(predicted: Held, measured: Held) -> Tier:
    whole = figure(predicted.requested, measured.requested)
    return Tier(
        name="requested",
        figure=whole,
        measured_known="exact",
        event_error=whole.difference,
        allocator_error=None,
        outside_error=None,
    )


def _allocator(name: TierName, predicted: Held, measured: Held, crossed: Held, *, measuring: bool, same: bool) -> Tier:
    ours, theirs = predicted.shown(name), measured.shown(name)
    events, between = predicted.simulated(name), crossed.simulated(name)
    assert ours is not None and theirs is not None, "both have an allocator"
    assert events is not None and between is not None, "both have an allocator"
    known: Known = "modelled" if measured.card(name) is None else "measured"
    unknown = measuring and same and measured.card(name) is None
    return Tier(
        name=name,
        figure=figure(ours, theirs),
        measured_known=known,
        event_error=events - between,
        allocator_error=None if unknown else (ours - events) + (between - theirs),
        outside_error=None,
    )


def _process(predicted: Held, measured: Held, inside: Tier, *, measuring: bool) -> Tier:
    whole = figure(predicted.process, measured.process)
    known = whole.difference is not None
    outside = predicted.outside - measured.outside if known else None  # type: ignore[operator]
    return Tier(
        name="process",
        figure=whole,
        measured_known=None if measured.process is None else "measured" if measuring else "modelled",
        event_error=inside.event_error if known else None,
        allocator_error=inside.allocator_error if known else None,
        outside_error=outside,
    )


def _with_context(side: Side, reserved: int | None) -> int | None:
    """What a prediction says of the process; of a measured run only the system can tell."""
    return None if side.measured or reserved is None else reserved + side.recording.environment.context_bytes
