"""Parts put together by what has them."""

from __future__ import annotations

import sympy

from tonnage.analyses.closed_form.derive import Part
from tonnage.analyses.closed_form.owners import beside_each_other, by_module, leaf_of, owner_of
from tonnage.analyses.closed_form.survey import pattern_of

H, F, L = (sympy.Symbol(name, positive=True, integer=True) for name in "HFL")


def part(members, *numbers, times=L):
    return Part(pattern_of(members[0]), tuple(members), tuple(map(sympy.sympify, numbers)), sympy.sympify(times))


def layers(name):
    return [f"layer.{n}.{name}" for n in range(3)]


def test_owner_and_leaf():
    assert (owner_of("layer.0.q.weight"), leaf_of("layer.0.q.weight")) == ("layer.0.q", "weight")
    assert (owner_of("weight"), leaf_of("weight")) == ("", "weight")


def test_weight_and_bias_of_one_module_and_its_repeats():
    owns = by_module([part(layers("up.weight"), F, H), part(layers("up.bias"), F)])
    assert [(own.owners, own.times, len(own.parts)) for own in owns] == [(tuple(layers("up")), L, 2)]


def test_query_key_and_value_stand_together():
    parts = [part(layers(f"{name}.weight"), H, H) for name in ("q", "k", "v")]
    parts.append(part(layers("o.weight"), H, F))
    together = list(beside_each_other(by_module(parts)))
    assert [[own.owners[0] for own in owns] for owns in together] == [
        ["layer.0.q", "layer.0.k", "layer.0.v"],
        ["layer.0.o"],
    ]


def test_modules_of_one_size_in_other_places_stand_apart():
    parts = [part(["encoder.norm.weight"], H, times=1), part(["decoder.norm.weight"], H, times=1)]
    assert len(list(beside_each_other(by_module(parts)))) == 2


def test_one_part_in_modules_that_differ_is_cut():
    """A flat Sequential: the biases are alike, the weights are not."""
    parts = [
        part(["0.weight"], F, H, times=1),
        part(["2.weight"], F, F, times=1),
        part(["0.bias", "2.bias"], F, times=2),
    ]
    owns = by_module(parts)
    assert sorted((own.owners, own.times) for own in owns) == [(("0",), 1), (("2",), 1)]
    assert all(len(own.parts) == 2 for own in owns)


def test_twice_in_each_block_is_cut_by_place():
    """2*L norms as L of the first and L of the second."""
    members = [f"block.{b}.layer.{n}.norm" for b in range(3) for n in range(2)]
    owns = by_module([part(members, H, times=2 * L)])
    assert [(own.owners, own.times) for own in owns] == [
        (tuple(f"block.{b}.layer.0" for b in range(3)), L),
        (tuple(f"block.{b}.layer.1" for b in range(3)), L),
    ]


def test_what_cannot_be_cut_stays_whole():
    owns = by_module([part(layers("norm.weight"), H, times=2 * L - 1)])
    assert [(own.owners, own.times) for own in owns] == [(tuple(layers("norm")), 2 * L - 1)]


def test_nothing_is_lost():
    parts = [part(layers("up.weight"), F, H), part(["0.bias", "2.bias"], F, times=2), part(["scale"], H, times=1)]
    owns = by_module(parts)
    total = sympy.Add(*(own.times * p.each for own in owns for p in own.parts))
    assert sympy.expand(total - sympy.Add(*(p.times * p.each for p in parts))) == 0
    assert sorted(m for own in owns for p in own.parts for m in p.members) == sorted(
        m for p in parts for m in p.members
    )
