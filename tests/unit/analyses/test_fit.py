"""Verdicts around their boundaries. The card is given so much memory that the room for the allocator is known:
the context is 100 MiB (80 to 150), so a card of 250 MiB leaves 150 MiB, at least 100 and at most 170."""

from __future__ import annotations

import pytest

from tonnage.allocator import Settings
from tonnage.analyses.fit import judge
from tonnage.gpus import find_card
from tonnage.ledger import Category, Kind

MiB = 2**20


def verdict_on(recording, total, settings=None):
    return judge(recording, find_card("T4").with_total_memory(total), settings or Settings())


def hold(recording, size):
    recording.ledger.mark("start")
    recording.ledger.alloc(size, op=0, category=Category.PARAMETER)


@pytest.mark.parametrize(
    "size, answer",
    [
        (100 * MiB, "fits"),  # just what is left where the context takes most
        (102 * MiB, "tight"),
        (170 * MiB, "tight"),  # just what is left where it takes least
        (172 * MiB, "does not fit"),
    ],
)
def test_boundaries(recording, size, answer):
    hold(recording, size)
    verdict, _ = verdict_on(recording, 250 * MiB)
    assert verdict.answer == answer
    assert verdict.needed_bytes == size + 100 * MiB
    assert verdict.headroom_bytes == 150 * MiB - size
    assert (verdict.headroom_low, verdict.headroom_high) == (100 * MiB - size, 170 * MiB - size)


@pytest.mark.parametrize("size, runs_out", [(150 * MiB, False), (152 * MiB, True)])
def test_it_says_where_the_typical_card_runs_out(recording, size, runs_out):
    hold(recording, size)
    verdict, _ = verdict_on(recording, 250 * MiB)
    assert verdict.runs_out == ("forward, layer.0, aten.mm.default, after 'start'" if runs_out else "")


def test_a_card_too_small_for_its_own_context(recording):
    hold(recording, 512)
    verdict, _ = verdict_on(recording, 50 * MiB)
    assert verdict.answer == "does not fit"
    assert verdict.headroom_bytes == 50 * MiB - 100 * MiB - 2 * MiB
    assert not verdict.fits


def frees_then_needs_more(recording):
    """40 MiB freed, then 60 MiB: without a limit 100 MiB are reserved, within one the 40 are given back."""
    recording.ledger.mark("start")
    recording.ledger.free(recording.ledger.alloc(40 * MiB))
    recording.ledger.alloc(60 * MiB)


def test_cached_blocks_are_given_back_before_it_does_not_fit(recording):
    # GIVEN room for 70 MiB, at least 20 and at most 90
    frees_then_needs_more(recording)
    verdict, timeline = verdict_on(recording, 170 * MiB)
    # THEN 60 MiB are the least it runs in, and the card would never show more than that
    assert verdict.gives_back
    assert verdict.needed_bytes == 160 * MiB
    assert verdict.headroom_bytes == 10 * MiB
    assert verdict.answer == "tight"
    assert verdict.runs_out == ""
    assert max(timeline.reserved) == 60 * MiB


def test_with_room_enough_nothing_is_given_back(recording):
    frees_then_needs_more(recording)
    verdict, timeline = verdict_on(recording, 250 * MiB)
    assert not verdict.gives_back
    assert verdict.needed_bytes == 200 * MiB
    assert max(timeline.reserved) == 100 * MiB


def test_what_does_not_fit_is_shown_as_if_there_were_no_limit(recording):
    frees_then_needs_more(recording)
    verdict, timeline = verdict_on(recording, 120 * MiB)
    assert verdict.answer == "does not fit"
    assert verdict.headroom_bytes == -40 * MiB
    assert timeline.out_of_memory is None
    assert max(timeline.reserved) == 100 * MiB


def test_the_headroom_is_what_can_still_be_allocated(recording):
    # A second method: with the headroom as one more block the typical card still runs, with 2 MiB more it does not.
    frees_then_needs_more(recording)
    verdict, _ = verdict_on(recording, 170 * MiB)
    recording.ledger.alloc(verdict.headroom_bytes)
    assert verdict_on(recording, 170 * MiB)[0].runs_out == ""
    recording.ledger.alloc(2 * MiB)
    assert verdict_on(recording, 170 * MiB)[0].runs_out


def test_a_fraction_of_the_card_is_all_that_may_be_used(recording):
    # Half of 400 MiB, of which the context takes nothing: the fraction limits the allocator alone.
    hold(recording, 202 * MiB)
    settings = Settings.parse("per_process_memory_fraction:0.5")
    verdict, timeline = verdict_on(recording, 400 * MiB, settings)
    assert verdict.answer == "does not fit"
    assert verdict.headroom_bytes == -2 * MiB
    assert verdict.available_bytes - verdict.needed_bytes == verdict.headroom_bytes
    assert verdict.runs_out
    assert timeline.out_of_memory is None


def test_memory_that_nobody_checked_is_called_assumed(recording):
    hold(recording, 512)
    assert verdict_on(recording, 250 * MiB)[0].total_known == "assumed"
    assert judge(recording, find_card("T4"), Settings())[0].total_known == "measured"


def test_the_whole_range_of_the_card_counts(recording):
    hold(recording, 512)
    card = find_card("T4")
    verdict, _ = judge(recording, card, Settings())
    assert (verdict.total_low, verdict.total_high) == (card.total_memory.low, card.total_memory.high)
    assert verdict.headroom_low == card.total_memory.low - 150 * MiB - 2 * MiB
    assert verdict.headroom_high == card.total_memory.high - 80 * MiB - 2 * MiB


def test_empty_cache_lowers_what_is_needed(recording):
    recording.ledger.mark("start")
    recording.ledger.free(recording.ledger.alloc(40 * MiB))
    recording.ledger.note(Kind.EMPTY_CACHE)
    recording.ledger.alloc(60 * MiB)
    verdict, _ = verdict_on(recording, 250 * MiB)
    assert verdict.needed_bytes == 160 * MiB
    assert not verdict.gives_back
