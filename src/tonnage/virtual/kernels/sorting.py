"""Sorting: short slices in place, long ones by cub's radix sort, with copies of keys and indices.

ATen/native/cuda/Sort.cpp (sort_cuda_kernel) and SortStable.cu (launch_stable_sort_kernel). Up to 4096 elements a slice
is sorted where it lies, after a range has been written to the indices. A longer one is sorted out of place: alone, by
value and then by slice, or by slices, depending on how many there are. cub's own storage is that of
cub/device/dispatch/dispatch_radix_sort.cuh (InvokeOnesweep) with the block sizes of CUDA 13's tuning; other releases
differ in those, which is about one part in fifty.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch

from tonnage.units import KiB
from tonnage.virtual.layout import is_dense

if TYPE_CHECKING:
    from tonnage.virtual.gpu import VirtualGpu

aten = torch.ops.aten

SHORT = 4096
"""should_use_small_sort of Sort.h, since 1.13."""
ALONE, FEW = 1_000_000, 128
"""Slices of so many elements are sorted one by one; up to so many slices in one go by value, then by slice."""
INT_MAX = 2**31 - 1
INDEX = 8
"""Bytes of an index, and of the pair of slice and index (int2)."""

DIGITS = 256
"""A pass of the radix sort takes 8 bits."""
PORTION = 2**28 - 1
SHARED = 48 * KiB
_ALIGN = 256
"""alias_temporaries (cub/detail/temporary_storage.cuh) rounds each part up to this."""


def radix_storage(elements: int, key_size: int, value_size: int, capability: tuple[int, int], *, bits: int) -> int:
    """Bytes that cub's radix sort takes for itself: counts, look-back and, from two passes on, a second copy of all.

    >>> radix_storage(400_000_000, 4, 8, (8, 0), bits=32)
    4871591423
    """
    passes = -(-bits // 8)
    tile = _tile(key_size, value_size, capability)
    portion = PORTION // tile * tile
    portions, blocks = -(-elements // portion), -(-min(elements, portion) // tile)
    copies = elements if passes > 1 else 0
    parts = (
        portions * passes * DIGITS * 4,
        blocks * DIGITS * 4,
        copies * key_size,
        copies * value_size,
        portions * passes * 4,
    )
    return sum(-(-part // _ALIGN) * _ALIGN for part in parts) + _ALIGN - 1


def _tile(key_size: int, value_size: int, capability: tuple[int, int]) -> int:
    """Elements of one block (tuning_radix_sort.cuh, scaled by scale_reg_bound of util_arch.cuh)."""
    widest = max(key_size, value_size)
    threads, items = _nominal(key_size, value_size, capability)
    items = max(1, items * 4 // max(4, widest))
    return items * min(threads, -(-SHARED // (widest * items) // 32) * 32)


def _nominal(key_size: int, value_size: int, capability: tuple[int, int]) -> tuple[int, int]:
    if capability >= (9, 0):
        if key_size < 4:
            return 384, 23
        return 384, 30 if key_size == 4 or value_size < 8 else 24
    if capability >= (8, 0):
        return 384, 21
    return 256, 23 if capability >= (7, 0) else 30


def _sort(gpu: VirtualGpu, args: Any, kwargs: Any) -> Iterator[int]:
    tensor, dim = args[0], args[1] if len(args) > 1 else kwargs.get("dim", -1)
    if not tensor.is_meta or not tensor.numel() or not tensor.dim():
        return
    length, numel, key_size = tensor.shape[dim], tensor.numel(), tensor.element_size()
    if length <= SHORT:
        yield length * INDEX
        yield -length * INDEX
        return
    yield from _turned(tensor, dim)
    batch = min(numel, INT_MAX) // length * length
    for elements in [batch] * (numel // batch) + ([numel % batch] if numel % batch else []):
        yield from _sort_slices(gpu, elements, length, key_size)


def _turned(tensor: torch.Tensor, dim: int) -> Iterator[int]:
    """Unless slices lie in one piece: a copy in which they do and, if another dimension is faster, such outputs too."""
    step = tensor.stride(dim)
    if is_dense(tensor) and step == 1:
        return
    yield tensor.numel() * tensor.element_size()
    if any(size > 1 and stride < step for size, stride in zip(tensor.shape, tensor.stride(), strict=True)):
        yield tensor.numel() * tensor.element_size()
        yield tensor.numel() * INDEX


def _sort_slices(gpu: VirtualGpu, elements: int, length: int, key_size: int) -> Iterator[int]:
    """launch_stable_sort_kernel: what one launch takes, and gives back."""
    capability, slices = gpu.card.compute_capability, elements // length
    alone = gpu.rules.sorts_long_slices_alone and (slices == 1 or length >= ALONE)
    if alone:
        taken = [length * INDEX, _pairs(gpu, length, key_size)]
    elif slices < FEW:
        taken = [elements * INDEX, elements * INDEX, elements * key_size, _pairs(gpu, elements, key_size)]
    else:
        taken = [elements * INDEX, elements * (key_size + INDEX)]
    yield from taken
    if not alone and slices < FEW:
        yield from (-taken.pop(), -taken.pop())
        taken.append(radix_storage(elements, INDEX, 0, capability, bits=max(1, (slices - 1).bit_length())))
        yield taken[-1]
    yield from (-nbytes for nbytes in reversed(taken))


def _pairs(gpu: VirtualGpu, elements: int, key_size: int) -> int:
    """Storage of one radix sort of keys with indices; 8 and 16 bits take the older algorithm before 9.0."""
    capability = gpu.card.compute_capability
    if key_size < 4 and capability < (9, 0):
        gpu.not_counted(
            "cub's histograms of a sort of 8- or 16-bit keys", "by the occupancy of its kernels, about 1 MiB"
        )
        return elements * (key_size + INDEX)
    return radix_storage(elements, key_size, INDEX, capability, bits=8 * key_size)


SCRATCH = dict.fromkeys((aten.sort.default, aten.sort.stable), _sort)
