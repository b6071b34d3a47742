"""Which module is running, and what the module's tensors are.

A module is named by its path from the outermost module the user called. Backward work belongs to the module whose
forward made the autograd node: nodes are numbered in order of creation, so remembering at which number each module
began and ended is enough.
"""

from __future__ import annotations

import weakref
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from threading import get_ident
from typing import Any, Protocol

import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from tonnage.ledger import Category
from tonnage.trace import ROOT, Call, Module, Parameter, TensorSpec
from tonnage.tracking.patches import Patches
from tonnage.workload.blueprint import members_of, module_of

SETUP, FORWARD, BACKWARD, OPTIMIZER = range(4)
"""Indices into tonnage.trace.PHASES."""

_MAX_DEPTH = 6
"""How deep a model's output is searched for tensors: a cache in an output in a tuple is 4."""


class Tracked(Protocol):
    """Who is told: a recorder, of the thread it follows."""

    thread: int

    def position(self) -> int:
        """How many operators have run so far, or an instant that it can turn into that number later."""

    def tag(self, tensors: Iterable[torch.Tensor], category: Category) -> None:
        """Says what the storages of `tensors` are, unless something more telling has been said."""


class ModuleTracker:
    """Follows module calls and optimizer steps, and tells tensors that they are parameters, inputs and so on."""

    def __init__(self, recorder: Tracked) -> None:
        self.recorder = recorder
        self.current = ROOT
        self.phase = SETUP
        self.modules: list[Module] = [Module("", "")]
        self.calls: list[Call] = []
        self._index: weakref.WeakKeyDictionary[nn.Module, int] = weakref.WeakKeyDictionary()
        self._roots: list[weakref.ref[nn.Module]] = []
        self._names: dict[int, list[Parameter]] = {}
        self._depth = 0
        self._numbers: list[int] = [-1]
        self._ran: list[int] = [ROOT]
        self._handles: list[Any] = []

    def install(self, patches: Patches) -> None:
        call = nn.Module.__call__
        tracker = self

        def __call__(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
            if get_ident() != tracker.recorder.thread:
                return call(module, *args, **kwargs)
            return tracker.run(module, call, args, kwargs)

        patches.set(nn.Module, "__call__", __call__)
        self._handles = [
            register_optimizer_step_pre_hook(self._before_step),
            register_optimizer_step_post_hook(self._after_step),
        ]

    def uninstall(self) -> None:
        while self._handles:
            self._handles.pop().remove()

    def run(self, module: nn.Module, call: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Calls `module`, with everything that happens meanwhile written down as its own."""
        outermost = self._depth == 0
        if outermost:
            self._enter_root(module, args, kwargs)
        before, self.current = self.current, self._number(module)
        number, begin = self.current, self.recorder.position()
        self._switch(number)
        self._depth += 1
        out = None
        try:
            out = call(module, *args, **kwargs)
        finally:  # activation checkpointing ends a call with an exception, as soon as it has recomputed enough
            self._depth -= 1
            self.current = before
            self._switch(before)
            self.calls.append(Call(number, begin, self.recorder.position(), _specs(out)))
        if outermost:
            self.recorder.tag(tensors_in(out), Category.OUTPUT)
        return out

    def watch(self, root: nn.Module) -> None:
        """Names the modules and parameters of `root` by their paths in it.

        A module that was called before it became a part of `root` (parametrizations are, while a model is built) is no
        root of its own any more.
        """
        inside = set(root.modules()) - {root}
        former = [ref for ref in self._roots if ref() in inside]
        self._roots = [ref for ref in self._roots if ref not in former]
        if all(known() is not root for known in self._roots):
            self._roots.append(weakref.ref(root))
        for path, module in root.named_modules():
            if module not in self._index:
                self._index[module] = len(self.modules)
                self.modules.append(module_of(path, module))
            elif former:
                self.modules[self._index[module]] = module_of(path, module)
        self.tag_members()

    def tag_members(self) -> None:
        """Tells what the watched modules hold that it is a parameter, a buffer or a gradient."""
        for root in self._living_roots():
            parameters = list(root.parameters())
            self.recorder.tag(parameters, Category.PARAMETER)
            self.recorder.tag(root.buffers(), Category.BUFFER)
            self.recorder.tag((p.grad for p in parameters if p.grad is not None), Category.GRADIENT)

    def parameters(self) -> list[Parameter]:
        """Every parameter and buffer of the watched roots under every name it has."""
        return [entry for root in self._living_roots() for entry in members_of(root)]

    def module_of(self, number: int) -> int:
        """The module whose forward made the autograd node of this sequence number."""
        return self._ran[bisect_right(self._numbers, number) - 1]

    def _living_roots(self) -> Iterator[nn.Module]:
        for ref in self._roots:
            root = ref()
            if root is not None:
                yield root

    def _enter_root(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        if module not in self._index:
            self.watch(module)
        else:
            self.tag_members()
        if torch._C._current_autograd_node() is None:
            self.phase = FORWARD
        self.recorder.tag(tensors_in((args, kwargs)), Category.INPUT)

    def _number(self, module: nn.Module) -> int:
        number = self._index.get(module)
        if number is None:
            number = self._index[module] = len(self.modules)
            self.modules.append(module_of("", module))
        return number

    def _switch(self, module: int) -> None:
        """Autograd nodes made from here on belong to `module`."""
        number = torch.autograd._get_sequence_nr()  # type: ignore[attr-defined]
        if self._numbers[-1] == number:
            self._ran[-1] = module
        elif self._numbers[-1] < number:
            self._numbers.append(number)
            self._ran.append(module)

    def _before_step(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        if get_ident() != self.recorder.thread:
            return
        self.phase = OPTIMIZER
        grads = (p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None)
        self.recorder.tag(grads, Category.GRADIENT)

    def _after_step(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        if get_ident() != self.recorder.thread:
            return
        self.phase = SETUP
        self.recorder.tag(tensors_in(list(optimizer.state.values())), Category.OPTIMIZER)


def tensors_in(value: Any, depth: int = 0) -> Iterator[torch.Tensor]:
    """The tensors in nested containers, dataclasses and plain objects such as a KV cache."""
    if isinstance(value, torch.Tensor):
        yield value
    elif depth < _MAX_DEPTH:
        for item in _parts(value):
            yield from tensors_in(item, depth + 1)


def _parts(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    if isinstance(value, (list, tuple, set)):
        return value
    if isinstance(value, (str, bytes, int, float, type, nn.Module)) or callable(value):
        return ()
    return getattr(value, "__dict__", {}).values()


def _specs(out: Any) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(tuple(t.shape), str(t.dtype).removeprefix("torch.")) for t in tensors_in(out))
