"""A ledger replayed."""

from __future__ import annotations

import pytest

from tonnage.allocator import Settings, replay, replay_unrounded
from tonnage.ledger import Category, Kind, Ledger
from tonnage.units import MiB


def test_an_empty_ledger():
    timeline = replay(Ledger())
    assert (len(timeline), timeline.peak_allocated, timeline.peak_reserved) == (0, 0, 0)
    assert timeline.out_of_memory is None
    with pytest.raises(IndexError):
        timeline.by_category(0)


def step():
    """11 MiB of weights for good (events 0), 6, 2 and 3 MiB that come and go, with marks between."""
    ledger = Ledger()
    ledger.alloc(11 * MiB, category=Category.PARAMETER)  # 0: block of 12 MiB, own segment
    first = ledger.alloc(6 * MiB, category=Category.ACTIVATION)  # 1: 18, segment of 20
    ledger.mark("forward done")  # 2
    second = ledger.alloc(2 * MiB)  # 3: 20
    ledger.free(first)  # 4: 14
    ledger.note(Kind.RESET_PEAK)  # 5
    third = ledger.alloc(3 * MiB, category=Category.GRADIENT)  # 6: 17, into the hole of 6
    ledger.free(second)  # 7: 15
    ledger.free(third)  # 8: 12
    ledger.note(Kind.EMPTY_CACHE)  # 9
    ledger.check()
    return ledger


def test_numbers_after_every_event():
    timeline = replay(step())
    assert [nbytes // MiB for nbytes in timeline.allocated] == [12, 18, 18, 20, 14, 14, 17, 15, 12, 12]
    assert [nbytes // MiB for nbytes in timeline.reserved] == [12, 32, 32, 32, 32, 32, 32, 32, 32, 12]
    assert [nbytes // MiB for nbytes in timeline.block_sizes] == [12, 6, 2, 3]
    assert (timeline.peak_allocated, timeline.peak_allocated_at, timeline.peak_reserved) == (20 * MiB, 3, 32 * MiB)


def test_the_peak_of_a_stretch():
    timeline = replay(step())
    # what max_memory_allocated() says after the reset at event 5
    assert timeline.peak_between(5, len(timeline)) == 17 * MiB
    assert timeline.peak_between(0, 3) == 18 * MiB
    assert timeline.peak_between(3, 3) == 0


def test_the_first_of_equal_peaks_counts():
    ledger = Ledger()
    for _ in range(2):
        ledger.free(ledger.alloc(4 * MiB))
    assert replay(ledger).peak_allocated_at == 0


def test_categories_count_whole_blocks():
    assert replay(step()).by_category(3) == {
        Category.PARAMETER: 12 * MiB,
        Category.ACTIVATION: 6 * MiB,
        Category.TEMPORARY: 2 * MiB,
    }


def test_running_out_ends_the_replay():
    # GIVEN 40 MiB: 12 and 20 are reserved by event 1
    ledger = step()
    ledger.alloc(29 * MiB)  # event 10
    ledger.alloc(512)
    # WHEN the cache was emptied at event 9 and 28 MiB are left, a segment of 30 is too much
    timeline = replay(ledger, capacity=40 * MiB)
    # THEN the replay ends before it
    assert timeline.out_of_memory is not None
    assert (timeline.out_of_memory.at, timeline.out_of_memory.tried) == (10, 30 * MiB)
    assert len(timeline) == len(timeline.reserved) == 10
    assert len(timeline.block_sizes) == 4
    assert timeline.peak_allocated == 20 * MiB


def test_settings_are_obeyed():
    timeline = replay(step(), Settings(expandable_segments=True))
    assert timeline.block_sizes[0] == 11 * MiB
    # 11 + 6 + 2, and 3 in the hole of 6, fit into one page of 20 MiB
    assert timeline.peak_reserved == 20 * MiB


def test_an_allocator_that_neither_rounds_nor_keeps():
    ledger = Ledger()
    first = ledger.alloc(3)
    ledger.mark("made")
    second = ledger.alloc(1000)
    ledger.free(first)
    ledger.note(Kind.EMPTY_CACHE)
    ledger.free(second)
    timeline = replay_unrounded(ledger)
    assert timeline.allocated.tolist() == timeline.reserved.tolist() == [3, 3, 1003, 1000, 1000, 0]
    assert (timeline.peak_allocated, timeline.peak_allocated_at, timeline.peak_reserved) == (1003, 2, 1003)
    assert timeline.block_sizes.tolist() == [3, 1000]
    assert len(replay_unrounded(Ledger())) == 0
