"""Embedding backward: above 3072 indices CUDA sorts them and adds partial sums in fp32.

ATen/native/cuda/Embedding.cu (embedding_dense_backward_cuda) and EmbeddingBackwardKernel.cu
(embedding_backward_cuda_kernel). Up to 3072 indices only the gradient itself is made. cub's own scratch (a few
hundred KiB for tens of thousands of indices) depends on the CUDA release and is not modelled.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from tonnage.virtual.gpu import VirtualGpu

MAX_WITHOUT_SORT = 3072
ROWS_PER_THREAD = 10
"""NROWS_PER_THREAD of EmbeddingBackwardKernel.cu."""


def backward_scratch(indices: int, vocabulary: int, width: int, accumulator: int = 4) -> list[int]:
    """Bytes taken besides the gradient, in the order they are taken, all held to the end of the call."""
    segments = min(indices, vocabulary)
    partials = indices // ROWS_PER_THREAD + segments
    sorted_and_original = [8 * indices, 8 * indices]
    segment_offsets = [8 * indices, 8]
    per_segment = [8 * segments, 8 * segments, 8]
    return [*sorted_and_original, *segment_offsets, *per_segment, 8 * partials, accumulator * partials * width]


def _embedding_dense_backward(gpu: VirtualGpu, args: Any) -> list[int]:
    grad, indices, vocabulary, _, scale_by_frequency = args
    if indices.numel() <= MAX_WITHOUT_SORT and not scale_by_frequency:
        return []
    gpu.not_counted("cub's scratch in embedding backward", "its size depends on the CUDA release; under 1 MiB")
    accumulator = 8 if grad.dtype is torch.float64 else 4
    return backward_scratch(indices.numel(), vocabulary, grad.shape[-1], accumulator)


SCRATCH = {torch.ops.aten.embedding_dense_backward.default: _embedding_dense_backward}
