"""Norms of lists of tensors, which clipping asks for: partial sums of chunks of 65,536 elements.

ATen/native/cuda/ForeachReduceOp.cu, foreach_tensor_norm_cuda: the partial sums are made before the results, as many for
each tensor as the largest needs. Every other foreach operator of CUDA takes nothing but its outputs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import inf
from typing import TYPE_CHECKING, Any

import torch

from tonnage.virtual.kernels.buffers import and_returned
from tonnage.virtual.kernels.reduction import opmath, reduce_buffers
from tonnage.virtual.layout import is_dense

if TYPE_CHECKING:
    from tonnage.virtual.gpu import VirtualGpu

aten = torch.ops.aten
CHUNK = 65536
"""kChunkSize of MultiTensorApply.cuh."""


def _in_one_launch(tensors: Sequence[torch.Tensor], order: Any) -> bool:
    """can_use_fast_route for one list, and the orders that the kernel knows; 0 (2.13) is not asked for by clipping."""
    first = tensors[0].dtype
    return order in (1, 2, inf) and all(t.dtype == first and t.is_floating_point() and is_dense(t) for t in tensors)


def _partial_sums(gpu: VirtualGpu, args: Any, kwargs: Any) -> Iterator[int]:
    tensors, order = args[0], args[1] if len(args) > 1 else 2
    if tensors[0].is_meta and _in_one_launch(tensors, order):
        chunks = max(-(-t.numel() // CHUNK) for t in tensors)
        yield len(tensors) * chunks * opmath(kwargs.get("dtype") or tensors[0].dtype)


def _one_by_one(gpu: VirtualGpu, args: Any, kwargs: Any) -> Iterator[int]:
    """foreach_tensor_norm_slow: a norm of each."""
    tensors, order = args[0], args[1] if len(args) > 1 else 2
    if _in_one_launch(tensors, order):
        return
    for tensor in tensors:
        out_dtype = kwargs.get("dtype") or tensor.dtype
        yield from and_returned(
            reduce_buffers(gpu, tensor, (), out_dtype=out_dtype, accumulator=opmath(out_dtype), vectorised=True)
        )


EARLY = {aten._foreach_norm.Scalar: _partial_sums}
SCRATCH = {aten._foreach_norm.Scalar: _one_by_one}
