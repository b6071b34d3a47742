"""Recordings made from a few words, for comparisons whose answer follows by hand."""

from __future__ import annotations

import pytest

from tests.environments import t4
from tonnage.analyses.comparison import Side
from tonnage.ledger import NO_OP, Category, Ledger
from tonnage.recording import Recording
from tonnage.trace import PHASES, Module, Op, Trace

MiB = 2**20


class Script:
    """Writes a run: a mark by its name, `new` with a name to free it by, operators as they come."""

    def __init__(self, **environment) -> None:
        self.recording = Recording(Ledger(), Trace(), t4(**environment))
        self.numbers: dict[str, int] = {}

    def mark(self, *names: str) -> Script:
        for name in names:
            self.recording.ledger.mark(name)
        return self

    def op(self, name: str, module: str = "", phase: str = "forward") -> Script:
        trace = self.recording.trace
        known = [m.path for m in trace.modules]
        if module not in known:
            trace.modules.append(Module(module, "Layer"))
            known.append(module)
        trace.ops.append(Op(name, known.index(module), PHASES.index(phase), (), ()))
        return self

    def new(self, size: int, name: str = "", category: Category = Category.TEMPORARY) -> Script:
        op = len(self.recording.trace.ops) - 1 if self.recording.trace.ops else NO_OP
        self.numbers[name] = self.recording.ledger.alloc(size, op=op, category=category)
        return self

    def free(self, name: str) -> Script:
        self.recording.ledger.free(self.numbers[name])
        return self

    def scratch(self, size: int) -> Script:
        """Allocated and freed at once."""
        return self.new(size, "scratch").free("scratch")

    def side(self, name: str = "side", **facts) -> Side:
        self.recording.check()
        return Side(self.recording, name, **facts)


@pytest.fixture
def predicted():
    return Script()


@pytest.fixture
def measured():
    return Script(measured=True)


@pytest.fixture(scope="session")
def environment():
    """`t4`: the same card for every run; what it is called with is another."""
    return t4
