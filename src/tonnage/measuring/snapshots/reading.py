"""A memory snapshot of a real run, as a recording."""

from __future__ import annotations

import os
from array import array
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct

from tonnage.errors import BadFile
from tonnage.ledger import Category, Column, Kind, Ledger
from tonnage.measuring.snapshots.before import Before, initially_alive
from tonnage.measuring.snapshots.environment import environment_in, environment_of, settings_of
from tonnage.measuring.snapshots.events import (
    ALLOC,
    ALLOCATED,
    FREE_COMPLETED,
    FREE_REQUESTED,
    GIVEN_BACK,
    HINT,
    OOM,
    TAKEN,
    Event,
    OutOfMemoryEvent,
    RawSnapshot,
    raw_snapshot,
    reserved_by,
)
from tonnage.measuring.snapshots.plain_pickle import MOST_BYTES, plain_value
from tonnage.measuring.snapshots.stacks import StackReader
from tonnage.recording import Assumption, NotCounted, Recording, read_file
from tonnage.units import format_bytes

BEGIN = "history begins"
"""The mark between what was alive before and what the history saw."""

_PICKLE = b"\x80"


class Snapshot(Struct, frozen=True, kw_only=True):
    """A memory snapshot: the recording, and what the card's own allocator did, as it wrote it down itself.

    `reserved[i]` are the bytes it held of the card after event i of the ledger, and `peak_reserved` the most at any
    time, also between two of those events; empty and None where the history lacks segments. `allocated_at_end` are the
    bytes of the blocks in use when the snapshot was taken. `device` is the CUDA device that it is of.
    """

    device: int
    recording: Recording
    reserved: Column
    peak_reserved: int | None
    allocated_at_end: int
    out_of_memory: tuple[OutOfMemoryEvent, ...] = ()


def is_snapshot(path: str | os.PathLike[str]) -> bool:
    """Whether the file at `path` begins as a pickle does."""
    try:
        with Path(path).open("rb") as file:
            return file.read(1) == _PICKLE
    except OSError:
        return False


