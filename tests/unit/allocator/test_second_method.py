"""The allocator against a second one, written for plainness: lists of blocks, searched from front to back.

It follows the prose rules (smallest sufficient block, oldest segment first; split at the front; neighbours merge) and
shares no code or data structure with tonnage. Only the default settings and one stream of work per pool.
"""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tonnage.allocator import CachingAllocator

MiB = 1 << 20


class Plain:
    def __init__(self):
        self.segments = []  # each: [is small, stream, blocks], a block: [size, name or None]

    def malloc(self, name, nbytes, stream):
        size = -(-nbytes // 512) * 512
        small = size <= MiB
        fits = [
            (block[0], number, position)
            for number, (kind, owner, blocks) in enumerate(self.segments)
            for position, block in enumerate(blocks)
            if kind == small and owner == stream and block[1] is None and block[0] >= size
        ]
        if not fits:
            length = 2 * MiB if small else 20 * MiB if size < 10 * MiB else -(-size // (2 * MiB)) * 2 * MiB
            self.segments.append([small, stream, [[length, None]]])
            fits = [(length, len(self.segments) - 1, 0)]
        found, number, position = min(fits)
        rest = found - size
        blocks = self.segments[number][2]
        if rest >= 512 if small else rest > MiB:
            blocks[position : position + 1] = [[size, name], [rest, None]]
        else:
            blocks[position][1] = name

    def free(self, name):
        for segment in self.segments:
            merged = []
            for size, holder in segment[2]:
                holder = None if holder == name else holder
                if holder is None and merged and merged[-1][1] is None:
                    merged[-1][0] += size
                else:
                    merged.append([size, holder])
            segment[2] = merged

    def empty_cache(self):
        self.segments = [segment for segment in self.segments if any(name is not None for _, name in segment[2])]

    def numbers(self):
        """Allocated, reserved, and the free bytes of segments that are partly in use."""
        blocks = [block for segment in self.segments for block in segment[2]]
        stuck = sum(
            size for segment in self.segments if len(segment[2]) > 1 for size, name in segment[2] if name is None
        )
        return sum(size for size, name in blocks if name is not None), sum(size for size, _ in blocks), stuck


SIZES = st.one_of(
    st.integers(1, 3000),
    st.integers(1, 2 * MiB),
    st.integers(1, 30 * MiB),
    # few sizes, so that holes are refilled, cut and merged
    st.sampled_from([512, 1024, 256 * 1024, MiB]),
    st.sampled_from([2 * MiB, 3 * MiB, 4 * MiB, 6 * MiB, 11 * MiB]),
    st.sampled_from([2 * MiB, 3 * MiB, 4 * MiB, 6 * MiB, 11 * MiB]),
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("malloc"), SIZES, st.sampled_from([0, 0, 3])),
        st.tuples(st.just("malloc"), SIZES, st.sampled_from([0, 0, 3])),
        st.tuples(st.just("free"), st.integers(0, 10**6), st.none()),
        st.tuples(st.just("free"), st.integers(0, 10**6), st.none()),
        st.tuples(st.just("empty"), st.none(), st.none()),
    ),
    max_size=80,
)


@given(STEPS)
@settings(deadline=None, max_examples=200)
def test_both_say_the_same_after_every_step(steps):
    plain, allocator = Plain(), CachingAllocator()
    live = {}
    for name, (what, number, stream) in enumerate(steps):
        if what == "malloc":
            plain.malloc(name, number, stream)
            live[name] = allocator.malloc(number, stream)
        elif what == "free" and live:
            gone = list(live)[number % len(live)]
            plain.free(gone)
            allocator.free(live.pop(gone))
        elif what == "empty":
            plain.empty_cache()
            allocator.empty_cache()
        assert (allocator.allocated, allocator.reserved, allocator.inactive_split) == plain.numbers()
