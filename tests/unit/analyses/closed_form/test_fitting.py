"""Polynomials through values."""

from __future__ import annotations

from fractions import Fraction

import pytest
import sympy
from hypothesis import given
from hypothesis import strategies as st

from tonnage.analyses.closed_form.fitting import NoFit, fit
from tonnage.analyses.closed_form.survey import Direction

X, Y = (sympy.Symbol(name, positive=True, integer=True) for name in "xy")
SYMBOLS = {"x": X, "y": Y}


def along(field, *levels):
    return Direction(field, {field: levels[0]}, levels)


def fitted(function, *directions):
    own = {d.field: d.levels[0] for d in directions}
    return fit(lambda point: function(**{**own, **point}), directions, SYMBOLS)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda x: 7, sympy.Integer(7)),
        (lambda x: 0, sympy.Integer(0)),
        (lambda x: 3 * x, 3 * X),
        (lambda x: 3 * x + 2, 3 * X + 2),
        (lambda x: x * x, X**2),
        (lambda x: 4 * x * x + 9 * x, 4 * X**2 + 9 * X),
        (lambda x: (2 * x - 1) ** 2, 4 * X**2 - 4 * X + 1),
        (lambda x: 96 // x, 96 / X),
        (lambda x: 9216 // x**2, 9216 / X**2),
        (lambda x: 96 // x + 5, 96 / X + 5),
        (lambda x: x**3, X**3),
        (lambda x: x**4 - x**2, X**4 - X**2),
    ],
)
def test_one_size(function, expected):
    assert fitted(function, along("x", 8, 16, 4, 32, 24)) == expected


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda x, y: x * y, X * Y),
        (lambda x, y: (x + 2 * y) * 5, 5 * X + 10 * Y),
        (lambda x, y: (x + 1) * (y + 1), X * Y + X + Y + 1),
        (lambda x, y: x * (y * y + 3), X * Y**2 + 3 * X),
        (lambda x, y: 64 * x // y, 64 * X / Y),
        (lambda x, y: x, X),
    ],
)
def test_two_sizes(function, expected):
    assert fitted(function, along("x", 8, 16, 24, 32), along("y", 4, 8, 2, 16)) == expected


@pytest.mark.parametrize("function", [lambda x: 2**x, lambda x: -(-x // 8) * 8, lambda x: x**3 + 1])
def test_what_is_no_polynomial_says_in_which_size(function):
    with pytest.raises(NoFit) as caught:
        fitted(function, along("x", 3, 6, 12, 9, 15))
    assert caught.value.field == "x"


def test_one_rounded_value_is_no_obstacle():
    """At 12 the width is rounded down; the proof has the last word."""
    assert fitted(lambda x: x // 8 * 8, along("x", 16, 32, 8, 64, 12)) == X


def test_what_is_not_known_everywhere_is_fitted_where_it_is():
    values = {8: 24, 16: 48, 4: None, 32: 96}
    assert fitted(lambda x: values[x], along("x", *values)) == 3 * X


def test_a_combination_that_cannot_be_had_is_no_fit():
    with pytest.raises(NoFit):
        fitted(
            lambda x, y: None if x != 8 and y != 4 else x * y + x + 1 + y, along("x", 8, 16, 24), along("y", 4, 8, 12)
        )


coefficients = st.integers(0, 50)


@given(st.lists(coefficients, min_size=9, max_size=9), st.integers(2, 40), st.integers(2, 40), st.data())
def test_every_polynomial_of_degree_two_in_each_size_is_found(numbers, x, y, data):
    """With nothing negative no term can hide behind another one."""

    def polynomial(x, y):
        return sum(c * x ** (i // 3) * y ** (i % 3) for i, c in enumerate(numbers))

    found = fitted(polynomial, along("x", x, 2 * x, 4 * x, 3 * x, 5 * x), along("y", y, 2 * y, 4 * y, 3 * y, 5 * y))
    at = {X: data.draw(st.integers(1, 1000)), Y: data.draw(st.integers(1, 1000))}
    assert found.xreplace(at) == polynomial(at[X], at[Y])


@given(st.integers(1, 30), st.integers(0, 30), st.integers(1, 6))
def test_every_inverse_is_found(coefficient, constant, unit):
    whole = 840 * unit
    found = fitted(lambda x: whole * coefficient // x + constant, along("x", 12, 24, 6, 4, 60))
    assert found.xreplace({X: sympy.Integer(7)}) == Fraction(whole * coefficient, 7) + constant
