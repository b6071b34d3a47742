"""What a card's allocator wrote down, joined with what Python knew meanwhile: modules, phases, marks, categories.

Free of calls to the card, so that it is the same for a history that was kept.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from tonnage.ledger import Category, Kind, Ledger
from tonnage.measuring.snapshots import OutOfMemoryEvent, Snapshot
from tonnage.measuring.snapshots.events import ALLOC, FREE_REQUESTED, Event, RawSnapshot, raw_snapshot
from tonnage.measuring.snapshots.reading import SnapshotReader
from tonnage.recording import PEAK, CardMemory, Environment, NotCounted, ProcessMemory, Recording
from tonnage.trace import PHASES, ROOT, Call, Module, Parameter, Trace
from tonnage.tracking.categories import more_telling

SETUP, FORWARD, BACKWARD = PHASES.index("setup"), PHASES.index("forward"), PHASES.index("backward")

OUTSIDE = NotCounted(
    "what is not in PyTorch's allocator", "CUDA's context, code and libraries are in the process's memory alone"
)


class Figures(NamedTuple):
    """What torch.cuda answered at one instant, in bytes."""

    allocated: int
    reserved: int
    max_allocated: int
    max_reserved: int


@dataclass(frozen=True)
class Said:
    """What Python knew once the allocator had made `position` allocations and frees.

    `module` and `phase` are where the program is from then on; `tags` what the storages at some addresses are. A `mark`
    comes with the card's own `figures` and, where the system says, the `process`'s memory. After `last` nothing is the
    run's any more: what is freed then belonged to libraries.
    """

    position: int
    module: int = ROOT
    phase: int = SETUP
    tags: Sequence[tuple[int, Category]] = ()
    mark: str | None = None
    figures: Figures | None = None
    process: int | None = None
    last: bool = False


@dataclass(frozen=True, kw_only=True)
class Tracked:
    """What was followed of the model: `calls` begin and end at indices of what was said."""

    modules: Sequence[Module] = (Module("", ""),)
    calls: Sequence[Call] = ()
    parameters: Sequence[Parameter] = ()


@dataclass(frozen=True, kw_only=True)
class CardHistory:
    """A run on a card: the recording, and the card's own figures at each mark, by which a replay is checked.

    `reserved` and `peak_reserved` are as in `Snapshot`.
    """

    recording: Recording
    figures: dict[str, Figures]
    reserved: Sequence[int]
    peak_reserved: int | None
    out_of_memory: tuple[OutOfMemoryEvent, ...]


def history_of(
    snapshot: dict[str, Any],
    said: Sequence[Said],
    *,
    environment: Environment,
    tracked: Tracked | None = None,
    device: int | None = None,
) -> CardHistory:
    """The history in `snapshot`, as torch.cuda.memory._snapshot() answers it, with what was said meanwhile.

    `said` is in order, its positions counted from where the history began. An allocation belongs to the module and the
    phase that the program was in; in backward PyTorch runs in threads of its own, so no module is known there. What
    was made in the forward pass and is alive when backward begins is an ACTIVATION, unless something more telling was
    said of it.
    """
    reader = _Reader(raw_snapshot(snapshot, name="the card's history", device=device), said)
    read = reader.read()
    return CardHistory(
        recording=_recording(read, reader, environment, tracked or Tracked()),
        figures={what.mark: what.figures for what in said if what.mark is not None and what.figures is not None},
        reserved=read.reserved,
        peak_reserved=read.peak_reserved,
        out_of_memory=read.out_of_memory,
    )


def _recording(read: Snapshot, reader: _Reader, environment: Environment, tracked: Tracked) -> Recording:
    found = read.recording
    positions = reader.positions
    calls = [call._replace(begin=positions[call.begin], end=positions[call.end]) for call in tracked.calls]
    trace = Trace(found.trace.ops, list(tracked.modules), list(tracked.parameters), calls, found.trace.marks)
    process = [ProcessMemory(said.mark, said.process) for said in reader.said if said.mark and said.process is not None]
    not_counted = [OUTSIDE, *found.not_counted[1:], *reader.lost()]
    return replace(
        found,
        trace=trace,
        environment=environment,
        process=process,
        card=_card_memory(reader.said, found.ledger),
        not_counted=not_counted,
    )


def _card_memory(said: Sequence[Said], ledger: Ledger) -> list[CardMemory]:
    """What the card answered at each mark and, where nothing was allocated after the last, the most of it."""
    asked = [(what.mark, what.figures) for what in said if what.mark and what.figures is not None]
    at_marks = [CardMemory(mark, figures.allocated, figures.reserved) for mark, figures in asked]
    _, last = (list(ledger.mark_positions()) or [("", 0)])[-1]
    if not asked or Kind.ALLOC in ledger.kinds[last:]:
        return at_marks
    highest = asked[-1][1]
    return [*at_marks, CardMemory(PEAK, highest.max_allocated, highest.max_reserved)]


class _Reader(SnapshotReader):
    """Reads the events, and between them what was said."""

    def __init__(self, raw: RawSnapshot, said: Sequence[Said]) -> None:
        super().__init__(raw, "the card's history")
        self.said = said
        self.positions = [0] * len(said)
        self.place = ROOT, SETUP
        self._phase = SETUP
        self._pending = deque(enumerate(said))
        counted = sum(event.action in (ALLOC, FREE_REQUESTED) for event in raw.events)
        self._lost = max(max((what.position for what in said), default=0) - counted, 0)
        self._count = self._lost
        self._over = False
        self._kept: set[int] = set()

    def read(self) -> Snapshot:
        found = super().read()
        while self._pending:
            self._say(*self._pending.popleft())
        return found

    def lost(self) -> list[NotCounted]:
        """The events that the history had no room for."""
        if not self._lost:
            return []
        return [NotCounted(f"the first {self._lost} events", "the history had no room for them: max_entries")]

    def event(self, event: Event, stack: Any) -> None:
        counts = event.action in (ALLOC, FREE_REQUESTED)
        while self._pending and self._pending[0][1].position <= self._count and (counts or self._is_now()):
            self._say(*self._pending.popleft())
        self._count += counts
        if self._over:
            self._library(event)
            return
        super().event(event, stack)
        number = self.alive.get(event.addr) if event.action == ALLOC else None
        if number is not None and self._phase == FORWARD:
            self._kept.add(number)

    def _is_now(self) -> bool:
        """Whether what is next to be said was before the segment that comes or goes next."""
        figures = self._pending[0][1].figures
        return figures is None or figures.reserved == self.held

    def _say(self, index: int, said: Said) -> None:
        self.positions[index] = len(self.stacks.trace.ops)
        if said.phase == BACKWARD and self._phase != BACKWARD:
            self._keep_activations()
        self.place, self._phase = (said.module, said.phase), said.phase
        for address, category in said.tags:
            if address in self.alive:
                self._tag(self.alive[address], category)
        if said.mark is not None:
            self.mark(said.mark)
        self._over = self._over or said.last

    def _library(self, event: Event) -> None:
        """What is still given back when the run is over was a library's own."""
        if event.action == FREE_REQUESTED and event.addr in self.alive:
            self.ledger.retag(self.alive[event.addr], Category.WORKSPACE)

    def _keep_activations(self) -> None:
        for number in self._kept & set(self.alive.values()):
            self._tag(number, Category.ACTIVATION)
        self._kept.clear()

    def _tag(self, number: int, category: Category) -> None:
        if more_telling(category, Category(self.ledger.categories[number])):
            self.ledger.retag(number, category)
