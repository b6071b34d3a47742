"""The ledger: what was allocated and freed, in order, as plain integers."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    Column = array[int]
else:
    Column = array  # not subscriptable before Python 3.12

NO_OP = -1
"""The operator index of an allocation that no operator made."""


class Kind(IntEnum):
    """What an event of the ledger says."""

    ALLOC = 0
    FREE = 1
    MARK = 2
    EMPTY_CACHE = 3
    RESET_PEAK = 4


class Category(IntEnum):
    """What an allocation turned out to be; it follows the object and not the phase it was made in."""

    TEMPORARY = 0
    PARAMETER = 1
    BUFFER = 2
    GRADIENT = 3
    OPTIMIZER = 4
    INPUT = 5
    ACTIVATION = 6
    OUTPUT = 7
    WORKSPACE = 8


@dataclass
class Ledger:
    """Allocations, frees and marks of one run.

    An allocation is numbered by the order it was made in (0, 1, 2, ...); `sizes[n]`, `streams[n]`, `ops[n]` and
    `categories[n]` are the bytes it asked for, the stream it was made on, the index of the operator in the trace
    that made it (NO_OP: none) and what it is. An event is a `kind` and an `argument`: the allocation's number for
    ALLOC and FREE, the index into `marks` for MARK, 0 otherwise. Sizes are as requested, before any rounding:
    rounding is the allocator's business.
    """

    kinds: Column = field(default_factory=lambda: array("b"))
    arguments: Column = field(default_factory=lambda: array("q"))
    sizes: Column = field(default_factory=lambda: array("q"))
    streams: Column = field(default_factory=lambda: array("q"))
    ops: Column = field(default_factory=lambda: array("q"))
    categories: Column = field(default_factory=lambda: array("b"))
    marks: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.kinds)

    def alloc(self, nbytes: int, *, stream: int = 0, op: int = NO_OP, category: Category = Category.TEMPORARY) -> int:
        """Writes down an allocation of `nbytes` and returns its number."""
        number = len(self.sizes)
        self.sizes.append(nbytes)
        self.streams.append(stream)
        self.ops.append(op)
        self.categories.append(category)
        self.kinds.append(Kind.ALLOC)
        self.arguments.append(number)
        return number

    def free(self, number: int) -> None:
        self.kinds.append(Kind.FREE)
        self.arguments.append(number)

    def mark(self, name: str) -> None:
        """Names the instant between the events before and after it."""
        self.kinds.append(Kind.MARK)
        self.arguments.append(len(self.marks))
        self.marks.append(name)

    def note(self, kind: Kind) -> None:
        """Writes down an event without an argument (EMPTY_CACHE, RESET_PEAK)."""
        self.kinds.append(kind)
        self.arguments.append(0)

    def retag(self, number: int, category: Category) -> None:
        """Says what allocation `number` turned out to be."""
        self.categories[number] = category

    def events(self) -> Iterator[tuple[Kind, int]]:
        for kind, argument in zip(self.kinds, self.arguments, strict=True):
            yield Kind(kind), argument

    def live(self, at: int | None = None) -> list[int]:
        """The allocations alive after event `at` (default: at the end), oldest first."""
        alive: dict[int, None] = {}
        end = len(self) if at is None else at + 1
        for kind, argument in zip(self.kinds[:end], self.arguments[:end], strict=True):
            if kind == Kind.ALLOC:
                alive[argument] = None
            elif kind == Kind.FREE:
                del alive[argument]
        return list(alive)

    def mark_positions(self) -> Sequence[tuple[str, int]]:
        """Each mark with the index of its event."""
        return [
            (self.marks[argument], index)
            for index, (kind, argument) in enumerate(zip(self.kinds, self.arguments, strict=True))
            if kind == Kind.MARK
        ]

    def check(self) -> None:
        """Raises AssertionError unless every column fits the others and nothing is freed twice or unborn."""
        assert len(self.kinds) == len(self.arguments), "kinds and arguments differ in length"
        columns = (self.streams, self.ops, self.categories)
        assert all(len(c) == len(self.sizes) for c in columns), "the columns of the allocations differ in length"
        assert all(size > 0 for size in self.sizes), "an allocation of no bytes"
        born = 0
        dead: set[int] = set()
        for kind, argument in self.events():
            if kind is Kind.ALLOC:
                assert argument == born, f"allocation {argument} follows allocation {born - 1}"
                born += 1
            elif kind is Kind.FREE:
                assert 0 <= argument < born, f"allocation {argument} is freed before it is born"
                assert argument not in dead, f"allocation {argument} is freed twice"
                dead.add(argument)
            elif kind is Kind.MARK:
                assert 0 <= argument < len(self.marks), f"mark {argument} has no name"
        assert born == len(self.sizes), "allocations without an event"