def read_snapshot(path: str | os.PathLike[str], *, device: int | None = None) -> Snapshot:
    """The memory snapshot in the file `path`, which torch.cuda.memory._dump_snapshot or write_snapshot wrote.

        read_snapshot("snapshot.pickle").recording

    Nothing that the file asks for is run. `device` is the CUDA device; None: the only one that did something.
    Raises BadFile for what is truncated, damaged, hostile or no snapshot, BadOption for a device that is not in it.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
    except OSError:
        size = 0
    if size > MOST_BYTES:
        raise BadFile(f"{path} has {format_bytes(size)}, more than is read", hint="record fewer events: max_entries=")
    return snapshot_of(plain_value(read_file(path), name=str(path)), name=str(path), device=device)


def snapshot_of(value: Any, *, name: str = "snapshot", device: int | None = None) -> Snapshot:
    """The snapshot in `value`, a dictionary as torch.cuda.memory._snapshot() answers it.

    The ledger begins with what was alive before the history, by address, and the mark "history begins". A block is
    freed where the program let go of it (free_requested), which is what memory_allocated() counts. What allocations
    are is not in a real snapshot: all are TEMPORARY, unless `tonnage export` wrote their category.
    """
    try:
        read = SnapshotReader(raw_snapshot(value, name=name, device=device), name).read()
        array("q", [sum(read.recording.ledger.sizes)])  # what a replay of it adds up has room
    except OverflowError:
        raise BadFile(f"{name} has sizes that add up to more than 8 EiB", hint=HINT) from None
    ours = environment_in(value, name=name)
    if ours is not None:
        read.recording.environment = ours
    return read


class SnapshotReader:
    """Goes through the events of one device once; a recorder that knows more than the file extends it."""

    def __init__(self, raw: RawSnapshot, name: str) -> None:
        self.raw = raw
        self.name = name
        self.ledger = Ledger()
        self.stacks = StackReader(name)
        self.reserved = array("q")
        self.out_of_memory: list[OutOfMemoryEvent] = []
        self.held = reserved_by(raw.segments) - sum(_change(event) for event in raw.events)
        self.peak_reserved = self.held
        self._least_reserved = self.held
        self.alive: dict[int, int] = {}
        self.place: tuple[int, int] | None = None
        self._streams: dict[tuple[int, tuple[int, int]], int] = {(0, (0, 0)): 0}
        self._gave_back = False
        self._let_go: int | None = None
        self._late = self._unseen_frees = self._times_given_back = 0

    def read(self) -> Snapshot:
        before = initially_alive(self.raw, self.name)
        self._begin(before)
        annotations = deque(sorted(self.raw.annotations, key=lambda annotation: annotation.time_us))
        for event, stack in zip(self.raw.events, self.raw.stacks, strict=True):
            while annotations and annotations[0].time_us < event.time_us:
                self.mark(annotations.popleft().title)
            self.event(event, stack)
        self.settle()
        for annotation in annotations:
            self.mark(annotation.title)
        complete = self._least_reserved >= 0
        return Snapshot(
            device=self.raw.device,
            recording=self._recording(before),
            reserved=self.reserved if complete else array("q"),
            peak_reserved=self.peak_reserved if complete else None,
            allocated_at_end=sum(b.size for s in self.raw.segments for b in s.blocks if b.state == ALLOCATED),
            out_of_memory=tuple(self.out_of_memory),
        )

    def _begin(self, before: Sequence[Before]) -> None:
        for block in before:
            self.alive[block.address] = self._alloc(block.size, block.stream, block.pool, block.stack)
        if before and self.raw.events:
            self.mark(BEGIN)

    def event(self, event: Event, stack: Any) -> None:
        if event.action in GIVEN_BACK:
            self._gave_back = True
            self._hold(_change(event))
            return
        self.settle()
        if event.action in (FREE_REQUESTED, FREE_COMPLETED):
            self._free(event)
            return
        self._let_go = None
        if event.action in TAKEN:
            self._hold(_change(event))
        elif event.action == ALLOC:
            self._lost_free(event.addr)
            number = self._alloc(event.size, event.stream, event.pool_id, stack, event.category)
            self.alive[event.addr] = number
        elif event.action == OOM:
            at = len(self.ledger) - 1
            self.out_of_memory.append(OutOfMemoryEvent(at=at, tried_bytes=event.size, free_bytes=event.device_free))

    def _alloc(self, size: int, stream: int, pool: tuple[int, int], stack: Any, category: str = "") -> int:
        if not size:
            raise BadFile(f"{self.name} has an allocation of no bytes", hint=HINT)
        number = self._streams.setdefault((stream, pool), len(self._streams))
        made = self.ledger.alloc(
            size, stream=number, op=self.stacks.op(stack, self.place), category=_category(category)
        )
        self._note()
        return made

    def _free(self, event: Event) -> None:
        """Frees where the program lets go; the completion follows at once, or when other streams are done."""
        number = self.alive.pop(event.addr, None)
        if number is not None:
            self.ledger.free(number)
            self._note()
        if event.action == FREE_REQUESTED:
            self._let_go = event.addr
        elif number is None and event.addr != self._let_go:
            self._late += 1

    def _lost_free(self, address: int) -> None:
        """An address that is handed out again was given back, whether the history says so or not."""
        number = self.alive.pop(address, None)
        if number is not None:
            self._unseen_frees += 1
            self.ledger.free(number)
            self._note()

    def _hold(self, change: int) -> None:
        self.held += change
        self.peak_reserved = max(self.peak_reserved, self.held)
        self._least_reserved = min(self._least_reserved, self.held)

    def settle(self) -> None:
        """Segments went back to the driver: empty_cache(), or the allocator doing the same to find memory."""
        if self._gave_back:
            self._gave_back = False
            self._times_given_back += 1
            self.ledger.note(Kind.EMPTY_CACHE)
            self._note()

    def mark(self, name: str) -> None:
        self.settle()
        self.ledger.mark(name)
        self.stacks.mark(name)
        self._note()

    def _note(self) -> None:
        self.reserved.append(self.held)

    def _recording(self, before: Sequence[Before]) -> Recording:
        alloc_conf, remarks = settings_of(self.raw.settings)
        assumptions = [Assumption(remark) for remark in (*remarks, *self._remarks(before))]
        missing = [] if self._least_reserved >= 0 else [_SEGMENTS_MISSING]
        return Recording(
            self.ledger,
            self.stacks.trace,
            environment_of(self.raw.device, alloc_conf),
            assumptions,
            [_OUTSIDE, *missing],
        )

    def _remarks(self, before: Sequence[Before]) -> Iterator[str]:
        """What the replay of this recording takes for granted."""
        if before:
            yield f"{len(before)} blocks were alive before the history began: taken as allocated in order of address"
        if self._late:
            yield f"{self._late} blocks waited for other streams after they were freed: taken as free at once"
        if self._unseen_frees:
            yield f"{self._unseen_frees} frees are not in the history: taken as just before the address is used again"
        if any(pool != (0, 0) for _, pool in self._streams):
            yield "private pools (CUDA graphs, MemPool): taken as streams of their own"
        if self._times_given_back and self.raw.settings.get("garbage_collection_threshold"):
            yield "garbage collection gave segments back: taken as empty_cache()"
        if self.stacks.unknown:
            yield f"{self.stacks.unknown} allocations have no stack: their place is not known"


def _change(event: Event) -> int:
    """Bytes that the allocator holds more (or less) of the card after `event`."""
    return event.size if event.action in TAKEN else -event.size if event.action in GIVEN_BACK else 0


def _category(name: str) -> Category:
    return _CATEGORIES.get(name, Category.TEMPORARY)


_CATEGORIES = {category.name.lower(): category for category in Category}
_OUTSIDE = NotCounted(
    "CUDA context, libraries and everything outside of PyTorch's allocator", "a memory snapshot does not hold them"
)
_SEGMENTS_MISSING = NotCounted("memory reserved over time", "the history lacks segments: skip_actions, or events lost")
