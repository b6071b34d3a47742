"""Sequences of buffers: sizes that are taken, and negative ones that are given back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator


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
