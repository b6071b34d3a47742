"""The history that PyTorch's profiler keeps of the CPU's allocator, as a ledger and a trace.

The profiler is no dispatch mode: autograd and kernels run as they do without it (a mode makes autograd add gradients
out of place, for one). Its events are operators, nested as they called each other, and every allocation and free of
the CPU allocator (c10/core/CPUAllocator.cpp, ProfiledCPUMemoryReporter) with its address. What Python knows (modules,
phases, marks, what a tensor is) is `Said` at a marker, an event of our own among them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Any, NamedTuple

import torch

from tonnage.ledger import NO_OP, Category, Ledger
from tonnage.trace import ROOT, Mark, Op
from tonnage.tracking.categories import more_telling
from tonnage.tracking.modules import BACKWARD, FORWARD, SETUP

MARKER = "tonnage marker "
"""Begins the name of our own events; the number of what was said follows."""
_NODE = "autograd::engine::evaluate_function: "
_ACCUMULATES = "torch::autograd::AccumulateGrad"
_OWN_KERNEL = ("CPU", "CompositeExplicitAutograd", "CompositeExplicitAutogradNonFunctional")


class Said(NamedTuple):
    """What was said at one instant: where the model is from then on, and what the storages at some addresses are."""

    module: int
    phase: int
    tags: Sequence[tuple[int, Category]] = ()
    mark: str | None = None


@cache
def is_operator(name: str, overload: str | None) -> bool:
    """Whether an event is an operator with a kernel of its own, and not one that is taken apart above autograd.

    That is where a dispatch mode would see it. Where the overload is not known any will do that returns new tensors.
    """
    if name.count("::") != 1:  # a node of autograd, or an event of somebody's own
        return False
    existing = [schema.overload_name for schema in torch._C._jit_get_schemas_for_operator(name)]
    return any(
        _has_own_kernel(f"{name}.{candidate}".rstrip("."))
        for candidate in existing
        if candidate == overload or (overload is None and "out" not in candidate)
    )


def _has_own_kernel(name: str) -> bool:
    has = torch._C._dispatch_has_kernel_for_dispatch_key
    return torch._C._dispatch_has_kernel(name) and any(has(name, key) for key in _OWN_KERNEL)


class History:
    """Writes events down, in the order in which they happened.

    An allocation belongs to the outermost operator with a kernel of its own that it was made in; one that is given
    back before that operator ends is what the kernel took for itself. `positions[n]` are the operators that had begun
    when the n-th thing was said. `module_of` gives the module whose forward made the autograd node of a number;
    `overloads`: whether the profiler noted which overload of an operator ran.
    """

    def __init__(self, said: Sequence[Said], module_of: Callable[[int], int], *, overloads: bool) -> None:
        self.ledger = Ledger()
        self.ops: list[Op] = []
        self.marks: list[Mark] = []
        self.positions = [0] * len(said)
        self._said = said
        self._overloads = overloads
        self._module_of = module_of
        self._alive: dict[int, int] = {}
        self._now = Said(ROOT, SETUP)
        self._op = NO_OP
        self._node: tuple[str, int] | None = None
        self._in_backward = False
        self._kept: set[int] = set()

    def read(self, events: Iterable[Any]) -> None:
        """Writes down the events of the profiler, which are nested."""
        for event in sorted(events, key=lambda e: e.start_time_ns):
            self._read(event)

    def _read(self, event: Any) -> None:
        name = event.name
        if type(event.extra_fields).__name__.endswith("Allocation"):
            self._change(event.extra_fields.ptr, event.extra_fields.alloc_size)
        elif name.startswith(MARKER):
            self._say(int(name.removeprefix(MARKER)))
        elif name.startswith(_NODE):
            before, self._node = self._node, (name.removeprefix(_NODE), event.extra_fields.sequence_number)
            self._inside(event)
            self._node = before
        elif self._op == NO_OP and is_operator(name, overload := event.overload_name if self._overloads else None):
            self._op = self._begin(name, overload)
            self._inside(event)
            self._op = NO_OP
        else:
            self._inside(event)

    def _inside(self, event: Any) -> None:
        for child in event.children:
            self._read(child)

    def _begin(self, name: str, overload: str | None) -> int:
        module, phase = self._now.module, self._now.phase
        if self._node is not None:
            if not self._in_backward:
                self._keep_activations()
            module, phase = module or self._module_of(self._node[1]), BACKWARD
        self._in_backward = self._node is not None
        self.ops.append(Op(f"{name.replace('::', '.')}.{overload or 'default'}", module, phase, (), ()))
        return len(self.ops) - 1

    def _keep_activations(self) -> None:
        """Backward begins: what forward made and is still alive was kept for it."""
        for number in self._kept:
            self._tag(number, Category.ACTIVATION)
        self._kept.clear()

    def _change(self, address: int, nbytes: int) -> None:
        if address in self._alive:
            self._free(self._alive.pop(address))
        if nbytes > 0:
            number = self._alive[address] = self.ledger.alloc(nbytes, op=self._op)
            if self._node is not None and self._node[0] == _ACCUMULATES:
                self._tag(number, Category.GRADIENT)
            elif self._op != NO_OP and self.ops[self._op].phase == FORWARD:
                self._kept.add(number)

    def _free(self, number: int) -> None:
        self.ledger.free(number)
        self._kept.discard(number)
        if self._op != NO_OP and self.ledger.ops[number] == self._op:
            self._tag(number, Category.WORKSPACE)

    def _say(self, number: int) -> None:
        said = self._now = self._said[number]
        self.positions[number] = len(self.ops)
        for address, category in said.tags:
            if address in self._alive:
                self._tag(self._alive[address], category)
        if said.mark is not None:
            self.ledger.mark(said.mark)
            self.marks.append(Mark(said.mark, len(self.ops)))

    def _tag(self, number: int, category: Category) -> None:
        if more_telling(category, Category(self.ledger.categories[number])):
            self.ledger.retag(number, category)
