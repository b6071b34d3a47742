"""What a memory snapshot holds, as plain records: its events, segments and settings, checked as they are read.

As torch/csrc/cuda/Module.cpp (THCPModule_memorySnapshot) of PyTorch 2.6 to 2.13 writes it. Newer versions add fields
(`compile_context`, `user_metadata`, `pool_id`); what is not used here is passed over.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, NamedTuple, TypeVar

import msgspec
from msgspec import Meta, Struct

from tonnage.errors import BadFile, BadOption

ALLOC, FREE_REQUESTED, FREE_COMPLETED = "alloc", "free_requested", "free_completed"
SEGMENT_ALLOC, SEGMENT_FREE, SEGMENT_MAP, SEGMENT_UNMAP = (
    "segment_alloc",
    "segment_free",
    "segment_map",
    "segment_unmap",
)
OOM, SNAPSHOT = "oom", "snapshot"
ALLOCATED = "active_allocated"
TAKEN, GIVEN_BACK = (SEGMENT_ALLOC, SEGMENT_MAP), (SEGMENT_FREE, SEGMENT_UNMAP)
"""How memory comes from the driver and goes back to it."""

HINT = "write one with torch.cuda.memory._dump_snapshot(FILE) after torch.cuda.memory._record_memory_history()"
Bytes = Annotated[int, Meta(ge=0, lt=2**44)]
"""No card has 16 TiB."""

T = TypeVar("T")


class Event(Struct, frozen=True):
    """One entry of a device's trace.

    `size` of alloc and free is what was asked for, before any rounding (c10/cuda/CUDACachingAllocator.cpp:
    alloc_found_block, free), of segments the whole segment. `category` is what `tonnage export` and the viewer use.
    """

    action: str
    size: Bytes
    addr: int = 0
    stream: int = 0
    time_us: int = 0
    pool_id: tuple[int, int] = (0, 0)
    category: str = ""
    device_free: int = 0


class Block(Struct, frozen=True):
    size: Bytes
    state: str
    requested_size: Bytes | None = None


class Segment(Struct, frozen=True):
    address: int
    total_size: Bytes
    blocks: list[Block]
    device: int = 0
    stream: int = 0
    segment_pool_id: tuple[int, int] = (0, 0)

    def placed(self) -> Iterator[tuple[int, Block]]:
        """Each block with its address; they follow each other without a gap."""
        address = self.address
        for block in self.blocks:
            yield address, block
            address += block.size


class Annotation(Struct, frozen=True):
    """A named instant: what a profiler range wrote at its begin or end, or a mark of ours (no stage)."""

    time_us: int
    name: str = ""
    stage: str = ""
    device: int = 0

    @property
    def title(self) -> str:
        """The name; that of the end of a range says so."""
        return f"{self.name} done" if self.stage == "END" else self.name


class OutOfMemoryEvent(Struct, frozen=True, kw_only=True):
    """The allocator had to raise OutOfMemoryError, after event `at` of the ledger.

    `tried_bytes` is the request, rounded; `free_bytes` what the driver said was free on the card.
    """

    at: int
    tried_bytes: int
    free_bytes: int


class Frame(Struct, frozen=True):
    filename: str
    line: int
    name: str


class RawSnapshot(NamedTuple):
    """One device's part of a snapshot.

    `stacks[i]` is the stack of event i as the file has it and `block_stacks` those of blocks by address, None for none.
    """

    device: int
    events: list[Event]
    stacks: list[Any]
    segments: list[Segment]
    block_stacks: dict[int, Any]
    annotations: list[Annotation]
    settings: dict[str, Any]


def raw_snapshot(value: Any, *, name: str, device: int | None) -> RawSnapshot:
    """The records in `value`, a snapshot as plain data, of `device` (None: of the only one that did something)."""
    if not isinstance(value, dict) or not isinstance(value.get("device_traces"), list) or "segments" not in value:
        raise BadFile(f"{name} is no memory snapshot of PyTorch", hint=HINT)
    traces = value["device_traces"]
    segments = _converted(value["segments"], list[Segment], f"{name}: segments")
    active = {number for number, trace in enumerate(traces) if trace} | {segment.device for segment in segments}
    device = _chosen(active, device, name) if device is None or device >= len(traces) else device
    trace = traces[device] if device < len(traces) else []
    events = _converted(trace, list[Event], f"{name}: device_traces[{device}]")
    annotations = _converted(value.get("external_annotations", []), list[Annotation], f"{name}: external_annotations")
    settings = value.get("allocator_settings")
    return RawSnapshot(
        device,
        events,
        [entry.get("frames") for entry in trace],
        [segment for segment in segments if segment.device == device],
        _block_stacks(value["segments"], segments),
        [annotation for annotation in annotations if annotation.device == device and annotation.name],
        settings if isinstance(settings, dict) else {},
    )


def frames_of(stack: Any, *, name: str) -> tuple[Frame, ...]:
    """The frames of one stack, innermost first."""
    return tuple(_converted(stack, list[Frame], f"{name}: frames"))


def _block_stacks(raw: Sequence[dict[str, Any]], segments: Sequence[Segment]) -> dict[int, Any]:
    return {
        address: block.get("frames")
        for raw_segment, segment in zip(raw, segments, strict=True)
        for block, (address, _) in zip(raw_segment["blocks"], segment.placed(), strict=True)
    }


def _chosen(active: set[int], device: int | None, name: str) -> int:
    if device is None:
        if len(active) > 1:
            raise BadOption(
                f"{name} holds the devices {', '.join(map(str, sorted(active)))}", hint="name one of them: --device N"
            )
        return next(iter(active), 0)
    if device not in active:
        found = ", ".join(map(str, sorted(active))) or "none"
        raise BadOption(f"{name} has no device {device}", hint=f"devices in it: {found}")
    return device


def _converted(value: Any, kind: type[T], where: str) -> T:
    try:
        return msgspec.convert(value, kind)
    except (msgspec.ValidationError, RecursionError) as error:
        raise BadFile(f"{where} is not as PyTorch writes it: {error}", hint=HINT) from None


def reserved_by(segments: Sequence[Segment]) -> int:
    """Bytes of all `segments`: what is reserved."""
    return sum(segment.total_size for segment in segments)
