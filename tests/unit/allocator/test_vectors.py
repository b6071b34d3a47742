"""Hand-checkable sequences: allocated and reserved after each step, and the peaks at the end.

Every expected number follows from rules written beside it: requests round up to 512 bytes; up to 1 MiB they share
2 MiB segments, above that and below 10 MiB they share 20 MiB ones, from 10 MiB on a segment is the request rounded
up to 2 MiB; a free block is taken smallest first and split when the rest is at least 512 bytes (small pool) or more
than 1 MiB (large pool). With expandable segments every rest of 512 bytes is split off, and the pools grow by pages of
2 MiB (small) and 20 MiB (large).
"""

from __future__ import annotations

import pytest

from tonnage.allocator import CachingAllocator, Settings
from tonnage.units import KiB, MiB

PLAIN, EXPANDABLE = Settings(), Settings(expandable_segments=True)


class Steps:
    """An allocator with named blocks, checked after each step."""

    def __init__(self, settings: Settings) -> None:
        self.allocator = CachingAllocator(settings, total_memory=1 << 30)
        self.blocks = {}

    def malloc(self, name, nbytes, *, allocated, reserved, stream=0):
        self.blocks[name] = self.allocator.malloc(nbytes, stream)
        self.check(allocated, reserved)

    def free(self, name, *, allocated, reserved):
        self.allocator.free(self.blocks.pop(name))
        self.check(allocated, reserved)

    def empty_cache(self, *, allocated, reserved):
        self.allocator.empty_cache()
        self.check(allocated, reserved)

    def check(self, allocated, reserved):
        assert (self.allocator.allocated, self.allocator.reserved) == (allocated, reserved)

    def peaks(self):
        return self.allocator.peak_allocated, self.allocator.peak_reserved


def test_small_large_and_slack():
    steps = Steps(PLAIN)
    # 1 byte is a block of 512 in a new 2 MiB segment
    steps.malloc("a", 1, allocated=512, reserved=2 * MiB)
    # exactly 1 MiB is still small: it comes out of the 2 MiB - 512 left over
    steps.malloc("b", MiB, allocated=512 + MiB, reserved=2 * MiB)
    # one byte more is 1 MiB + 512 and large: a 20 MiB segment, split
    steps.malloc("c", MiB + 1, allocated=2 * MiB + 1024, reserved=22 * MiB)
    # 11 MiB fits into the 19 MiB - 512 left of it; the rest of 8 MiB - 512 is split off
    steps.malloc("d", 11 * MiB, allocated=13 * MiB + 1024, reserved=22 * MiB)
    # 19 MiB: only 8 MiB - 512 is free, so a segment of 20 MiB; its rest is 1 MiB, not more, so the block stays whole
    steps.malloc("e", 19 * MiB, allocated=33 * MiB + 1024, reserved=42 * MiB)
    # c is in front of d, in use: its 1 MiB + 512 stays a hole
    steps.free("c", allocated=32 * MiB + 512, reserved=42 * MiB)
    # 5 MiB out of the 8 MiB - 512 behind d
    steps.malloc("f", 5 * MiB, allocated=37 * MiB + 512, reserved=42 * MiB)
    steps.free("f", allocated=32 * MiB + 512, reserved=42 * MiB)
    # d's segment is all free now: 20 MiB
    steps.free("d", allocated=21 * MiB + 512, reserved=42 * MiB)
    # 11 MiB + 512 is taken from it
    steps.malloc("g", 11 * MiB + 512, allocated=32 * MiB + 1024, reserved=42 * MiB)
    # every segment holds a block in use (a and b, g, e), so nothing goes
    steps.empty_cache(allocated=32 * MiB + 1024, reserved=42 * MiB)
    assert steps.peaks() == (37 * MiB + 512, 42 * MiB)


def test_small_large_and_slack_expandable():
    steps = Steps(EXPANDABLE)
    steps.malloc("a", 1, allocated=512, reserved=2 * MiB)
    steps.malloc("b", MiB, allocated=512 + MiB, reserved=2 * MiB)
    # one page of 20 MiB; 19 MiB - 512 stay free at its end
    steps.malloc("c", MiB + 1, allocated=2 * MiB + 1024, reserved=22 * MiB)
    steps.malloc("d", 11 * MiB, allocated=13 * MiB + 1024, reserved=22 * MiB)
    # the 8 MiB - 512 at the end lack 11 MiB + 512 to 19 MiB: one more page; the block is cut to 19 MiB exactly
    steps.malloc("e", 19 * MiB, allocated=32 * MiB + 1024, reserved=42 * MiB)
    steps.free("c", allocated=31 * MiB + 512, reserved=42 * MiB)
    # free: 1 MiB + 512 at the front, 9 MiB - 512 at the end
    steps.malloc("f", 5 * MiB, allocated=36 * MiB + 512, reserved=42 * MiB)
    steps.free("f", allocated=31 * MiB + 512, reserved=42 * MiB)
    # 12 MiB + 512 are free in front of e
    steps.free("d", allocated=20 * MiB + 512, reserved=42 * MiB)
    steps.malloc("g", 11 * MiB + 512, allocated=31 * MiB + 1024, reserved=42 * MiB)
    # g lies in the first page, e in both: no page is all free
    steps.empty_cache(allocated=31 * MiB + 1024, reserved=42 * MiB)
    assert steps.peaks() == (36 * MiB + 512, 42 * MiB)


