"""Sorting along a dimension.

ATen/native/cuda/Sort.cpp and SortStable.cu. Slices of up to 4096 are sorted in the outputs themselves; longer ones by
cub, whole, in pairs of slice and place, or slice by slice.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil, log2
from typing import TYPE_CHECKING, Any

import torch

from tonnage.virtual.kernels.buffers import and_returned
from tonnage.virtual.kernels.sorting import cub
from tonnage.virtual.layout import is_dense

if TYPE_CHECKING:
    from tonnage.virtual.gpu import VirtualGpu

aten = torch.ops.aten
INDEX = 8
SMALL = 4096
"""should_use_small_sort of Sort.h."""
ONE_FILLS_THE_CARD, FEW_SLICES = 1_000_000, 128
MOST = 2**31 - 1


def _sort(gpu: VirtualGpu, args: Any, kwargs: Any) -> Iterator[int]:
    dim = args[1] if len(args) > 1 else kwargs.get("dim", -1)
    yield from sort_buffers(gpu, args[0], dim)


def _stable_sort(gpu: VirtualGpu, args: Any, kwargs: Any) -> Iterator[int]:
    yield from sort_buffers(gpu, args[0], kwargs.get("dim", -1))


def sort_buffers(gpu: VirtualGpu, tensor: torch.Tensor, dim: int) -> Iterator[int]:
    """What `sort` takes beside its outputs; a negative number is given back."""
    if not (tensor.is_meta and tensor.numel() and tensor.dim()):
        return
    size, count = tensor.element_size(), tensor.numel()
    length = tensor.shape[dim]
    if length <= SMALL:
        yield length * INDEX  # fillSliceWithIndex
        return
    if not (is_dense(tensor) and tensor.stride(dim) == 1):
        yield count * size
        if not _is_fastest(tensor, dim):  # the outputs lie as the input does, and not as its copy
            yield from (count * size, count * INDEX)
    batch = min(count, MOST) // length * length
    for start in range(0, count, batch):
        yield from and_returned(_segments(gpu, min(batch, count - start), length, size))


def _is_fastest(tensor: torch.Tensor, dim: int) -> bool:
    wide = [stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True) if size > 1]
    return tensor.stride(dim) <= min(wide)


def _segments(gpu: VirtualGpu, items: int, length: int, size: int) -> Iterator[int]:
    """launch_stable_sort_kernel for slices that 32 bits can count."""
    slices, capability, offset = items // length, gpu.card.compute_capability, gpu.rules.cub_offset
    if slices >= FEW_SLICES and length < ONE_FILLS_THE_CARD:
        yield items * INDEX
        yield cub.segmented_radix_sort(items, key=size, value=INDEX)
        return
    if not cub.in_one_sweep(size, capability):
        gpu.not_counted(
            "cub's histograms in a sort of 8- or 16-bit values", "their size depends on what runs at a time"
        )
    if gpu.rules.sorts_long_slices_alone and (slices == 1 or length >= ONE_FILLS_THE_CARD):
        yield length * INDEX
        yield cub.radix_sort(length, key=size, value=INDEX, offset=offset, capability=capability)
        return
    yield from (items * INDEX, items * INDEX)
    pairs = cub.radix_sort(items, key=size, value=INDEX, offset=offset, capability=capability)
    yield from (items * size, pairs, -pairs, -items * size)
    bits = max(1, ceil(log2(slices)))
    yield cub.radix_sort(items, key=INDEX, bits=bits, offset=offset, capability=capability)


SCRATCH = {aten.sort.default: _sort, aten.sort.stable: _stable_sort}
