"""Which allocation of one side is which of the other.

Between marks that both sides have, the sizes in the order of allocation are aligned; where both name their operators
alike, first the sizes together with operator and module, then what is left between. Of what stays alone, equal sizes
between the same marks are the same allocations in another order; what is left in the same gap and by the same operator,
or in equal number, is one of another size; the rest one side has alone. Only what lives long is looked for beyond the
marks: on a CPU the weights are there before the start, and on a card they are moved to it.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from tonnage.analyses.comparison.sequences import align
from tonnage.analyses.comparison.sides import Side
from tonnage.ledger import Kind

Pair = tuple[int, int]


@dataclass
class Matching:
    """Numbers of allocations, predicted before measured.

    `before` has for each measured one that is not in order the last predicted one before it that is. `alike`: both name
    operators in the same words, which a stack of Python's lines does not.
    """

    alike: bool
    equal: list[Pair] = field(default_factory=list)
    reordered: list[Pair] = field(default_factory=list)
    resized: list[Pair] = field(default_factory=list)
    only_predicted: list[int] = field(default_factory=list)
    only_measured: list[int] = field(default_factory=list)
    before: dict[int, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Stretches:
    """The time between marks that both sides have: `bounds` are the events of those marks on each side."""

    bounds: list[Pair]

    @classmethod
    def of(cls, predicted: Side, measured: Side) -> Stretches:
        ours, theirs = predicted.positions, measured.positions
        common = align([name for name, _ in ours], [name for name, _ in theirs])
        return cls([(ours[i][1], theirs[j][1]) for i, j in common])

    def split(self, side: Side, which: int) -> list[list[int]]:
        """The allocations of `side` in each stretch; `which` is 0 for the predicted side and 1 for the measured."""
        ledger = side.recording.ledger
        edges = [0, *(bound[which] for bound in self.bounds), len(ledger)]
        numbers = iter(range(len(ledger.sizes)))
        return [
            [next(numbers) for _ in range(ledger.kinds[begin:end].count(Kind.ALLOC))] for begin, end in pairwise(edges)
        ]

    def deaths(self, side: Side, which: int) -> dict[int, int]:
        """The stretch in which each allocation is freed; those alive at the end are not in it."""
        ledger = side.recording.ledger
        edges = [0, *(bound[which] for bound in self.bounds), len(ledger)]
        return {
            argument: number
            for number, (begin, end) in enumerate(pairwise(edges))
            for kind, argument in zip(ledger.kinds[begin:end], ledger.arguments[begin:end], strict=True)
            if kind == Kind.FREE
        }


def match(predicted: Side, measured: Side, stretches: Stretches) -> Matching:
    """Every allocation of both sides, in one of the lists of a Matching."""
    found = Matching(not predicted.operators.isdisjoint(measured.operators))
    for ours, theirs in zip(stretches.split(predicted, 0), stretches.split(measured, 1), strict=True):
        _match_stretch(predicted, measured, ours, theirs, found)
    return found


def match_beyond_marks(predicted: Side, measured: Side, found: Matching, alive: tuple[set[int], set[int]]) -> None:
    """Pairs what was alone on both sides, is held at one instant, and is equal in size and category."""
    both_know = predicted.knows_categories and measured.knows_categories

    def key(side: Side, number: int) -> tuple[int, str]:
        return side.recording.ledger.sizes[number], side.category(number) if both_know else ""

    waiting: dict[tuple[int, str], deque[int]] = defaultdict(deque)
    for number in found.only_predicted:
        if number in alive[0]:
            waiting[key(predicted, number)].append(number)
    pairs = [
        (same.popleft(), number)
        for number in found.only_measured
        if number in alive[1] and (same := waiting[key(measured, number)])
    ]
    found.reordered += pairs
    gone = {a for a, _ in pairs}, {b for _, b in pairs}
    found.only_predicted = [number for number in found.only_predicted if number not in gone[0]]
    found.only_measured = [number for number in found.only_measured if number not in gone[1]]


def _match_stretch(
    predicted: Side, measured: Side, ours: Sequence[int], theirs: Sequence[int], found: Matching
) -> None:
    pairs = _in_order(predicted, measured, ours, theirs, found.alike)
    found.equal += pairs
    gaps = list(_gaps(pairs, ours, theirs))
    for before, _, right in gaps:
        if before is not None:
            found.before.update(dict.fromkeys(right, before))
    reordered = _equal_sizes(predicted, measured, gaps)
    found.reordered += reordered
    gone = {a for a, _ in reordered}, {b for _, b in reordered}
    for _, left, right in gaps:
        alone = [n for n in left if n not in gone[0]], [n for n in right if n not in gone[1]]
        resized = _resized(predicted, measured, *alone, alike=found.alike)
        found.resized += resized
        paired = {a for a, _ in resized}, {b for _, b in resized}
        found.only_predicted += [n for n in alone[0] if n not in paired[0]]
        found.only_measured += [n for n in alone[1] if n not in paired[1]]


def _in_order(predicted: Side, measured: Side, ours: Sequence[int], theirs: Sequence[int], alike: bool) -> list[Pair]:
    if not alike:
        return _aligned(ours, theirs, _size(predicted), _size(measured))
    pairs = _aligned(ours, theirs, _size_and_place(predicted), _size_and_place(measured))
    between = [
        pair
        for _, left, right in _gaps(pairs, ours, theirs)
        for pair in _aligned(left, right, _size(predicted), _size(measured))
    ]
    return sorted(pairs + between)


def _aligned(
    ours: Sequence[int],
    theirs: Sequence[int],
    our_key: Callable[[int], Hashable],
    their_key: Callable[[int], Hashable],
) -> list[Pair]:
    pairs = align([our_key(n) for n in ours], [their_key(n) for n in theirs])
    return [(ours[i], theirs[j]) for i, j in pairs]


def _size(side: Side) -> Callable[[int], Hashable]:
    return side.recording.ledger.sizes.__getitem__


def _size_and_place(side: Side) -> Callable[[int], Hashable]:
    sizes = side.recording.ledger.sizes
    return lambda number: (sizes[number], side.operator(number), side.path(number))


def _gaps(
    pairs: Sequence[Pair], ours: Sequence[int], theirs: Sequence[int]
) -> Iterator[tuple[int | None, Sequence[int], Sequence[int]]]:
    """What lies between `pairs` on both sides, with the predicted one of the pair before."""
    i = j = 0
    before = None
    for a, b in pairs:
        ends = a - ours[0], b - theirs[0]  # the numbers of one stretch follow each other
        if (i, j) != ends:
            yield before, ours[i : ends[0]], theirs[j : ends[1]]
        i, j = ends[0] + 1, ends[1] + 1
        before = a
    if i < len(ours) or j < len(theirs):
        yield before, ours[i:], theirs[j:]


def _equal_sizes(
    predicted: Side, measured: Side, gaps: Sequence[tuple[int | None, Sequence[int], Sequence[int]]]
) -> list[Pair]:
    """Allocations of the same size in whatever gaps, first with first."""
    waiting: dict[int, deque[int]] = defaultdict(deque)
    for _, left, _ in gaps:
        for number in left:
            waiting[predicted.recording.ledger.sizes[number]].append(number)
    sizes = measured.recording.ledger.sizes
    return [
        (waiting[sizes[number]].popleft(), number) for _, _, right in gaps for number in right if waiting[sizes[number]]
    ]


def _resized(predicted: Side, measured: Side, left: Sequence[int], right: Sequence[int], *, alike: bool) -> list[Pair]:
    """Of what is alone in one gap, the allocations that are the same but for their size."""
    if not alike:
        return list(zip(left, right, strict=True)) if len(left) == len(right) else []
    pairs = align([predicted.operator(n) for n in left], [measured.operator(n) for n in right])
    return [(left[i], right[j]) for i, j in pairs]
