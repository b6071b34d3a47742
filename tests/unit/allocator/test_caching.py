"""What a caching allocator does, event by event."""

from __future__ import annotations

import pytest

from tonnage.allocator import CachingAllocator, OutOfMemory, Settings
from tonnage.errors import BadOption
from tonnage.units import KiB, MiB


def numbers(allocator):
    return allocator.allocated, allocator.reserved


def test_starts_with_nothing():
    allocator = CachingAllocator()
    assert numbers(allocator) == (0, 0)
    assert allocator.segments() == []
    assert not any(value for name, value in allocator.stats().items() if name != "max_split_size")


def test_one_block_and_back():
    # GIVEN one request
    allocator = CachingAllocator()
    block = allocator.malloc(1000, stream=3)
    # THEN the block is rounded to 512s and remembers what was asked
    assert (block.size, block.requested, block.stream) == (1024, 1000, 3)
    assert (allocator.requested, allocator.active) == (1000, 1024)
    # WHEN it is freed THEN the memory stays reserved, and the peak stays
    allocator.free(block)
    assert numbers(allocator) == (0, 2 * MiB)
    assert (allocator.requested, allocator.active, allocator.peak_allocated) == (0, 0, 1024)


def test_no_bytes_are_no_allocation():
    allocator = CachingAllocator()
    block = allocator.malloc(0)
    assert (block.size, *numbers(allocator)) == (0, 0, 0)
    allocator.record_stream(block, 5)
    allocator.free(block)
    allocator.process_events()
    assert numbers(allocator) == (0, 0)
    assert allocator.stats()["allocation.all.allocated"] == 0


@pytest.mark.parametrize(
    ("nbytes", "size", "reserved"),
    [
        (512, 512, 2 * MiB),
        (513, 1024, 2 * MiB),
        (MiB, MiB, 2 * MiB),
        (10 * MiB - 512, 10 * MiB - 512, 20 * MiB),
        (10 * MiB - 511, 10 * MiB, 10 * MiB),  # 10 MiB and more: a segment of its own
        (10 * MiB + 1, 10 * MiB + 512, 12 * MiB),  # the rest of 2 MiB - 512 is split off
        (19 * MiB, 20 * MiB, 20 * MiB),
        (33_554_432, 33_554_432, 32 * MiB),  # cuBLAS's workspace on Hopper
    ],
)
def test_size_classes(nbytes, size, reserved):
    allocator = CachingAllocator()
    assert allocator.malloc(nbytes).size == size
    assert allocator.reserved == reserved


def test_a_rest_of_one_mebibyte_stays_with_the_block():
    allocator = CachingAllocator()
    assert allocator.malloc(11 * MiB).size == 12 * MiB
    # 512 bytes less asked, and the rest is more than 1 MiB
    assert allocator.malloc(11 * MiB - 512).size == 11 * MiB - 512


def test_splits_at_the_front_and_merges_with_both_neighbours():
    # GIVEN three neighbours
    allocator = CachingAllocator()
    first, second, third = (allocator.malloc(2 * MiB) for _ in range(3))
    assert second.address - first.address == third.address - second.address == 2 * MiB
    addresses = first.address, second.address
    # WHEN the outer two and then the middle are freed
    for block in (first, third, second):
        allocator.free(block)
    # THEN the segment is one free block
    (segment,) = allocator.segments()
    assert [(block["size"], block["state"]) for block in segment["blocks"]] == [(20 * MiB, "inactive")]
    # AND the next requests get the same addresses
    assert (allocator.malloc(2 * MiB).address, allocator.malloc(2 * MiB).address) == addresses


def test_takes_the_smallest_block_that_fits_and_of_equals_the_lowest():
    # GIVEN holes of 4, 3 and 3 MiB between blocks in use
    allocator = CachingAllocator()
    blocks = [allocator.malloc(mebibytes * MiB) for mebibytes in (4, 2, 3, 2, 3, 2)]
    for hole in (0, 4, 2):
        allocator.free(blocks[hole])
    # WHEN 2.5 MiB are asked for THEN the lower 3 MiB hole is taken, whole
    block = allocator.malloc(2 * MiB + 512 * KiB)
    assert (block.address, block.size) == (blocks[2].address, 3 * MiB)


def test_recorded_streams_hold_a_block_back():
    # GIVEN a block that another stream uses
    allocator = CachingAllocator()
    block = allocator.malloc(4 * MiB)
    address = block.address
    allocator.record_stream(block, 7)
    # WHEN it is freed THEN it is no longer allocated and still active, and not handed out again
    allocator.free(block)
    assert (allocator.allocated, allocator.active, allocator.requested) == (0, 4 * MiB, 4 * MiB)
    assert allocator.segments()[0]["blocks"][0]["state"] == "active_pending_free"
    other = allocator.malloc(4 * MiB)
    assert other.address != address
    # WHEN the streams have caught up THEN it is
    allocator.process_events()
    assert allocator.active == 4 * MiB
    assert allocator.malloc(4 * MiB).address == address


