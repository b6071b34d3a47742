from __future__ import annotations

from tonnage.analyses.place import place_of


def test_an_operator_in_a_module_between_two_marks(recording):
    recording.ledger.mark("inputs made")
    recording.ledger.alloc(512, op=0)
    recording.ledger.mark("forward done")
    place = place_of(recording, 1)
    assert (place.phase, place.module, place.operator) == ("forward", "layer.0", "aten.mm.default")
    assert (place.after, place.before) == ("inputs made", "forward done")
    assert str(place) == "forward, layer.0, aten.mm.default, between 'inputs made' and 'forward done'"


def test_an_allocation_of_no_operator_before_the_first_mark(recording):
    recording.ledger.alloc(512)
    recording.ledger.mark("model loaded")
    assert str(place_of(recording, 0)) == "before 'model loaded'"


def test_after_the_last_mark(recording):
    recording.ledger.mark("forward done")
    recording.ledger.alloc(512, op=0)
    assert str(place_of(recording, 1)) == "forward, layer.0, aten.mm.default, after 'forward done'"


def test_a_free_belongs_to_no_operator(recording):
    number = recording.ledger.alloc(512, op=0)
    recording.ledger.free(number)
    assert place_of(recording, 1).operator == ""


def test_a_mark_is_its_own_instant(recording):
    recording.ledger.mark("start")
    recording.ledger.mark("end")
    place = place_of(recording, 0)
    assert (place.after, place.before) == ("start", "end")
