"""Two recordings of one run as one Comparison."""

from __future__ import annotations

from collections.abc import Iterator

from tonnage.analyses.comparison.figures import (
    Comparison,
    Elsewhere,
    Events,
    Moment,
    Rest,
    RestKind,
    SideFacts,
    Tier,
    TierName,
    Verdict,
)
from tonnage.analyses.comparison.instants import same_instant
from tonnage.analyses.comparison.matching import Matching, Stretches, match, match_beyond_marks
from tonnage.analyses.comparison.parts import by_category, by_module, by_phase
from tonnage.analyses.comparison.residuals import find_residuals
from tonnage.analyses.comparison.scenarios import require_same_run
from tonnage.analyses.comparison.sides import Side
from tonnage.analyses.comparison.tiers import Held, held_at, held_at_peak, tiers
from tonnage.analyses.place import place_of
from tonnage.errors import BadFile, BadOption

TOLERANCE = 0.02
"""Of a prediction against a measurement, where nothing else is asked for."""


def compare_sides(predicted: Side, measured: Side, *, tolerance: float | None = None) -> Comparison:
    """What `predicted` says too much or too little of `measured`, and why.

    `tolerance` is the share of a measured figure by which the prediction may be off (0.02: 2 %); without one it is
    TOLERANCE for a prediction against a measurement, and there is no verdict for two of a kind.
    Raises BadOption where both are not of the same run or change places, BadFile where one has no events.
    """
    for side in (predicted, measured):
        _require_events(side)
    if predicted.measured and not measured.measured:
        raise BadOption(
            f"{predicted.name} was measured and {measured.name} predicted",
            hint="name the prediction first: tonnage compare PREDICTED MEASURED",
        )
    differ = require_same_run(predicted, measured)
    stretches = Stretches.of(predicted, measured)
    matching = match(predicted, measured, stretches)
    instant = same_instant(predicted, measured, matching.in_order)
    alive = predicted.alive_at(instant[0]), measured.alive_at(instant[1])
    match_beyond_marks(predicted, measured, matching, alive)
    elsewhere = _elsewhere(predicted, measured, instant)
    levels = _Levels(predicted, measured)
    peak = levels.at_peak()
    common = [instant for instant in predicted.instants if instant in measured.instants]
    return Comparison(
        predicted=_facts(predicted),
        measured=_facts(measured),
        peak=peak,
        moments=[Moment(name=name, tiers=levels.at((name, number))) for name, number in common],
        marks_only_predicted=[name for name, n in predicted.instants if (name, n) not in measured.instants],
        marks_only_measured=[name for name, n in measured.instants if (name, n) not in predicted.instants],
        by_category=by_category(predicted, measured),
        by_phase=by_phase(predicted, measured),
        by_module=by_module(predicted, measured),
        events=_events(predicted, measured, matching),
        residuals=find_residuals(predicted, measured, matching, stretches, alive),
        elsewhere=elsewhere,
        rest=list(_rest(peak, elsewhere)),
        differ=differ,
        notes=list(_notes(predicted, measured)),
        verdict=_verdict(peak, _tolerance(predicted, measured, tolerance)),
    )


class _Levels:
    """The levels of memory at any instant, with the measured events through both allocators."""

    def __init__(self, predicted: Side, measured: Side) -> None:
        self.predicted, self.measured = predicted, measured
        self.crossed = measured.through(predicted.settings)

    def at(self, instant: tuple[str, int]) -> list[Tier]:
        return self._tiers(
            held_at(self.predicted, instant, self.predicted.timeline),
            held_at(self.measured, instant, self.measured.timeline),
            held_at(self.measured, instant, self.crossed),
        )

    def at_peak(self) -> list[Tier]:
        return self._tiers(
            held_at_peak(self.predicted, self.predicted.timeline),
            held_at_peak(self.measured, self.measured.timeline),
            held_at_peak(self.measured, self.crossed),
        )

    def _tiers(self, predicted: Held, measured: Held, crossed: Held) -> list[Tier]:
        same = self.predicted.settings == self.measured.settings
        return tiers(predicted, measured, crossed, measuring=self.measured.measured, same_allocator=same)


