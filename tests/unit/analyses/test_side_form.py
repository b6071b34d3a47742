"""Work of convolutional networks made by hand, for images of any side."""

from __future__ import annotations

from math import ceil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tonnage.analyses.expressions import parse
from tonnage.analyses.side_form import Product, side_formula

SIDES = {"ceil(n/2)": lambda n: ceil(n / 2), "floor(n/4)": lambda n: n // 4, "n": lambda n: n}
SIDES |= {"floor((n + 1)/4)": lambda n: (n + 1) // 4, "(n - 2)": lambda n: n - 2}


def network(*layers, head=0):
    """Layers of (multiply-accumulates for each place, side of the output), and a head for each sample."""

    def products(point):
        made = [Product(point["B"] * each * side(point["n"]) ** 2, side(point["n"])) for each, side in layers]
        return [*made, Product(point["B"] * head, 0)]

    return products


@pytest.mark.parametrize("side", SIDES)
def test_one_layer(side):
    formula = side_formula(network((7, SIDES[side]), head=5), {"B": 2, "n": 224})
    for n in (32, 33, 47, 224, 1001):
        assert parse(formula).evaluate({"B": 3, "n": n}) == 3 * (7 * SIDES[side](n) ** 2 + 5)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 10**6), st.sampled_from([1, 2, 4, 8, 16, 32])), min_size=1, max_size=6),
    st.integers(0, 10**6),
    st.integers(64, 300),
    st.lists(st.integers(32, 2000), min_size=5, max_size=5),
)
def test_any_network_of_halvings(layers, head, own, others):
    made = network(*((each, lambda n, k=k: ceil(n / k)) for each, k in layers), head=head)
    formula = side_formula(made, {"B": 1, "n": own})
    for n in others:
        expected = 9 * (sum(each * ceil(n / k) ** 2 for each, k in layers) + head)
        assert parse(formula).evaluate({"B": 9, "n": n}) == expected


@pytest.mark.parametrize(
    "products",
    [
        lambda point: [Product(point["B"] * (point["n"] // 16) ** 4, 0)],
        lambda point: [Product(point["B"] * point["n"], point["n"])],
        lambda point: [Product(point["B"] * round(point["n"] ** 0.5) ** 2, round(point["n"] ** 0.5))],
        lambda point: [Product(1, 1)] * (point["n"] % 3 + 1),
        lambda point: None,
        lambda point: None if point["n"] % 2 else [Product(1, 1)],
    ],
)
def test_what_is_no_such_sum(products):
    assert side_formula(products, {"B": 1, "n": 224}) == ""


def test_other_sizes_than_batch_and_side_are_not_for_this():
    assert side_formula(network((7, SIDES["n"])), {"B": 1, "n": 32, "S": 3}) == ""
    assert side_formula(network((7, SIDES["n"])), {"B": 1}) == ""
