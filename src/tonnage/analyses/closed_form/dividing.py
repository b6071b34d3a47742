"""Sizes that have to divide others: a number of heads the width, a patch the image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import sympy

from tonnage.analyses.closed_form.symbols import is_width

Pair = tuple[str, str]
"""A size, and one that has to divide it."""


def divisions(expression: sympy.Expr, sizes: Mapping[str, int]) -> Iterator[Pair]:
    """The pairs behind the fractions of `expression`, as they divide each other in the model of `sizes`.

    In g*H/h it is the width H that h divides: models are built with heads of H//h, and with 36 heads of a width of 48
    and g = 12, g*H/h would be whole and H/h is not.
    """
    for above, below in _fractions(expression):
        for divisor in below:
            whole = [name for name in above if sizes[name] % sizes[divisor] == 0]
            widths = [name for name in whole if is_width(name)]
            if below[divisor] == sum(above[name] for name in widths or whole):
                yield from ((name, divisor) for name in widths or whole)


def covered(expression: sympy.Expr, pairs: Sequence[Pair]) -> bool:
    """Whether `expression` is a whole number wherever `pairs` divide each other."""
    return all(
        term.as_coeff_Mul()[0].is_Integer
        and all(below[d] <= sum(above[name] for name in above if (name, d) in pairs) for d in below)
        for term in sympy.Add.make_args(sympy.expand(expression))
        for above, below in [_sides(term)]
    )


def _fractions(expression: sympy.Expr) -> Iterator[tuple[dict[str, int], dict[str, int]]]:
    sides = (_sides(term) for term in sympy.Add.make_args(sympy.expand(expression)))
    return ((above, below) for above, below in sides if below)


def _sides(term: sympy.Expr) -> tuple[dict[str, int], dict[str, int]]:
    """The powers of the symbols above and below the line."""
    powers = {str(s): int(e) for s, e in term.as_powers_dict().items() if s.is_Symbol}
    return {s: e for s, e in powers.items() if e > 0}, {s: -e for s, e in powers.items() if e < 0}
