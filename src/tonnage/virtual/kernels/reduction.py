"""Reductions: the staging buffer and semaphores of `gpu_reduce_kernel`.

ATen/native/cuda/Reduce.cuh, setReduceConfig and global_memory_size: when there is much to reduce for each output and
too few outputs to fill the card, several blocks work on one output and meet in a buffer of global memory. For a
reduction over the slow dimension (every bias gradient: `grad.sum(0)`) the buffer is over-provisioned by the block's
width, up to 512 B x SMs x threads per SM.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch

if TYPE_CHECKING:
    from tonnage.virtual.gpu import VirtualGpu

aten = torch.ops.aten

MAX_THREADS = 512
MAX_VECTOR = 4
INPUT_VECTOR = 4
"""input_vec_size of the fastest dimension."""
WARP = 32


class Reduction(NamedTuple):
    """A reduction as the iterator sees it once dimensions have been merged."""

    outputs: int
    inputs_per_output: int
    fastest: bool
    """The reduced dimension is the one of the smallest stride."""
    vector: int = MAX_VECTOR
    """The widest of 4, 2, 1 outputs that one thread takes."""


def staging(reduction: Reduction, *, sm_count: int, threads_per_sm: int, accumulator: int = 4) -> tuple[int, int]:
    """Bytes of the staging buffer and of the semaphores; (0, 0) when one block does for each output.

    >>> staging(Reduction(768, 8192, fastest=False), sm_count=108, threads_per_sm=2048)   # A100
    (50331648, 24)
    """
    outputs, inputs, fastest, vector = reduction
    dim0, dim1 = (inputs, outputs) if fastest else (outputs, inputs)
    if fastest:
        dim0 = dim0 // INPUT_VECTOR if dim0 >= 128 else dim0
        vector = 1
    else:
        dim0 //= vector
    width, height = _block(dim0, dim1, MAX_THREADS // vector)
    step_in, step_out = (width, 1) if fastest else (1, width)
    split = _ceil(inputs, step_in) >= min(height * 16, 256)
    step_in, step_out = (step_in * height, step_out) if split else (step_in, step_out * height)
    per_thread = _ceil(inputs, step_in)
    grid = _ceil(outputs // vector, step_out)
    target = sm_count * (threads_per_sm // (width * height))
    if not split or per_thread < 256 or grid > target:
        return 0, 0
    blocks = max(min(_ceil(target, grid), _ceil(per_thread, 16)), _ceil(per_thread, 256))
    if blocks <= 1:
        return 0, 0
    return accumulator * outputs * blocks * (1 if fastest else width * vector), 4 * grid


def _block(dim0: int, dim1: int, max_threads: int) -> tuple[int, int]:
    """set_block_dimension: as wide as a warp first, then as high as it goes, then wider if threads are left."""
    power0 = _power_of_two(dim0) if dim0 < max_threads else max_threads
    power1 = _power_of_two(dim1) if dim1 < max_threads else max_threads
    width = min(power0, WARP)
    height = min(power1, max_threads // width)
    return min(power0, max_threads // height), height


def _power_of_two(n: int) -> int:
    """The largest power of two that is not above `n`, at least 1."""
    return 1 << (max(n, 1).bit_length() - 1)


def _ceil(a: int, b: int) -> int:
    return -(-a // b)


def merged(tensor: torch.Tensor, dims: list[int]) -> Reduction | None:
    """How a reduction of `tensor` over `dims` looks to the iterator; None where the layout is not of the plain kind.

    Plain: after merging neighbours there is one reduced and at most one kept dimension.
    """
    reduced = {d % tensor.dim() for d in dims} if dims and tensor.dim() else set(range(tensor.dim()))
    order = sorted(range(tensor.dim()), key=lambda d: tensor.stride(d))
    groups: list[tuple[bool, int]] = []
    expected = 1
    for d in order:
        size, stride = tensor.size(d), tensor.stride(d)
        if size == 1:
            continue
        if stride != expected:
            return None
        expected *= size
        kind = d in reduced
        if groups and groups[-1][0] == kind:
            groups[-1] = (kind, groups[-1][1] * size)
        else:
            groups.append((kind, size))
    if len(groups) == 1 and groups[0][0]:
        return Reduction(1, groups[0][1], fastest=True)
    if len(groups) != 2:
        return None
    (fastest, inner), (_, outer) = groups
    if fastest:
        return Reduction(outer, inner, fastest=True)
    return Reduction(inner, outer, fastest=False, vector=next(v for v in (4, 2, 1) if inner % v == 0))


def _sum(gpu: VirtualGpu, args: Any) -> list[int]:
    tensor, dims = args[0], list(args[1] or []) if len(args) > 1 else []
    if not tensor.is_meta or not tensor.is_floating_point():
        return []
    reduction = merged(tensor, dims)
    if reduction is None:
        return []
    card = gpu.card
    accumulator = 8 if tensor.dtype is torch.float64 else 4
    sizes = staging(reduction, sm_count=card.sm_count, threads_per_sm=card.max_threads_per_sm, accumulator=accumulator)
    return [n for n in sizes if n]


SCRATCH = {
    aten.sum.dim_IntList: _sum,
    aten.sum.default: _sum,
    aten.mean.dim: _sum,
    aten.mean.default: _sum,
}
