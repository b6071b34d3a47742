"""How PyTorch's tensor iterator sees a reduction: dimensions sorted, merged and, above 2 GiB, split.

ATen/TensorIterator.cpp: reorder_dimensions (reduced dimensions first, then by stride), coalesce_dimensions,
can_use_32bit_indexing and split. Operand 0 is the output, whose reduced dimensions have stride 0; the last one is the
input. Strides are in bytes, the fastest dimension comes first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod

INT32_MAX = 2**31 - 1


@dataclass(frozen=True)
class Iteration:
    """The loop of one reduction kernel."""

    shape: tuple[int, ...]
    out: tuple[int, ...]
    """Byte strides of the output, 0 where a dimension is reduced."""
    into: tuple[int, ...]
    """Byte strides of the input."""

    @property
    def reduced(self) -> int:
        """num_reduce_dims."""
        return self.out.count(0)

    @property
    def outputs(self) -> int:
        """num_output_elements."""
        return prod(size for size, stride in zip(self.shape, self.out, strict=True) if stride or not size)

    @property
    def inputs_per_output(self) -> int:
        return prod(self.shape) // self.outputs

    @property
    def indexable(self) -> bool:
        """Whether 32-bit offsets reach every element (can_use_32bit_indexing)."""
        if prod(self.shape) > INT32_MAX:
            return False
        return all(self._extent(strides) <= INT32_MAX for strides in (self.out, self.into))

    def _extent(self, strides: tuple[int, ...]) -> int:
        return 1 + sum((size - 1) * stride for size, stride in zip(self.shape, strides, strict=True))

    def pieces(self) -> Iterator[Iteration]:
        """The loops that 32-bit offsets can do, in order: the widest dimension is halved until they can."""
        if self.indexable:
            yield self
            return
        dim = self._widest()
        half = self.shape[dim] // 2
        for size in (half, self.shape[dim] - half):
            yield from Iteration((*self.shape[:dim], size, *self.shape[dim + 1 :]), self.out, self.into).pieces()

    def _widest(self) -> int:
        """get_dim_to_split: the last dimension in order that spans the most bytes of any operand."""
        best, most = -1, -1
        for dim in reversed(range(len(self.shape))):
            for strides in (self.out, self.into):
                extent = (self.shape[dim] - 1) * strides[dim]
                if extent > most:
                    best, most = dim, extent
        return best


def reduction(
    shape: Sequence[int], strides: Sequence[int], dims: Sequence[int], *, itemsize: int, out_itemsize: int
) -> Iteration:
    """The loop of a reduction over `dims` (all of them if there are none) of a tensor with element `strides`.

    >>> reduction((8192, 768), (768, 1), (0,), itemsize=4, out_itemsize=4)
    Iteration(shape=(8192, 768), out=(0, 4), into=(3072, 4))
    """
    rank = len(shape)
    over = {d % rank for d in dims} if dims and rank else set(range(rank))
    out, step = [0] * rank, out_itemsize
    for d in reversed(range(rank)):
        if d not in over:
            out[d] = step
            step *= max(shape[d], 1)
    into = [stride * itemsize for stride in strides]
    order = _sorted(shape, out, into)
    return _merged([shape[d] for d in order], [out[d] for d in order], [into[d] for d in order])


def _sorted(shape: Sequence[int], out: Sequence[int], into: Sequence[int]) -> list[int]:
    """The insertion sort of reorder_dimensions, which leaves ambiguous pairs where they are."""
    order = list(reversed(range(len(shape))))
    for i in range(1, len(order)):
        later = i
        for earlier in range(i - 1, -1, -1):
            comparison = _compare(order[earlier], order[later], shape, out, into)
            if comparison < 0:
                break
            if comparison > 0:
                order[earlier], order[later] = order[later], order[earlier]
                later = earlier
    return order


def _compare(a: int, b: int, shape: Sequence[int], out: Sequence[int], into: Sequence[int]) -> int:
    """1 if dimension `a` belongs after `b`, -1 if before, 0 if either will do (should_swap)."""
    if (out[a] == 0) != (out[b] == 0):
        return 1 if out[b] == 0 else -1
    for strides in (out, into):
        if strides[a] == 0 or strides[b] == 0:
            continue
        if strides[a] != strides[b]:
            return -1 if strides[a] < strides[b] else 1
        if shape[a] > shape[b]:
            return 1
    return 0


def _merged(shape: list[int], out: list[int], into: list[int]) -> Iteration:
    """coalesce_dimensions: neighbours that lie one after the other in every operand become one."""
    kept: list[list[int]] = []
    for size, *strides in zip(shape, out, into, strict=True):
        last = kept[-1] if kept else None
        if last is not None and (
            1 in (last[0], size) or all(last[0] * a == b for a, b in zip(last[1:], strides, strict=True))
        ):
            if last[0] == 1:
                last[1:] = strides
            last[0] *= size
        else:
            kept.append([size, *strides])
    columns = tuple(zip(*kept, strict=True)) if kept else ((), (), ())
    return Iteration(*columns)
