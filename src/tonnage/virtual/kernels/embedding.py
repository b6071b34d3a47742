"""Embedding backward: above 3072 indices CUDA sorts them and adds partial sums in fp32.

ATen/native/cuda/Embedding.cu (embedding_dense_backward_cuda) and EmbeddingBackwardKernel.cu
(embedding_backward_cuda_kernel). Up to 3072 indices only the gradient itself is made. cub's own scratch (a few
hundred KiB for tens of thousands of indices) depends on the CUDA release and is not modelled.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from tonnage.virtual.gpu import VirtualGpu

MAX_WITHOUT_SORT = 3072
ROWS_PER_THREAD = 10
"""NROWS_PER_THREAD of EmbeddingBackwardKernel.cu."""


def sort_buffers(indices: int, index_size: int, *, counted: bool) -> list[int]:
    """Bytes taken before the gradient: sorted and original indices, and a range that is given back."""
    each = index_size * indices
    return [each, each, each, *([each] if counted else []), -each]


def sum_buffers(indices: int, vocabulary: int, width: int, *, index_size: int, accumulator: int) -> list[int]:
    """Bytes taken after the gradient, in the order they are taken, all held to the end of the call."""
    segments = min(indices, vocabulary)
    partials = indices // ROWS_PER_THREAD + segments
    starts = [index_size * indices, 8]
    per_segment = [index_size * segments, index_size * segments, 8]
    return [*starts, *per_segment, index_size * partials, accumulator * partials * width]


def _sorts(args: Any) -> bool:
    grad, indices, _, _, scale_by_frequency = args
    return bool(grad.is_meta and indices.numel() and (indices.numel() > MAX_WITHOUT_SORT or scale_by_frequency))


def _before(gpu: VirtualGpu, args: Any, kwargs: Any) -> Iterator[int]:
    grad, indices, _, _, scale_by_frequency = args
    if grad.is_meta and not grad.is_contiguous():
        yield grad.numel() * grad.element_size()
    if _sorts(args):
        gpu.not_counted("cub's scratch in embedding backward", "its size depends on the CUDA release; under 1 MiB")
        yield from sort_buffers(indices.numel(), indices.element_size(), counted=scale_by_frequency)


def _after(gpu: VirtualGpu, args: Any, kwargs: Any) -> Iterator[int]:
    grad, indices, vocabulary, *_ = args
    if _sorts(args):
        accumulator = 8 if grad.dtype is torch.float64 else 4
        yield from sum_buffers(
            indices.numel(),
            vocabulary,
            grad.shape[-1],
            index_size=indices.element_size(),
            accumulator=accumulator,
        )


EARLY = {torch.ops.aten.embedding_dense_backward.default: _before}
SCRATCH = {torch.ops.aten.embedding_dense_backward.default: _after}
