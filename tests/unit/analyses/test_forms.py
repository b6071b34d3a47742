"""Forms as values: what they say at other sizes, and where they refuse to."""

from __future__ import annotations

from fractions import Fraction

import msgspec
import pytest

from tonnage.analyses.forms import ComputeForm, ParameterForm, Proof, Step, Symbol
from tonnage.errors import BadOption


def changed(form, **changes):
    return msgspec.structs.replace(form, **changes)


@pytest.fixture
def bert(forms):
    return forms["bert-base-uncased"]


def test_the_model_itself(forms):
    assert [form.evaluate() for form in forms.values()] == [60_506_624, 109_482_240, 138_357_544]


def test_by_field_and_by_letter(bert):
    """BERT-large, 335,141,888: Devlin et al. say 340M."""
    large = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24}
    assert bert.evaluate(**large) == bert.evaluate(H=1024, F=4096, num_hidden_layers=24) == 335_141_888


def test_terms_are_those_of_the_components(bert):
    terms = bert.terms(hidden_size=4, vocab_size=10)
    assert len(terms) == len(bert.components)
    assert terms[0] == 10 * 4
    assert sum(terms) == bert.evaluate(hidden_size=4, vocab_size=10)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"width": 3}, "no field 'width'"),
        ({"hidden_size": 0}, "at least 1"),
        ({"hidden_size": -4}, "at least 1"),
        ({"hidden_size": 1.5}, "whole number"),
        ({"hidden_size": "8"}, "whole number"),
        ({"hidden_size": True}, "whole number"),
        ({"hidden_size": None}, "whole number"),
    ],
)
def test_what_makes_no_sense(bert, fields, message):
    with pytest.raises(BadOption, match=message) as caught:
        bert.evaluate(**fields)
    assert caught.value.hint


def test_held_sizes(bert):
    held = changed(bert, held={"hidden_size": "no polynomial of it counts what follows it"})
    assert held.evaluate(hidden_size=768) == bert.total
    with pytest.raises(BadOption, match="hidden_size=768 alone: no polynomial"):
        held.evaluate(hidden_size=769)


def test_settings(bert):
    held = changed(bert, settings={"bias": "True"})
    assert held.evaluate(bias=True) == bert.total
    with pytest.raises(BadOption, match="bias=True, not False"):
        held.evaluate(bias=False)


def test_switches(bert):
    switched = changed(bert, settings={"bias": "True", "tied": "False"}, switches={"bias": "-L*H", "tied": "-V*H"})
    assert switched.evaluate(bias=False) == bert.total - 12 * 768
    assert switched.evaluate(bias=False, num_hidden_layers=1) == bert.evaluate(num_hidden_layers=1) - 768
    assert switched.evaluate(bias=True, tied=False) == bert.total
    with pytest.raises(BadOption, match="bias and tied"):
        switched.evaluate(bias=False, tied=True)


def test_moves(bert):
    moving = changed(bert, sizes={**bert.sizes, "word_embed": 384}, moves={"word_embed": "hidden_size"})
    assert moving.evaluate(hidden_size=64, word_embed=32) == bert.evaluate(hidden_size=64)
    for fields in ({"hidden_size": 64}, {"word_embed": 32}, {"hidden_size": 64, "word_embed": 64}):
        with pytest.raises(BadOption, match="proportion"):
            moving.evaluate(**fields)


def test_whole_parts(bert):
    whole = changed(bert, whole=["H/12"])
    assert whole.evaluate(hidden_size=24) == bert.evaluate(hidden_size=24)
    with pytest.raises(BadOption, match="H/12 is a whole number, and it would be 25/12"):
        whole.evaluate(hidden_size=25)


def test_apart(bert):
    apart = changed(bert, apart=[("hidden_size", "intermediate_size")])
    assert apart.evaluate(hidden_size=64) == bert.evaluate(hidden_size=64)
    for fields in ({"hidden_size": 3072}, {"intermediate_size": 768}, {"H": 5, "F": 5}):
        with pytest.raises(BadOption, match="differ"):
            apart.evaluate(**fields)


def test_least(bert):
    least = changed(bert, least={"num_hidden_layers": 2})
    assert least.evaluate(num_hidden_layers=2) == bert.evaluate(num_hidden_layers=2)
    with pytest.raises(BadOption, match="from num_hidden_layers=2 on"):
        least.evaluate(num_hidden_layers=1)


def test_definitions(bert):
    """F is 4*H unless it is given."""
    symbols = [changed(s, definition="4*H") if s.symbol == "F" else s for s in bert.symbols]
    following = changed(bert, symbols=symbols)
    assert following.evaluate() == bert.total
    assert following.evaluate(hidden_size=64) == bert.evaluate(hidden_size=64, intermediate_size=256)
    assert following.evaluate(hidden_size=64, intermediate_size=9) == bert.evaluate(hidden_size=64, intermediate_size=9)


@pytest.mark.parametrize(("definition", "value"), [("floor(H/7)", 9), ("ceil(H/7)", 10)])
def test_rounded_definitions(bert, definition, value):
    symbols = [changed(s, definition=definition) if s.symbol == "F" else s for s in bert.symbols]
    found = changed(bert, symbols=symbols).evaluate(hidden_size=64)
    assert found == bert.evaluate(hidden_size=64, intermediate_size=value)


def test_a_definition_that_gives_no_whole_number(bert):
    symbols = [changed(s, definition="H/7") if s.symbol == "F" else s for s in bert.symbols]
    with pytest.raises(BadOption, match="H/7 would be 64/7"):
        changed(bert, symbols=symbols).evaluate(hidden_size=64)


def test_a_form_without_symbols_knows_only_itself(bert):
    plain = changed(bert, formula="", symbols=[], sizes={}, components=[], reason="nothing says")
    with pytest.raises(BadOption, match="no field"):
        plain.evaluate(hidden_size=3)


@pytest.mark.parametrize(
    ("proofs", "proved"),
    [
        ([], False),
        ([(3, 3)], True),
        ([(3, 3), (4, 5)], False),
    ],
)
def test_what_counts_as_proved(bert, proofs, proved):
    made = [Proof(changes={"hidden_size": 1}, predicted=p, counted=c) for p, c in proofs]
    assert changed(bert, proofs=made).proved is proved


def test_a_form_survives_its_json(forms):
    for form in forms.values():
        assert msgspec.json.decode(msgspec.json.encode(form), type=ParameterForm) == form


@pytest.mark.parametrize(("offset", "text"), [(0, "n/32"), (12, "(n - 12)/32")])
def test_steps(offset, text):
    form = ComputeForm(
        formula="B*n^2",
        latex="",
        symbols=[Symbol(symbol="B", field="batch", value=1), Symbol(symbol="n", field="image_size", value=224)],
        steps=[Step(symbol="n", step=32, offset=offset)],
        proofs=[],
        held={},
    )
    assert str(form.steps[0]) == text
    assert form.evaluate(n=320 + offset) == (320 + offset) ** 2
    with pytest.raises(BadOption, match="whole number"):
        form.evaluate(n=321 + offset)


def test_terms_are_exact(bert):
    assert all(isinstance(term, Fraction) for term in bert.terms())
