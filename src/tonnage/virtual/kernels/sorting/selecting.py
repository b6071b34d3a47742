"""Some of a slice: the largest, the median, the most frequent.

ATen/native/cuda/TensorTopK.cpp and TensorTopK.cu, Sorting.cpp, TensorModeKernel.cpp.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch

from tonnage.virtual.kernels.buffers import and_returned, dense_copies
from tonnage.virtual.kernels.sorting.sort import INDEX, SMALL, sort_buffers

if TYPE_CHECKING:
    from tonnage.virtual.gpu import VirtualGpu

aten = torch.ops.aten
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
    yield from dense_copies(tensor)
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


# Medians and modes ----------------------------------------------------------------------------------------------------

FUSED_MODE = 2048
"""Twice the most threads of a block: longer slices are sorted by thrust."""


def _median(gpu: VirtualGpu, args: Any, kwargs: Any) -> Iterator[int]:
    """The median of all: everything is sorted."""
    tensor = args[0]
    if tensor.is_meta and tensor.numel():
        yield tensor.numel() * tensor.element_size()
        taken = (*dense_copies(tensor), tensor.numel() * INDEX)
        yield from and_returned((*taken, *sort_buffers(gpu, tensor.new_empty(tensor.numel()), 0)))


def _of_slices(gpu: VirtualGpu, args: Any, kwargs: Any) -> Iterator[int]:
    """kthvalue and the medians of slices."""
    yield from dense_copies(args[0])


def _mode(gpu: VirtualGpu, args: Any, kwargs: Any) -> Iterator[int]:
    tensor = args[0]
    if not tensor.is_meta or not tensor.numel() or not tensor.dim():
        return
    dim = args[1] if len(args) > 1 else -1
    length = tensor.shape[dim]
    if length > 1:
        yield from dense_copies(tensor.transpose(dim, -1))
    if length > FUSED_MODE:
        gpu.not_counted("what mode takes", "slices of more than 2048 are sorted by thrust")


EARLY = {
    **dict.fromkeys((aten.median.default, aten.nanmedian.default), _median),
    **dict.fromkeys((aten.median.dim, aten.nanmedian.dim, aten.kthvalue.default), _of_slices),
}
SCRATCH = {aten.topk.default: _topk, aten.mode.default: _mode}
