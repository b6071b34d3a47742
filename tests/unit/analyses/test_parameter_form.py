"""Whole forms of models made by hand, and forms that must not be believed."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from math import ceil, prod

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tonnage.analyses.closed_form.search import Question
from tonnage.analyses.expressions import parse
from tonnage.analyses.parameter_form import derive_form
from tonnage.errors import BadOption
from tonnage.trace import Module

Table = dict[str, tuple[int, ...]]


def question(sizes, table, **more):
    return Question(sizes=sizes, ask=lambda changes: table({**sizes, **more.get("flags", {}), **changes}), **more)


def count(table: Table) -> int:
    return sum(map(prod, table.values()))


def decoder(s: Mapping[str, int]) -> Table | None:
    """Grouped heads of a size of their own, a gated feed-forward, a norm for each and at the end; a head if untied."""
    if s["num_attention_heads"] % s["num_key_value_heads"]:
        return None
    H, d, F = s["hidden_size"], s["head_dim"], s["intermediate_size"]
    table: Table = {"embed.weight": (s["vocab_size"], H)}
    for n in range(s["num_hidden_layers"]):
        layer = f"layers.{n}"
        table[f"{layer}.q.weight"] = table[f"{layer}.o.weight"] = (s["num_attention_heads"] * d, H)
        table[f"{layer}.k.weight"] = table[f"{layer}.v.weight"] = (s["num_key_value_heads"] * d, H)
        table[f"{layer}.gate.weight"] = table[f"{layer}.up.weight"] = table[f"{layer}.down.weight"] = (F, H)
        table[f"{layer}.norm1.weight"] = table[f"{layer}.norm2.weight"] = (H,)
    table["norm.weight"] = (H,)
    if not s.get("tied", True):
        table["head.weight"] = (s["vocab_size"], H)
    return table


DECODER = {
    "vocab_size": 100,
    "hidden_size": 512,
    "num_hidden_layers": 6,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "intermediate_size": 1024,
}


def by_hand(s: Mapping[str, int]) -> int:
    H, F, d = s["hidden_size"], s["intermediate_size"], s["head_dim"]
    attention = 2 * s["num_attention_heads"] * d * H + 2 * s["num_key_value_heads"] * d * H
    return s["vocab_size"] * H + H + s["num_hidden_layers"] * (attention + 3 * H * F + 2 * H)


@pytest.fixture(scope="module")
def decoder_form():
    return derive_form(question(DECODER, decoder, flags={"tied": True}), [Module("layers.0.q", "Linear")])


def test_the_formula_of_a_decoder(decoder_form):
    """512 = 8*64 is told apart from the width."""
    form = decoder_form
    assert form.formula == "V*H + H + L*(2*h*d*H + 2*g*d*H + 3*H*F + 2*H)"
    assert form.substituted == "100*512 + 512 + 6*(2*8*64*512 + 2*2*64*512 + 3*512*1024 + 2*512)"
    assert form.latex == r"V H + H + L \left(2 h d H + 2 g d H + 3 H F + 2 H\right)"
    assert [(s.symbol, s.field, s.value) for s in form.symbols][:2] == [
        ("V", "vocab_size", 100),
        ("H", "hidden_size", 512),
    ]
    assert form.total == by_hand(DECODER) == parse(form.substituted).evaluate({})
    assert form.proved and form.held == form.moves == form.least == {} and form.whole == form.apart == []


def test_its_components(decoder_form):
    """One row for each kind of part, all its repeats together."""
    rows = {c.path: c for c in decoder_form.components}
    assert list(rows) == [
        "embed",
        "layers.{0-5}.{q,o}",
        "layers.{0-5}.{k,v}",
        "layers.{0-5}.{gate,up,down}",
        "layers.{0-5}.{norm1,norm2}",
        "norm",
    ]
    q = rows["layers.{0-5}.{q,o}"]
    assert (q.formula, q.substituted, q.times, q.parameters) == ("2*h*d*H", "2*8*64*512", "L", ["weight"])
    assert (q.each, q.repeats, q.total) == (2 * 512 * 512, 6, 12 * 512 * 512)
    assert (q.kind, q.arithmetic, q.worked) == ("Linear", "2*in*out", "2*512*512")
    assert sum(c.total for c in decoder_form.components) == decoder_form.total
    assert all(c.each * c.repeats == c.total for c in decoder_form.components)


@settings(max_examples=60, deadline=None)
@given(st.fixed_dictionaries({}, optional={name: st.integers(1, 3000) for name in DECODER}))
def test_it_holds_everywhere(decoder_form, changes):
    assert decoder_form.evaluate(**changes) == by_hand({**DECODER, **changes})


def test_a_flag_that_adds_a_head(decoder_form):
    assert decoder_form.settings == {"tied": "True"}
    assert decoder_form.switches == {"tied": "V*H"}
    untied = decoder_form.evaluate(tied=False, vocab_size=7, hidden_size=3)
    assert untied - decoder_form.evaluate(vocab_size=7, hidden_size=3) == 7 * 3
    assert decoder_form.evaluate(tied=True) == decoder_form.total


# What stands in the way -----------------------------------------------------------------------------------------------


def test_a_model_that_nothing_is_known_of():
    form = derive_form(Question(sizes={}, ask=lambda changes: {"w": (3, 4)}), [])
    assert (form.formula, form.proofs, form.total) == ("", [], 12)
    assert not form.proved
    assert form.reason == "nothing says which sizes the model was built from"
    assert form.evaluate() == 12


def test_sizes_of_which_none_can_be_varied():
    form = derive_form(Question(sizes={"H": 3}, ask=lambda changes: None if changes else {"w": (3, 4)}), [])
    assert (form.formula, form.held.keys()) == ("", {"H"})
    assert form.reason == "no size that it was built from could be varied"


def lies_about(sizes, honest, lie):
    """A form of what is `honest`, but for one parameter more where `lie` says so."""

    def table(s):
        made = honest(s)
        return {**made, "embed.weight": (*made["embed.weight"], 2)} if made and lie(s) else made

    return derive_form(question(sizes, table), [])


LIES = {
    "more layers than were looked at": (lambda s: s["num_hidden_layers"] > 9, {"num_hidden_layers"}),
    "few layers": (lambda s: s["num_hidden_layers"] < 3, {"num_hidden_layers"}),
    "a wide model": (lambda s: s["hidden_size"] > 1024, {"hidden_size"}),
    "a narrow one": (lambda s: s["hidden_size"] < 300, {"hidden_size"}),
    "odd tokens": (lambda s: s["vocab_size"] % 4 == 2, {"vocab_size"}),
    "two sizes at once": (
        lambda s: s["head_dim"] > 64 and s["intermediate_size"] > 1024,
        {"head_dim", "intermediate_size"},
    ),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_is_never_proved(lie):
    lies, guilty = LIES[lie]
    form = lies_about(DECODER, decoder, lies)
    assert guilty & (form.held.keys() | form.least.keys()) or not form.proved
    for changes in ({"num_hidden_layers": 12}, {"num_hidden_layers": 1}, {"hidden_size": 4096}, {"hidden_size": 100}):
        s = {**DECODER, **changes}
        try:
            found = form.evaluate(**changes)
        except BadOption:
            continue
        assert found == by_hand(s) + lies(s) * s["vocab_size"] * s["hidden_size"], changes


def test_the_counterexample_is_the_reason():
    form = lies_about(DECODER, decoder, lambda s: s["num_hidden_layers"] > 9)
    assert form.held.keys() == {"num_hidden_layers"}
    assert "parameters, and a polynomial gives" in form.held["num_hidden_layers"]
    assert form.proved, "with the layers held, the others are proved"
    assert form.evaluate(hidden_size=64) == by_hand({**DECODER, "hidden_size": 64})
    with pytest.raises(BadOption, match="num_hidden_layers=6 alone"):
        form.evaluate(num_hidden_layers=7)


def test_more_layers_than_were_looked_at_of_another_kind():
    """From the eighth layer on they are wider, which no smaller model shows."""

    def table(s):
        return {f"layer.{n}.w": (s["H"] * (2 if n > 7 else 1),) for n in range(s["num_layers"])}

    form = derive_form(question({"H": 8, "num_layers": 4}, table), [])
    with pytest.raises(BadOption):
        form.evaluate(num_layers=9)
    assert form.evaluate(H=5) == 20


@settings(max_examples=40, deadline=None)
@given(st.integers(-2, 3), st.integers(-2, 3), st.integers(0, 3))
def test_what_cancels_by_chance_is_never_proved_wrong(a, b, c):
    """A shape in which a size drops out just where the model is: (H - 8)*F and the like."""

    def shape(s):
        return a * (s["H"] - 8) * s["F"] + b * (s["F"] - 6) * s["H"] + c * s["H"] * s["F"] + 4000

    def table(s):
        return {"w": (shape(s),)} if shape(s) > 0 else None

    form = derive_form(question({"H": 8, "F": 6}, table), [])
    for changes in ({"H": 16}, {"F": 12}, {"H": 24, "F": 12}, {"H": 3, "F": 2}, {"H": 11}, {"F": 7}):
        try:
            found = form.evaluate(**changes)
        except BadOption:
            continue
        assert not form.proved or found == shape({"H": 8, "F": 6, **changes}), (changes, form.formula)


def test_a_rounded_width():
    """Up to a multiple of 8, which no polynomial gives."""
    form = derive_form(question({"H": 20, "F": 6}, lambda s: {"w": (ceil(s["H"] / 8) * 8, s["F"])}), [])
    assert "H" in form.held
    assert form.evaluate(F=10) == 24 * 10
    with pytest.raises(BadOption, match="H=20 alone"):
        form.evaluate(H=21)


@pytest.mark.parametrize("H", [1, 2, 3, 5, 8])
def test_a_width_that_is_rounded_from_below_eight(H):
    """Here most of what is looked at is rounded to one number."""
    form = derive_form(question({"H": H, "F": 6}, lambda s: {"w": (ceil(s["H"] / 8) * 8, s["F"])}), [])
    assert form.total == 48
    for width in (1, 4, 9, 16, 17, 40, 100):
        try:
            found = form.evaluate(H=width)
        except BadOption:
            continue
        assert found == ceil(width / 8) * 8 * 6


# Sizes that follow, divide and exclude each other ---------------------------------------------------------------------


def heads(s):
    """Queries of h heads of H//h; keys of g of them."""
    size = s.get("head_dim") or s["hidden_size"] // s["num_heads"]
    return {
        "q.weight": (s["num_heads"] * size, s["hidden_size"]),
        "k.weight": (s["num_kv_heads"] * size, s["hidden_size"]),
    }


