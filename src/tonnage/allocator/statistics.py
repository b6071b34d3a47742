"""The numbers behind torch.cuda.memory_stats(): current, peak, and the sums of what came and went."""

from __future__ import annotations


class Metric:
    """One statistic; a peak moves only on an increase (c10/core/CachingDeviceAllocator.h: Stat)."""

    __slots__ = ("allocated", "current", "freed", "peak")

    def __init__(self) -> None:
        self.current = self.peak = self.allocated = self.freed = 0

    def increase(self, amount: int) -> None:
        self.allocated += amount
        self.current += amount
        if self.current > self.peak:
            self.peak = self.current

    def decrease(self, amount: int) -> None:
        self.current -= amount
        self.freed += amount

    def change(self, amount: int) -> None:
        if amount > 0:
            self.increase(amount)
        elif amount < 0:
            self.decrease(-amount)

    def reset_peak(self) -> None:
        self.peak = self.current

    def reset_accumulated(self) -> None:
        self.allocated = self.freed = 0

    def named(self, prefix: str) -> dict[str, int]:
        """The four numbers under the names that torch.cuda.memory_stats() gives them."""
        return {f"{prefix}.{kind}": getattr(self, kind) for kind in ("current", "peak", "allocated", "freed")}


class PooledMetric:
    """A statistic of the small pool, of the large pool, and of both together."""

    __slots__ = ("all", "large_pool", "small_pool")

    def __init__(self) -> None:
        self.all = Metric()
        self.small_pool = Metric()
        self.large_pool = Metric()

    def increase(self, amount: int, *, small: bool) -> None:
        self.all.increase(amount)
        (self.small_pool if small else self.large_pool).increase(amount)

    def decrease(self, amount: int, *, small: bool) -> None:
        self.all.decrease(amount)
        (self.small_pool if small else self.large_pool).decrease(amount)

    def change(self, amount: int, *, small: bool) -> None:
        self.all.change(amount)
        (self.small_pool if small else self.large_pool).change(amount)

    def metrics(self) -> tuple[Metric, Metric, Metric]:
        return self.all, self.small_pool, self.large_pool

    def named(self, prefix: str) -> dict[str, int]:
        return (
            self.all.named(f"{prefix}.all")
            | self.small_pool.named(f"{prefix}.small_pool")
            | self.large_pool.named(f"{prefix}.large_pool")
        )
