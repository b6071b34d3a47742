"""What else sorts: permutations, medians and modes.

ATen/native/cuda/Randperm.cu, Sorting.cpp and TensorModeKernel.cpp.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil, log, log2
from typing import TYPE_CHECKING, Any

import torch

from tonnage.virtual.kernels import cub
from tonnage.virtual.kernels.buffers import and_returned
from tonnage.virtual.kernels.softmax import dense_copies
from tonnage.virtual.kernels.sorting import INDEX, sort_buffers

if TYPE_CHECKING:
    from tonnage.virtual.gpu import VirtualGpu

aten = torch.ops.aten
FUSED_MODE = 2048
"""Twice the most threads of a block: longer slices are sorted by thrust."""


def bits_of_permutation(count: int) -> int:
    """Bits of a random key so that of `count` none are alike, in nine permutations of ten (Algorithm of randperm).

    >>> bits_of_permutation(1000), bits_of_permutation(100_000)
    (23, 36)
    """
    return min(64, ceil(log2(count - (6 * count * count + 1) / (log(0.9) * 12))))


def _randperm(gpu: VirtualGpu, args: Any, kwargs: Any) -> Iterator[int]:
    """Positions, random keys, and both sorted by the keys."""
    count, size = args[0], (kwargs.get("dtype") or torch.int64).itemsize
    if not count or torch.device(kwargs.get("device") or "cpu").type == "cpu":
        return
    bits = bits_of_permutation(count)
    key = 4 if bits <= 32 else 8
    yield from (count * size, count * key, count * key)
    yield cub.radix_sort(count, key=key, value=size, bits=bits, capability=gpu.card.compute_capability)


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
SCRATCH = {aten.randperm.default: _randperm, aten.mode.default: _mode}