HEADS = {"hidden_size": 64, "num_heads": 8, "num_kv_heads": 2}


def test_heads_divide_the_width():
    form = derive_form(question(HEADS, heads), [])
    assert form.whole == ["H/h"]
    assert form.evaluate(num_heads=16, num_kv_heads=4, hidden_size=48) == 48 * 48 + 4 * 3 * 48
    with pytest.raises(BadOption, match="H/h"):
        form.evaluate(hidden_size=48, num_heads=36, num_kv_heads=12)  # g*H/h = 16, and heads of 1 make 36 queries


def test_a_head_size_that_is_floored_unless_it_is_given():
    form = derive_form(
        question(
            HEADS,
            heads,
            following={"head_dim": 8},
            follow=lambda c: {
                "head_dim": c.get("head_dim") or (HEADS | dict(c))["hidden_size"] // (HEADS | dict(c))["num_heads"]
            },
        ),
        [],
    )
    assert [s.definition for s in form.symbols if s.field == "head_dim"] == ["floor(H/h)"]
    assert form.least == {} and form.held == {}
    assert form.evaluate(hidden_size=50) == 8 * 6 * 50 + 2 * 6 * 50
    assert form.evaluate(num_heads=1) == 64 * 64 + 2 * 64 * 64
    assert form.evaluate(hidden_size=50, head_dim=7) == 8 * 7 * 50 + 2 * 7 * 50


