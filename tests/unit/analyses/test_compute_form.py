"""Forms of work that is made by hand from batch, length and side."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tonnage.analyses.compute_form import PROOFS, Size, agreeing, derive_compute, image_steps
from tonnage.analyses.expressions import parse
from tonnage.analyses.side_form import Product
from tonnage.errors import BadOption

BATCH, SEQ, DECODER = Size("B", "batch", 2), Size("S", "seq", 128), Size("T", "decoder_seq", 16)
SIDE = Size("n", "image_size", 224, image_steps())


def derived(work, *sizes):
    """The form of `work`, whose arguments are the letters of `sizes`."""

    def products(point):
        found = work(**point)
        return None if found is None else [Product(found, 0)]

    return derive_compute(products, list(sizes))


def bert(B, S):
    return B * (84934656 * S + 18432 * S**2 + 589824)


def test_bert():
    form = derived(bert, BATCH, SEQ)
    assert form.formula == "B*(84934656*S + 18432*S^2 + 589824)"
    assert form.proved and len(form.proofs) == PROOFS
    assert form.held == {} and form.steps == []
    assert all(proof.counted == bert(**proof.changes) for proof in form.proofs)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 10**6), min_size=6, max_size=6), st.integers(1, 9), st.integers(1, 300), st.data())
def test_every_quadratic_in_lengths(numbers, batch, seq, data):
    def work(B, S, T):
        return 1 + B * sum(c * term for c, term in zip(numbers, (1, S, T, S * S, T * T, S * T), strict=True))

    form = derived(work, Size("B", "batch", batch), Size("S", "seq", seq), DECODER)
    assert form.proved and form.held == {}
    sizes = {letter: data.draw(st.integers(1, 4096)) for letter in "BST"}
    assert form.evaluate(**sizes) == work(**sizes)


@pytest.mark.parametrize(("batch", "seq"), [(1, 1), (1, 2), (3, 5), (7, 7)])
def test_small_sizes_are_enough_to_derive_from(batch, seq):
    form = derived(bert, Size("B", "batch", batch), Size("S", "seq", seq))
    assert form.formula == "B*(84934656*S + 18432*S^2 + 589824)"


def test_patches_are_a_polynomial_in_steps():
    """16 pixels to a side of a patch, and 14 of them for 224."""

    def work(B, n):
        patches = (n // 16) ** 2 + 1
        return B * (768 * patches + 2 * patches**2)

    form = derived(work, BATCH, SIDE)
    assert form.proved
    (step,) = form.steps
    assert step.symbol == "n" and step.step % 16 == 0 and step.offset % 16 == 0
    for side in range(step.step, 2000, step.step):
        assert form.evaluate(B=3, n=side + step.offset) == work(3, side + step.offset)
    with pytest.raises(BadOption, match=f"n/{step.step} is a whole number"):
        form.evaluate(n=225)


def test_steps_with_an_offset():
    """EfficientNet's 300 pixels are 9 times 32 and 12 more: what the form says holds for such sides alone."""

    def work(B, n):
        return B * (n // 32) ** 2

    form = derived(work, BATCH, Size("n", "image_size", 300, image_steps()))
    (step,) = form.steps
    assert 300 % step.step == step.offset
    for side in range(step.offset or step.step, 900, step.step):
        assert form.evaluate(B=5, n=side) == work(5, side)
    other = 300 + step.step // 2 or 1
    with pytest.raises(BadOption, match="whole number"):
        form.evaluate(n=other)


def test_what_is_no_polynomial_is_held():
    form = derived(lambda B, S: B * -(-S // 8) * 8, BATCH, Size("S", "seq", 20))
    assert form.held == {"S": "the work at other seqs is no polynomial of it"}
    assert form.formula == "24*B" and form.proved
    with pytest.raises(BadOption, match="no 'S'"):
        form.evaluate(S=20)


def test_a_lie_that_only_the_proof_sees_holds_the_size():
    """Windows of 512 tokens: beyond them there is less to do."""

    def work(B, S):
        return B * S * min(S, 150)

    form = derived(work, BATCH, SEQ)
    assert "S" in form.held
    assert form.proved and form.evaluate(B=7) == work(7, 128)


@pytest.mark.parametrize("bad", [(3, 100), (4, 255), (1, 1)])
def test_an_unproved_form_is_never_called_proved(bad):
    """Whatever the one wrong size is: either nobody looked there, or its size is held."""

    def work(B, S):
        return bert(B, S) + ((B, S) == bad)

    form = derived(work, BATCH, SEQ)
    assert all(proof.holds for proof in form.proofs)
    assert all(work(**{"B": 2, "S": 128, **proof.changes}) == proof.counted for proof in form.proofs)


def test_a_size_that_nothing_follows():
    form = derived(lambda B, S: 12 * S, BATCH, SEQ)
    assert form.formula == "12*S" and form.evaluate(B=100, S=2) == 24


def test_no_work_at_all():
    form = derived(lambda B: 0, BATCH)
    assert form.formula == "0" and form.evaluate(B=4) == 0


def test_a_model_that_takes_some_sizes_only():
    """Up to 130 positions, and no odd batch."""

    def work(B, S):
        return bert(B, S) if B % 2 == 0 and S <= 130 else None

    form = derived(work, Size("B", "batch", 8), SEQ)
    assert form.formula == "B*(84934656*S + 18432*S^2 + 589824)"
    assert form.proved
    assert all(proof.changes["S"] <= 130 for proof in form.proofs)


def test_a_model_that_cannot_be_run_again():
    form = derived(lambda B: None, BATCH)
    assert (form.formula, form.proved) == ("", False)
    assert form.reason == "the model could not be run a second time"
    with pytest.raises(BadOption, match="no closed form"):
        form.evaluate(B=2)


def test_each_size_is_counted_once():
    seen = []

    def work(B, S):
        seen.append((B, S))
        return bert(B, S)

    derived(work, BATCH, SEQ)
    assert len(seen) - len(set(seen)) <= 1, "but for the very first"


def test_evaluation_by_letter_and_by_name():
    form = derived(bert, BATCH, SEQ)
    assert form.evaluate(batch=8, seq=512) == form.evaluate(B=8, S=512) == form.evaluate(B=8, seq=512) == bert(8, 512)
    assert form.evaluate() == bert(2, 128)
    assert parse(form.formula).evaluate({"B": 8, "S": 512}) == bert(8, 512)


@pytest.mark.parametrize(
    "wrong", [{"S": 0}, {"S": -1}, {"S": True}, {"S": 1.5}, {"S": "8"}, {"T": 3}, {"hidden_size": 8}]
)
def test_what_makes_no_sense(wrong):
    with pytest.raises(BadOption) as caught:
        derived(bert, BATCH, SEQ).evaluate(**wrong)
    assert caught.value.hint


def test_a_form_that_does_not_give_what_was_recorded_is_none():
    form = derived(bert, BATCH, SEQ)
    assert agreeing(form, bert(2, 128)) == form
    other = agreeing(form, bert(2, 128) + 1)
    assert other.formula == "" and f"{bert(2, 128) + 1:,}" in other.reason


@pytest.mark.parametrize(("value", "step"), [(1, 1), (5, 1), (8, 1), (128, 1), (224, 32), (224, 14), (20, 32)])
def test_levels_begin_with_the_models_own_and_are_positive(value, step):
    levels = Size("x", "x", value).levels(step)
    assert levels[0] == value and min(levels) >= 1 and len(set(levels)) == len(levels) >= 3
    assert all((level - value) % step == 0 for level in levels)
