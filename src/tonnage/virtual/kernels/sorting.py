"""Sorting, choosing the largest, running sums, and draws.

ATen/native/cuda/Sort.cpp, SortStable.cu, TensorTopK.cpp, TensorTopK.cu and ScanKernels.cpp. Slices of up to 4096 are
sorted in the outputs themselves; longer ones by cub, whole, in pairs of slice and place, or slice by slice.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil, log2
from typing import TYPE_CHECKING, Any

import torch

from tonnage.virtual.kernels import cub
from tonnage.virtual.kernels.buffers import and_returned
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


# The largest ----------------------------------------------------------------------------------------------------------

THREADS, DIGITS, MOST_ITEMS, LEAST_ITEMS = 256, 256, 64, 4
BLOCKS_PER_SM = 65536 // (40 * THREADS)
"""Registers of an SM over those of a block (get_items_per_thread)."""
_MULTIBLOCK = ((20, 20000), (40, 10000), (80, 8000), (199, 5000), (799, 3000), (4000, 800))


def _several_blocks(slices: int, length: int) -> bool:
    """should_use_multiblock: up to so many slices, each at least so long."""
    return length >= next((least for most, least in _MULTIBLOCK if slices <= most), 400)


def _topk(gpu: VirtualGpu, args: Any, kwargs: Any) -> Iterator[int]:
    tensor, k = args[:2]
    dim = args[2] if len(args) > 2 else -1
    ordered = args[4] if len(args) > 4 else True
    if not (tensor.is_meta and tensor.numel() and tensor.dim() and k):
        return
    if not tensor.is_contiguous():
        yield tensor.numel() * tensor.element_size()
    length = tensor.shape[dim]
    slices = tensor.numel() // length
    if _several_blocks(slices, length):
        yield from and_returned(_radix_select(gpu, slices, length, tensor.element_size()))
    if ordered and k > SMALL:
        yield from (slices * k * INDEX, slices * k * tensor.element_size())
        gpu.not_counted("the sort of topk's result", "of more than 4096 a slice")


def _radix_select(gpu: VirtualGpu, slices: int, length: int, size: int) -> Iterator[int]:
    """mbtopk::launch; scans by cub are left out, of some hundred bytes."""
    across = gpu.card.sm_count * BLOCKS_PER_SM * THREADS
    items = max(LEAST_ITEMS, min(-(-slices * length // across), MOST_ITEMS))
    blocks = slices * -(-length // (items * THREADS))
    radix = max(size, 4)  # TopKTypeConfig: 16-bit floats and smaller integers are compared in 32 bits
    yield from (slices * size, 2 * slices * 4, 2 * slices * radix, blocks * DIGITS * 2)
    if gpu.rules.sums_digits_of_topk:
        yield slices * DIGITS * 4
    yield from (blocks * 4, blocks * 4)


# Running sums ---------------------------------------------------------------------------------------------------------


def _running(gpu: VirtualGpu, args: Any, kwargs: Any) -> Iterator[int]:
    """cumsum and cumprod: the input in the type of the result, and in order. cub's few KiB for one row are left out."""
    tensor, dtype = args[0], kwargs.get("dtype")
    if not tensor.is_meta or not tensor.numel():
        return
    whole = not (tensor.is_floating_point() or tensor.is_complex())
    dtype = dtype or (torch.int64 if whole else tensor.dtype)
    if tensor.dtype != dtype:
        yield tensor.numel() * dtype.itemsize
    if not tensor.is_contiguous():
        yield tensor.numel() * dtype.itemsize


# Draws ----------------------------------------------------------------------------------------------------------------


def _multinomial(gpu: VirtualGpu, args: Any, kwargs: Any) -> Iterator[int]:
    """ATen/native/Distributions.cpp, multinomial_out: the largest of probabilities over exponential draws.

    With replacement, for several samples: cuda/MultinomialKernel.cu, the probabilities to a sum of one, and their sums.
    """
    weights, samples = args[:2]
    replaced = args[2] if len(args) > 2 else False
    if not weights.is_meta or not weights.numel():
        return
    size = weights.element_size()
    yield weights.numel() * size
    if replaced and samples > 1:
        yield weights.numel() * size
    elif samples > 1:
        yield weights.numel() // weights.shape[-1] * samples * size


SCRATCH = {
    aten.multinomial.default: _multinomial,
    aten.sort.default: _sort,
    aten.sort.stable: _stable_sort,
    aten.topk.default: _topk,
    aten.cumsum.default: _running,
    aten.cumprod.default: _running,
}
