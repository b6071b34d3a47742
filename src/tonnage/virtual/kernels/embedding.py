"""Embedding backward: above 3072 indices CUDA sorts them and adds partial sums in fp32.

ATen/native/cuda/Embedding.cu (embedding_dense_backward_cuda) and EmbeddingBackwardKernel.cu
(embedding_backward_cuda_kernel). Up to 3072 indices only the gradient itself is made. Rows that are few against the
indices are added to directly, from 2.11 on. Scratch of cub's selections and running sums, of some KiB, is left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch

from tonnage.virtual.kernels.buffers import dense_copies
from tonnage.virtual.kernels.sorting import cub

if TYPE_CHECKING:
    from tonnage.virtual.gpu import VirtualGpu

MAX_WITHOUT_SORT = 3072
ROWS_PER_THREAD = 10
"""NROWS_PER_THREAD of EmbeddingBackwardKernel.cu."""


MAX_BLOCK, BLOCKS_PER_SM, WARP = 1024, 4, 32
"""MAX_BLOCK_SIZE and MAX_ATOMIC_ACCUM_BLOCKS_PER_SM there."""


def sort_buffers(indices: int, index_size: int, scratch: int, *, counted: bool) -> list[int]:
    """Bytes taken before the gradient: sorted and original indices; a range and cub's `scratch` are given back."""
    each = index_size * indices
    return [each, each, each, scratch, -scratch, -each, *([each] if counted else [])]


def sum_buffers(
    indices: int, vocabulary: int, width: int, *, index_size: int, size: int, directly: bool = False
) -> list[int]:
    """Bytes taken after the gradient of elements of `size` bytes, in order; all but the first's keys to the end."""
    segments = min(indices, vocabulary)
    partials = partial_segments(indices, vocabulary)
    starts = [index_size * indices, 8]
    keys = [index_size * indices, -index_size * indices]
    per_segment = [index_size * segments, index_size * segments, 8]
    accumulator = max(size, 4)
    if directly:
        sums = [index_size * partials, *([accumulator * vocabulary * width] if size < 4 else [])]
    else:
        sums = [accumulator * partials * width]
    return [*starts, *keys, *per_segment, index_size * partials, *sums]


def partial_segments(indices: int, vocabulary: int) -> int:
    return indices // ROWS_PER_THREAD + min(indices, vocabulary)


def _directly(gpu: VirtualGpu, indices: int, vocabulary: int, width: int) -> bool:
    """use_fused_kernel: whether sums of whole rows would leave the card idle."""
    if not gpu.rules.adds_few_embeddings_at_once or torch.are_deterministic_algorithms_enabled():
        return False
    wide = -(-width // WARP) * WARP
    grid = -(-min(indices, vocabulary) * wide // min(wide, MAX_BLOCK))
    few = grid < gpu.card.sm_count * BLOCKS_PER_SM
    return few and partial_segments(indices, vocabulary) > 4 * grid


def _sorts(args: Any) -> bool:
    grad, indices, _, _, scale_by_frequency = args
    return bool(grad.is_meta and indices.numel() and (indices.numel() > MAX_WITHOUT_SORT or scale_by_frequency))


def _before(gpu: VirtualGpu, args: Any, kwargs: Any) -> Iterator[int]:
    grad, indices, vocabulary, padding, scale_by_frequency = args
    yield from dense_copies(grad)
    if _sorts(args):
        size = indices.element_size()
        bits = cub.bits_of(vocabulary if padding >= 0 else vocabulary - 1 - padding)
        scratch = cub.radix_sort(
            indices.numel(),
            key=size,
            value=size,
            bits=bits if gpu.rules.sorts_bits_of_embeddings else None,
            capability=gpu.card.compute_capability,
        )
        yield from sort_buffers(indices.numel(), size, scratch, counted=scale_by_frequency)


def _after(gpu: VirtualGpu, args: Any, kwargs: Any) -> Iterator[int]:
    grad, indices, vocabulary, *_ = args
    if _sorts(args):
        count, width = indices.numel(), grad.shape[-1]
        yield from sum_buffers(
            count,
            vocabulary,
            width,
            index_size=indices.element_size(),
            size=grad.element_size(),
            directly=_directly(gpu, count, vocabulary, width),
        )


EARLY = {torch.ops.aten.embedding_dense_backward.default: _before}
SCRATCH = {torch.ops.aten.embedding_dense_backward.default: _after}
