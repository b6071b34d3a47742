"""One instant of the run on both sides, so that what is alive there can be compared name by name.

Each side's peak may be at another instant: of two steps that take nearly the same, one may win on one side and the
other on the other. What is alive at both peaks then differs in everything and says nothing.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from tonnage.analyses.comparison.sides import Side

Pair = tuple[int, int]


def same_instant(predicted: Side, measured: Side, aligned: Sequence[Pair]) -> Pair:
    """The events of both sides at the peak of the side that has the higher one; `aligned` are allocations.

    The other side's event is the one with the most allocated between the allocations that both sides have.
    """
    if predicted.requested[predicted.peak_at] >= measured.requested[measured.peak_at]:
        return predicted.peak_at, _counterpart(predicted, measured, aligned)
    return _counterpart(measured, predicted, [(theirs, ours) for ours, theirs in aligned]), measured.peak_at


def _counterpart(side: Side, other: Side, aligned: Sequence[Pair]) -> int:
    """The event of `other` that stands for the peak of `side`."""
    births = [side.births[number] for number, _ in aligned]
    at = bisect_right(births, side.peak_at)
    begin = other.births[aligned[at - 1][1]] if at else 0
    end = other.births[aligned[at][1]] if at < len(aligned) else len(other.recording.ledger)
    return other.highest(begin, max(end, begin + 1))
