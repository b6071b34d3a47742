"""Where blocks come from when no cached one fits: whole segments, or pages of expandable ones.

Rules after c10/cuda/CUDACachingAllocator.cpp (pytorch/pytorch@001074d2, PyTorch 2.6, unchanged in 2.11): alloc_block,
release_blocks, find_expandable_block, map_block, unmap_block.
"""

from __future__ import annotations

from typing import Protocol

from tonnage.allocator.blocks import Block, FreeBlocks
from tonnage.allocator.driver import Driver
from tonnage.allocator.settings import SMALL_BUFFER, Settings

_ENDLESS = 1 << 44
"""Address space that no card fills, for when the card's memory is not given."""


class Segments(Protocol):
    """A source of blocks."""

    heads: dict[Block, None]
    """The first block of every segment, oldest segment first."""

    def obtain(self, pool: FreeBlocks, size: int) -> Block | None:
        """A new block of at least `size` bytes, not in `pool`; None when the driver has no memory left."""

    def release_free(self, pool: FreeBlocks) -> None:
        """Gives back to the driver what it can take of the free blocks of `pool`."""


class WholeSegments:
    """One cudaMalloc per segment; a segment goes back only when all of it is one free block."""

    def __init__(self, driver: Driver, settings: Settings) -> None:
        self.heads: dict[Block, None] = {}
        self._driver = driver
        self._settings = settings

    def obtain(self, pool: FreeBlocks, size: int) -> Block | None:
        nbytes = self._settings.segment_size(size)
        address = self._driver.malloc(nbytes, small=pool.small)
        if address is None:
            return None
        block = Block(pool, address, nbytes)
        self.heads[block] = None
        return block

    def release(self, block: Block) -> None:
        """Gives the segment that the free `block` fills back to the driver."""
        block.pool.remove(block)
        del self.heads[block]
        self._driver.free(block.size, small=block.pool.small)

    def release_free(self, pool: FreeBlocks) -> None:
        for block in list(pool):
            if not block.split:
                self.release(block)


class ExpandableSegments:
    """One long address range per pool and stream, backed page by page from the lowest address up."""

    def __init__(self, driver: Driver, settings: Settings, total_memory: int | None) -> None:
        self.heads: dict[Block, None] = {}
        self._driver = driver
        self._large_page = settings.large_segment_size
        # 9/8 of the card's memory: ExpandableSegment::ExpandableSegment
        self._range = _ENDLESS if total_memory is None else total_memory + total_memory // 8

    def obtain(self, pool: FreeBlocks, size: int) -> Block | None:
        block: Block | None = self._find(pool, size)
        assert block is not None
        if not block.mapped:
            block = self._map(block, min(block.size, size))
        while block is not None and block.size < size:
            assert block.next is not None
            block = self._map(block.next, min(block.next.size, size - block.size))
        if block is not None:
            pool.remove(block)
        return block

    def release_free(self, pool: FreeBlocks) -> None:
        for block in list(pool):
            self._unmap(block)

    def _page(self, pool: FreeBlocks) -> int:
        return SMALL_BUFFER if pool.small else self._large_page

    def _find(self, pool: FreeBlocks, size: int) -> Block:
        """The lowest block from which on `size` bytes are free or unmapped; in a new range if there is none."""
        for address in sorted(pool.unmapped):
            block = pool.unmapped[address]
            if block.prev is not None and block.prev.free:
                block = block.prev
            if _room_from(block, size) >= size:
                return block
        page = self._page(pool)
        length = -(-self._range // page) * page
        block = Block(pool, self._driver.reserve(length, alignment=page), length)
        self.heads[block] = None
        pool.unmapped[block.address] = block
        return block

    def _map(self, block: Block, nbytes: int) -> Block | None:
        """Backs the first `nbytes` of the unmapped `block`, in whole pages; the free block that comes of it."""
        pool = block.pool
        page = self._page(pool)
        nbytes = -(-nbytes // page) * page
        if not self._driver.map(nbytes, small=pool.small):
            return None
        del pool.unmapped[block.address]
        if nbytes < block.size:
            rest = block.cut(nbytes)
            pool.unmapped[rest.address] = rest
        return _merge_free(block)

    def _unmap(self, block: Block) -> None:
        """Gives the pages that lie whole in the free `block` back to the driver."""
        pool, page = block.pool, self._page(block.pool)
        start = -(-block.address // page) * page
        end = (block.address + block.size) // page * page
        if start >= end:
            return
        pool.remove(block)
        inner = block
        if start > block.address:
            inner = block.cut(start - block.address)
            pool.add(block)
        if inner.address + inner.size > end:
            pool.add(inner.cut(end - start))
        self._driver.unmap(inner.size, small=pool.small)
        self._forget(inner)

    def _forget(self, block: Block) -> None:
        """Joins the block that lost its memory with the unmapped ones around it; a range all unmapped goes."""
        unmapped = block.pool.unmapped
        if block.next is not None and not block.next.mapped:
            del unmapped[block.next.address]
            block.absorb_next()
        if block.prev is not None and not block.prev.mapped:
            block = block.prev
            block.absorb_next()
        unmapped[block.address] = block
        if not block.split:
            del unmapped[block.address]
            del self.heads[block]


def _room_from(block: Block | None, enough: int) -> int:
    """The free and unmapped bytes from `block` on, without a gap; counting stops at `enough`."""
    room = 0
    while block is not None and room < enough and (block.free or not block.mapped):
        room += block.size
        block = block.next
    return room


def _merge_free(block: Block) -> Block:
    """Puts `block` among the free ones, joined with its free neighbours."""
    pool = block.pool
    if block.next is not None and block.next.free:
        pool.remove(block.next)
        block.absorb_next()
    if block.prev is not None and block.prev.free:
        block = block.prev
        pool.remove(block)
        block.absorb_next()
    pool.add(block)
    return block
