"""A recorded case held against us: the allocator's error, and the events' error, each by itself."""

from __future__ import annotations

from collections.abc import Iterator

import tonnage
from benchmarks.truth.recorded.cases import Case
from benchmarks.truth.recorded.kept import END
from tonnage.allocator import Settings, replay
from tonnage.ledger import Kind
from tonnage.measuring.card_history import CardHistory, Figures
from tonnage.recording import Environment, Recording


def predicted(case: Case, environment: Environment) -> Recording:
    """The same case on the virtual GPU, by the rules of the PyTorch that was recorded."""
    with tonnage.virtual_gpu(
        environment.device,
        torch_version=environment.torch_rules,
        total_memory=environment.total_memory,
        alloc_conf=environment.alloc_conf,
    ) as gpu:
        case.run(gpu.mark)
        gpu.mark(END)
        recording = gpu.recording
        end = len(recording.ledger)
    for column in (recording.ledger.kinds, recording.ledger.arguments):
        del column[end:]  # the end of the block frees what the case has left
    return recording


def wrong_figures(kept: CardHistory) -> list[str]:
    """Where the simulated allocator, given what the card was asked for, answers something else than the card did."""
    ledger, card = kept.recording.ledger, kept.recording.environment
    timeline = replay(ledger, Settings.parse(card.alloc_conf), total_memory=card.total_memory)
    wrong = []
    for name, at in ledger.mark_positions():
        if (answered := kept.figures.get(name)) is None:
            continue  # the mark where the history begins is ours
        highest = max(timeline.allocated[: at + 1]), max(timeline.reserved[: at + 1])
        replayed = Figures(timeline.allocated[at], timeline.reserved[at], *highest)
        wrong += [
            f"{name}: {what} {ours:,} for {theirs:,}"
            for what, ours, theirs in zip(Figures._fields, replayed, answered, strict=True)
            if ours != theirs
        ]
    return wrong


def _told(recording: Recording) -> Iterator[tuple[str, int | str]]:
    """The ledger as words: what an event is, and of how many bytes or called what."""
    ledger = recording.ledger
    for kind, argument in ledger.events():
        if kind is Kind.MARK:
            yield "mark", ledger.marks[argument]
        elif kind in (Kind.ALLOC, Kind.FREE):
            yield kind.name.lower(), ledger.sizes[argument]


def first_difference(measured: Recording, expected: Recording) -> str:
    """Where the two ledgers part, in words; "" where they do not."""
    left, right = list(_told(measured)), list(_told(expected))
    for index in range(max(len(left), len(right))):
        here, there = (events[index] if index < len(events) else ("nothing", 0) for events in (left, right))
        if here != there:
            return f"event {index} of {len(left)}: the card did {_said(here)}, the virtual GPU {_said(there)}"
    return ""


def _said(event: tuple[str, int | str]) -> str:
    what, of = event
    return f"{what} {of:,}" if isinstance(of, int) else f"{what} {of!r}"
