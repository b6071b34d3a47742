"""Blocks of device memory, and the free ones of one pool and stream, found best fit first."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from operator import attrgetter

_address = attrgetter("address")


class Block:
    """A range of device addresses: handed out, waiting for streams, free, or address space without memory.

    `size` is the whole block, `requested` what was asked for. `prev` and `next` are its neighbours in the same
    segment. `free`: cached, ready to be handed out. `uses` are the streams that record_stream named, None for none.
    `idle_since` is the number of searches made before the block became free, known only under garbage collection.

    Splitting and merging keep the object at the lower address, so the first block of a segment never changes.
    """

    __slots__ = ("address", "free", "idle_since", "next", "pool", "prev", "requested", "size", "uses")

    requested: int
    idle_since: int
    uses: set[int] | None

    def __init__(
        self, pool: FreeBlocks, address: int, size: int, prev: Block | None = None, next: Block | None = None
    ) -> None:
        self.pool = pool
        self.address = address
        self.size = size
        self.prev = prev
        self.next = next
        self.free = False
        self.uses = None

    @property
    def stream(self) -> int:
        return self.pool.stream

    @property
    def mapped(self) -> bool:
        """False for address space of an expandable segment that no memory backs."""
        return self.address not in self.pool.unmapped

    @property
    def split(self) -> bool:
        """Whether the block is only a part of its segment."""
        return self.prev is not None or self.next is not None

    def cut(self, size: int) -> Block:
        """Keeps the first `size` bytes and gives back the rest as a block of its own."""
        after = self.next
        rest = self.next = Block(self.pool, self.address + size, self.size - size, self, after)
        if after is not None:
            after.prev = rest
        self.size = size
        return rest

    def absorb_next(self) -> None:
        """Takes over the bytes of the next block, which is no more."""
        gone = self.next
        assert gone is not None
        self.size += gone.size
        self.next = gone.next
        if gone.next is not None:
            gone.next.prev = self


class FreeBlocks:
    """The free blocks of one pool ("small" or "large") on one stream.

    A search gives the smallest block that holds the size; ties go to the lowest address, as in PyTorch up to 2.11
    (BlockComparatorSize). Segments get rising addresses here, so that is also the oldest segment first and then the
    address within it, the order of pytorch/pytorch#183591 (May 2026). Builds between #178362 and that one took the
    block object that was made first, which is not modelled.

    Blocks lie in one bucket per exact size, ordered by address, because training asks for the same sizes over and
    over: many searches end at the bucket of that very size. `sizes` lists the buckets' sizes in order; an empty
    bucket stays until a search passes over it.
    """

    __slots__ = ("buckets", "largest_rest", "sizes", "small", "stream", "unmapped")

    def __init__(self, *, small: bool, stream: int, largest_rest: int) -> None:
        self.small = small
        self.stream = stream
        self.largest_rest = largest_rest
        """A block is split when more than this many bytes would be left over."""
        self.buckets: dict[int, list[Block]] = {}
        self.sizes: list[int] = []
        self.unmapped: dict[int, Block] = {}
        """The address space without memory, by address."""

    def __iter__(self) -> Iterator[Block]:
        for bucket in self.buckets.values():
            yield from bucket

    def add(self, block: Block) -> None:
        block.free = True
        bucket = self.buckets.get(block.size)
        if bucket is None:
            insort(self.sizes, block.size)
            self.buckets[block.size] = [block]
        elif bucket:
            insort(bucket, block, key=_address)
        else:
            bucket.append(block)

    def remove(self, block: Block) -> None:
        block.free = False
        self.buckets[block.size].remove(block)

    def best(self, size: int) -> Block | None:
        """The best block for `size` bytes; None if there is none."""
        bucket = self.buckets.get(size) or self._bucket_from(size)
        return None if bucket is None else bucket[0]

    def take(self, size: int) -> Block | None:
        """Removes and returns the best block for `size` bytes; None if there is none."""
        bucket = self.buckets.get(size) or self._bucket_from(size)
        if bucket is None:
            return None
        block = bucket.pop(0)
        block.free = False
        return block

    def ascending(self, size: int) -> Iterator[Block]:
        """The blocks of at least `size` bytes, best first."""
        bucket = self._bucket_from(size)
        while bucket is not None:
            yield from bucket
            bucket = self._bucket_from(bucket[0].size + 1)

    def _bucket_from(self, size: int) -> list[Block] | None:
        """The first bucket with blocks in it for `size` and above; the empty ones on the way are dropped."""
        sizes, buckets = self.sizes, self.buckets
        position = bisect_left(sizes, size)
        while position < len(sizes):
            bucket = buckets[sizes[position]]
            if bucket:
                return bucket
            del buckets[sizes.pop(position)]
        return None
