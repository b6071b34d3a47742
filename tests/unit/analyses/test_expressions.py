"""Formulas as people write them; the values are worked out a second time with Python's own Fractions."""

from __future__ import annotations

import time
from fractions import Fraction
from math import ceil, floor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tonnage.analyses.expressions import MOST_CHARACTERS, parse
from tonnage.errors import BadOption

SYMBOLS = {"H": 768, "F": 3072, "L_d": 6, "text_config.hidden_size": 512, "d_kv": 64}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("4*512^2 + 2*512*2048 + 2048 + 7*512", 3_151_360),
        ("4H^2", 4 * 768**2),
        ("2 H F", 2 * 768 * 3072),
        ("3(H^2+H)", 3 * (768**2 + 768)),
        ("L_d(4H² + 4H)", 6 * (4 * 768**2 + 4 * 768)),
        ("(H+1)(F+1)", 769 * 3073),
        ("（3×3×64＋1）×128", (9 * 64 + 1) * 128),
        ("（３＊３＊６４＋１）＊１２８", (9 * 64 + 1) * 128),
        ("3x3x64x128 + 128", 9 * 64 * 128 + 128),
        ("32 x 8 x d_kv", 32 * 8 * 64),
        ("3·H − F÷2", 3 * 768 - 1536),
        ("1,024*1_024 + 1\u202f024", 1024 * 1024 + 1024),
        ("30,522", 30522),
        ("text_config.hidden_size ** 2", 512**2),
        ("-H^2", -(768**2)),
        ("(-H)^2", 768**2),
        ("2^3^2", 512),
        ("2³^2", 64),
        ("H - (F - H)", 768 - (3072 - 768)),
        ("F/(2*H)", 2),
        ("F/2*H", 1536 * 768),
        ("0.5*H + 2^-1", 384 + Fraction(1, 2)),
        ("50257//8*8", 50256),
        ("ceil(50257/8)*8", 50264),
        ("floor(50257 / 8)", 6282),
        ("max(100,200) + min(H, F, 3)", 203),
        ("max((1,024), 5)", 1024),
    ],
)
def test_people_write_it_in_many_ways(text, value):
    assert parse(text).evaluate(SYMBOLS) == value


@pytest.mark.parametrize(
    ("text", "known", "symbols"),
    [
        ("HF", (), {"HF"}),
        ("HF", ("H", "F"), {"H", "F"}),
        ("HF", ("H", "F", "HF"), {"HF"}),
        ("HF", ("H",), {"HF"}),
        ("d_model*num_heads", ("d", "_"), {"d_model", "num_heads"}),
        ("词表*L₁", (), {"词表", "L₁"}),
        ("3 x H", (), {"H"}),
        ("3 x H", ("x", "H"), {"x", "H"}),
        ("3 xy", (), {"xy"}),
        ("max + ceil(H)", (), {"max", "H"}),
    ],
)
def test_a_name_is_the_longest_that_can_be_read(text, known, symbols):
    assert parse(text, known).symbols == symbols


def test_letters_that_are_taken_apart_multiply_and_the_last_takes_the_power():
    assert parse("2HF²", ("H", "F")).evaluate({"H": 5, "F": 3}) == 2 * 5 * 9


@pytest.mark.parametrize(
    ("text", "found", "character"),
    [
        ("4H^2 + * 3", "`*`", 8),
        ("（4H² ＋ ＊ 3）", "`＊`", 8),
        ("(H", "ends too early", 3),
        ("H)", "`)`", 2),
        ("4 H 2", "2 right after another value", 5),
        ("1 024", "024 starts with a 0", 3),
        ("max(1,024)", "024 starts with a 0", 7),
        ("1,02", "02 starts with a 0", 3),
        ("12,3456", "`,`", 3),
        ("1/2H", "a division and then a product without a sign", 4),
        ("1/2(H+1)", "a division and then a product without a sign", 4),
        ("H + #", "`#`", 5),
        ("ceil(H, 2)", "ceil() of 2 values", 10),
        ("H = 3", "`=`", 3),
        ("__import__('os')", "`'`", 12),
        ("1" * 41, "more than 40 digits", 1),
        ("(" * 100 + "1" + ")" * 100, "more than 40 levels", 41),
        ("-" * 1000 + "1", "more than 40 levels", 41),
        ("^".join("1" * 500), "more than 40 levels", 81),
    ],
)
def test_what_cannot_be_read_is_shown_with_its_place(text, found, character):
    with pytest.raises(BadOption) as raised:
        parse(text)
    assert found in raised.value.message
    assert f"at character {character}\n" in raised.value.message
    assert raised.value.hint


