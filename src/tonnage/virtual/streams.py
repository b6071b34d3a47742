"""Streams and events of the virtual GPU, on which nothing runs and nothing waits."""

from __future__ import annotations

import itertools
from typing import Any

from tonnage.virtual.storages import Place

POOL = 32
"""Streams in the pool of a priority, given out in turn (c10/cuda/CUDAStream.cpp, kStreamsPerPool)."""


class Stream:
    """A stream of the card: its own part of the allocator's cache, and nothing to wait for.

    The default stream is number 0. `made` counts those given out; each card has its own class, with its own count.
    """

    made = itertools.count()

    def __init__(self, device: Any = None, priority: int = 0, *, stream_id: int | None = None, **_: Any) -> None:
        number = 1 + next(type(self).made) % POOL + (POOL if priority < 0 else 0) if stream_id is None else stream_id
        self.cuda_stream = self.stream_id = number
        self.priority = priority
        self.device = Place.CARD.value
        self.device_index = 0
        self.device_type = 1

    @staticmethod
    def priority_range() -> tuple[int, int]:
        return 0, -5

    def synchronize(self) -> None:
        """Returns at once: nothing runs."""

    def wait_stream(self, stream: Any) -> None:
        """Returns at once."""

    def wait_event(self, event: Any) -> None:
        """Returns at once."""

    def query(self) -> bool:
        return True

    def is_capturing(self) -> bool:
        return False

    def record_event(self, event: Any = None) -> Any:
        return event if event is not None else Event()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Stream) and other.cuda_stream == self.cuda_stream

    def __hash__(self) -> int:
        return hash(("tonnage.Stream", self.cuda_stream))

    def __repr__(self) -> str:
        return f"<torch.cuda.Stream device={self.device} cuda_stream={self.cuda_stream:#x}>"


class Event:
    """An event that has always happened; time does not pass on the virtual GPU."""

    def __init__(
        self, enable_timing: bool = False, blocking: bool = False, interprocess: bool = False, **_: Any
    ) -> None:
        self.device = Place.CARD.value

    def record(self, stream: Any = None) -> None:
        """Returns at once."""

    def wait(self, stream: Any = None) -> None:
        """Returns at once."""

    def synchronize(self) -> None:
        """Returns at once."""

    def query(self) -> bool:
        return True

    def elapsed_time(self, end_event: Any) -> float:
        return 0.0
