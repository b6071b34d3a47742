"""The closed form of a whole table."""

from __future__ import annotations

import sympy
from hypothesis import given, settings
from hypothesis import strategies as st

from tonnage.analyses.closed_form.derive import derive, derive_alike, total_of


def evaluated(derived, sizes):
    return derived.total.xreplace({symbol: sympy.Integer(sizes[name]) for name, symbol in derived.symbols.items()})


def agrees(model, derived, **changes):
    return evaluated(derived, {**model.sizes, **changes}) == model.count(**changes)


def test_what_a_table_comes_to():
    assert total_of({"w": (3, 4), "b": (5,), "scale": ()}) == 3 * 4 + 5 + 1
    assert total_of({}) == 0


def test_a_small_encoder(small_encoder):
    derived = derive(small_encoder.ask, small_encoder.sizes)
    V, H, L, F = (derived.symbols[name] for name in "VHLF")
    assert sympy.expand(derived.total - (V * H + L * (F * H + F) + (L - 1) * H + 3 * H)) == 0
    assert {part.pattern: part.times for part in derived.parts} == {
        "embed.weight": 1,
        "layer.{}.up.weight": L,
        "layer.{}.up.bias": L,
        "layer.{}.norm.weight": L - 1,
        "head.weight": 1,
    }
    assert derived.held == {}


def test_sizes_equal_by_chance_are_pulled_apart(toy):
    """512 = 8*64: a matrix from the width to the heads, and one of the width alone."""
    model = toy(
        {"width": 512, "heads": 8, "size": 64, "up": 512},
        lambda s: {
            "q": (s["heads"] * s["size"], s["width"]),
            "mix": (s["width"], s["width"]),
            "up": (s["up"], s["width"]),
        },
    )
    derived = derive(model.ask, model.sizes)
    for changes in ({"width": 3}, {"heads": 5, "size": 7}, {"up": 11, "width": 13, "heads": 2}):
        assert agrees(model, derived, **changes)


def test_grouped_heads(toy):
    """(h + 2*g)*d of queries, keys and values in one matrix."""
    model = toy({"H": 32, "h": 4, "g": 2, "d": 8}, lambda s: {"qkv.weight": ((s["h"] + 2 * s["g"]) * s["d"], s["H"])})
    derived = derive(model.ask, model.sizes)
    for changes in ({"h": 12}, {"g": 1}, {"d": 5, "g": 4}, {"H": 7, "h": 1, "g": 1, "d": 1}):
        assert agrees(model, derived, **changes)


def test_experts_in_every_layer(toy):
    def table(s):
        experts = [(layer, expert) for layer in range(s["L"]) for expert in range(s["E"])]
        return {f"layer.{layer}.expert.{expert}.w": (s["H"], s["F"]) for layer, expert in experts}

    model = toy({"L": 3, "E": 4, "H": 8, "F": 16}, table)
    derived = derive(model.ask, model.sizes)
    assert len(derived.parts) == 1
    assert sympy.expand(derived.parts[0].times - derived.symbols["L"] * derived.symbols["E"]) == 0
    assert agrees(model, derived, L=9, E=64, H=3, F=5)


def test_stages_with_depths_of_their_own(toy):
    def table(s):
        made = {}
        for stage in range(2):
            for block in range(s[f"depths[{stage}]"]):
                made[f"stage.{stage}.block.{block}.w"] = (s["H"] * 2**stage,)
        return made

    model = toy({"depths[0]": 2, "depths[1]": 3, "H": 8}, table)
    derived = derive(model.ask, model.sizes)
    assert agrees(model, derived, **{"depths[0]": 1, "depths[1]": 7, "H": 5})
    assert agrees(model, derived, **{"depths[0]": 11})