def test_use_on_its_own_stream_holds_nothing_back():
    allocator = CachingAllocator()
    block = allocator.malloc(4 * MiB, stream=2)
    allocator.record_stream(block, 2)
    allocator.free(block)
    assert allocator.active == 0


def test_emptying_the_cache_waits_for_the_streams():
    allocator = CachingAllocator()
    block = allocator.malloc(4 * MiB)
    allocator.record_stream(block, 7)
    allocator.free(block)
    allocator.empty_cache()
    assert (allocator.active, allocator.reserved) == (0, 0)


class TestRunningOut:
    def test_says_what_was_tried(self):
        # GIVEN 100 MiB, of which 60 are in use and 80 reserved
        allocator = CachingAllocator(capacity=100 * MiB)
        small = [allocator.malloc(5 * MiB) for _ in range(4)]
        allocator.malloc(60 * MiB)
        for block in small[1:]:
            allocator.free(block)
        # WHEN 25 MiB are asked for: a segment of 26, of which 20 are there and the cache holds no whole segment
        with pytest.raises(OutOfMemory) as caught:
            allocator.malloc(25 * MiB)
        # THEN the error carries PyTorch's numbers, and nothing has changed
        error = caught.value
        assert (error.tried, error.requested) == (26 * MiB, 25 * MiB)
        assert (error.allocated, error.reserved, error.capacity) == (65 * MiB, 80 * MiB, 100 * MiB)
        assert "26.00 MiB" in str(error)
        assert numbers(allocator) == (65 * MiB, 80 * MiB)
        # AND it counts as one retry and one failure
        assert (allocator.stats()["num_alloc_retries"], allocator.stats()["num_ooms"]) == (1, 1)
        # AND a request that fits still works
        assert allocator.malloc(14 * MiB).size == 15 * MiB

    def test_gives_cached_segments_back_and_tries_again(self):
        # GIVEN 100 MiB, all of them cached in two segments
        allocator = CachingAllocator(capacity=100 * MiB)
        for block in [allocator.malloc(50 * MiB), allocator.malloc(50 * MiB)]:
            allocator.free(block)
        # WHEN more is asked for than either holds THEN both go, and it works
        allocator.malloc(60 * MiB)
        assert numbers(allocator) == (60 * MiB, 60 * MiB)
        assert allocator.peak_reserved == 100 * MiB
        assert (allocator.stats()["num_alloc_retries"], allocator.stats()["num_ooms"]) == (1, 0)
        assert allocator.stats()["num_device_free"] == 2

    def test_a_block_that_waits_for_a_stream_is_given_back_too(self):
        allocator = CachingAllocator(capacity=20 * MiB)
        block = allocator.malloc(20 * MiB)
        allocator.record_stream(block, 7)
        allocator.free(block)
        assert allocator.malloc(12 * MiB).size == 12 * MiB

    def test_expandable_pages_move_between_streams(self):
        # GIVEN both pages there are, free on stream 0
        allocator = CachingAllocator(Settings(expandable_segments=True), capacity=40 * MiB, total_memory=1 << 30)
        allocator.free(allocator.malloc(40 * MiB))
        # WHEN stream 1 asks THEN they are unmapped and mapped there
        allocator.malloc(30 * MiB, stream=1)
        assert numbers(allocator) == (30 * MiB, 40 * MiB)
        assert allocator.stats()["num_alloc_retries"] == 1


class TestExpandable:
    def test_grows_by_pages_and_splits_to_the_byte(self):
        allocator = CachingAllocator(Settings(expandable_segments=True))
        assert allocator.malloc(11 * MiB).size == 11 * MiB
        assert allocator.reserved == 20 * MiB
        # 9 MiB are free at the end, 3 are missing: one more page
        assert allocator.malloc(12 * MiB).size == 12 * MiB
        assert allocator.reserved == 40 * MiB
        assert allocator.stats()["segment.all.current"] == 0

    def test_only_pages_that_are_all_free_go(self):
        # GIVEN 30 + 20 + 10 MiB over three pages, with the middle one left
        allocator = CachingAllocator(Settings(expandable_segments=True))
        first, middle, last = (allocator.malloc(n * MiB) for n in (30, 20, 10))
        allocator.free(first)
        allocator.free(last)
        # WHEN the cache is emptied THEN the first page goes; the second holds 10 MiB of `middle`, so does the third
        allocator.empty_cache()
        assert numbers(allocator) == (20 * MiB, 40 * MiB)
        assert [segment["total_size"] for segment in allocator.segments()] == [40 * MiB]
        # AND the freed half of the second page is still there to use
        assert allocator.malloc(10 * MiB).address == middle.address - 10 * MiB
        # AND what no longer fits gets new pages at the end, behind the third page's free 10 MiB
        assert allocator.malloc(30 * MiB).address == middle.address + 20 * MiB
        assert allocator.reserved == 60 * MiB

    def test_the_end_of_the_segment_is_used_last(self):
        # GIVEN a hole of 12 MiB and, behind a block in use, 8 MiB free before the unmapped rest
        allocator = CachingAllocator(Settings(expandable_segments=True))
        hole = allocator.malloc(12 * MiB)
        allocator.malloc(20 * MiB)
        assert allocator.reserved == 40 * MiB
        # WHEN 4 MiB are asked for THEN the larger hole is taken: the end of 8 MiB counts as the whole rest
        allocator.free(hole)
        assert allocator.malloc(4 * MiB).address == hole.address


