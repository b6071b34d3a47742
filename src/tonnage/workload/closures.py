"""Functions that hold on to the live module: in the copy they must hold on to the copy.

A deep copy takes functions as they are. `self.act = lambda x: x * self.scale`, or a `forward` that was replaced
by a wrapper around the old one, would then run the live module from inside its copy.
"""

from __future__ import annotations

from functools import partial
from types import CellType, FunctionType, MethodType
from typing import Any

from torch import nn


def rebind(original: nn.Module, replica: nn.Module, memo: dict[int, Any]) -> None:
    """Replaces each function among the attributes of `replica` that holds on to something that was copied."""
    for name, value in vars(original).items():
        if isinstance(value, FunctionType | partial):
            bound = _rebound(value, memo, {})
            if bound is not value:
                vars(replica)[name] = bound


def captures(function: Any, live: set[int]) -> bool:
    """Whether `function` holds on to any of the objects with identities `live`."""
    return _rebound(function, dict.fromkeys(live, None), {}) is not function


def _rebound(value: Any, memo: dict[int, Any], done: dict[int, Any]) -> Any:
    if id(value) in done:
        return done[id(value)]
    if isinstance(value, FunctionType):
        return _rebound_function(value, memo, done)
    if isinstance(value, MethodType):
        owner = memo.get(id(value.__self__), value.__self__)
        return value if owner is value.__self__ else MethodType(value.__func__, owner)
    if isinstance(value, partial):
        parts = [value.func, *value.args, *value.keywords.values()]
        new = [_rebound(part, memo, done) for part in parts]
        if all(a is b for a, b in zip(parts, new, strict=True)):
            return value
        count = 1 + len(value.args)
        return partial(new[0], *new[1:count], **dict(zip(value.keywords, new[count:], strict=True)))
    return memo.get(id(value), value)


def _rebound_function(function: FunctionType, memo: dict[int, Any], done: dict[int, Any]) -> FunctionType:
    done[id(function)] = function  # a function may hold on to itself
    cells = function.__closure__ or ()
    new = tuple(_rebound_cell(cell, memo, done) for cell in cells)
    if all(a is b for a, b in zip(cells, new, strict=True)):
        return function
    bound = FunctionType(function.__code__, function.__globals__, function.__name__, function.__defaults__, new)
    bound.__kwdefaults__ = function.__kwdefaults__
    bound.__dict__.update(function.__dict__)
    done[id(function)] = bound
    return bound


def _rebound_cell(cell: CellType, memo: dict[int, Any], done: dict[int, Any]) -> CellType:
    try:
        content = cell.cell_contents
    except ValueError:  # not assigned yet
        return cell
    new = _rebound(content, memo, done)
    return cell if new is content else CellType(new)
