"""Which allocation of one side is which of the other.

Only allocations between the same marks are matched, in passes over what is still alone. Where both sides name operators
alike: in order by size, operator and module; then what lasts by size, category and module; in order by operator and
module, be the size another; in order by size; and at last equal sizes wherever they are. Where they do not: in order by
size, equal sizes wherever they are, and in one gap as many as there are on both sides, as of another size. The rest one
side has alone.

Only what lives long is looked for beyond the marks: on a CPU the weights are there before the start, and on a card they
are moved to it.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from tonnage.analyses.comparison.sequences import align
from tonnage.analyses.comparison.sides import Side
from tonnage.ledger import Kind

Pair = tuple[int, int]
Key = Callable[[int], Hashable]
"""What must be equal of two allocations."""
Gap = tuple[int | None, Sequence[int], Sequence[int]]
"""Allocations of both sides between two pairs, and the predicted one of the pair before."""


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

    @property
    def in_order(self) -> list[Pair]:
        return sorted(self.equal + self.resized)


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
        """The stretch in which each allocation is freed, up to the last mark; what is alive then is not in it."""
        ledger = side.recording.ledger
        edges = [0, *(bound[which] for bound in self.bounds)]
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
    know = predicted.knows_categories and measured.knows_categories

    def key(side: Side) -> Key:
        sizes = side.recording.ledger.sizes
        return lambda number: (sizes[number], side.category(number) if know else "")

    ours = [number for number in found.only_predicted if number in alive[0]]
    theirs = [number for number in found.only_measured if number in alive[1]]
    pairs = _first_with_first(ours, theirs, key(predicted), key(measured))
    found.reordered += pairs
    gone = {a for a, _ in pairs}, {b for _, b in pairs}
    found.only_predicted = [number for number in found.only_predicted if number not in gone[0]]
    found.only_measured = [number for number in found.only_measured if number not in gone[1]]


def _match_stretch(
    predicted: Side, measured: Side, ours: Sequence[int], theirs: Sequence[int], found: Matching
) -> None:
    pairs: list[Pair] = []
    gaps: list[Gap] = [(None, ours, theirs)]
    for in_order, key in _PASSES_OF_ALIKE if found.alike else _PASSES:
        our_key, their_key = key(predicted), key(measured)
        if in_order:
            aligned, gaps = _aligned(gaps, our_key, their_key)
            pairs += aligned
        else:
            moved = _anywhere(gaps, our_key, their_key)
            found.reordered += moved
            gaps = _without(gaps, moved)
    if not found.alike:
        paired = [pair for _, left, right in gaps if len(left) == len(right) for pair in zip(left, right, strict=True)]
        pairs += paired
        gaps = _without(gaps, paired)
    our_size, their_size = _size(predicted), _size(measured)
    for a, b in pairs:
        (found.equal if our_size(a) == their_size(b) else found.resized).append((a, b))
    for before, left, right in gaps:
        found.only_predicted += left
        found.only_measured += right
        if before is not None:
            found.before.update(dict.fromkeys(right, before))


def _size(side: Side) -> Key:
    return side.recording.ledger.sizes.__getitem__


def _place(side: Side) -> Key:
    return lambda number: (side.operator(number), side.path(number))


def _size_and_place(side: Side) -> Key:
    sizes = side.recording.ledger.sizes
    return lambda number: (sizes[number], side.operator(number), side.path(number))


def _size_and_role(side: Side) -> Key:
    """What lasts is the same whoever made it: a gradient may come from a product, or from the cast of one."""
    sizes = side.recording.ledger.sizes

    def key(number: int) -> Hashable:
        category = side.category(number)
        return (sizes[number], category, side.path(number)) if category not in _PASSING else (id(side), number)

    return key


_PASSING = ("", "temporary", "workspace")

_PASSES = ((True, _size), (False, _size))
_PASSES_OF_ALIKE = (
    (True, _size_and_place),
    (False, _size_and_role),
    (True, _place),
    (True, _size),
    (False, _size_and_place),
    (False, _size),
)
"""In order or not, and by what."""


def _aligned(gaps: Sequence[Gap], our_key: Key, their_key: Key) -> tuple[list[Pair], list[Gap]]:
    """What is equal in order in each gap, and the gaps that are left between."""
    pairs: list[Pair] = []
    left_over: list[Gap] = []
    for before, left, right in gaps:
        i = j = 0
        for a, b in align([our_key(n) for n in left], [their_key(n) for n in right]):
            left_over.append((before, left[i:a], right[j:b]))
            pairs.append((left[a], right[b]))
            before, i, j = left[a], a + 1, b + 1
        left_over.append((before, left[i:], right[j:]))
    return pairs, [gap for gap in left_over if gap[1] or gap[2]]


def _anywhere(gaps: Sequence[Gap], our_key: Key, their_key: Key) -> list[Pair]:
    """Allocations of the same key in whatever gaps, first with first."""
    return _first_with_first(
        [number for _, left, _ in gaps for number in left],
        [number for _, _, right in gaps for number in right],
        our_key,
        their_key,
    )


def _first_with_first(ours: Sequence[int], theirs: Sequence[int], our_key: Key, their_key: Key) -> list[Pair]:
    waiting: dict[Hashable, deque[int]] = defaultdict(deque)
    for number in ours:
        waiting[our_key(number)].append(number)
    return [(same.popleft(), number) for number in theirs if (same := waiting[their_key(number)])]


def _without(gaps: Sequence[Gap], pairs: Sequence[Pair]) -> list[Gap]:
    ours, theirs = {a for a, _ in pairs}, {b for _, b in pairs}
    return [
        (before, [n for n in left if n not in ours], [n for n in right if n not in theirs])
        for before, left, right in gaps
    ]
