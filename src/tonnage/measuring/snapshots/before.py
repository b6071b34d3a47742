"""What was alive before a history began: its events do not say so, but the blocks and the frees do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from tonnage.errors import BadFile
from tonnage.measuring.snapshots.events import (
    ALLOC,
    ALLOCATED,
    FREE_COMPLETED,
    FREE_REQUESTED,
    HINT,
    Event,
    RawSnapshot,
)


class Before(NamedTuple):
    """A block that was in use when the history began, and the stack that its allocation left, if any."""

    address: int
    size: int
    stream: int
    pool: tuple[int, int]
    stack: Any


def initially_alive(raw: RawSnapshot, name: str) -> list[Before]:
    """The blocks in use when the history of `raw` began, by address.

    Those are the ones that it frees without having allocated them, and at its end the ones in use that it never
    allocated. Sizes are as asked for.
    """
    born: set[int] = set()
    freed: dict[int, Before] = {}
    for event in _frees_and_allocations(raw):
        if event.action == ALLOC:
            born.add(event.addr)
        elif event.addr in born:
            born.discard(event.addr)
        elif event.addr in freed:
            raise BadFile(f"{name} frees what its history never allocated: {event.addr:#x}", hint=HINT)
        else:
            freed[event.addr] = Before(event.addr, event.size, event.stream, event.pool_id, None)
    still = (block for block in _in_use_at_end(raw) if block.address not in born)
    return sorted([*freed.values(), *still], key=lambda block: block.address)


def _frees_and_allocations(raw: RawSnapshot) -> Iterator[Event]:
    """The allocations and, for each block that was let go of, one of its two events.

    A completion alone is one of a block that was let go of before the history, unless no request was recorded at all
    (skip_actions).
    """
    requested = any(event.action == FREE_REQUESTED for event in raw.events)
    wanted = (ALLOC, FREE_REQUESTED if requested else FREE_COMPLETED)
    return (event for event in raw.events if event.action in wanted)


def _in_use_at_end(raw: RawSnapshot) -> Iterator[Before]:
    for segment in raw.segments:
        for address, block in segment.placed():
            if block.state == ALLOCATED:
                size = block.requested_size or block.size
                stack = raw.block_stacks.get(address)
                yield Before(address, size, segment.stream, segment.segment_pool_id, stack)
