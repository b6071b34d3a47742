"""Stacks of a snapshot to and from what our trace says: operator, module and phase.

A stack that `tonnage export` wrote names all three. A real one names functions and lines of Python: the innermost
frame outside of PyTorch stands for the operator, the phase is read off the functions of PyTorch that are running, and
the module stays unknown, for a stack has classes and no paths.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from tonnage.ledger import NO_OP
from tonnage.measuring.snapshots.events import Frame, frames_of
from tonnage.trace import PHASES, ROOT, Mark, Module, Op, Trace

OPERATOR, PHASE, MODEL = "operator", "phase", "(model)"
"""File names of the frames we write: the operator is the innermost frame, the phase the outermost; MODEL is the module
that the user called, whose path is empty."""

_NO_OPERATOR = "no operator"
_SETUP, _FORWARD, _BACKWARD, _OPTIMIZER = range(4)


class StackWriter:
    """The frames for each operator of a trace; equal parts are one object, which pickle writes once."""

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self._paths = {module.path: number for number, module in enumerate(trace.modules) if number != ROOT}
        self._outer: dict[tuple[int, int], list[dict[str, Any]]] = {}
        self._stacks: dict[int, list[dict[str, Any]]] = {}

    def frames(self, op: int) -> list[dict[str, Any]]:
        """The stack of operator number `op`, innermost frame first."""
        if op not in self._stacks:
            self._stacks[op] = self._made(op)
        return self._stacks[op]

    def _made(self, op: int) -> list[dict[str, Any]]:
        if op == NO_OP:
            return [_frame(OPERATOR, NO_OP, _NO_OPERATOR)]
        operator = self.trace.ops[op]
        key = operator.module, operator.phase
        if key not in self._outer:
            self._outer[key] = [*self._modules(operator.module), _frame(PHASE, operator.phase, PHASES[operator.phase])]
        return [_frame(OPERATOR, op, operator.name), *self._outer[key]]

    def _modules(self, number: int) -> Iterator[dict[str, Any]]:
        """The module and those that hold it, innermost first."""
        path = self.trace.modules[number].path
        while number != ROOT:
            module = self.trace.modules[number]
            yield _frame(module.path or MODEL, number, module.type)
            if not path:
                break
            path = path.rpartition(".")[0]
            while path and path not in self._paths:
                path = path.rpartition(".")[0]
            number = self._paths.get(path, ROOT)


class StackReader:
    """Fills a trace with an operator for each stack that differs from the one before it."""

    def __init__(self, name: str) -> None:
        self.trace = Trace()
        self.unknown = 0
        self._name = name
        self._numbers = {ROOT: ROOT}
        self._read: dict[int, tuple[Any, Op | None]] = {}
        self._known: dict[tuple[int, ...], Op | None] = {}
        self._last: tuple[Any, tuple[int, int] | None] | None = None

    def mark(self, name: str) -> None:
        self.trace.marks.append(Mark(name, len(self.trace.ops)))

    def op(self, stack: Any, place: tuple[int, int] | None = None) -> int:
        """The number of the operator that `stack` belongs to; NO_OP where there is none or it says nothing.

        `place` is the module and the phase where they are known better than from the stack; then an allocation without
        a stack belongs to an operator without a name.
        """
        operator = self._operator(stack) if stack else None
        if operator is None:
            self.unknown += 1
            if place is None:
                return NO_OP
            operator = _NAMELESS
        if place is not None:
            operator = operator._replace(module=place[0], phase=place[1])
        if self._last is None or stack is not self._last[0] or place != self._last[1]:
            self._last = stack, place
            self.trace.ops.append(operator)
        return len(self.trace.ops) - 1

    def _operator(self, stack: Any) -> Op | None:
        if id(stack) not in self._read:
            # what is read is kept beside it, so that an identity is never another's
            self._read[id(stack)] = stack, self._of_frames(stack)
        return self._read[id(stack)][1]

    def _of_frames(self, stack: Any) -> Op | None:
        """Stacks are many, and made of few frames: PyTorch writes each frame once."""
        key = tuple(map(id, stack)) if isinstance(stack, list) else ()
        if key not in self._known:
            self._known[key] = self._made(frames_of(stack, name=self._name))
        return self._known[key]

    def _made(self, frames: Sequence[Frame]) -> Op | None:
        if not frames:
            return None
        innermost, outermost = frames[0], frames[-1]
        if innermost.filename == OPERATOR:
            if outermost.filename != PHASE or outermost.name not in PHASES:
                return None
            module = self._module(frames[1]) if len(frames) > 2 else ROOT
            return Op(innermost.name, module, PHASES.index(outermost.name), (), ())
        return Op(_place(frames), ROOT, _phase(frames), (), ())

    def _module(self, frame: Frame) -> int:
        if frame.line not in self._numbers:
            self._numbers[frame.line] = len(self.trace.modules)
            path = "" if frame.filename == MODEL else frame.filename
            self.trace.modules.append(Module(path, frame.name))
        return self._numbers[frame.line]


_NAMELESS = Op("", ROOT, _SETUP, (), ())


def _frame(filename: str, line: int, name: str) -> dict[str, Any]:
    return {"filename": filename, "line": line, "name": name}


def _place(frames: Sequence[Frame]) -> str:
    """The innermost frame outside of PyTorch, as file:line:function; the innermost of all where there is none."""
    frame = next((frame for frame in frames if "/torch/" not in frame.filename and frame.line > 0), frames[0])
    return f"{frame.filename.rpartition('/')[2]}:{frame.line}:{frame.name}"


def _phase(frames: Sequence[Frame]) -> int:
    """What PyTorch was doing. Backward wins: recomputed activations call modules inside of it."""
    if any(_in_backward(frame) for frame in frames):
        return _BACKWARD
    if any(frame.filename.endswith("torch/nn/modules/module.py") for frame in frames):
        return _FORWARD
    if any("optim" in frame.filename and frame.name == "step" for frame in frames):
        return _OPTIMIZER
    return _SETUP


def _in_backward(frame: Frame) -> bool:
    if "torch::autograd::Engine" in frame.name:  # only among C++ frames, which stacks="all" records
        return True
    return frame.name in _BACKWARD_FUNCTIONS and "/torch/" in frame.filename


_BACKWARD_FUNCTIONS = ("backward", "_engine_run_backward")
"""torch/_tensor.py, torch/autograd/__init__.py and graph.py"""
