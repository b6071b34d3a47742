"""Polynomials in letters as a person would write them, with numbers put in, and in LaTeX."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import sympy

from tonnage.analyses.closed_form.symbols import rank

Values = Mapping[str, int] | None
"""Numbers to write in place of letters; None for the letters themselves."""


def written(expression: sympy.Expr, values: Values = None) -> str:
    """A polynomial, its largest powers first: "4*H^2 + 9*H"."""
    terms = sorted(sympy.Add.make_args(sympy.expand(expression)), key=_term_order)
    return _joined(_term(term, values) for term in terms)


def collected(
    pieces: Iterable[tuple[sympy.Expr, sympy.Expr]], values: Values = None, *, outer: sympy.Symbol | None = None
) -> str:
    """Sums that occur several times each: "V*H + H + L*(4*H^2 + 9*H)" from (times, sum) pairs.

    What occurs once stands first and is added up; equal `times` are put together. A symbol `outer` that is a factor of
    everything stands before a bracket around all: "B*(V*H + L*(4*H^2 + 9*H))".
    """
    pieces = list(pieces)
    if outer is not None and all(_is_factor(outer, each) for _, each in pieces):
        inside = collected([(times, sympy.expand(each / outer)) for times, each in pieces], values)
        return f"{outer if values is None else values[str(outer)]}*({inside})"
    sums: dict[sympy.Expr, sympy.Expr] = {sympy.Integer(1): sympy.Integer(0)}
    for times, each in pieces:
        factor, repeats = times.as_content_primitive() if each.free_symbols or times.free_symbols else (times, 1)
        if factor.is_Integer and repeats == 1 and each.free_symbols:
            factor, repeats = sympy.Integer(1), factor
        sums[sympy.sympify(repeats)] = sums.get(repeats, 0) + factor * each
    return _joined(_repeated(times, sympy.expand(each), values) for times, each in sums.items() if each != 0)


def _is_factor(symbol: sympy.Symbol, expression: sympy.Expr) -> bool:
    return all(term.as_powers_dict()[symbol] >= 1 for term in sympy.Add.make_args(sympy.expand(expression)))


def _repeated(times: sympy.Expr, each: sympy.Expr, values: Values) -> str:
    if times == 1 or not (isinstance(times, sympy.Add) or isinstance(each, sympy.Add)):
        return written(times * each, values)
    factor, inner = written(times, values), written(each, values)
    factor = f"({factor})" if isinstance(times, sympy.Add) else factor
    return f"{factor}*({inner})" if isinstance(each, sympy.Add) else f"{factor}*{inner}"


def _joined(terms: Iterable[str]) -> str:
    return re.sub(r"\+ -", "- ", " + ".join(terms)) or "0"


def _term_order(term: sympy.Expr) -> tuple[object, ...]:
    powers = term.as_powers_dict()
    letters = sorted(((rank(str(s)), -int(e)) for s, e in powers.items() if s.is_Symbol), key=lambda pair: pair[0])
    return (-sum(int(e) for s, e in powers.items() if s.is_Symbol), letters)


def _term(term: sympy.Expr, values: Values) -> str:
    coefficient, rest = term.as_coeff_Mul()
    powers = sorted(rest.as_powers_dict().items(), key=lambda pair: rank(str(pair[0])))
    over = [_power(s, int(e), values) for s, e in powers if s.is_Symbol and e > 0]
    under = [_power(s, -int(e), values) for s, e in powers if s.is_Symbol and e < 0]
    if abs(coefficient.p) != 1 or not over:
        over.insert(0, str(abs(coefficient.p)))
    if coefficient.q != 1:
        under.insert(0, str(coefficient.q))
    text = "*".join(over) + (f"/{under[0]}" if len(under) == 1 else f"/({'*'.join(under)})" if under else "")
    return f"-{text}" if coefficient.p < 0 else text


def _power(symbol: sympy.Symbol, exponent: int, values: Values) -> str:
    text = str(symbol) if values is None else str(values[str(symbol)])
    return text if exponent == 1 else f"{text}^{exponent}"


def nested(expression: sympy.Expr, outer: str) -> str:
    """A polynomial with one symbol taken out: "B*(84934656*S + 18432*S^2 + 589824)".

    Inside, lower powers stand first and what is constant last.
    """
    symbol = next((s for s in expression.free_symbols if str(s) == outer), None)
    if symbol is None:
        return written(expression)
    inside, rest = sympy.expand(expression).as_independent(symbol, as_Add=True)[::-1]
    factored = sympy.expand(inside / symbol)
    if factored.has(symbol):
        return written(expression)
    terms = sorted(sympy.Add.make_args(factored), key=_rising)
    text = _joined(_term(term, None) for term in terms)
    text = f"{outer}*({text})" if len(terms) > 1 else _term(inside, None)
    return text if rest == 0 else f"{text} + {written(rest)}"


def _rising(term: sympy.Expr) -> tuple[object, ...]:
    degree = sum(int(e) for s, e in term.as_powers_dict().items() if s.is_Symbol)
    return (degree == 0, degree, str(term))
