"""The ledger, as tiny sequences of events."""

from __future__ import annotations

import pytest

from tonnage.ledger import NO_OP, Category, Kind, Ledger


def test_an_empty_ledger_is_in_order() -> None:
    ledger = Ledger()
    ledger.check()
    assert len(ledger) == 0 and ledger.live() == []


def test_what_is_alive_at_each_event() -> None:
    # GIVEN a, b, then a freed, then c
    ledger = Ledger()
    a, b = ledger.alloc(10), ledger.alloc(20)
    ledger.free(a)
    c = ledger.alloc(30)
    ledger.check()
    # THEN the living are those not yet freed, oldest first
    assert [ledger.live(at) for at in range(4)] == [[a], [a, b], [b], [b, c]]
    assert ledger.live() == [b, c]


def test_an_allocation_keeps_what_was_said_of_it() -> None:
    ledger = Ledger()
    number = ledger.alloc(10, stream=7, op=3)
    other = ledger.alloc(5)
    ledger.retag(number, Category.PARAMETER)
    assert (ledger.sizes[number], ledger.streams[number], ledger.ops[number]) == (10, 7, 3)
    assert Category(ledger.categories[number]) is Category.PARAMETER
    assert (ledger.ops[other], Category(ledger.categories[other])) == (NO_OP, Category.TEMPORARY)


def test_marks_and_notes_lie_between_the_events() -> None:
    ledger = Ledger()
    ledger.mark("start")
    ledger.alloc(1)
    ledger.note(Kind.EMPTY_CACHE)
    ledger.mark("end")
    ledger.check()
    assert ledger.mark_positions() == [("start", 0), ("end", 3)]
    assert [kind for kind, _ in ledger.events()] == [Kind.MARK, Kind.ALLOC, Kind.EMPTY_CACHE, Kind.MARK]


def twice_freed(ledger: Ledger) -> None:
    ledger.free(0)
    ledger.free(0)


def freed_before_birth(ledger: Ledger) -> None:
    ledger.free(1)


def short_column(ledger: Ledger) -> None:
    ledger.streams.pop()


def no_bytes(ledger: Ledger) -> None:
    ledger.sizes[0] = 0


def event_without_argument(ledger: Ledger) -> None:
    ledger.arguments.pop()


def mark_without_name(ledger: Ledger) -> None:
    ledger.mark("x")
    ledger.marks.clear()


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (twice_freed, "freed twice"),
        (freed_before_birth, "before it is born"),
        (short_column, "differ in length"),
        (no_bytes, "no bytes"),
        (event_without_argument, "differ in length"),
        (mark_without_name, "no name"),
    ],
)
def test_damage_is_found(damage, said: str) -> None:
    ledger = Ledger()
    ledger.alloc(1)
    damage(ledger)
    with pytest.raises(AssertionError, match=said):
        ledger.check()
