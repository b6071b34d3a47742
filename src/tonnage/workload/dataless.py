"""A copy of a live module in which no large tensor has data. The original is only read.

`copy.deepcopy` makes the copy, so everything that it honours keeps working (parametrisations, custom
`__deepcopy__`, shared submodules); its memo is filled beforehand with a stand-in for each tensor and with the
hooks that the copy may have.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

import torch
from torch import nn

from tonnage.errors import SubjectFailed
from tonnage.workload import closures, hooks, standins

_HINT = "name a function that makes the module instead, such as path/file.py:build"
_ATOMS = (str, bytes, int, float, complex, type(None), type, BuiltinFunctionType, ModuleType)


@dataclass(frozen=True)
class _Survey:
    """What a deep copy of a module would reach."""

    tensors: list[torch.Tensor]
    modules: list[nn.Module]


def copy_dataless(module: nn.Module) -> nn.Module:
    """A copy of `module` on the CPU whose tensors have the same shapes, strides, types and sharing.

    Gradients are not copied, nor are the graphs that tensors hang on. Only small tensors keep their values (see
    `standins`). Hooks that are plain functions are left out (see `hooks`).
    """
    found = _survey(module)
    memo: dict[int, Any] = standins.make(found.tensors)
    tables = hooks.prepare(found.modules, memo)
    try:
        replica: nn.Module = copy.deepcopy(module, memo)
        hooks.fill(tables, memo)
        for tensor in found.tensors:
            if attributes := _attributes(tensor):
                vars(copy.deepcopy(tensor, memo)).update(copy.deepcopy(attributes, memo))
    except Exception as error:
        message = f"{type(module).__name__} cannot be copied, and only a copy is ever run: {error}"
        raise SubjectFailed(message, hint=_HINT) from error
    for part in found.modules:
        closures.rebind(part, memo.get(id(part), part), memo)
    return replica


def differences(module: nn.Module) -> tuple[str, ...]:
    """What of `module` its copy does not have, in sentences. SubjectFailed if it cannot be copied safely."""
    found = _survey(module)
    return (*hooks.left_out(module, found.modules), *standins.unknown_values(found.tensors))


def _survey(module: nn.Module) -> _Survey:
    found = list(_reachable(module))
    tensors = [item for item in found if isinstance(item, torch.Tensor)]
    modules = [item for item in found if isinstance(item, nn.Module)]
    _refuse_hidden_functions(found, modules, {id(item) for item in (*tensors, *modules)})
    return _Survey(tensors, modules)


def _reachable(root: Any) -> Iterator[Any]:
    """Every tensor, module, function and plain object that a deep copy of `root` would reach, once each."""
    ways: dict[type, Callable[[Any], Iterable[Any]] | None] = {}
    seen: set[int] = set()
    waiting = [root]
    while waiting:
        item = waiting.pop()
        kind = type(item)
        if kind not in ways:
            ways[kind] = _way_into(kind)
        parts = ways[kind]
        if parts is not None and id(item) not in seen:
            seen.add(id(item))
            yield item
            waiting.extend(parts(item))


def _way_into(kind: type) -> Callable[[Any], Iterable[Any]] | None:
    """What gives the parts of an object of this type; None for one that is nothing but itself."""
    if issubclass(kind, _ATOMS):
        return None
    for others, parts in _PARTS.items():
        if issubclass(kind, others):
            return parts
    return lambda item: list(getattr(item, "__dict__", {}).values())


_PARTS: dict[type | tuple[type, ...], Callable[[Any], Iterable[Any]]] = {
    FunctionType: lambda function: (),
    Mapping: lambda mapping: (*mapping.keys(), *mapping.values()),
    (list, tuple, set, frozenset): tuple,
    MethodType: lambda method: (method.__self__,),
    partial: lambda call: (call.func, *call.args, *call.keywords.values()),
    nn.Module: lambda module: [value for name, value in vars(module).items() if name not in hooks.TABLES],
}


def _attributes(tensor: torch.Tensor) -> dict[str, Any]:
    return dict(getattr(tensor, "__dict__", {}))


def _refuse_hidden_functions(found: list[Any], modules: list[nn.Module], live: set[int]) -> None:
    """Functions in attributes are bound to the copy afterwards; in a list or an object they stay out of reach."""
    bindable = {id(value) for module in modules for value in vars(module).values()}
    bindable |= {id(value.func) for module in modules for value in vars(module).values() if isinstance(value, partial)}
    for item in found:
        if isinstance(item, FunctionType) and id(item) not in bindable and closures.captures(item, live):
            raise SubjectFailed(
                f"the function {item.__qualname__} holds on to the live module, and a copy would run the original",
                hint=_HINT,
            )
