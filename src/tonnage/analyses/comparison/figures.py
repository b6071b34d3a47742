"""What a comparison says. Everywhere `difference` is predicted less measured: above zero, too much was predicted.

What one side does not know is None there, and so is the difference; it is never zero.
"""

from __future__ import annotations

from typing import Literal, get_args

import msgspec
from msgspec import Struct

from tonnage.analyses.known import Known
from tonnage.analyses.place import Place
from tonnage.recording import Environment
from tonnage.scenario import Scenario

TierName = Literal["requested", "allocated", "reserved", "process"]
TIERS: tuple[TierName, ...] = get_args(TierName)

ResidualKind = Literal[
    "only predicted",
    "only measured",
    "another size",
    "alive longer in the prediction",
    "alive longer when measured",
    "freed elsewhere",
]

RestKind = Literal["another instant", "rounding", "cached", "allocator", "outside"]


class Figure(Struct, frozen=True, kw_only=True):
    """Bytes on both sides; `ratio` is predicted over measured, None also where nothing was measured."""

    predicted: int | None
    measured: int | None
    difference: int | None
    ratio: float | None


def figure(predicted: int | None, measured: int | None) -> Figure:
    """Both sides as one figure.

    >>> figure(6, 4).difference, figure(6, 4).ratio, figure(6, None).difference
    (2, 1.5, None)
    """
    both = predicted is not None and measured is not None
    return Figure(
        predicted=predicted,
        measured=measured,
        difference=predicted - measured if both else None,  # type: ignore[operator]
        ratio=predicted / measured if both and measured else None,  # type: ignore[operator]
    )


class Tier(Struct, frozen=True, kw_only=True):
    """One level of the memory, and where its difference comes from.

    "requested" is what the program asked for, "allocated" the blocks that it got, "reserved" the segments that they are
    cut from, "process" all that the process holds. `measured_known` is "modelled" where the card's own figure is
    missing and the measured events through the simulated allocator stand in for it.

    Errors in bytes; those that are not None sum to `figure.difference`. `event_error`: predicted events less measured
    ones, both through the allocator that was predicted with. `allocator_error`: the measured events through that
    allocator, less the card's own figure; None where the card's figure is not known. `outside_error`: what the process
    holds beyond the allocator, None below the process; where `allocator_error` is None it is in here.
    """

    name: TierName
    figure: Figure
    measured_known: Known | None
    event_error: int | None
    allocator_error: int | None
    outside_error: int | None


class Moment(Struct, frozen=True, kw_only=True):
    """A mark that both sides have."""

    name: str
    tiers: list[Tier]


class Part(Struct, frozen=True, kw_only=True):
    """The bytes of one category, phase or module, as requested: alive at each side's peak, and allocated in all."""

    name: str
    at_peak: Figure
    over_run: Figure


class Residual(Struct, frozen=True, kw_only=True):
    """Allocations that differ in the same way.

    `times` allocations of `predicted_size` and `measured_size` bytes each (None: none on that side). `operator`,
    `module` (numbers as *, modules of one parent in braces), `phase` and `category` are of the allocations themselves,
    or, where `after` is true, of the last allocation before them that both sides have; "" is not known. `since` is the
    mark before the first of them, `line` the line of Python that the measured side tells instead of an operator.
    `at_peak` is what they add to the difference of the requested bytes at one instant, the higher side's peak;
    `over_run` what they add to the difference of all that was allocated.
    """

    kind: ResidualKind
    times: int
    predicted_size: int | None
    measured_size: int | None
    operator: str
    module: str
    phase: str
    category: str
    after: bool
    since: str
    line: str
    at_peak: int
    over_run: int


class Elsewhere(Struct, frozen=True, kw_only=True):
    """The lower of both peaks is at another instant than the higher one, which residuals are about.

    `difference` are the requested bytes that this side has less at that instant than at its own peak, with the sign
    that they have in the difference of the peaks.
    """

    side: Literal["predicted", "measured"]
    instant: Place
    difference: int


class Rest(Struct, frozen=True, kw_only=True):
    """What adds to the difference of the highest level that both sides know, and is no allocation of either.

    "another instant": the lower peak is not where the higher one is. "rounding": blocks are larger than what is asked
    for. "cached": segments beyond the blocks in use, unlike for unlike events. "allocator": the same events, other
    segments. "outside": what the process holds beyond the allocator.
    """

    kind: RestKind
    difference: int


class Events(Struct, frozen=True, kw_only=True):
    """The allocations of both sides, aligned: how many are equal, in another order, of another size, or alone."""

    predicted: int
    measured: int
    equal: int
    in_another_order: int
    of_another_size: int
    only_predicted: int
    only_measured: int


class SideFacts(Struct, frozen=True, kw_only=True):
    """One side: its file or name, what it ran where it says so, and on what."""

    name: str
    subject: str
    scenario: Scenario | None
    environment: Environment
    peak: Place


class Verdict(Struct, frozen=True, kw_only=True):
    """Whether every figure at the peak is within `tolerance`, a share of what was measured; `worst` is furthest off.

    `worst_share` is its difference over what was measured, None where nothing was measured.
    """

    within: bool
    tolerance: float
    worst: TierName
    worst_share: float | None


class Comparison(Struct, frozen=True, kw_only=True):
    """A predicted and a measured run of the same scenario, or two of a kind.

    `peak` has a Tier for each level that both sides have; each side has its own instant. `by_category`, `by_phase` and
    `by_module` are through the simulated allocator and largest difference first. `residuals` are largest at the peak
    first; their `at_peak`, and what is `elsewhere`, sum to the difference of the requested bytes at the peaks, their
    `over_run` to that of all allocated. `differ` says in what both differ on purpose, `notes` what could not be
    compared and why; `rest` is what makes up the difference besides residuals.
    """

    predicted: SideFacts
    measured: SideFacts
    peak: list[Tier]
    moments: list[Moment]
    marks_only_predicted: list[str]
    marks_only_measured: list[str]
    by_category: list[Part]
    by_phase: list[Part]
    by_module: list[Part]
    events: Events
    residuals: list[Residual]
    elsewhere: Elsewhere | None
    rest: list[Rest]
    differ: list[str]
    notes: list[str]
    verdict: Verdict | None

    def tier(self, name: TierName) -> Tier:
        """The tier of that name at the peak."""
        return next(tier for tier in self.peak if tier.name == name)

    @property
    def highest(self) -> Tier:
        """The highest level of the memory that both sides know: the process, if somebody looked at it."""
        return [tier for tier in self.peak if tier.figure.difference is not None][-1]

    def causes(self) -> list[Residual | Rest]:
        """What makes up the difference of the highest level, to the byte, largest first."""
        found: list[Residual | Rest] = [*(r for r in self.residuals if r.at_peak), *self.rest]
        return sorted(found, key=lambda cause: -abs(bytes_of(cause)))

    def to_json(self) -> str:
        return msgspec.json.format(msgspec.json.encode(self), indent=2).decode()


def bytes_of(cause: Residual | Rest) -> int:
    """What a cause adds to the difference at the peak."""
    return cause.at_peak if isinstance(cause, Residual) else cause.difference