@pytest.mark.parametrize("settings", [PLAIN, EXPANDABLE])
def test_a_linear_step_with_its_workspaces(settings):
    """W of 1024 x 1024 fp32, x of 64 x 1024; 8,519,680 bytes are cuBLAS's workspace before Hopper."""
    steps = Steps(settings)
    weight, workspace, small = 4 * MiB, 8_519_680, 256 * KiB
    steps.malloc("W", weight, allocated=weight, reserved=20 * MiB)
    steps.malloc("x", small, allocated=weight + small, reserved=22 * MiB)
    # 16 MiB are left behind W, 7.875 MiB after the workspace
    steps.malloc("ws1", workspace, allocated=weight + small + workspace, reserved=22 * MiB)
    steps.malloc("y", small, allocated=weight + 2 * small + workspace, reserved=22 * MiB)
    steps.malloc("one", 4, allocated=weight + 2 * small + workspace + 512, reserved=22 * MiB)
    # 8.125 MiB do not fit into 7.875 MiB. Plain: another 20 MiB; expandable: another page, the same 20 MiB
    held = weight + 2 * small + 2 * workspace + 512
    steps.malloc("ws2", workspace, allocated=held, reserved=42 * MiB)
    steps.malloc("gw", weight, allocated=held + weight, reserved=42 * MiB)
    steps.free("y", allocated=held + weight - small, reserved=42 * MiB)
    steps.empty_cache(allocated=held + weight - small, reserved=42 * MiB)
    assert steps.peaks() == (held + weight, 42 * MiB)


@pytest.mark.parametrize("settings", [PLAIN, EXPANDABLE])
def test_streams_do_not_share(settings):
    steps = Steps(settings)
    steps.malloc("a", 4 * MiB, allocated=4 * MiB, reserved=20 * MiB)
    steps.free("a", allocated=0, reserved=20 * MiB)
    # the 20 MiB cached for stream 0 are of no use to stream 7
    steps.malloc("b", 4 * MiB, stream=7, allocated=4 * MiB, reserved=40 * MiB)
    steps.free("b", allocated=0, reserved=40 * MiB)
    steps.malloc("c", 4 * MiB, allocated=4 * MiB, reserved=40 * MiB)
    # stream 7's segment is all free and goes; stream 0's holds c
    steps.empty_cache(allocated=4 * MiB, reserved=20 * MiB)
    assert steps.peaks() == (4 * MiB, 40 * MiB)


def test_fragmentation():
    steps = Steps(PLAIN)
    steps.malloc("a", 6 * MiB, allocated=6 * MiB, reserved=20 * MiB)
    steps.malloc("b", 6 * MiB, allocated=12 * MiB, reserved=20 * MiB)
    steps.malloc("c", 6 * MiB, allocated=18 * MiB, reserved=20 * MiB)
    steps.free("a", allocated=12 * MiB, reserved=20 * MiB)
    # c joins the 2 MiB at the end: holes of 6 MiB and 8 MiB
    steps.free("c", allocated=6 * MiB, reserved=20 * MiB)
    # 7 MiB into the hole of 8: the rest of 1 MiB is not more than 1 MiB, so d gets all 8
    steps.malloc("d", 7 * MiB, allocated=14 * MiB, reserved=20 * MiB)
    steps.free("b", allocated=8 * MiB, reserved=20 * MiB)
    # 12 MiB are free in one piece, 19 are not; the new 20 MiB segment stays whole
    steps.malloc("e", 19 * MiB, allocated=28 * MiB, reserved=40 * MiB)
    assert steps.peaks() == (28 * MiB, 40 * MiB)


def test_fragmentation_expandable():
    steps = Steps(EXPANDABLE)
    steps.malloc("a", 6 * MiB, allocated=6 * MiB, reserved=20 * MiB)
    steps.malloc("b", 6 * MiB, allocated=12 * MiB, reserved=20 * MiB)
    steps.malloc("c", 6 * MiB, allocated=18 * MiB, reserved=20 * MiB)
    steps.free("a", allocated=12 * MiB, reserved=20 * MiB)
    steps.free("c", allocated=6 * MiB, reserved=20 * MiB)
    # 7 MiB exactly, from the 8 at the end
    steps.malloc("d", 7 * MiB, allocated=13 * MiB, reserved=20 * MiB)
    steps.free("b", allocated=7 * MiB, reserved=20 * MiB)
    # 1 MiB is free at the end, 18 MiB are missing: one page
    steps.malloc("e", 19 * MiB, allocated=26 * MiB, reserved=40 * MiB)
    assert steps.peaks() == (26 * MiB, 40 * MiB)
