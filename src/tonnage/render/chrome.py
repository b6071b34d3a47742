"""A recording as a trace file for chrome://tracing and ui.perfetto.dev, with memory counters.

After "Trace Event Format" of the Chromium project: complete events (ph X) for spans, instants (i) for marks, counters
(C) for bytes, metadata (M) for names.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any

import msgspec

from tonnage.allocator import Timeline
from tonnage.analyses.memory import ROUNDING
from tonnage.ledger import NO_OP, Category, Kind
from tonnage.recording import Recording
from tonnage.trace import PHASES, TensorSpec, Trace

_PROCESS = 1
_PHASES, _MODULES, _OTHER_MODULES, _OPERATORS = range(1, 5)
_TRACKS = {
    _PHASES: "phases",
    _MODULES: "modules: calls",
    _OTHER_MODULES: "modules: backward and optimizer",
    _OPERATORS: "operators",
}
_UNIT = 1000
"""Microseconds for one operator: viewers show nanoseconds, and one operator may have thousands of events."""

_BEFORE = 1
"""Operator 0 begins after one unit, which is for what was allocated before any operator."""

_AXIS = (
    "There are no times in a recording: operator number n takes the millisecond from n + 1 on, and what was allocated "
    "and freed by one operator is spread evenly over it."
)


def chrome_trace(recording: Recording, timeline: Timeline) -> bytes:
    """The trace file for `recording`, whose ledger the allocator replayed as `timeline`.

    The time axis is the order of operators, as `otherData` in the file says. Counters are in bytes: "allocated",
    "reserved", and "by category", which together with the rounding of blocks are what is allocated.
    """
    trace = recording.trace
    events = [
        *_names(recording),
        *_phases(trace),
        *_calls(trace),
        *_other_modules(trace),
        *(_operator(trace, number) for number in range(len(trace.ops))),
        *_memory(recording, timeline),
    ]
    about = {"time axis": _AXIS, "device": recording.environment.device, "torch": recording.environment.torch_rules}
    return msgspec.json.encode({"traceEvents": events, "displayTimeUnit": "ms", "otherData": about})


def _names(recording: Recording) -> Iterator[dict[str, Any]]:
    what = "measured" if recording.environment.measured else "predicted"
    yield _metadata("process_name", 0, name=f"{recording.environment.device} ({what})")
    for track, name in _TRACKS.items():
        yield _metadata("thread_name", track, name=name)
        yield _metadata("thread_sort_index", track, sort_index=track)


def _metadata(what: str, track: int, **args: Any) -> dict[str, Any]:
    return {"ph": "M", "pid": _PROCESS, "tid": track, "name": what, "args": args}


def _span(track: int, name: str, begin: int, end: int, **args: Any) -> dict[str, Any]:
    """The operators from `begin` to before `end`, as a complete event."""
    return {
        "ph": "X",
        "pid": _PROCESS,
        "tid": track,
        "name": name,
        "ts": (begin + _BEFORE) * _UNIT,
        "dur": (end - begin) * _UNIT,
        "args": args,
    }


def _phases(trace: Trace) -> Iterator[dict[str, Any]]:
    for phase, begin, end in _runs(op.phase for op in trace.ops):
        yield _span(_PHASES, PHASES[phase], begin, end)


def _calls(trace: Trace) -> Iterator[dict[str, Any]]:
    """Calls of modules, each before those inside it; one in which no operator ran takes no time and is left out."""
    calls = [(call.begin, -call.end, -number) for number, call in enumerate(trace.calls) if call.begin < call.end]
    for begin, end, number in sorted(calls):
        module = trace.modules[trace.calls[-number].module]
        yield _span(_MODULES, module.path or module.type, begin, -end, type=module.type)


def _other_modules(trace: Trace) -> Iterator[dict[str, Any]]:
    """Runs of operators of one module where it is not called: backward, and the optimizer."""
    called = {number for call in trace.calls for number in range(call.begin, call.end)}
    places = ((op.module if number not in called else 0) for number, op in enumerate(trace.ops))
    for module, begin, end in _runs(places):
        if module:
            found = trace.modules[module]
            yield _span(_OTHER_MODULES, found.path or found.type, begin, end, type=found.type)


def _runs(values: Iterable[int]) -> Iterator[tuple[int, int, int]]:
    """Each stretch of equal values with where it begins and ends."""
    begin = 0
    for value, group in groupby(values):
        end = begin + sum(1 for _ in group)
        yield value, begin, end
        begin = end


def _operator(trace: Trace, number: int) -> dict[str, Any]:
    op = trace.ops[number]
    args = {"inputs": _shapes(op.inputs), "outputs": _shapes(op.outputs), "module": trace.module_path(number)}
    return _span(_OPERATORS, op.name, number, number + 1, **args)


def _shapes(tensors: Iterable[TensorSpec]) -> list[str]:
    return [f"{tensor.dtype}{list(tensor.shape)}" for tensor in tensors]


def _memory(recording: Recording, timeline: Timeline) -> Iterator[dict[str, Any]]:
    """Marks, and counters wherever they change."""
    ledger = recording.ledger
    names = [Category(category).name.lower() for category in ledger.categories]
    held: Counter[str] = Counter({category.name.lower(): 0 for category in Category} | {ROUNDING: 0})
    before: dict[str, Any] = {}
    for index, time in enumerate(_times(recording, len(timeline))):
        kind, argument = ledger.kinds[index], ledger.arguments[index]
        if kind == Kind.MARK:
            yield _instant(ledger.marks[argument], time)
        elif kind in (Kind.ALLOC, Kind.FREE):
            sign, asked = 1 if kind == Kind.ALLOC else -1, ledger.sizes[argument]
            held[names[argument]] += sign * asked
            held[ROUNDING] += sign * (timeline.block_sizes[argument] - asked)
        now = {
            "allocated": {"bytes": timeline.allocated[index]},
            "reserved": {"bytes": timeline.reserved[index]},
            "by category": dict(held),
        }
        for name, value in now.items():
            if value != before.get(name):
                yield {"ph": "C", "pid": _PROCESS, "name": name, "ts": time, "args": value}
        before = now


def _instant(name: str, time: float) -> dict[str, Any]:
    return {"ph": "i", "pid": _PROCESS, "tid": _PHASES, "s": "g", "name": name, "ts": time}


def _times(recording: Recording, count: int) -> Iterator[float]:
    """When each of the first `count` events of the ledger is: evenly spread over the operator that last ran."""
    ledger = recording.ledger
    op, ops = NO_OP, []
    for index in range(count):
        if ledger.kinds[index] == Kind.ALLOC:
            op = max(op, ledger.ops[ledger.arguments[index]])
        ops.append(op)
    for op, begin, end in _runs(ops):
        for index in range(begin, end):
            yield round((op + _BEFORE + (index - begin) / (end - begin)) * _UNIT, 3)
