"""Which operators of a recording belong to the step that is looked at, and to which pass of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal, NamedTuple

from tonnage.trace import PHASES, Call, Trace

Pass = Literal["forward", "recomputation", "backward", "optimizer"]
PASSES: tuple[Pass, ...] = ("forward", "recomputation", "backward", "optimizer")

_BACKWARD, _OPTIMIZER = PHASES.index("backward"), PHASES.index("optimizer")
_STEP_ENDS = re.compile(r"step (\d+): optimizer done")
_BEGINS, _ENDS = "inputs made", "forward done"


class Step(NamedTuple):
    """The operators from `begin` to before `end`, `passes` of each, and the calls that lie among them."""

    begin: int
    end: int
    passes: list[Pass]
    calls: list[Call]


def last_step(trace: Trace) -> Step:
    """The last training step of `trace`, or its inference; all of it where no marks tell.

    A module that is called while backward runs is called for the second time, by activation checkpointing: its
    operators are "recomputation". What a checkpointed function runs outside of modules cannot be told from backward.
    """
    begin, end = _range(trace)
    calls = [call for call in trace.calls if begin <= call.begin and call.end <= end]
    passes: list[Pass] = [_pass(op.phase) for op in trace.ops[begin:end]]
    for call in calls:
        if call.begin < call.end and trace.ops[call.begin].phase == _BACKWARD:
            passes[call.begin - begin : call.end - begin] = ["recomputation"] * (call.end - call.begin)
    return Step(begin, end, passes, calls)


def _pass(phase: int) -> Pass:
    return {_BACKWARD: "backward", _OPTIMIZER: "optimizer"}.get(phase, "forward")  # type: ignore[return-value]


def _range(trace: Trace) -> tuple[int, int]:
    at = {mark.name: mark.op for mark in trace.marks}
    ends = [mark.op for mark in trace.marks if _STEP_ENDS.fullmatch(mark.name)]
    begin = at.get(_BEGINS, 0)
    if ends:
        return (ends[-2] if len(ends) > 1 else begin), ends[-1]
    return begin, at.get(_ENDS, len(trace.ops))


def enclosing(calls: list[Call]) -> Iterator[tuple[Call, list[int]]]:
    """Each call with the modules whose calls it was made in, outermost first."""
    stack: list[Call] = []
    order = sorted(range(len(calls)), key=lambda i: (calls[i].begin, -calls[i].end, -i))  # an outer call ends later
    for call in (calls[i] for i in order):
        while stack and stack[-1].end <= call.begin:
            stack.pop()
        yield call, [outer.module for outer in stack]
        stack.append(call)
