"""A ledger replayed: what was allocated and reserved after each event."""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from itertools import accumulate

from tonnage.allocator.blocks import Block
from tonnage.allocator.core import BlockAllocator, OutOfMemory
from tonnage.allocator.settings import Settings
from tonnage.ledger import Category, Column, Kind, Ledger

_ALLOC, _FREE, _EMPTY_CACHE = int(Kind.ALLOC), int(Kind.FREE), int(Kind.EMPTY_CACHE)
"""Plain integers: comparing with a member of an enum costs a look-up of the class each time."""


@dataclass(frozen=True)
class Timeline:
    """What an allocator made of a ledger, event by event.

    `allocated[i]` and `reserved[i]` are bytes after event i. `block_sizes[n]` are the bytes of the block that
    allocation n got, whole: an unsplit block is larger than asked. `peak_allocated_at` is the first event that
    reaches the peak, over all events, wherever RESET_PEAK stands. After running out both columns end before the
    event `out_of_memory.at`.
    """

    ledger: Ledger
    allocated: Column
    reserved: Column
    block_sizes: Column
    peak_allocated: int
    peak_allocated_at: int
    peak_reserved: int
    out_of_memory: OutOfMemory | None = None

    def __len__(self) -> int:
        return len(self.allocated)

    def peak_between(self, start: int, stop: int) -> int:
        """The most bytes allocated after any of the events from `start` up to, not including, `stop`.

        This is what max_memory_allocated() says at `stop` when the peak was reset by event `start`.
        """
        return max(self.allocated[start:stop], default=0)

    def by_category(self, at: int) -> dict[Category, int]:
        """Bytes of the blocks in use after event `at`, by what they hold; together `allocated[at]`."""
        if not 0 <= at < len(self):
            raise IndexError(f"event {at} of {len(self)}")
        totals = dict.fromkeys(Category, 0)
        for number in self.ledger.live(at):
            totals[Category(self.ledger.categories[number])] += self.block_sizes[number]
        return {category: nbytes for category, nbytes in totals.items() if nbytes}


def replay(
    ledger: Ledger, settings: Settings | None = None, *, capacity: int | None = None, total_memory: int | None = None
) -> Timeline:
    """What PyTorch's allocator makes of `ledger`; running out ends it and is written down, not raised.

    >>> ledger = Ledger()
    >>> weight = ledger.alloc(4 * 2**20)
    >>> ledger.free(weight)
    >>> timeline = replay(ledger)
    >>> timeline.allocated, timeline.reserved, timeline.peak_allocated_at
    (array('q', [4194304, 0]), array('q', [20971520, 20971520]), 0)

    `capacity` and `total_memory` as for CachingAllocator. A million events take about a second: the loop keeps to
    malloc and free, and sums up what was allocated afterwards.
    """
    allocator = BlockAllocator(settings, capacity=capacity, total_memory=total_memory)
    changes: list[int] = []
    reserved = array("q")
    block_sizes = array("q")
    out_of_memory = None
    try:
        _run(ledger, allocator, changes, reserved, block_sizes)
    except OutOfMemory as error:
        error.at = len(changes)
        out_of_memory = error
    allocated = array("q", accumulate(changes))
    peak = max(allocated, default=0)
    return Timeline(
        ledger,
        allocated,
        reserved,
        block_sizes,
        peak_allocated=peak,
        peak_allocated_at=allocated.index(peak) if allocated else 0,
        peak_reserved=allocator.peak_reserved,
        out_of_memory=out_of_memory,
    )


def replay_unrounded(ledger: Ledger) -> Timeline:
    """What an allocator makes of `ledger` that takes from the system what it is asked for and gives it back at once.

    >>> ledger = Ledger()
    >>> ledger.free(ledger.alloc(100))
    >>> replay_unrounded(ledger).reserved
    array('q', [100, 0])

    PyTorch's on a CPU: reserved is allocated.
    """
    changes = {_ALLOC: 1, _FREE: -1}
    sizes = ledger.sizes
    events = zip(ledger.kinds, ledger.arguments, strict=True)
    held = array("q", accumulate(changes[kind] * sizes[number] if kind in changes else 0 for kind, number in events))
    peak = max(held, default=0)
    at = held.index(peak) if held else 0
    return Timeline(ledger, held, held, sizes, peak_allocated=peak, peak_allocated_at=at, peak_reserved=peak)


def _run(ledger: Ledger, allocator: BlockAllocator, changes: list[int], reserved: Column, block_sizes: Column) -> None:
    """Steps `allocator` through `ledger`, writing the change of the allocated bytes and the reserved ones per event."""
    sizes, streams = ledger.sizes, ledger.streams
    malloc, free, held = allocator.malloc, allocator.free, allocator.driver.reserved_bytes.all
    blocks: dict[int, Block] = {}
    for kind, argument in zip(ledger.kinds, ledger.arguments, strict=True):
        if kind == _ALLOC:
            block = malloc(sizes[argument], streams[argument])
            blocks[argument] = block
            block_sizes.append(block.size)
            changes.append(block.size)
        elif kind == _FREE:
            block = blocks.pop(argument)
            changes.append(-block.size)
            free(block)
        else:
            if kind == _EMPTY_CACHE:
                allocator.empty_cache()
            changes.append(0)
        reserved.append(held.current)
