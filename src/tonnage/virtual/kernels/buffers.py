"""Buffers that kernels of many families take: sizes in order, and negative ones that are given back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from torch import Tensor


def and_returned(taken: Iterable[int]) -> Iterator[int]:
    """The buffers of one step of a kernel, and then whatever of them is still held, the last first.

    >>> list(and_returned([8, 16, -16, 4]))
    [8, 16, -16, 4, -4, -8]
    """
    held: list[int] = []
    for size in taken:
        if size < 0:
            del held[max(place for place, other in enumerate(held) if other == -size)]
        elif size:
            held.append(size)
        yield size
    yield from (-size for size in reversed(held))


def dense_copies(*tensors: Tensor) -> Iterator[int]:
    """Bytes of what a kernel copies because it cannot read it as it lies."""
    for tensor in tensors:
        if tensor.is_meta and not tensor.is_contiguous():
            yield tensor.numel() * tensor.element_size()
