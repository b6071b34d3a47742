"""Accounts of hand-made runs. Sizes are of the caching allocator's published rules: requests in blocks of 512 B,
segments of 2 MiB for blocks up to 1 MiB, of 20 MiB for those under 10 MiB (c10/core/AllocatorConfig.h)."""

from __future__ import annotations

from tonnage.allocator import replay
from tonnage.analyses.memory import account_memory
from tonnage.ledger import Category, Kind

MiB = 2**20


def account(recording):
    return account_memory(recording, replay(recording.ledger))


def test_nothing_but_a_start(recording):
    recording.ledger.mark("start")
    peak = account(recording).peak
    assert (peak.allocated_bytes, peak.reserved_bytes) == (0, 0)
    assert (peak.process_bytes, peak.process_low, peak.process_high) == (100 * MiB, 80 * MiB, 150 * MiB)
    assert set(peak.by_category.values()) == {0}
    assert peak.allocated_known == "exact"


def test_categories_at_the_peak_as_asked_and_what_blocks_add(recording):
    # GIVEN a weight of 1,000 B and an activation of 600 B alive together, a temporary gone before
    ledger = recording.ledger
    ledger.mark("start")
    ledger.alloc(1000, category=Category.PARAMETER)
    temporary = ledger.alloc(100, op=0)
    ledger.free(temporary)
    ledger.alloc(600, op=0, category=Category.ACTIVATION)
    # THEN each counts in blocks of 512 B, in one segment of 2 MiB
    peak = account(recording).peak
    assert peak.allocated_bytes == 1024 + 1024
    assert {name: size for name, size in peak.by_category.items() if size} == {
        "parameter": 1000,
        "activation": 600,
        "rounding": (1024 - 1000) + (1024 - 600),
    }
    assert peak.reserved_bytes == 2 * MiB
    assert peak.cached_bytes == 2 * MiB - 2048
    assert peak.process_bytes == 102 * MiB
    assert peak.place.operator == "aten.mm.default"
    assert peak.instant == "forward, layer.0, aten.mm.default, after 'start'"


def test_the_first_of_two_equal_peaks(recording):
    ledger = recording.ledger
    for name in ("start", "forward done"):
        ledger.mark(name)
        ledger.free(ledger.alloc(512))
    assert account(recording).peak.place.after == "start"


def test_what_ended_before_the_start_is_no_peak(recording):
    ledger = recording.ledger
    ledger.free(ledger.alloc(5 * MiB))
    ledger.mark("start")
    ledger.alloc(1 * MiB, category=Category.PARAMETER)
    peak = account(recording).peak
    assert peak.allocated_bytes == 1 * MiB
    assert peak.reserved_bytes == 22 * MiB  # the segment of the earlier block is still cached


def test_without_a_start_everything_counts(recording):
    ledger = recording.ledger
    ledger.free(ledger.alloc(5 * MiB))
    ledger.alloc(1 * MiB)
    assert account(recording).peak.allocated_bytes == 5 * MiB


def test_reserved_peaks_at_another_instant_than_allocated(recording):
    # GIVEN segments of 20 and 22 MiB that hold 23 MiB and 512 B, given back before 30 MiB are allocated in 30
    ledger = recording.ledger
    ledger.mark("start")
    for number in [ledger.alloc(1 * MiB + 512), ledger.alloc(22 * MiB)]:
        ledger.free(number)
    ledger.note(Kind.EMPTY_CACHE)
    ledger.alloc(30 * MiB)
    peak = account(recording).peak
    assert peak.allocated_bytes == 30 * MiB
    assert peak.reserved_bytes == 42 * MiB


def test_rules_make_the_sum_modelled(recording):
    ledger = recording.ledger
    ledger.mark("start")
    ledger.alloc(512, category=Category.PARAMETER)
    assert account(recording).peak.allocated_known == "exact"
    ledger.alloc(512, category=Category.WORKSPACE)
    peak = account(recording).peak
    assert peak.allocated_known == "modelled"
    assert (peak.by_category_known["parameter"], peak.by_category_known["workspace"]) == ("exact", "modelled")


def test_instants_at_the_marks(recording):
    ledger = recording.ledger
    ledger.mark("start")
    ledger.alloc(512, category=Category.PARAMETER)
    ledger.mark("model loaded")
    ledger.free(ledger.alloc(1024))
    ledger.mark("forward done")
    instants = account(recording).instants
    assert [(i.name, i.allocated_bytes, i.peak_bytes) for i in instants] == [
        ("start", 0, 0),
        ("model loaded", 512, 512),
        ("forward done", 512, 1536),
    ]
    assert [i.reserved_bytes for i in instants] == [0, 2 * MiB, 2 * MiB]
