"""The bytes of both sides by category, phase and module."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from tonnage.analyses.comparison.figures import Part, figure
from tonnage.analyses.comparison.sides import Side
from tonnage.analyses.memory import ROUNDING

_Sums = tuple[Counter[str], Counter[str]]
"""The bytes alive at the peak, and all that were allocated, by name."""


def by_category(predicted: Side, measured: Side) -> list[Part]:
    """By what the allocations are; "rounding" is what the simulated allocator's blocks are larger than that."""
    sums = _sums(predicted, _category), _sums(measured, _category)
    if predicted.on_card and measured.on_card:
        for side, found in zip((predicted, measured), sums, strict=True):
            if found is not None:
                _add_rounding(side, found)
    return _parts(*sums)


def by_phase(predicted: Side, measured: Side) -> list[Part]:
    return _parts(_sums(predicted, _phase), _sums(measured, _phase))


def by_module(predicted: Side, measured: Side) -> list[Part]:
    """By module, its numbers as *; "" is what was allocated outside of modules."""
    return _parts(_sums(predicted, _module), _sums(measured, _module))


def _category(side: Side) -> Callable[[int], str] | None:
    return side.category if side.knows_categories else None


def _phase(side: Side) -> Callable[[int], str] | None:
    return None if side.phases is None else side.phases.__getitem__


def _module(side: Side) -> Callable[[int], str] | None:
    return side.module if side.knows_modules else None


def _sums(side: Side, names: Callable[[Side], Callable[[int], str] | None]) -> _Sums | None:
    """None where the side does not know the names."""
    name_of = names(side)
    if name_of is None:
        return None
    at_peak: Counter[str] = Counter()
    over_run: Counter[str] = Counter()
    for number, size in enumerate(side.recording.ledger.sizes):
        name = name_of(number)
        over_run[name] += size
        if number in side.alive_at_peak:
            at_peak[name] += size
    return at_peak, over_run


def _add_rounding(side: Side, found: _Sums) -> None:
    at_peak, over_run = found
    sizes, blocks = side.recording.ledger.sizes, side.timeline.block_sizes
    at_peak[ROUNDING] = sum(blocks[number] - sizes[number] for number in side.alive_at_peak)
    over_run[ROUNDING] = sum(blocks) - sum(sizes)


def _parts(predicted: _Sums | None, measured: _Sums | None) -> list[Part]:
    """Every name of either side, the largest difference at the peak first; none where no side knows any."""
    sides = [side for side in (predicted, measured) if side is not None]
    names = dict.fromkeys(name for side in sides for name in side[1])
    parts = [
        Part(
            name=name,
            at_peak=figure(*(side and side[0][name] for side in (predicted, measured))),
            over_run=figure(*(side and side[1][name] for side in (predicted, measured))),
        )
        for name in names
    ]
    return sorted(parts, key=_weight, reverse=True)


def _weight(part: Part) -> tuple[int, int, int]:
    return abs(part.at_peak.difference or 0), abs(part.over_run.difference or 0), part.at_peak.predicted or 0
