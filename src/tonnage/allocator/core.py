"""The rules of PyTorch's native caching allocator: which block a request gets, and what happens to freed ones.

After c10/cuda/CUDACachingAllocator.cpp (pytorch/pytorch@001074d2, PyTorch 2.6): malloc, get_free_block, should_split,
free_block, garbage_collect_cached_blocks, release_available_cached_blocks. Read again in the file of 2.11 and of
2.13's development; these rules are the same there. Only what replaying a ledger needs is here, and `malloc` and
`free` are written for speed; what torch.cuda.memory_stats() tells beyond it is counted in `caching`.
"""

from __future__ import annotations

import sys

from tonnage.allocator.blocks import Block, FreeBlocks
from tonnage.allocator.driver import Driver
from tonnage.allocator.segments import ExpandableSegments, Segments, WholeSegments
from tonnage.allocator.settings import INTERVALS, MIN_BLOCK_SIZE, SMALL_SIZE, Settings
from tonnage.errors import BadOption
from tonnage.units import format_bytes

_UNLIMITED = sys.maxsize


class OutOfMemory(Exception):
    """The driver had no memory left, also after the cache was emptied.

    `tried` is the segment that was asked for, which is what PyTorch's message names; `requested` what the caller
    asked for; `capacity` the bytes there are (None when only the process's own `limit` was reached). `at` is the
    event of the ledger that ran out, when one was replayed.
    """

    def __init__(
        self, *, tried: int, requested: int, allocated: int, reserved: int, capacity: int | None, limit: int | None
    ) -> None:
        super().__init__(tried, requested, allocated, reserved, capacity, limit)
        self.tried = tried
        self.requested = requested
        self.allocated = allocated
        self.reserved = reserved
        self.capacity = capacity
        self.limit = limit
        self.at: int | None = None

    def __str__(self) -> str:
        bounds = [
            f"{format_bytes(bound)} {name}"
            for bound, name in ((self.capacity, "there are"), (self.limit, "allowed"))
            if bound is not None
        ]
        return (
            f"tried to allocate {format_bytes(self.tried)} with {format_bytes(self.reserved)} reserved "
            f"({format_bytes(self.allocated)} allocated) of the {', '.join(bounds)}"
        )


