"""The classic figures of a measured run: before, after forward, increase and peak; and their spread over repeats."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, pstdev
from typing import Literal

from msgspec import Struct

from tonnage.allocator import Settings
from tonnage.analyses.fit import replay_without_limit
from tonnage.analyses.memory import start_of
from tonnage.ledger import Category, Kind
from tonnage.recording import PEAK, Recording

LOADED, FORWARD = "model loaded", "forward done"
"""The mark before which nothing but the model is there, and the end of those that follow a forward pass."""

Trouble = Literal["out of memory", "died", "failed", "interrupted"]


class Failure(Struct, frozen=True, kw_only=True):
    """Why a measurement ended early: what happened, in which run (the first is 1), and what was said."""

    trouble: Trouble
    run: int
    message: str
    hint: str = ""


class Figures(Struct, frozen=True, kw_only=True):
    """What one run took, in bytes; None where the device does not say, or the run did not get so far.

    `before` is allocated once the model is loaded, `after` once the (last) forward pass is done, with inputs and
    outputs held, `increase` the difference. `peak_allocated` and `peak_reserved` are the most at any time after the
    mark "start", `peak_tensors` the most without what kernels take for themselves. The `process` ones are what the
    system says of the whole process at the same instants.
    """

    complete: bool
    before: int | None
    after: int | None
    increase: int | None
    peak_allocated: int
    peak_reserved: int
    peak_tensors: int | None
    process_before: int | None
    process_after: int | None
    process_peak: int | None


class Spread(Struct, frozen=True, kw_only=True):
    """One figure over the complete runs: mean and standard deviation in whole bytes, the least and the most."""

    mean: int
    deviation: int
    least: int
    most: int


class Measurement(Struct, frozen=True, kw_only=True):
    """What a scenario took on a real device: every run, and the spread of the complete ones.

    `spread` has the names of Figures; a figure that no complete run has is left out. `failure` is None if all runs
    that were asked for are complete.
    """

    device: str
    repeats: int
    warmup: int
    in_process: bool
    runs: list[Figures]
    spread: dict[str, Spread]
    failure: Failure | None = None


def measurement_of(
    recordings: Sequence[Recording],
    *,
    complete: Sequence[bool],
    repeats: int,
    warmup: int,
    device: str,
    in_process: bool,
    failure: Failure | None,
) -> Measurement:
    """The figures of each recording, in order, and their spread."""
    runs = [figures_of(recording, complete=whole) for recording, whole in zip(recordings, complete, strict=True)]
    return Measurement(
        device=device,
        repeats=repeats,
        warmup=warmup,
        in_process=in_process,
        runs=runs,
        spread=_spreads([run for run in runs if run.complete]),
        failure=failure,
    )


def figures_of(recording: Recording, *, complete: bool) -> Figures:
    """The classic figures of one run."""
    allocated, peaks = _by_the_card(recording) if recording.card else _by_the_ledger(recording)
    process = {said.mark: said.nbytes for said in recording.process}
    before, after = allocated.get(LOADED), _last_forward(allocated)
    return Figures(
        complete=complete,
        before=before,
        after=after,
        increase=None if before is None or after is None else after - before,
        peak_allocated=peaks[0],
        peak_reserved=peaks[1],
        peak_tensors=None if recording.card else _peak_tensors(recording),
        process_before=process.get(LOADED),
        process_after=_last_forward({mark: said for mark, said in process.items() if mark != PEAK}),
        process_peak=max(process.values(), default=None),
    )


def _by_the_card(recording: Recording) -> tuple[dict[str, int], tuple[int, int]]:
    """What the card's own allocator said; a peak that it did not say is that of its events, replayed."""
    said = {memory.mark: memory for memory in recording.card}
    highest = said.pop(PEAK, None)
    allocated, reserved = _by_the_ledger(recording)[1]
    if highest is not None:
        allocated = allocated if highest.allocated is None else highest.allocated
        reserved = reserved if highest.reserved is None else highest.reserved
    at_marks = {mark: memory.allocated for mark, memory in said.items() if memory.allocated is not None}
    return at_marks, (allocated, reserved)


def _by_the_ledger(recording: Recording) -> tuple[dict[str, int], tuple[int, int]]:
    timeline = replay_without_limit(recording, Settings.parse(recording.environment.alloc_conf))
    marks = {name: timeline.allocated[position] for name, position in recording.ledger.mark_positions()}
    start = start_of(recording)
    return marks, (max(timeline.allocated[start:], default=0), max(timeline.reserved[start:], default=0))


def _peak_tensors(recording: Recording) -> int:
    ledger = recording.ledger
    start = start_of(recording)
    signs = {Kind.ALLOC: 1, Kind.FREE: -1}
    held = most = 0
    for event, (kind, number) in enumerate(ledger.events()):
        if kind in signs and ledger.categories[number] != Category.WORKSPACE:
            held += signs[kind] * ledger.sizes[number]
        if event >= start:
            most = max(most, held)
    return most


def _last_forward(by_mark: dict[str, int]) -> int | None:
    found = [value for mark, value in by_mark.items() if mark.endswith(FORWARD)]
    return found[-1] if found else None


def _spreads(runs: Sequence[Figures]) -> dict[str, Spread]:
    names = [name for name in Figures.__struct_fields__ if name != "complete"]
    found = {name: [value for run in runs if (value := getattr(run, name)) is not None] for name in names}
    return {name: _spread(values) for name, values in found.items() if values}


def _spread(values: Sequence[int]) -> Spread:
    return Spread(mean=round(fmean(values)), deviation=round(pstdev(values)), least=min(values), most=max(values))
