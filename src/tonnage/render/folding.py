"""Modules that repeat, as one row: "encoder.layer.{0-11}"."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod
from typing import NamedTuple

from tonnage.analyses.compute import ModuleWork
from tonnage.analyses.paths import braced

Numbers = tuple[int, ...]


class Folded(NamedTuple):
    """Modules of one type that did the same: their path with the numbers of the repeats folded, and all of them."""

    path: str
    modules: list[ModuleWork]

    @property
    def depth(self) -> int:
        return depth_of(self.path)


def depth_of(path: str) -> int:
    """How many names a path has; 0 for the outermost module."""
    return path.count(".") + 1 if path else 0


def folded(modules: Sequence[ModuleWork]) -> list[Folded]:
    """The modules in their order, those that differ in nothing but the numbers in their paths together."""
    groups: dict[tuple[object, ...], dict[Numbers, ModuleWork]] = {}
    for module in modules:
        names, numbers = _split(module.path)
        alike = (names, module.type, module.calls, module.own_macs, module.macs, module.backward_macs)
        groups.setdefault(alike, {})[numbers] = module
    rows = [row for (names, *_), found in groups.items() for row in _rows(str(names), found)]
    order = {id(module): place for place, module in enumerate(modules)}
    return sorted(rows, key=lambda row: order[id(row.modules[0])])


def _split(path: str) -> tuple[str, Numbers]:
    """A path with its numbers taken out: ("encoder.layer.{}.attention", (3,))."""
    parts = path.split(".")
    names = ".".join("{}" if part.isdigit() else part.replace("{", "{{").replace("}", "}}") for part in parts)
    return names, tuple(int(part) for part in parts if part.isdigit())


def _rows(names: str, found: dict[Numbers, ModuleWork]) -> Iterator[Folded]:
    """One row where the modules are all combinations of their numbers, else one for each value of the first number."""
    columns = [sorted(set(column)) for column in zip(*found, strict=True)]
    if prod(map(len, columns)) == len(found):
        yield Folded(names.format(*map(_range, columns)), list(found.values()))
        return
    at = next(index for index, column in enumerate(columns) if len(column) > 1)
    for value in columns[at]:
        yield from _rows(names, {numbers: module for numbers, module in found.items() if numbers[at] == value})


def _range(numbers: list[int]) -> str:
    return str(numbers[0]) if len(numbers) == 1 else braced(numbers)