class BlockAllocator:
    """Hands out blocks as PyTorch's native caching allocator does."""

    def __init__(
        self, settings: Settings | None = None, *, capacity: int | None = None, total_memory: int | None = None
    ) -> None:
        self.settings = settings = settings or Settings()
        self.capacity = capacity
        self.limit = _limit(settings, total_memory)
        self.num_alloc_retries = 0
        self.num_ooms = 0
        self.num_sync_all_streams = 0
        self._max_split = settings.max_split_size or _UNLIMITED
        self.driver = Driver(capacity=capacity, oversize=self._max_split)
        self._whole: WholeSegments | None = None
        self._segments: Segments
        if settings.expandable_segments:
            self._segments = ExpandableSegments(self.driver, settings, total_memory)
        else:
            self._segments = self._whole = WholeSegments(self.driver, settings)
        self._collects = self.limit is not None and settings.garbage_collection_threshold > 0
        self._plain_rounding = settings.roundup_power2_divisions == (0,) * INTERVALS
        self._plain_search = not (settings.expandable_segments or settings.max_split_size or self._collects)
        self._searches = 0
        self._waiting: list[Block] = []
        self._pools: dict[int, tuple[FreeBlocks, FreeBlocks]] = {}
        self._use_stream(0)

    def shrink(self, nbytes: int) -> None:
        """Takes `nbytes` off what the driver will give: something else of the process lies there now."""
        if self.capacity is not None:
            self.capacity = self.driver.capacity = max(self.capacity - nbytes, 0)

    @property
    def reserved(self) -> int:
        """Bytes of all segments, or of all mapped pages."""
        return self.driver.reserved

    @property
    def peak_reserved(self) -> int:
        return self.driver.reserved_bytes.all.peak

    @property
    def allocated(self) -> int:
        """Bytes of the blocks handed out and not freed."""
        idle = sum(block.size for pools in self._pools.values() for pool in pools for block in pool)
        return self.reserved - idle - sum(block.size for block in self._waiting)

    def malloc(self, nbytes: int, stream: int = 0) -> Block:
        """The block for a request of `nbytes` on `stream`; of no size for no bytes, as nothing is allocated then.

        Raises OutOfMemory when the driver has no memory left after everything cached was given back.
        """
        size = (nbytes + 511) & -512 if self._plain_rounding else self.settings.rounded(nbytes)
        if nbytes == 0:
            return _nothing(self._small)
        if stream != self._stream:
            self._use_stream(stream)
        pool = self._small if size <= SMALL_SIZE else self._large
        block = pool.take(size) if self._plain_search else self._search(pool, size)
        if block is None:
            block = self._grow(pool, size, nbytes)
        if block.size - size > pool.largest_rest and (size < self._max_split or self._whole is None):
            pool.add(block.cut(size))
        block.requested = nbytes
        return block

    def free(self, block: Block) -> None:
        """Takes `block` back: free for the next request, unless other streams were recorded as using it."""
        if block.uses is not None:
            self._waiting.append(block)
            return
        if block.size == 0:
            return
        pool = block.pool
        after = block.next
        if after is not None and after.free:
            pool.remove(after)
            block.absorb_next()
        before = block.prev
        if before is not None and before.free:
            pool.remove(before)
            before.absorb_next()
            block = before
        pool.add(block)
        if self._collects:
            block.idle_since = self._searches

    def record_stream(self, block: Block, stream: int) -> None:
        """Says that work on `stream` uses `block`, so that freeing it must wait for that stream."""
        if stream != block.stream and block.size:
            block.uses = (block.uses or set()) | {stream}

    def process_events(self) -> None:
        """Frees the blocks that wait for other streams: every stream has caught up.

        PyTorch polls for this in each malloc, and what it finds depends on how far the GPU has come. Here blocks
        wait until this is called (torch.cuda.synchronize() is the place), until `empty_cache`, or until memory runs
        out: the most memory that the program can need.
        """
        waiting, self._waiting = self._waiting, []
        for block in waiting:
            block.uses = None
            self._finish(block)

    def empty_cache(self) -> None:
        """Gives every segment that is all free (expandable: every such page) back to the driver."""
        self.num_sync_all_streams += 1
        self.process_events()
        for pools in self._pools.values():
            for pool in pools:
                self._segments.release_free(pool)

    def _finish(self, block: Block) -> None:
        BlockAllocator.free(self, block)

    def _use_stream(self, stream: int) -> None:
        if stream not in self._pools:
            # should_split: a rest of 512 bytes is worth splitting off, in the large pool only one above 1 MiB
            large_rest = SMALL_SIZE if self._whole is not None else MIN_BLOCK_SIZE - 1
            self._pools[stream] = (
                FreeBlocks(small=True, stream=stream, largest_rest=MIN_BLOCK_SIZE - 1),
                FreeBlocks(small=False, stream=stream, largest_rest=large_rest),
            )
        self._stream = stream
        self._small, self._large = self._pools[stream]

    def _search(self, pool: FreeBlocks, size: int) -> Block | None:
        """As `FreeBlocks.take`, under the options that make the search less plain."""
        if self._collects and not pool.small:
            self._searches += 1
        block = pool.best(size)
        if block is None:
            return None
        if self._whole is None and block.next is not None and not block.next.mapped:
            block = _least_room(pool, size)
        if size < self._max_split <= block.size:
            return None
        if size >= self._max_split and block.size >= size + self.settings.max_non_split_rounding:
            return None
        pool.remove(block)
        return block

    def _grow(self, pool: FreeBlocks, size: int, requested: int) -> Block:
        """A block of new memory, after giving cached memory back if the driver has no more."""
        if self._collects:
            self._collect_garbage()
        block = self._obtain(pool, size)
        if block is None and self._release_oversize(pool, size):
            block = self._obtain(pool, size)
        if block is None:
            self.empty_cache()
            self.num_alloc_retries += 1
            block = self._obtain(pool, size)
        if block is None:
            self.num_ooms += 1
            raise OutOfMemory(
                tried=self.settings.segment_size(size),
                requested=requested,
                allocated=self.allocated,
                reserved=self.reserved,
                capacity=self.capacity,
                limit=self.limit,
            )
        return block

    def _obtain(self, pool: FreeBlocks, size: int) -> Block | None:
        if self.limit is not None and self.reserved + self.settings.segment_size(size) > self.limit:
            return None
        return self._segments.obtain(pool, size)

    def _release_oversize(self, pool: FreeBlocks, size: int) -> bool:
        """Whether enough oversize blocks of `pool` could be given back to make room for `size`."""
        if self._whole is None or self._max_split == _UNLIMITED:
            return False
        wanted = max(size, self._max_split)
        enough = next(pool.ascending(wanted), None)
        if enough is not None:
            self._whole.release(enough)
            return True
        released = 0
        for block in reversed(list(pool.ascending(self._max_split))):
            if released >= wanted:
                break
            self._whole.release(block)
            released += block.size
        return released >= wanted

    def _collect_garbage(self) -> None:
        """Gives back the unsplit large blocks that have lain idle the longest, once the threshold is passed."""
        assert self.limit is not None
        target = self.reserved - int(self.settings.garbage_collection_threshold * self.limit)
        if self._whole is None or target <= 0:
            return
        idle = [block for _, large in self._pools.values() for block in large if not block.split]
        reclaimed = 0
        while idle and reclaimed < target:
            ages = [self._searches - block.idle_since for block in idle]
            mean = sum(ages) / len(ages)
            for block, age in zip(idle, ages, strict=True):
                if age >= mean:
                    self._whole.release(block)
                    reclaimed += block.size
            idle = [block for block, age in zip(idle, ages, strict=True) if age < mean]


def _nothing(pool: FreeBlocks) -> Block:
    """What a request for no bytes gets: PyTorch's null pointer."""
    block = Block(pool, 0, 0)
    block.requested = 0
    return block


def _limit(settings: Settings, total_memory: int | None) -> int | None:
    """The most bytes that per_process_memory_fraction lets the allocator hold."""
    if settings.per_process_memory_fraction == 1.0:
        return None
    if total_memory is None:
        raise BadOption(
            "per_process_memory_fraction is a fraction of the card's memory, which is not given",
            hint="pass total_memory=",
        )
    return int(settings.per_process_memory_fraction * total_memory)


def _least_room(pool: FreeBlocks, size: int) -> Block:
    """The first block for `size` bytes after which no larger block could grow to less.

    So that the end of an expandable segment, which could grow to the whole card, is cut into only when need be.
    """
    candidates = pool.ascending(size)
    block = next(candidates)
    for other in candidates:
        if _expandable_size(other) >= _expandable_size(block):
            break
        block = other
    return block


def _expandable_size(block: Block) -> int:
    """The size that a free block could grow to without moving."""
    follower = block.next
    return block.size + (follower.size if follower is not None and not follower.mapped else 0)
