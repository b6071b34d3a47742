"""The driver's side: how much memory it still gives, at which addresses, and how much it gave so far."""

from __future__ import annotations

from tonnage.allocator.settings import SMALL_BUFFER
from tonnage.allocator.statistics import Metric, PooledMetric

_FIRST_ADDRESS = 0x7F0000000000


class Driver:
    """Hands out segments and pages until `capacity` bytes are out (None: without end).

    Addresses rise and are never used twice. Real drivers do reuse what was freed, in no documented order.
    """

    def __init__(self, *, capacity: int | None, oversize: int) -> None:
        self.capacity = capacity
        self.reserved_bytes = PooledMetric()
        self.segments = PooledMetric()
        self.oversize_segments = Metric()
        self.num_allocs = 0
        self.num_frees = 0
        self._oversize = oversize
        self._next_address = _FIRST_ADDRESS

    @property
    def reserved(self) -> int:
        return self.reserved_bytes.all.current

    def malloc(self, nbytes: int, *, small: bool) -> int | None:
        """The address of a new segment (cudaMalloc); None when the memory has run out."""
        if not self.map(nbytes, small=small):
            return None
        self.segments.increase(1, small=small)
        if nbytes >= self._oversize:
            self.oversize_segments.increase(1)
        return self.reserve(nbytes, alignment=SMALL_BUFFER)

    def free(self, nbytes: int, *, small: bool) -> None:
        """Takes a segment back (cudaFree)."""
        self.unmap(nbytes, small=small)
        self.segments.decrease(1, small=small)
        if nbytes >= self._oversize:
            self.oversize_segments.decrease(1)

    def reserve(self, nbytes: int, *, alignment: int) -> int:
        """The address of a new range without memory behind it (cuMemAddressReserve)."""
        address = -(-self._next_address // alignment) * alignment
        self._next_address = address + nbytes
        return address

    def map(self, nbytes: int, *, small: bool) -> bool:
        """Whether the driver had memory to back `nbytes` (cuMemCreate, cuMemMap): all of it or none."""
        if self.capacity is not None and self.reserved + nbytes > self.capacity:
            return False
        self.num_allocs += 1
        self.reserved_bytes.increase(nbytes, small=small)
        return True

    def unmap(self, nbytes: int, *, small: bool) -> None:
        self.num_frees += 1
        self.reserved_bytes.decrease(nbytes, small=small)
