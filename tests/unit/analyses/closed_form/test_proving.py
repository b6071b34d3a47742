"""A form that is wrong has to be found out."""

from __future__ import annotations

from math import prod

import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st

from tonnage.analyses.closed_form.derive import derive
from tonnage.analyses.closed_form.proving import PROOFS, prove, prove_alone

SYMBOLS = {name: sympy.Symbol(name, positive=True, integer=True) for name in "VHLF"}
V, H, L, F = SYMBOLS.values()
TRUE = V * H + L * (F * H + F) + (L - 1) * H + 3 * H


def predicting(model, expression):
    def predict(changes):
        sizes = {**model.sizes, **changes}
        return int(expression.xreplace({SYMBOLS[name]: sympy.Integer(size) for name, size in sizes.items()}))

    return predict


def test_trials_of_a_right_form(small_encoder):
    derived = derive(small_encoder.ask, small_encoder.sizes)
    trials = prove(derived, small_encoder.ask, predicting(small_encoder, TRUE))
    assert len(trials) >= PROOFS
    assert all(trial.predicted == trial.counted == small_encoder.count(**trial.changes) for trial in trials)
    assert len({tuple(sorted(trial.changes.items())) for trial in trials}) == len(trials)
    assert sum(len(trial.changes) > 1 for trial in trials) >= 4, "several sizes at once"
    own = (small_encoder.sizes.items(),)
    assert all(not trial.changes.items() & items for trial in trials for items in own)


def test_trials_are_the_same_every_time(small_encoder):
    derived = derive(small_encoder.ask, small_encoder.sizes)
    first, second = (prove(derived, small_encoder.ask, predicting(small_encoder, TRUE)) for _ in range(2))
    assert first == second


def test_one_is_of_more_blocks_than_were_looked_at(small_encoder):
    derived = derive(small_encoder.ask, small_encoder.sizes)
    trials = prove_alone(derived, small_encoder.ask, predicting(small_encoder, TRUE))
    assert [trial.changes.keys() for trial in trials] == [{"L"}]
    assert trials[0].changes["L"] > 7, "5, 6 and 7 were looked at"
    assert trials[0].predicted == trials[0].counted


def test_what_a_form_was_derived_from_is_held_against_it(small_encoder):
    """Right at home and nowhere else."""
    derived = derive(small_encoder.ask, small_encoder.sizes)
    trials = prove_alone(derived, small_encoder.ask, predicting(small_encoder, TRUE + (H - 8)))
    assert {trial.changes["H"] for trial in trials if "H" in trial.changes} >= {16, 4}
    assert all(t.predicted != t.counted for t in trials if "H" in t.changes)


WRONG = [
    TRUE + 1,
    TRUE + (H - 8),
    TRUE + (F - 4 * H),
    TRUE.subs(F, 4 * H),
    TRUE + (L - 5) * H,
    TRUE + (V - 100) * (H - 8),
    TRUE + (L - 5) * (F - 32),
    TRUE - L * F * H + L * F * H**2 / 8,
]


@pytest.mark.parametrize("wrong", WRONG, ids=str)
def test_a_wrong_form_is_found_wrong(small_encoder, wrong):
    """All but the first give the right number for the model itself."""
    derived = derive(small_encoder.ask, small_encoder.sizes)
    trials = prove(derived, small_encoder.ask, predicting(small_encoder, wrong))
    assert any(trial.predicted != trial.counted for trial in trials)


@settings(max_examples=40, deadline=None)
@given(st.integers(-3, 3), st.integers(-3, 3), st.integers(-3, 3))
def test_every_form_that_is_right_at_home_alone_is_found_wrong(a, b, c):
    """Wrong by a multiple of what is nought for the model itself."""
    sizes = {"V": 100, "H": 8, "L": 5, "F": 32}

    def table(s):
        layers = {f"layer.{n}.w": (s["F"], s["H"]) for n in range(s["L"])}
        return {"embed": (s["V"], s["H"]), **layers}

    off = a * (H - 8) * F + b * (V - 100) * L + c * (F - 32) * (L - 5)
    right = V * H + L * F * H

    def predict(changes):
        at = {SYMBOLS[name]: sympy.Integer(size) for name, size in {**sizes, **changes}.items()}
        return int((right + off).xreplace(at))

    def ask(changes):
        return table({**sizes, **changes})

    trials = prove(derive(ask, sizes), ask, predict)
    assert any(trial.predicted != trial.counted for trial in trials) == ((a, b, c) != (0, 0, 0))


def test_one_table_that_deviates_at_one_of_the_configurations_is_enough(small_encoder):
    derived = derive(small_encoder.ask, small_encoder.sizes)
    honest = prove(derived, small_encoder.ask, predicting(small_encoder, TRUE))
    for trial in honest:

        def lying(changes, at=trial.changes):
            table = small_encoder.ask(changes)
            return {**table, "head.weight": (*table["head.weight"], 2)} if changes == at else table

        trials = prove(derived, lying, predicting(small_encoder, TRUE))
        wrong = [t for t in trials if t.predicted != t.counted]
        assert [t.changes for t in wrong] == [trial.changes]
        assert wrong[0].counted - wrong[0].predicted == prod(
            small_encoder.table({**small_encoder.sizes, **trial.changes})["head.weight"]
        )


def test_where_the_form_does_not_hold_nothing_is_proved(small_encoder):
    derived = derive(small_encoder.ask, small_encoder.sizes)
    assert prove(derived, small_encoder.ask, lambda changes: None) == []


def test_what_cannot_be_built_proves_nothing(small_encoder):
    derived = derive(small_encoder.ask, small_encoder.sizes)
    assert prove(derived, lambda changes: None, predicting(small_encoder, TRUE)) == []


def test_another_architecture_proves_nothing(small_encoder):
    """Where the norm is gone the form does not claim to hold."""
    derived = derive(small_encoder.ask, small_encoder.sizes)

    def without_norms(changes):
        table = small_encoder.ask(changes)
        return {name: shape for name, shape in table.items() if "norm" not in name or changes.get("H", 8) == 8}

    trials = prove(derived, without_norms, predicting(small_encoder, TRUE))
    assert trials and all(trial.predicted == trial.counted for trial in trials)
    assert all("H" not in trial.changes for trial in trials)
