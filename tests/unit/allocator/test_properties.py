"""What holds for every allocator whatever is asked of it."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from tonnage.allocator import CachingAllocator, OutOfMemory, Settings, replay
from tonnage.ledger import Category, Kind, Ledger
from tonnage.units import GiB, MiB

CARD = GiB

SIZES = st.one_of(
    st.integers(1, 4096),
    st.integers(1, 2 * MiB),
    st.integers(MiB, 64 * MiB),
    st.sampled_from([512, MiB, MiB + 1, 10 * MiB, 11 * MiB, 20 * MiB, 40 * MiB]),
)
STREAMS = st.sampled_from([0, 0, 0, 1, 5])
# what to do, and with which of the live blocks (or nothing, when there is none)
STEPS = st.one_of(
    st.tuples(st.just("malloc"), SIZES, STREAMS),
    st.tuples(st.just("malloc"), SIZES, STREAMS),
    st.tuples(st.just("free"), st.integers(0, 1000), st.just(0)),
    st.tuples(st.just("free"), st.integers(0, 1000), st.just(0)),
    st.tuples(st.just("record"), st.integers(0, 1000), STREAMS),
    st.tuples(st.sampled_from(["empty", "events", "reset"]), st.just(0), st.just(0)),
)
PROGRAMS = st.lists(STEPS, max_size=60)
SETTINGS = st.builds(
    Settings,
    max_split_size=st.sampled_from([None, None, 20 * MiB, 32 * MiB]),
    roundup_power2_divisions=st.sampled_from([0, 0, 4, 8]).map(lambda number: (number,) * 16),
    garbage_collection_threshold=st.sampled_from([0.0, 0.1, 0.5]),
    expandable_segments=st.booleans(),
    per_process_memory_fraction=st.sampled_from([1.0, 0.3]),
)
CAPACITIES = st.sampled_from([None, None, 100 * MiB, 400 * MiB])


def run(allocator, program):
    """Steps through `program`, yielding the live blocks after each step; requests that run out are skipped."""
    live = []
    for what, number, stream in program:
        if what == "malloc":
            try:
                live.append(allocator.malloc(number, stream))
            except OutOfMemory:
                assert allocator.capacity is not None or allocator.limit is not None
        elif what == "free" and live:
            allocator.free(live.pop(number % len(live)))
        elif what == "record" and live:
            allocator.record_stream(live[number % len(live)], stream)
        elif what == "empty":
            allocator.empty_cache()
        elif what == "events":
            allocator.process_events()
        elif what == "reset":
            allocator.reset_peak()
        yield live


@given(SETTINGS, CAPACITIES, PROGRAMS)
@settings(deadline=None)
def test_every_step_keeps_the_books(options, capacity, program):
    allocator = CachingAllocator(options, capacity=capacity, total_memory=CARD)
    for live in run(allocator, program):
        assert allocator.allocated == sum(block.size for block in live)
        assert allocator.allocated <= allocator.active <= allocator.reserved
        assert allocator.requested <= allocator.active
        assert allocator.inactive_split <= allocator.reserved - allocator.active
        assert capacity is None or allocator.reserved <= capacity
        assert allocator.limit is None or allocator.reserved <= allocator.limit
        assert allocator.peak_allocated >= allocator.allocated
        assert allocator.peak_reserved >= allocator.reserved
        check_statistics(allocator.stats())
        check_segments(allocator, live)


def check_statistics(stats):
    """Pools add up, and what came less what went is what is there."""
    names = {name.split(".")[0] for name in stats if ".all." in name}
    assert len(names) == 9
    for name in names:
        for kind in ("current", "allocated", "freed"):
            assert stats[f"{name}.all.{kind}"] == sum(stats[f"{name}.{pool}.{kind}"] for pool in POOLS)
        for pool in ("all", *POOLS):
            current, peak, allocated, freed = (
                stats[f"{name}.{pool}.{kind}"] for kind in ("current", "peak", "allocated", "freed")
            )
            assert current == allocated - freed
            assert 0 <= current <= peak


POOLS = ("small_pool", "large_pool")


def check_segments(allocator, live):
    """Blocks tile their segments; segments do not overlap; the blocks in use are the live ones, whole."""
    segments = allocator.segments()
    ends = 0
    in_use = {}
    for segment in segments:
        assert segment["address"] >= ends
        at = segment["address"]
        for block in segment["blocks"]:
            assert block["address"] == at
            at += block["size"]
            if block["state"] == "active_allocated":
                in_use[block["address"]] = (block["size"], segment["stream"])
        ends = at
        assert ends == segment["address"] + segment["total_size"]
        states = [block["state"] for block in segment["blocks"]]
        assert ("inactive", "inactive") not in list(pairwise(states))
    assert sum(segment["total_size"] for segment in segments) == allocator.reserved
    assert in_use == {block.address: (block.size, block.stream) for block in live}


@given(SETTINGS, CAPACITIES, PROGRAMS)
@settings(deadline=None)
def test_freeing_all_and_emptying_leaves_nothing(options, capacity, program):
    allocator = CachingAllocator(options, capacity=capacity, total_memory=CARD)
    live = []
    for live in run(allocator, program):  # noqa: B007 - the last one is wanted
        pass
    for block in live:
        allocator.free(block)
    assert allocator.allocated == 0
    allocator.empty_cache()
    assert (allocator.active, allocator.requested, allocator.inactive_split, allocator.reserved) == (0, 0, 0, 0)
    assert allocator.segments() == []


@given(CAPACITIES, PROGRAMS)
@settings(deadline=None)
def test_emptying_gives_back_exactly_the_whole_free_segments(capacity, program):
    allocator = CachingAllocator(capacity=capacity)
    for _ in run(allocator, program):
        pass
    allocator.process_events()
    before = allocator.segments()
    allocator.empty_cache()
    assert allocator.segments() == [segment for segment in before if segment["active_size"]]


@given(SETTINGS, CAPACITIES, PROGRAMS)
@settings(deadline=None)
def test_the_same_requests_get_the_same_addresses(options, capacity, program):
    first, second = (
        [
            [(block.address, block.size) for block in live]
            for live in run(CachingAllocator(options, capacity=capacity, total_memory=CARD), program)
        ]
        for _ in range(2)
    )
    assert first == second


@st.composite
def ledgers(draw):
    ledger = Ledger()
    live = []
    for what, number, stream in draw(PROGRAMS):
        if what == "malloc":
            category = draw(st.sampled_from(list(Category)))
            live.append(ledger.alloc(number, stream=stream, category=category))
        elif what == "free" and live:
            ledger.free(live.pop(number % len(live)))
        elif what == "empty":
            ledger.note(Kind.EMPTY_CACHE)
        elif what == "reset":
            ledger.note(Kind.RESET_PEAK)
        elif what == "events":
            ledger.mark("here")
    ledger.check()
    return ledger


@given(SETTINGS, CAPACITIES, ledgers())
@settings(deadline=None)
def test_stepping_equals_replaying(options, capacity, ledger):
    timeline = replay(ledger, options, capacity=capacity, total_memory=CARD)
    allocator = CachingAllocator(options, capacity=capacity, total_memory=CARD)
    blocks = {}
    sizes = []
    for index, (kind, argument) in enumerate(ledger.events()):
        if kind is Kind.ALLOC:
            try:
                blocks[argument] = allocator.malloc(ledger.sizes[argument], ledger.streams[argument])
            except OutOfMemory as error:
                found = timeline.out_of_memory
                assert found is not None
                assert (found.at, str(found)) == (index, str(error))
                break
            sizes.append(blocks[argument].size)
        elif kind is Kind.FREE:
            allocator.free(blocks[argument])
        elif kind is Kind.EMPTY_CACHE:
            allocator.empty_cache()
        assert (timeline.allocated[index], timeline.reserved[index]) == (allocator.allocated, allocator.reserved)
    else:
        assert timeline.out_of_memory is None
        assert len(timeline) == len(ledger)
    assert list(timeline.block_sizes) == sizes
    assert (timeline.peak_allocated, timeline.peak_reserved) == (allocator.peak_allocated, allocator.peak_reserved)


@given(SETTINGS, ledgers())
@settings(deadline=None)
def test_categories_sum_to_what_is_allocated(options, ledger):
    timeline = replay(ledger, options, total_memory=CARD)
    for at in range(len(timeline)):
        assert sum(timeline.by_category(at).values()) == timeline.allocated[at]