class TestMaxSplitSize:
    SETTINGS = Settings(max_split_size=32 * MiB)

    def test_oversize_blocks_are_not_split_and_not_given_to_small_requests(self):
        # GIVEN a cached block of 64 MiB
        allocator = CachingAllocator(self.SETTINGS)
        allocator.free(allocator.malloc(64 * MiB))
        # WHEN less than the limit is asked for THEN a new segment is made
        allocator.malloc(20 * MiB)
        assert allocator.reserved == 84 * MiB
        # WHEN an oversize request is within 20 MiB of it THEN it gets all of it
        assert allocator.malloc(45 * MiB).size == 64 * MiB
        assert allocator.stats()["oversize_allocations.current"] == 1
        assert allocator.stats()["oversize_segments.current"] == 1

    def test_too_large_a_block_is_not_wasted_on_an_oversize_request(self):
        allocator = CachingAllocator(self.SETTINGS)
        allocator.free(allocator.malloc(64 * MiB))
        # 44 MiB + 20 MiB is not more than 64
        assert allocator.malloc(44 * MiB).size == 44 * MiB

    def test_running_out_frees_no_more_oversize_blocks_than_needed(self):
        # GIVEN cached blocks of 40, 60 and 100 MiB, and nothing left
        allocator = CachingAllocator(self.SETTINGS, capacity=200 * MiB)
        for block in [allocator.malloc(n * MiB) for n in (40, 60, 100)]:
            allocator.free(block)
        # WHEN 80 MiB are asked for (100 is not within 20 of it) THEN the smallest that is enough goes: 100
        allocator.malloc(80 * MiB)
        assert allocator.reserved == 180 * MiB
        assert allocator.stats()["num_alloc_retries"] == 0
        # WHEN 120 MiB are asked for THEN the largest go until it is enough: not 80, which is in use, but 60 and 40
        with pytest.raises(OutOfMemory):
            allocator.malloc(130 * MiB)


class TestLimit:
    def test_a_fraction_of_the_card_is_a_limit(self):
        settings = Settings(per_process_memory_fraction=0.5)
        allocator = CachingAllocator(settings, total_memory=100 * MiB)
        allocator.malloc(30 * MiB)
        with pytest.raises(OutOfMemory) as caught:
            allocator.malloc(30 * MiB)
        assert (caught.value.limit, caught.value.capacity) == (50 * MiB, None)

    def test_a_fraction_of_nothing_known_is_refused(self):
        with pytest.raises(BadOption, match="not given"):
            CachingAllocator(Settings(per_process_memory_fraction=0.5))

    def test_garbage_collection_gives_back_what_lay_idle_longest(self):
        # GIVEN a limit of 100 MiB with collection from 50 on, and two cached segments: 20 MiB old, 22 MiB young
        settings = Settings(garbage_collection_threshold=0.5, per_process_memory_fraction=0.5)
        allocator = CachingAllocator(settings, total_memory=200 * MiB)
        old, young = allocator.malloc(20 * MiB), allocator.malloc(22 * MiB)
        allocator.free(old)
        for _ in range(3):
            allocator.free(allocator.malloc(6 * MiB, stream=1))
        allocator.free(young)
        assert allocator.reserved == 62 * MiB
        # WHEN a new segment is needed: 12 MiB are over the threshold
        allocator.malloc(30 * MiB)
        # THEN the old segment's 20 MiB suffice
        assert allocator.reserved == 72 * MiB
        assert [segment["total_size"] // MiB for segment in allocator.segments()] == [22, 20, 30]

    def test_the_only_idle_segment_is_as_old_as_the_mean(self):
        settings = Settings(garbage_collection_threshold=0.1, per_process_memory_fraction=0.5)
        allocator = CachingAllocator(settings, total_memory=200 * MiB)
        allocator.free(allocator.malloc(20 * MiB))
        allocator.malloc(30 * MiB)
        assert allocator.reserved == 30 * MiB

    def test_nothing_is_collected_below_the_threshold(self):
        settings = Settings(garbage_collection_threshold=0.9, per_process_memory_fraction=0.5)
        allocator = CachingAllocator(settings, total_memory=200 * MiB)
        allocator.free(allocator.malloc(20 * MiB))
        allocator.malloc(30 * MiB)
        assert allocator.reserved == 50 * MiB


def test_roundup_makes_blocks_of_a_few_sizes():
    allocator = CachingAllocator(Settings.parse("roundup_power2_divisions:4"))
    # 1200 KiB is between 1 and 2 MiB: steps of 256 KiB
    assert allocator.malloc(1200 * KiB).size == 1280 * KiB
    assert allocator.requested == 1200 * KiB
