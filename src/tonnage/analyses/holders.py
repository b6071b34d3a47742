"""Who holds the memory at the peak of a recording: the lines of code or modules that allocated it, largest first.

Made for recordings of real runs, which do not say what an allocation is.
"""

from __future__ import annotations

import msgspec
from msgspec import Struct

from tonnage.allocator import Settings
from tonnage.analyses.fit import replay_without_limit
from tonnage.analyses.place import Place, place_of
from tonnage.ledger import NO_OP, Category
from tonnage.measuring.snapshots import OutOfMemoryEvent, Snapshot
from tonnage.recording import Assumption, NotCounted, Recording
from tonnage.trace import PHASES


class Holder(Struct, frozen=True, kw_only=True):
    """What one place allocated that is alive at the peak: whole blocks, and how many.

    `operator` is the operator, or in a real run the line of code; "" with an empty `phase` where it is not known.
    """

    operator: str
    module: str
    phase: str
    nbytes: int
    blocks: int


class Holders(Struct, frozen=True, kw_only=True):
    """The peak of a recording, and everything that is alive there.

    `by_category` and `holders`, largest first, each sum to `allocated_bytes`: whole blocks, as
    torch.cuda.max_memory_allocated() counts. `reserved_bytes` is the most that the replayed allocator reserved, at any
    time.
    """

    allocated_bytes: int
    reserved_bytes: int
    place: Place
    by_category: dict[str, int]
    holders: list[Holder]


class SnapshotSummary(Struct, frozen=True, kw_only=True):
    """What a memory snapshot says: the peak, replayed (None: nothing was allocated), and what stands in it by itself.

    `recorded_reserved_bytes` is the most that the allocator held by the events of its segments, None where those are
    missing; `end_allocated_bytes` is what was in use when the snapshot was taken. Not `measured`: `tonnage export`
    wrote it from a prediction.
    """

    name: str
    device: str
    measured: bool
    peak: Holders | None
    recorded_reserved_bytes: int | None
    end_allocated_bytes: int
    out_of_memory: tuple[OutOfMemoryEvent, ...]
    assumptions: list[Assumption]
    not_counted: list[NotCounted]

    def to_json(self) -> str:
        return msgspec.json.format(msgspec.json.encode(self), indent=2).decode()


def summarize_snapshot(snapshot: Snapshot, name: str) -> SnapshotSummary:
    """The summary of `snapshot`, read from the file `name`."""
    recording = snapshot.recording
    return SnapshotSummary(
        name=name,
        device=recording.environment.device,
        measured=recording.environment.measured,
        peak=find_holders(recording),
        recorded_reserved_bytes=snapshot.peak_reserved,
        end_allocated_bytes=snapshot.allocated_at_end,
        out_of_memory=snapshot.out_of_memory,
        assumptions=recording.assumptions,
        not_counted=recording.not_counted,
    )


def find_holders(recording: Recording) -> Holders | None:
    """What is alive at the peak of `recording`, on a card without end; None where nothing was ever allocated."""
    timeline = replay_without_limit(recording, Settings.parse(recording.environment.alloc_conf))
    if not timeline.peak_allocated:
        return None
    at = timeline.peak_allocated_at
    found: dict[tuple[str, str, str], list[int]] = {}
    for number in recording.ledger.live(at):
        found.setdefault(_origin(recording, number), []).append(timeline.block_sizes[number])
    holders = [
        Holder(operator=operator, module=module, phase=phase, nbytes=sum(sizes), blocks=len(sizes))
        for (operator, module, phase), sizes in found.items()
    ]
    return Holders(
        allocated_bytes=timeline.peak_allocated,
        reserved_bytes=timeline.peak_reserved,
        place=place_of(recording, at),
        by_category={category.name.lower(): nbytes for category, nbytes in _sorted(timeline.by_category(at))},
        holders=sorted(holders, key=lambda holder: -holder.nbytes),
    )


def _origin(recording: Recording, number: int) -> tuple[str, str, str]:
    """Operator, module and phase of an allocation."""
    op = recording.ledger.ops[number]
    if op == NO_OP:
        return "", "", ""
    operator = recording.trace.ops[op]
    return operator.name, recording.trace.module_path(op), PHASES[operator.phase]


def _sorted(by_category: dict[Category, int]) -> list[tuple[Category, int]]:
    return sorted(by_category.items(), key=lambda item: -item[1])
