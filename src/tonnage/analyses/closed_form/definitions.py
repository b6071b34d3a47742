"""Sizes that follow from others unless they are given: a head size is H/h, a decoder as deep as its encoder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import ceil, floor
from typing import Literal

import sympy

from tonnage.analyses.closed_form.derive import Derived, derive
from tonnage.analyses.closed_form.survey import Changes, Table

Follow = Callable[[Changes], Mapping[str, int] | None]
"""What the following sizes are where others are changed; None where nothing can be built."""
Rounding = Literal["", "floor", "ceil"]
_ROUND: dict[str, Callable[[sympy.Expr], int | None]] = {
    "": lambda value: int(value) if value.is_Integer else None,
    "floor": lambda value: floor(value),
    "ceil": lambda value: ceil(value),
}
_BESIDE = ((1, 1), (2, 1), (5, 0), (7, 0), (10, 3))
"""Sizes that a definition is held against: so many times its own and so much more."""


@dataclass(frozen=True)
class Definition:
    """What a size is where it is not given: `expression` of the sizes, by `symbols`, rounded as `rounding` says."""

    expression: sympy.Expr
    symbols: Mapping[str, sympy.Symbol]
    rounding: Rounding

    def value(self, sizes: Mapping[str, int]) -> int | None:
        """None where it would be no whole number."""
        numbers = {symbol: sympy.Integer(sizes[field]) for field, symbol in self.symbols.items()}
        return _ROUND[self.rounding](self.expression.xreplace(numbers))


def define(sizes: Mapping[str, int], following: Mapping[str, int], follow: Follow) -> dict[str, Definition]:
    """The definition of each of `following` in `sizes`; those that no polynomial gives are left out."""
    found = {}
    for name in following:

        def ask(changes: Changes, name: str = name) -> Table | None:
            answers = follow(changes)
            return None if answers is None or answers[name] < 1 else {name: (answers[name],)}

        derived = derive(ask, sizes)
        definition = _rounded(derived, ask, name)
        if definition is not None:
            found[name] = definition
    return found


def _rounded(derived: Derived, ask: Callable[[Changes], Table | None], name: str) -> Definition | None:
    """The definition with the rounding that is right at sizes that it was not derived from, and do not divide."""
    expression = derived.parts[0].numbers[0]
    symbols = {field: symbol for field, symbol in derived.symbols.items() if symbol in expression.free_symbols}
    beside = {}
    for field in symbols:
        for times, more in _BESIDE:
            value = times * derived.survey.sizes[field] + more
            table = ask({field: value})
            if table is not None:
                beside[field, value] = table[name][0]
    for rounding in _ROUND:
        definition = Definition(expression, symbols, rounding)  # type: ignore[arg-type]
        values = {key: definition.value({**derived.survey.sizes, key[0]: key[1]}) for key in beside}
        if all(values[key] in (None, answer) for key, answer in beside.items()) and (
            rounding or all(value is not None for value in values.values())
        ):
            return definition
    return None
