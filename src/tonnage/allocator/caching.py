"""The allocator behind torch.cuda: the rules of `core`, with all that memory_stats() and memory_snapshot() tell."""

from __future__ import annotations

from typing import Any

from tonnage.allocator.blocks import Block
from tonnage.allocator.core import BlockAllocator
from tonnage.allocator.settings import Settings
from tonnage.allocator.snapshot import snapshot
from tonnage.allocator.statistics import Metric, PooledMetric


class CachingAllocator(BlockAllocator):
    """A caching allocator to step through by hand.

    >>> allocator = CachingAllocator()
    >>> block = allocator.malloc(11 * 2**20)
    >>> block.size, allocator.allocated, allocator.reserved
    (12582912, 12582912, 12582912)
    >>> allocator.free(block)
    >>> allocator.allocated, allocator.peak_allocated, allocator.reserved
    (0, 12582912, 12582912)

    `capacity` is all that the driver will give, in bytes (None: without end); `total_memory` is the memory of the
    card, of which expandable segments and per_process_memory_fraction take their size. The statistics mean what
    c10/core/CachingDeviceAllocator.h says of DeviceStats: `allocated` counts whole blocks, `requested` what was
    asked for, `active` also blocks that wait for other streams, `inactive_split` free bytes that empty_cache cannot
    give back (not counted for expandable segments).
    """

    def __init__(
        self, settings: Settings | None = None, *, capacity: int | None = None, total_memory: int | None = None
    ) -> None:
        super().__init__(settings, capacity=capacity, total_memory=total_memory)
        self._allocation = PooledMetric()
        self._allocated_bytes = PooledMetric()
        self._active = PooledMetric()
        self._active_bytes = PooledMetric()
        self._requested_bytes = PooledMetric()
        self._inactive_split = PooledMetric()
        self._inactive_split_bytes = PooledMetric()
        self._oversize_allocations = Metric()

    @property
    def allocated(self) -> int:
        return self._allocated_bytes.all.current

    @property
    def peak_allocated(self) -> int:
        return self._allocated_bytes.all.peak

    @property
    def active(self) -> int:
        return self._active_bytes.all.current

    @property
    def requested(self) -> int:
        return self._requested_bytes.all.current

    @property
    def inactive_split(self) -> int:
        return self._inactive_split_bytes.all.current

    def malloc(self, nbytes: int, stream: int = 0) -> Block:
        block = super().malloc(nbytes, stream)
        if block.size:
            self._count_malloc(block)
        return block

    def free(self, block: Block) -> None:
        if block.size:
            small = block.pool.small
            self._allocation.decrease(1, small=small)
            self._allocated_bytes.decrease(block.size, small=small)
            if block.size >= self._max_split:
                self._oversize_allocations.decrease(1)
            if block.uses is None:
                self._count_inactive(block)
        super().free(block)

    def _finish(self, block: Block) -> None:
        self._count_inactive(block)
        super()._finish(block)

    def reset_peak(self) -> None:
        """Every peak becomes the current value (torch.cuda.reset_peak_memory_stats)."""
        for metric in self._all_metrics():
            metric.reset_peak()

    def reset_accumulated(self) -> None:
        """Every sum of what came and went, and every count, starts at zero (reset_accumulated_memory_stats)."""
        for metric in self._all_metrics():
            metric.reset_accumulated()
        self.num_alloc_retries = self.num_ooms = self.num_sync_all_streams = 0
        self.driver.num_allocs = self.driver.num_frees = 0

    def stats(self) -> dict[str, int]:
        """The numbers of torch.cuda.memory_stats(), under its names."""
        counts = {
            "num_alloc_retries": self.num_alloc_retries,
            "num_ooms": self.num_ooms,
            "num_sync_all_streams": self.num_sync_all_streams,
            "num_device_alloc": self.driver.num_allocs,
            "num_device_free": self.driver.num_frees,
            # rejections need throw_on_cudamalloc_oom, which Settings refuses
            "num_oom_rejections": 0,
            # PyTorch stores the largest size_t as int64 when no limit is set
            "max_split_size": -1 if self.settings.max_split_size is None else self.settings.max_split_size,
        }
        for name, pooled in self._pooled().items():
            counts.update(pooled.named(name))
        for name, metric in self._oversize().items():
            counts.update(metric.named(name))
        return dict(sorted(counts.items()))

    def segments(self) -> list[dict[str, Any]]:
        """The segments and their blocks as torch.cuda.memory_snapshot() lists them, by address.

        An expandable segment is listed once per stretch of mapped memory.
        """
        return snapshot(self._segments.heads, waiting=set(self._waiting), expandable=self._whole is None)

    def _count_malloc(self, block: Block) -> None:
        small = block.pool.small
        self._allocation.increase(1, small=small)
        self._allocated_bytes.increase(block.size, small=small)
        self._active.increase(1, small=small)
        self._active_bytes.increase(block.size, small=small)
        self._requested_bytes.increase(block.requested, small=small)
        if block.size >= self._max_split:
            self._oversize_allocations.increase(1)
        if self._whole is None:
            return
        rest = block.next
        if rest is not None and rest.free:
            if block.prev is None and rest.next is None:
                self._inactive_split.increase(1, small=small)
                self._inactive_split_bytes.increase(rest.size, small=small)
            else:
                self._inactive_split_bytes.decrease(block.size, small=small)
        elif block.split:
            self._inactive_split.decrease(1, small=small)
            self._inactive_split_bytes.decrease(block.size, small=small)

    def _count_inactive(self, block: Block) -> None:
        """Counts that `block`, about to be free, is no longer active."""
        small = block.pool.small
        self._active.decrease(1, small=small)
        self._active_bytes.decrease(block.size, small=small)
        self._requested_bytes.decrease(block.requested, small=small)
        if self._whole is None:
            return
        before, after = block.prev, block.next
        merged = [side for side in (before, after) if side is not None and side.free]
        fills_segment = (before is None or (before.free and before.prev is None)) and (
            after is None or (after.free and after.next is None)
        )
        nbytes = 0 if fills_segment else block.size
        if fills_segment:
            nbytes -= sum(side.size for side in merged)
        self._inactive_split.change((0 if fills_segment else 1) - len(merged), small=small)
        self._inactive_split_bytes.change(nbytes, small=small)

    def _pooled(self) -> dict[str, PooledMetric]:
        return {
            "allocation": self._allocation,
            "allocated_bytes": self._allocated_bytes,
            "active": self._active,
            "active_bytes": self._active_bytes,
            "requested_bytes": self._requested_bytes,
            "inactive_split": self._inactive_split,
            "inactive_split_bytes": self._inactive_split_bytes,
            "segment": self.driver.segments,
            "reserved_bytes": self.driver.reserved_bytes,
        }

    def _oversize(self) -> dict[str, Metric]:
        return {
            "oversize_allocations": self._oversize_allocations,
            "oversize_segments": self.driver.oversize_segments,
        }

    def _all_metrics(self) -> list[Metric]:
        pooled = [metric for group in self._pooled().values() for metric in group.metrics()]
        return [*pooled, *self._oversize().values()]
