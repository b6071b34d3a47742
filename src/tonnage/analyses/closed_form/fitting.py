"""One number as a polynomial of the sizes, from its values where they were changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from itertools import combinations
from typing import NamedTuple

import sympy

from tonnage.analyses.closed_form.survey import Direction

Value = Callable[[Mapping[str, int]], int | None]
"""The number where the sizes of some directions have these values; None if it is not known there."""

_TERMS = ((1,), (-1,), (2,), (-2,), (0, 1), (0, -1), (0, 2), (0, -2), (0, 1, 2), (3,), (4,), (0, 2, 4))
"""Exponents of a size that are tried, simplest first: proportional, inverse, square, with a constant, ..."""


class NoFit(Exception):
    """No polynomial gives these values; `field` is the size that it fails in."""

    def __init__(self, field: str) -> None:
        super().__init__(field)
        self.field = field


def fit(value: Value, directions: Sequence[Direction], symbols: Mapping[str, sympy.Symbol]) -> sympy.Expr:
    """The number as a polynomial of the directions' symbols, with negative exponents where it divides.

    Each size is looked at by itself first. Where the number has at most one size with more than one term, it is a
    product of terms of single sizes; where it has several, the values at all their combinations decide.
    """
    base = value({})
    assert base is not None, "the number itself is known"
    terms = {d: t for d in directions if (t := _terms(value, d)) is not None}
    if base == 0:
        return sympy.Integer(0)
    single = {d: t.exponents[0] for d, t in terms.items() if len(t.exponents) == 1}
    mixed = [t for t in terms.values() if len(t.exponents) > 1]
    scale = sympy.Mul(*(symbols[d.field] ** e / sympy.Integer(d.levels[0]) ** e for d, e in single.items()))
    return sympy.expand(scale * _interpolate(value, mixed, symbols, {}))


class _Terms(NamedTuple):
    """How a number follows one size: the exponents, and values of the size that fix their coefficients."""

    field: str
    exponents: tuple[int, ...]
    levels: tuple[int, ...]


def _terms(value: Value, direction: Direction) -> _Terms | None:
    """None where the number does not follow the size."""
    known = [(level, found) for level in direction.levels if (found := value({direction.field: level})) is not None]
    if all(found == known[0][1] for _, found in known):
        return None
    for exponents in _TERMS:
        for points in _choices(known, len(exponents) + 1):
            if _agree(points, exponents):
                return _Terms(direction.field, exponents, tuple(level for level, _ in points[: len(exponents)]))
    raise NoFit(direction.field)


def _choices(known: list[tuple[int, int]], least: int) -> Iterator[list[tuple[int, int]]]:
    """All points, then all but one or two: a size may be rounded there. The proof has the last word."""
    for left_out in range(3):
        if len(known) - left_out >= least:
            yield from ([known[0], *rest] for rest in combinations(known[1:], len(known) - 1 - left_out))


def _agree(points: list[tuple[int, int]], exponents: tuple[int, ...]) -> bool:
    """Whether the terms through the first points go through all the others too."""
    count = len(exponents)
    coefficients = _solve(points[:count], exponents)
    if coefficients is None:
        return False
    return all(sum(c * Fraction(x) ** e for c, e in zip(coefficients, exponents, strict=True)) == y for x, y in points)


def _solve(points: Sequence[tuple[int, int]], exponents: Sequence[int]) -> list[Fraction] | None:
    rows = [[*(Fraction(x) ** e for e in exponents), Fraction(y)] for x, y in points]
    for column in range(len(rows)):
        pivot = next((r for r in range(column, len(rows)) if rows[r][column]), None)
        if pivot is None:
            return None
        rows[column], rows[pivot] = rows[pivot], rows[column]
        head = rows[column][column]
        rows[column] = [v / head for v in rows[column]]
        for other in range(len(rows)):
            if other != column and rows[other][column]:
                factor = rows[other][column]
                rows[other] = [a - factor * b for a, b in zip(rows[other], rows[column], strict=True)]
    return [row[-1] for row in rows]


def _interpolate(
    value: Value, mixed: Sequence[_Terms], symbols: Mapping[str, sympy.Symbol], fixed: Mapping[str, int]
) -> sympy.Expr:
    """The polynomial with these terms in each size, through the values at all combinations of their levels."""
    if not mixed:
        found = value(fixed)
        if found is None:
            raise NoFit(next(iter(fixed)))
        return sympy.Integer(found)
    (field, exponents, levels), *rest = mixed
    parts = [_interpolate(value, rest, symbols, {**fixed, field: level}) for level in levels]
    matrix = sympy.Matrix([[sympy.Integer(level) ** e for e in exponents] for level in levels])
    coefficients = matrix.inv() * sympy.Matrix(parts)
    return sympy.Add(*(c * symbols[field] ** e for c, e in zip(coefficients, exponents, strict=True)))
