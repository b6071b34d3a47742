"""The numbers and names of torch.cuda.memory_stats() and memory_snapshot()."""

from __future__ import annotations

import torch

from tonnage.allocator import CachingAllocator, Settings
from tonnage.units import MiB


def used():
    """4 MiB in use and 1 MiB + 512 freed in front of it, in a large segment; 512 bytes in use in a small one."""
    allocator = CachingAllocator()
    hole = allocator.malloc(MiB + 1)
    allocator.malloc(4 * MiB)
    allocator.malloc(100)
    allocator.free(hole)
    return allocator


def test_counts_by_pool():
    stats = used().stats()
    large = {kind: stats[f"allocated_bytes.large_pool.{kind}"] for kind in ("current", "peak", "allocated", "freed")}
    hole = MiB + 512
    assert large == {"current": 4 * MiB, "peak": 4 * MiB + hole, "allocated": 4 * MiB + hole, "freed": hole}
    assert stats["allocated_bytes.small_pool.current"] == 512
    assert stats["requested_bytes.all.current"] == 4 * MiB + 100
    assert stats["allocation.all.allocated"] == 3
    assert stats["allocation.all.current"] == 2
    assert stats["segment.all.current"] == stats["num_device_alloc"] == 2
    assert stats["reserved_bytes.all.current"] == 22 * MiB


def test_inactive_split_counts_what_emptying_cannot_give_back():
    allocator = used()
    stats = allocator.stats()
    # large: the hole and the 20 - 4 - 1 MiB - 512 behind; small: 2 MiB - 512
    assert stats["inactive_split.large_pool.current"] == 2
    assert stats["inactive_split_bytes.large_pool.current"] == 16 * MiB
    assert stats["inactive_split.small_pool.current"] == 1
    assert stats["inactive_split_bytes.small_pool.current"] == 2 * MiB - 512
    # before the hole was freed there was one rest in each pool
    assert stats["inactive_split.all.peak"] == 3
    allocator.empty_cache()
    assert allocator.reserved == 22 * MiB


def test_inactive_split_when_the_front_of_a_split_segment_is_cut_again():
    # GIVEN a hole of 6 MiB in front of 4 MiB in use, and 10 MiB behind
    allocator = CachingAllocator()
    hole = allocator.malloc(6 * MiB)
    allocator.malloc(4 * MiB)
    allocator.free(hole)
    # WHEN 2 MiB are cut off the hole THEN there are still two free parts
    allocator.malloc(2 * MiB)
    stats = allocator.stats()
    assert stats["inactive_split.all.current"] == 2
    assert stats["inactive_split_bytes.all.current"] == 14 * MiB


def test_resetting_peaks_and_sums():
    allocator = used()
    current = allocator.allocated
    allocator.reset_peak()
    assert allocator.peak_allocated == current
    allocator.empty_cache()
    allocator.reset_accumulated()
    stats = allocator.stats()
    assert stats["allocated_bytes.all.allocated"] == stats["num_sync_all_streams"] == stats["num_device_alloc"] == 0
    assert stats["allocated_bytes.all.current"] == current


def test_max_split_size_as_pytorch_reports_it():
    assert CachingAllocator().stats()["max_split_size"] == -1
    assert CachingAllocator(Settings(max_split_size=64 * MiB)).stats()["max_split_size"] == 64 * MiB


def test_torch_can_print_its_summary_from_them(monkeypatch):
    monkeypatch.setattr(torch.cuda.memory, "memory_stats", lambda device: used().stats())
    summary = torch.cuda.memory.memory_summary(device=0)
    lines = {line.split("|")[1].strip(): line for line in summary.splitlines() if line.count("|") > 4}
    assert lines["GPU reserved memory"].split("|")[2].split() == ["22528", "KiB"]
    assert lines["Allocations"].split("|")[2].split() == ["2"]


def test_segments_have_the_shape_of_a_snapshot():
    large, small = used().segments()
    assert (large["segment_type"], large["total_size"], large["allocated_size"]) == ("large", 20 * MiB, 4 * MiB)
    assert (small["segment_type"], small["requested_size"], small["stream"]) == ("small", 100, 0)
    hole = MiB + 512
    assert [(block["size"], block["requested_size"], block["state"]) for block in large["blocks"]] == [
        (hole, 0, "inactive"),
        (4 * MiB, 4 * MiB, "active_allocated"),
        (16 * MiB - hole, 0, "inactive"),
    ]


def test_torch_can_draw_them():
    # torch's own reader of snapshots adds the blocks up and complains when they do not fill the segment
    from torch.cuda._memory_viz import segsum

    assert "segments: 2" in segsum({"segments": used().segments()})