def electra(s):
    """A projection from the embedding to the width, which is not there where they are equal."""
    projection = {"project.weight": (s["E"], s["H"])} if s["E"] != s["H"] else {}
    return {"embed.weight": (100, s["E"]), "mix.weight": (s["H"], s["H"]), **projection}


def test_sizes_that_must_not_be_equal():
    form = derive_form(question({"E": 12, "H": 24}, electra), [])
    assert form.evaluate(E=7) == 100 * 7 + 24 * 24 + 7 * 24
    assert form.apart == [("E", "H")]
    for changes in ({"E": 24}, {"H": 12}, {"E": 50, "H": 50}):
        with pytest.raises(BadOption, match="differ"):
            form.evaluate(**changes)


def test_a_projection_like_others_that_stay():
    """A shortcut in each of two stages where their widths differ, as in ResNet: the kinds of parts stay the same."""

    def table(s):
        widths = [s["embedding_size"], s["hidden_sizes[0]"], s["hidden_sizes[1]"]]
        made = {f"stages.{n}.mix.weight": (wide, wide) for n, wide in enumerate(widths[1:])}
        shortcuts = enumerate(pairwise(widths))
        return made | {f"stages.{n}.shortcut.weight": pair for n, pair in shortcuts if pair[0] != pair[1]}

    form = derive_form(question({"embedding_size": 8, "hidden_sizes[0]": 32, "hidden_sizes[1]": 60}, table), [])
    assert form.held == {} and form.proved
    assert form.evaluate(embedding_size=5) == 32 * 32 + 60 * 60 + 5 * 32 + 32 * 60
    with pytest.raises(BadOption, match="differ"):
        form.evaluate(embedding_size=32)


def test_sizes_that_are_equal_move_together():
    form = derive_form(question({"E": 24, "H": 24}, electra), [])
    assert form.moves == {"E": "H"}
    assert form.evaluate(E=10, H=10) == 100 * 10 + 10 * 10
    with pytest.raises(BadOption, match="proportion"):
        form.evaluate(E=10)


