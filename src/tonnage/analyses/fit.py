"""Does it fit the card, by how much, and where does it run out if not.

Apart from the Verdict itself, so that showing a saved one loads no allocator.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import replace

from tonnage.allocator import Settings, Timeline, replay, replay_unrounded
from tonnage.allocator.settings import ROUND_LARGE
from tonnage.analyses.place import place_of
from tonnage.analyses.verdict import Verdict
from tonnage.gpus import Card, MemoryRange
from tonnage.recording import Recording


def judge(recording: Recording, card: Card, settings: Settings) -> tuple[Verdict, Timeline]:
    """The verdict on `recording` for `card`, and the timeline that the card would show.

    That is the replay within the memory of the card where it fits, and without a limit (what it would take)
    where it does not.
    """
    total, context, room = card.total_memory, _context(recording), _room(recording, card, settings)
    free = replay_without_limit(recording, settings)
    needed = _least(recording, settings, free, enough=room.low)
    limited = replay(recording.ledger, settings, capacity=max(room.typical, 0), total_memory=total.typical)
    ran_out = limited.out_of_memory
    verdict = Verdict(
        answer="fits" if needed <= room.low else "tight" if needed <= room.high else "does not fit",
        card=card.name,
        total_bytes=total.typical,
        total_low=total.low,
        total_high=total.high,
        total_known="measured" if card.facts["total_memory"].verified else "assumed",
        available_bytes=room.typical + context.typical,
        needed_bytes=needed + context.typical,
        gives_back=needed < free.peak_reserved,
        headroom_bytes=room.typical - needed,
        headroom_low=room.low - needed,
        headroom_high=room.high - needed,
        runs_out=str(place_of(recording, len(limited))) if ran_out else "",
    )
    return verdict, free if ran_out else limited


def replay_without_limit(recording: Recording, settings: Settings) -> Timeline:
    """The timeline of `recording` on a device whose memory never ends."""
    if recording.environment.device_type == "cpu":
        return replay_unrounded(recording.ledger)
    return replay(recording.ledger, _unbounded(settings))


def judge_memory(recording: Recording, nbytes: int) -> Verdict:
    """The verdict on a recording of the CPU for a machine that has `nbytes` for this process."""
    context = _context(recording)
    timeline = replay_unrounded(recording.ledger)
    free = [nbytes - end - timeline.peak_reserved for end in (context.high, context.typical, context.low)]
    low, typical, high = free
    over = next((at for at, held in enumerate(timeline.reserved) if held > nbytes - context.typical), None)
    return Verdict(
        answer="fits" if low >= 0 else "tight" if high >= 0 else "does not fit",
        card=recording.environment.device,
        total_bytes=nbytes,
        total_low=nbytes,
        total_high=nbytes,
        total_known="assumed",
        available_bytes=nbytes,
        needed_bytes=timeline.peak_reserved + context.typical,
        gives_back=False,
        headroom_bytes=typical,
        headroom_low=low,
        headroom_high=high,
        runs_out="" if over is None else str(place_of(recording, over)),
    )


def _unbounded(settings: Settings) -> Settings:
    return replace(settings, per_process_memory_fraction=1.0)


def _context(recording: Recording) -> MemoryRange:
    """What the process holds besides what PyTorch reserves; at most with every library loaded."""
    environment = recording.environment
    most = environment.context_bytes_high + environment.libraries_bytes_high
    return MemoryRange(environment.context_bytes_low, most, environment.context_bytes)


def _room(recording: Recording, card: Card, settings: Settings) -> MemoryRange:
    """What the allocator can get: the card less the context, at most the fraction that the settings allow."""
    total, context = card.total_memory, _context(recording)

    def room(total: int, context: int) -> int:
        return min(total - context, int(settings.per_process_memory_fraction * total))

    return MemoryRange(
        room(total.low, context.high), room(total.high, context.low), room(total.typical, context.typical)
    )


def _least(recording: Recording, settings: Settings, free: Timeline, *, enough: int) -> int:
    """The least the allocator must be able to reserve; not looked for where `free` reserves no more than `enough`."""
    if free.peak_reserved <= enough:
        return free.peak_reserved

    def works(segments: int) -> bool:
        within = replay(recording.ledger, _unbounded(settings), capacity=segments * ROUND_LARGE)
        return within.out_of_memory is None

    sizes = range(-(-free.peak_allocated // ROUND_LARGE), free.peak_reserved // ROUND_LARGE)
    return ROUND_LARGE * (sizes.start + bisect_left(sizes, True, key=works))
