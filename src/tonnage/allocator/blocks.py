"""Blocks of device memory, and the free ones of one pool and stream, found best fit first."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator


class Block:
    """A range of device addresses: handed out, waiting for streams, free, or address space without memory.

    `size` is the whole block, `requested` what was asked for. `prev` and `next` are its neighbours in the same
    segment. `free`: cached, ready to be handed out. `mapped` False: address space of an expandable segment that no
    memory backs. `uses` are the streams that record_stream named, None for none. `idle_since` is the number of
    searches made before the block became free, kept only under garbage collection.

    Splitting and merging keep the object at the lower address, so the first block of a segment never changes.
    """

    __slots__ = ("address", "free", "idle_since", "mapped", "next", "pool", "prev", "requested", "size", "uses")

    next: Block | None
    prev: Block | None

    def __init__(self, pool: FreeBlocks, address: int, size: int) -> None:
        self.pool = pool
        self.address = address
        self.size = size
        self.requested = 0
        self.prev = None
        self.next = None
        self.free = False
        self.mapped = True
        self.uses: set[int] | None = None
        self.idle_since = 0

    @property
    def stream(self) -> int:
        return self.pool.stream

    @property
    def split(self) -> bool:
        """Whether the block is only a part of its segment."""
        return self.prev is not None or self.next is not None

    def cut(self, size: int) -> Block:
        """Keeps the first `size` bytes and gives back the rest as a block of its own."""
        rest = Block(self.pool, self.address + size, self.size - size)
        rest.prev, rest.next = self, self.next
        if rest.next is not None:
            rest.next.prev = rest
        self.next = rest
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

    A search gives the smallest block that holds the size; ties go to the lowest address. Segments get rising
    addresses here, so that is the oldest segment first and then the address within it: the order of PyTorch since
    pull request 183591. Up to 2.11 the driver's addresses alone decided.

    Blocks lie in one bucket of addresses per exact size, because training asks for the same sizes over and over:
    most searches end at the bucket of that very size. `sizes` lists the buckets' sizes in order; an empty bucket
    stays until a search passes over it.
    """

    __slots__ = ("at", "buckets", "largest_rest", "sizes", "small", "stream", "unmapped")

    def __init__(self, *, small: bool, stream: int, largest_rest: int) -> None:
        self.small = small
        self.stream = stream
        self.largest_rest = largest_rest
        """A block is split when more than this many bytes would be left over."""
        self.at: dict[int, Block] = {}
        """The free blocks by address."""
        self.buckets: dict[int, list[int]] = {}
        self.sizes: list[int] = []
        self.unmapped: dict[int, Block] = {}
        """The address space without memory, by address."""

    def add(self, block: Block) -> None:
        block.free = True
        self.at[block.address] = block
        bucket = self.buckets.get(block.size)
        if bucket:
            insort(bucket, block.address)
        elif bucket is None:
            insort(self.sizes, block.size)
            self.buckets[block.size] = [block.address]
        else:
            bucket.append(block.address)

    def remove(self, block: Block) -> None:
        block.free = False
        del self.at[block.address]
        self.buckets[block.size].remove(block.address)

    def best(self, size: int) -> Block | None:
        """The best block for `size` bytes; None if there is none."""
        bucket = self.buckets.get(size) or self._bucket_from(size)
        return None if bucket is None else self.at[bucket[0]]

    def take(self, size: int) -> Block | None:
        """Removes and returns the best block for `size` bytes; None if there is none."""
        bucket = self.buckets.get(size) or self._bucket_from(size)
        if bucket is None:
            return None
        block = self.at.pop(bucket.pop(0))
        block.free = False
        return block

    def ascending(self, size: int) -> Iterator[Block]:
        """The blocks of at least `size` bytes, best first."""
        bucket = self._bucket_from(size)
        while bucket is not None:
            for address in bucket:
                block = self.at[address]
                yield block
            bucket = self._bucket_from(block.size + 1)

    def _bucket_from(self, size: int) -> list[int] | None:
        """The first bucket with blocks in it for `size` and above; the empty ones on the way are dropped."""
        sizes, buckets = self.sizes, self.buckets
        position = bisect_left(sizes, size)
        while position < len(sizes):
            bucket = buckets[sizes[position]]
            if bucket:
                return bucket
            del buckets[sizes.pop(position)]
        return None
