from __future__ import annotations

from msgspec import Struct

from tonnage.analyses.deferred import asked, deferring


class Result(Struct, frozen=True, kw_only=True, dict=True):
    total: int


def test_nothing_is_asked_before_somebody_asks():
    calls = []
    result = deferring(Result(total=3), lambda: calls.append(None) or "form")
    assert calls == []
    assert [asked(result), asked(result)] == ["form", "form"]
    assert len(calls) == 1


def test_an_answer_of_none_is_an_answer():
    calls = []
    result = deferring(Result(total=3), lambda: calls.append(None))
    assert (asked(result), asked(result), len(calls)) == (None, None, 1)


def test_without_a_source_there_is_nothing_to_ask():
    assert asked(Result(total=3)) is None


def test_a_source_is_no_part_of_the_value():
    assert deferring(Result(total=3), lambda: 1) == Result(total=3)
