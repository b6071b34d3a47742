"""Sizes that follow from others unless they are given."""

from __future__ import annotations

from math import ceil, floor

import pytest

from tonnage.analyses.closed_form.definitions import define

SIZES = {"H": 64, "h": 8, "V": 100}


def defined(follow, name="d", sizes=SIZES):
    return define(sizes, {name: follow(sizes)[name]}, lambda changes: follow({**sizes, **changes})).get(name)


RULES = {
    "H/h": (lambda s: s["H"] // s["h"] if s["H"] % s["h"] == 0 else None, ""),
    "floor(H/h)": (lambda s: s["H"] // s["h"], "floor"),
    "4*H": (lambda s: 4 * s["H"], ""),
    "ceil(H/16)": (lambda s: ceil(s["H"] / 16), "ceil"),
    "floor(H/16)": (lambda s: floor(s["H"] / 16), "floor"),
    "h": (lambda s: s["h"], ""),
}


@pytest.mark.parametrize("text", RULES)
def test_the_rounding_that_is_right_beside_the_model(text):
    rule, rounding = RULES[text]

    def follow(s):
        found = rule(s)
        return None if found is None else {"d": found}

    definition = define(SIZES, follow(SIZES), lambda changes: follow({**SIZES, **changes}))["d"]
    assert definition.rounding == rounding
    assert set(definition.symbols) == {name for name in SIZES if name in text}
    for h in (1, 2, 5, 8, 13):
        for width in (16, 48, 63, 640):
            assert definition.value({**SIZES, "H": width, "h": h}) in (rule({"H": width, "h": h}), None)
            if rounding:
                assert definition.value({**SIZES, "H": width, "h": h}) == rule({"H": width, "h": h})


def test_what_is_no_whole_number_is_none():
    definition = defined(lambda s: {"d": s["H"] // s["h"]} if s["H"] % s["h"] == 0 else {"d": 0})
    assert definition is not None
    assert definition.value({**SIZES, "h": 16}) == 4
    assert definition.value({**SIZES, "h": 7}) is None


def test_what_no_polynomial_gives_is_left_out():
    assert defined(lambda s: {"d": 2 ** (s["H"] // 16)}) is None


def test_each_of_several():
    found = define(SIZES, {"d": 8, "F": 256}, lambda c: {"d": 8, "F": 4 * {**SIZES, **c}["H"]})
    assert found["F"].value({**SIZES, "H": 10}) == 40
    assert found["d"].value({**SIZES, "H": 10}) == 8