def test_tied_where_two_sizes_are_equal(toy):
    """A projection between embedding and width that is there only where they differ, as in ELECTRA."""

    def table(s):
        projection = {"project": (s["E"], s["H"])} if s["E"] != s["H"] else {}
        return {"embed": (100, s["E"]), "mix": (s["H"], s["H"]), **projection}

    model = toy({"E": 12, "H": 24}, table)
    derived = derive(model.ask, model.sizes)
    assert agrees(model, derived, E=7, H=9)
    model = toy({"E": 24, "H": 24}, table)
    derived = derive(model.ask, model.sizes)
    assert [dict(d.moved) for d in derived.directions] == [{"E": 24, "H": 24}]
    assert agrees(model, derived, E=48, H=48)


def test_a_size_that_no_polynomial_follows_is_held(toy):
    model = toy({"H": 8, "F": 6}, lambda s: {"w": (s["H"] ** 3 + 1, s["F"])})
    derived = derive(model.ask, model.sizes)
    assert derived.held == {"H": "no polynomial of it counts what follows it"}
    assert agrees(model, derived, F=35)


def test_a_size_whose_change_fails_is_held(toy):
    model = toy({"H": 8, "version": 3}, lambda s: {"w": (s["H"], s["version"])} if s["version"] == 3 else None)
    derived = derive(model.ask, model.sizes)
    assert derived.held.keys() == {"version"}
    assert agrees(model, derived, H=5)


def test_positions_of_patches(toy):
    model = toy({"n": 32, "p": 8, "H": 4}, lambda s: {"position": ((s["n"] // s["p"]) ** 2 + 1, s["H"])})
    derived = derive(model.ask, model.sizes)
    for changes in ({"n": 64}, {"p": 4}, {"n": 48, "p": 16, "H": 3}):
        assert agrees(model, derived, **changes)


def test_another_table_that_follows_the_same_sizes(small_encoder):
    """With a bias in every layer and in the head."""
    like = derive(small_encoder.ask, small_encoder.sizes)

    def biased(changes):
        s = {**small_encoder.sizes, **changes}
        return {**small_encoder.ask(changes), "head.bias": (3,), **{f"layer.{n}.out": (s["H"],) for n in range(s["L"])}}

    derived = derive_alike(biased, like)
    assert derived is not None
    assert sympy.expand(derived.total - like.total - 3 - like.symbols["L"] * like.symbols["H"]) == 0


def test_another_table_that_follows_more_sizes_is_not_alike(toy):
    model = toy({"H": 8, "rank": 4}, lambda s: {"w": (s["H"], 3)})
    adapted = toy(model.sizes, lambda s: {"w": (s["H"], 3), "adapter": (s["rank"], s["H"])})
    like = derive(model.ask, model.sizes)
    assert derive_alike(model.ask, like) is not None
    assert derive_alike(adapted.ask, like) is None


monomials = st.lists(st.tuples(st.integers(1, 9), *[st.integers(0, 2)] * 3), min_size=1, max_size=4)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(monomials, min_size=1, max_size=2), min_size=1, max_size=4),
    st.tuples(*[st.integers(2, 12)] * 3),
    st.integers(2, 6),
    st.lists(st.tuples(*[st.integers(1, 40)] * 4), min_size=5, max_size=5),
)
def test_any_table_of_polynomials_is_found(shapes, own, blocks, points):
    """Random polynomials of a, b and c with nothing negative, as shapes of tensors by themselves and in each of L."""

    def number(terms, s):
        return sum(k * s["a"] ** i * s["b"] ** j * s["c"] ** n for k, i, j, n in terms)

    def table(s):
        made = {}
        for place, shape in enumerate(shapes):
            numbers = tuple(number(terms, s) for terms in shape)
            made[f"once.tensor_{place}x"] = numbers
            made |= {f"layer.{layer}.tensor_{place}x": numbers for layer in range(s["L"])}
        return made

    sizes = dict(zip("abc", own, strict=True)) | {"L": blocks}
    derived = derive(lambda changes: table({**sizes, **changes}), sizes)
    assert derived.held == {}
    for point in points:
        at = dict(zip("abcL", point, strict=True))
        assert evaluated(derived, at) == total_of(table(at))