def test_two_flags_at_once_are_refused():
    def table(s):
        bias = {"bias": (s["H"],)} if s["bias"] else {}
        norm = {"norm": (s["H"],)} if s["norm_bias"] else {}
        return {"w": (s["H"], 3), **bias, **norm}

    form = derive_form(question({"H": 8}, table, flags={"bias": True, "norm_bias": False}), [])
    assert form.switches == {"bias": "-H", "norm_bias": "H"}
    assert form.evaluate(bias=False, H=5) == 15
    assert form.evaluate(norm_bias=True, H=5) == 25
    with pytest.raises(BadOption, match="bias and norm_bias"):
        form.evaluate(bias=False, norm_bias=True)


def test_a_flag_that_changes_nothing_is_no_setting():
    form = derive_form(question({"H": 8}, lambda s: {"w": (s["H"],)}, flags={"use_cache": True}), [])
    assert form.settings == form.switches == {}


def test_a_flag_whose_other_value_follows_more_is_a_setting_alone():
    def table(s):
        return {"w": (s["H"], 3), **({"a": (s["H"], s["rank"])} if s["adapted"] else {})}

    form = derive_form(question({"H": 8, "rank": 4}, table, flags={"adapted": False}), [])
    assert form.settings == {"adapted": "False"} and form.switches == {}
    with pytest.raises(BadOption, match="adapted=False"):
        form.evaluate(adapted=True)


def test_aliases():
    form = derive_form(question({"n_embd": 8}, lambda s: {"w": (s["n_embd"],)}, aliases={"hidden_size": "n_embd"}), [])
    assert form.evaluate(hidden_size=5) == form.evaluate(n_embd=5) == form.evaluate(H=5) == 5


def test_a_list_may_be_given_whole():
    sizes = {"depths[0]": 2, "depths[1]": 3, "dims[0]": 4, "dims[1]": 8}

    def table(s):
        return {f"stage.{i}.block.{n}.w": (s[f"dims[{i}]"],) for i in range(2) for n in range(s[f"depths[{i}]"])}

    form = derive_form(question(sizes, table), [])
    assert form.evaluate(depths=[1, 5], dims=(3, 7)) == 1 * 3 + 5 * 7
    assert form.evaluate(**{"depths[1]": 9}) == 2 * 4 + 9 * 8


def test_a_part_of_the_config_may_be_given_whole():
    form = derive_form(question({"text.H": 8, "text.F": 4}, lambda s: {"w": (s["text.H"], s["text.F"])}), [])
    assert form.evaluate(text={"H": 3, "F": 5}) == 15


def test_deriving_twice_gives_the_same(decoder_form):
    again = derive_form(question(DECODER, decoder, flags={"tied": True}), [Module("layers.0.q", "Linear")])
    assert again == decoder_form


# More shapes of tables ------------------------------------------------------------------------------------------------


def experts(s):
    """A router, and experts one by one in each layer, shared ones of a width of their own."""
    table = {}
    for layer in range(s["num_layers"]):
        table[f"layers.{layer}.router.weight"] = (s["num_experts"], s["H"])
        table[f"layers.{layer}.shared.up.weight"] = (s["F_s"], s["H"])
        for n in range(s["num_experts"]):
            table[f"layers.{layer}.experts.{n}.up.weight"] = (s["F"], s["H"])
            table[f"layers.{layer}.experts.{n}.up.bias"] = (s["F"],)
    return table


def test_experts():
    form = derive_form(question({"num_layers": 3, "num_experts": 4, "H": 8, "F": 16, "F_s": 12}, experts), [])
    assert form.proved
    for L, E, H, F, S in [(1, 1, 1, 1, 1), (2, 64, 5, 3, 9), (12, 8, 16, 16, 16), (7, 3, 100, 1, 2)]:
        expected = L * (E * H + S * H + E * (F * H + F))
        assert form.evaluate(num_layers=L, num_experts=E, H=H, F=F, F_s=S) == expected


def pooled(s):
    """A head of three quarters of the width, and tables whose rows are two more than there are positions."""
    return None if s["H"] % 4 else {"pool": (3 * s["H"] // 4, s["H"]), "positions": (s["P"] + 2, s["H"])}


def test_fractions_and_offsets():
    form = derive_form(question({"H": 16, "P": 30}, pooled), [])
    assert form.proved and form.whole == ["3*H/4"]
    assert form.evaluate(H=40, P=1) == 30 * 40 + 3 * 40
    with pytest.raises(BadOption, match="3\\*H/4"):
        form.evaluate(H=6)
