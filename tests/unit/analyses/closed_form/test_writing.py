"""Polynomials as text: some by letter, and all by reading them again."""

from __future__ import annotations

import pytest
import sympy
from hypothesis import given
from hypothesis import strategies as st

from tonnage.analyses.closed_form.latex import latex_of
from tonnage.analyses.closed_form.writing import collected, nested, written
from tonnage.analyses.expressions import parse

B, S, L, V, H, F, h, g, d, n, p = (sympy.Symbol(name) for name in "BSLVHFhgdnp")
VALUES = {"L": 12, "V": 100, "H": 768, "F": 3072, "h": 12, "g": 4, "d": 64, "n": 224, "p": 16, "B": 2, "S": 128}


@pytest.mark.parametrize(
    ("expression", "text", "numbers"),
    [
        (sympy.Integer(0), "0", "0"),
        (sympy.Integer(7), "7", "7"),
        (H, "H", "768"),
        (9 * H + 4 * H**2, "4*H^2 + 9*H", "4*768^2 + 9*768"),
        (H * V, "V*H", "100*768"),
        (H**2 - H, "H^2 - H", "768^2 - 768"),
        (-H + 3, "-H + 3", "-768 + 3"),
        (n**2 * H / p**2 + H, "n^2*H/p^2 + H", "224^2*768/16^2 + 768"),
        (2 * g * H**2 / h, "2*g*H^2/h", "2*4*768^2/12"),
        (H / 4, "H/4", "768/4"),
        (3 * H / (4 * h * p), "3*H/(4*h*p)", "3*768/(4*12*16)"),
        (h * (g + d), "h*g + h*d", "12*4 + 12*64"),
    ],
)
def test_a_polynomial(expression, text, numbers):
    assert written(expression) == text
    assert written(expression, VALUES) == numbers


@pytest.mark.parametrize(
    ("pieces", "text"),
    [
        ([], "0"),
        ([(1, V * H), (1, H), (L, 4 * H**2), (L, 9 * H)], "V*H + H + L*(4*H^2 + 9*H)"),
        ([(L, H)], "L*H"),
        ([(L, H), (L - 1, H**2)], "L*H + (L - 1)*H^2"),
        ([(2 * L, H), (1, 3 * H)], "3*H + 2*L*H"),
        ([(sympy.Integer(2), H**2 + H)], "2*(H^2 + H)"),
        ([(sympy.Integer(3), sympy.Integer(5)), (1, V)], "V + 15"),
        ([(L, sympy.Integer(0)), (1, H)], "H"),
        ([(L * g, H)], "L*g*H"),
    ],
)
def test_what_occurs_several_times(pieces, text):
    assert collected([(sympy.sympify(times), sympy.sympify(each)) for times, each in pieces]) == text


def test_a_factor_of_everything_stands_outside():
    pieces = [(sympy.Integer(1), B * V * H), (L, B * S * H)]
    assert collected(pieces, outer=B) == "B*(V*H + L*S*H)"
    assert collected(pieces, VALUES, outer=B) == "2*(100*768 + 12*128*768)"
    assert collected([*pieces, (sympy.Integer(1), H)], outer=B) == "B*V*H + H + L*B*S*H"


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        (B * (84934656 * S + 18432 * S**2 + 589824), "B*(84934656*S + 18432*S^2 + 589824)"),
        (5 * B, "5*B"),
        (5 * B + 7, "5*B + 7"),
        (B * S + B + S, "B*(S + 1) + S"),
        (B**2 + B, "B^2 + B"),
        (3 * S, "3*S"),
    ],
)
def test_a_polynomial_with_one_symbol_taken_out(expression, text):
    assert nested(expression, "B") == text


terms = st.lists(st.tuples(st.integers(-9, 9), *[st.integers(0, 3)] * 3), max_size=5)


@given(terms, st.tuples(*[st.integers(1, 99)] * 3))
def test_what_is_written_reads_as_it_was(terms, at):
    expression = sympy.Add(*(k * B**i * H**j * S**m for k, i, j, m in terms))
    values = dict(zip("BHS", at, strict=True))
    expected = sum(k * at[0] ** i * at[1] ** j * at[2] ** m for k, i, j, m in terms)
    assert parse(written(expression)).evaluate(values) == expected
    assert parse(written(expression, values)).evaluate({}) == expected
    assert parse(nested(expression, "B")).evaluate(values) == expected


@given(
    st.lists(st.tuples(st.integers(-2, 3), st.integers(0, 2), terms), max_size=4), st.tuples(*[st.integers(1, 99)] * 4)
)
def test_what_is_collected_reads_as_it_was(pieces, at):
    def of(terms):
        return sympy.Add(*(k * B**i * H**j * S**m for k, i, j, m in terms))

    values = dict(zip("BHSL", at, strict=True))
    made = [(sympy.sympify(k * L + c), of(terms)) for k, c, terms in pieces]
    substituted = {sympy.Symbol(name): value for name, value in values.items()}
    expected = sum(int(times.xreplace(substituted) * each.xreplace(substituted)) for times, each in made)
    assert parse(collected(made)).evaluate(values) == expected
    assert parse(collected(made, values)).evaluate({}) == expected


@pytest.mark.parametrize(
    ("text", "latex"),
    [
        ("", ""),
        ("4*H^2 + 9*H", "4 H^{2} + 9 H"),
        ("H^12", "H^{12}"),
        ("2*g*H^2/h", r"\frac{2 g H^{2}}{h}"),
        ("3*H/(4*h*p)", r"\frac{3 H}{4 h p}"),
        ("L_d*(H_t + 1)", r"L_{d} \left(H_{t} + 1\right)"),
        ("groups*H", r"\mathrm{groups} H"),
        ("decoder_hidden_size", r"\mathrm{decoder\_hidden\_size}"),
        ("9*4*H", r"9 \cdot 4 H"),
        ("H_1*p_1^2", "H_{1} p_{1}^{2}"),
    ],
)
def test_latex(text, latex):
    assert latex_of(text) == latex