def test_the_mark_stands_under_the_place_where_wide_signs_are_before_it():
    with pytest.raises(BadOption) as raised:
        parse("词表 * * 3")
    _, shown, mark = raised.value.message.splitlines()
    assert shown == "    词表 * * 3"
    assert mark == "    " + " " * len("wwww * ") + "^"


@pytest.mark.parametrize("text", ["", " ", "\u3000", "1+" * MOST_CHARACTERS])
def test_nothing_and_too_much_are_refused(text):
    with pytest.raises(BadOption):
        parse(text)


@pytest.mark.parametrize(
    "text", ["9^9^9^9", "(9^999)^999", "2^(10^30)", "1/0", "H//0", "0^-1", "2^0.5", "*".join(["(9^999)"] * 100)]
)
def test_what_has_no_sensible_value_is_refused_at_once(text):
    begun = time.perf_counter()
    with pytest.raises(BadOption):
        parse(text).evaluate(SYMBOLS)
    assert time.perf_counter() - begun < 1


def test_an_unknown_symbol_is_named_beside_those_that_are_known():
    with pytest.raises(BadOption) as raised:
        parse("4*d_modle^2").evaluate({"d_model": 512, "L": 6})
    assert "`d_modle`" in raised.value.message
    assert raised.value.hint == "known: L, d_model"


def test_a_long_sum_does_not_nest():
    assert parse("1+" * 999 + "1").evaluate({}) == 1000


def test_addends_and_factors_are_the_parts_of_the_top():
    assert [str(part) for part in parse("4H^2 - F*H + 2(H + 1)").addends] == ["4*H^2", "-(F*H)", "2*(H + 1)"]
    assert [str(part) for part in parse("4H^2*F*H/3").factors] == ["4", "H", "F"]


def test_numbers_take_the_place_of_symbols():
    assert parse("L(4H² + F/h)").substituted({"H": 768, "F": 3072}) == "L*(4*768^2 + 3072/h)"


def _grow(inner):
    pair = st.tuples(inner, inner)
    return st.one_of(
        pair.map(lambda p: (f"{p[0][0]} + {p[1][0]}", p[0][1] + p[1][1])),
        pair.map(lambda p: (f"{p[0][0]} - ({p[1][0]})", p[0][1] - p[1][1])),
        pair.map(lambda p: (f"({p[0][0]})({p[1][0]})", p[0][1] * p[1][1])),
        pair.map(lambda p: (f"({p[0][0]}) × ({p[1][0]})", p[0][1] * p[1][1])),
        pair.filter(lambda p: p[1][1] != 0).map(lambda p: (f"({p[0][0]}) ÷ ({p[1][0]})", p[0][1] / p[1][1])),
        pair.filter(lambda p: p[1][1] != 0).map(
            lambda p: (f"({p[0][0]}) // ({p[1][0]})", Fraction(p[0][1] // p[1][1]))
        ),
        pair.map(lambda p: (f"max({p[0][0]}, {p[1][0]})", max(p[0][1], p[1][1]))),
        inner.map(lambda one: (f"-({one[0]})", -one[1])),
        inner.map(lambda one: (f"({one[0]})²", one[1] ** 2)),
        inner.map(lambda one: (f"({one[0]})**3", one[1] ** 3)),
        inner.map(lambda one: (f"ceil({one[0]})", Fraction(ceil(one[1])))),
        inner.map(lambda one: (f"floor({one[0]})", Fraction(floor(one[1])))),
    )


LEAVES = st.one_of(
    st.integers(0, 10**9).map(lambda n: (f"{n:,}", Fraction(n))).filter(lambda leaf: "," not in leaf[0]),
    st.integers(0, 10**9).map(lambda n: (f"{n:_}", Fraction(n))),
    st.sampled_from(sorted(SYMBOLS)).map(lambda name: (name, Fraction(SYMBOLS[name]))),
)


@given(st.recursive(LEAVES, _grow, max_leaves=8))
def test_any_formula_has_the_value_that_python_finds_and_its_text_is_read_back(written):
    text, value = written
    expression = parse(text)
    assert expression.evaluate(SYMBOLS) == value
    again = parse(str(expression))
    assert again.evaluate(SYMBOLS) == value
    assert str(again) == str(expression)
    assert parse(expression.substituted(SYMBOLS)).evaluate({}) == value


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text):
    try:
        parse(text).evaluate(SYMBOLS)
    except BadOption as refused:
        assert refused.hint


@given(st.text(alphabet="HF2 4()+-*/^,._x²词", max_size=40))
def test_any_text_of_the_right_characters_is_read_or_refused(text):
    try:
        expression = parse(text, SYMBOLS)
        again = parse(str(expression), SYMBOLS)
        assert str(again) == str(expression)
        expression.evaluate(SYMBOLS)
    except BadOption as refused:
        assert refused.hint
