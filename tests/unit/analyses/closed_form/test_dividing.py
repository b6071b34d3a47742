"""What has to divide what."""

from __future__ import annotations

import pytest
import sympy
from hypothesis import given
from hypothesis import strategies as st

from tonnage.analyses.closed_form.dividing import covered, divisions

NAMES = ("hidden_size", "num_heads", "groups", "image", "rows", "columns", "patch", "in_channels")
H, h, g, n, a, b, p, c = (sympy.Symbol(name, positive=True, integer=True) for name in NAMES)
SIZES = {"hidden_size": 64, "num_heads": 8, "groups": 2, "image": 32, "rows": 32, "columns": 48, "patch": 16}
SIZES["in_channels"] = 8


@pytest.mark.parametrize(
    ("expression", "pairs"),
    [
        (4 * H**2 + 9 * H, []),
        (H / h, [("hidden_size", "num_heads")]),
        (g * H / h, [("hidden_size", "num_heads")]),
        (H + 2 * g * H / h, [("hidden_size", "num_heads")]),
        (1 + n**2 / p**2, [("image", "patch")]),
        (a * b / p**2, [("columns", "patch"), ("rows", "patch")]),
        (c / g, [("in_channels", "groups")]),
        (H / 4, []),
        (g / h, []),
        (c * n / g, []),
    ],
)
def test_pairs(expression, pairs):
    """Where it cannot be told which size it is that is divided, there is none: c*n/g may be (c/g)*n or c*(n/g)."""
    assert sorted(divisions(expression, SIZES)) == pairs


@pytest.mark.parametrize(
    ("expression", "pairs", "whole"),
    [
        (H**2 + 1, [], True),
        (H / h, [], False),
        (H / h, [("hidden_size", "num_heads")], True),
        (g * H / h + H, [("hidden_size", "num_heads")], True),
        (n**2 / p**2, [("image", "patch")], True),
        (a * b / p**2, [("rows", "patch")], False),
        (a * b / p**2, [("rows", "patch"), ("columns", "patch")], True),
        (H / (2 * h), [("hidden_size", "num_heads")], False),
        (H / 4, [], False),
        (n / p**2, [("image", "patch")], False),
    ],
)
def test_what_is_whole_wherever_the_pairs_divide(expression, pairs, whole):
    assert covered(expression, pairs) is whole


@given(st.integers(1, 64), st.integers(1, 64), st.integers(1, 64))
def test_what_is_covered_is_whole(width, heads, groups):
    expression = H**2 + 2 * g * H / h
    pairs = list(divisions(expression, SIZES))
    assert covered(expression, pairs)
    if width % heads == 0:
        assert expression.xreplace(
            {H: sympy.Integer(width), h: sympy.Integer(heads), g: sympy.Integer(groups)}
        ).is_Integer