def _require_events(side: Side) -> None:
    if not len(side.recording.ledger):
        raise BadFile(f"{side.name} has no events", hint="record it again")


def _facts(side: Side) -> SideFacts:
    return SideFacts(
        name=side.name,
        subject=side.subject,
        scenario=side.scenario,
        environment=side.recording.environment,
        peak=place_of(side.recording, side.peak_at),
    )


def _events(predicted: Side, measured: Side, matching: Matching) -> Events:
    return Events(
        predicted=len(predicted.recording.ledger.sizes),
        measured=len(measured.recording.ledger.sizes),
        equal=len(matching.equal),
        in_another_order=len(matching.reordered),
        of_another_size=len(matching.resized),
        only_predicted=len(matching.only_predicted),
        only_measured=len(matching.only_measured),
    )


def _elsewhere(predicted: Side, measured: Side, instant: tuple[int, int]) -> Elsewhere | None:
    ours = predicted.requested[predicted.peak_at] - predicted.requested[instant[0]]
    theirs = measured.requested[measured.peak_at] - measured.requested[instant[1]]
    if ours == theirs == 0:
        return None
    side = predicted if ours else measured
    return Elsewhere(
        side="predicted" if ours else "measured",
        instant=place_of(side.recording, side.peak_at),
        difference=ours - theirs,
    )


def _rest(peak: list[Tier], elsewhere: Elsewhere | None) -> Iterator[Rest]:
    """From level to level, what each adds to the difference of the one below it."""
    known = {tier.name: tier for tier in peak if tier.figure.difference is not None}
    events = [tier.event_error or 0 for tier in known.values()]
    found: dict[RestKind, int | None] = {"another instant": elsewhere.difference if elsewhere else None}
    if "reserved" in known:
        requested, allocated, reserved, *_ = events
        found |= {
            "rounding": allocated - requested,
            "cached": reserved - allocated,
            "allocator": known["reserved"].allocator_error,
        }
    if "process" in known:
        found["outside"] = known["process"].outside_error
    for kind, difference in found.items():
        if difference:
            yield Rest(kind=kind, difference=difference)


def _notes(predicted: Side, measured: Side) -> Iterator[str]:
    """What could not be compared, and why."""
    for side in (predicted, measured):
        known = {
            "categories": side.knows_categories,
            "operators": side.knows_operators,
            "modules": side.knows_modules,
            "phases": side.phases is not None,
        }
        missing = [name for name, there in known.items() if not there]
        if missing:
            yield f"{side.name} does not say: {', '.join(missing)}"
        if not any(p.kind == "parameter" for p in side.recording.trace.parameters):
            yield f"{side.name} names no parameters: nothing tells whether both ran the same model"
        if side.measured and side.on_card and not side.card:
            yield f"{side.name} has no figures of the card's own: its events through the simulated allocator stand in"
        if not side.on_card:
            yield f"{side.name} is of no card: allocated and reserved have no meaning there"


def _tolerance(predicted: Side, measured: Side, asked: float | None) -> float | None:
    return TOLERANCE if asked is None and predicted.measured != measured.measured else asked


def _verdict(peak: list[Tier], tolerance: float | None) -> Verdict | None:
    if tolerance is None:
        return None
    shares: dict[TierName, float | None] = {
        tier.name: _share(tier) for tier in peak if tier.figure.difference is not None
    }
    worst = max(shares, key=lambda name: float("inf") if shares[name] is None else shares[name] or 0.0)
    share = shares[worst]
    within = share is not None and share <= tolerance
    return Verdict(within=within, tolerance=tolerance, worst=worst, worst_share=share)


def _share(tier: Tier) -> float | None:
    """How far off a tier is, of what was measured; 0 where nothing is off, None where nothing was measured."""
    figure = tier.figure
    assert figure.difference is not None, "asked of what both know"
    if not figure.difference:
        return 0.0
    return abs(figure.difference) / figure.measured if figure.measured else None
