"""Normalisation: RMS norm as one kernel, and partial sums of the gradients of weight and bias.

ATen/native/cuda/layer_norm_kernel.cu and group_norm_kernel.cu. RMS norm has been one kernel on CUDA since 2.9 (pytorch
#153666); `meta` has none for it, so one is registered for the length of a block, and autograd then takes its own fused
backward.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import prod
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tonnage.virtual.kernels.buffers import and_returned, dense_copies
from tonnage.virtual.kernels.reduction import Card, Job, buffers

if TYPE_CHECKING:
    from tonnage.virtual.gpu import VirtualGpu

aten = torch.ops.aten
_HALVES = (torch.float16, torch.bfloat16)
MANY_ROWS = 64 * 1024
COLUMNS_PER_BLOCK, ROWS_PER_BLOCK, MOST_BLOCKS = 32, 32, 32 * 1024


def fused_rms_norm(input: Tensor, normalized_shape: Any, weight: Tensor | None, eps: float | None) -> Any:
    """The outputs of `_fused_rms_norm_cuda`: the result, and the scale of each row in fp32."""
    kept = input.shape[: input.dim() - len(normalized_shape)]
    accumulator = torch.float32 if input.dtype in _HALVES else input.dtype
    rows = input.new_empty((*kept, *([1] * len(normalized_shape))), dtype=accumulator)
    return torch.empty_like(input, memory_format=torch.contiguous_format), rows


def _partials(gpu: VirtualGpu, rows: int, weight: Tensor, gradients: int) -> Iterator[int]:
    """LaunchGammaBetaBackwardCUDAKernel: for very many short rows, sums of blocks of rows, then their sum."""
    columns = weight.numel()
    if (
        not gpu.rules.sums_norms_in_blocks
        or rows <= MANY_ROWS
        or columns // COLUMNS_PER_BLOCK >= gpu.card.sm_count // 2
    ):
        return
    across = -(-columns // COLUMNS_PER_BLOCK)
    down = min(MOST_BLOCKS // across, -(-rows // ROWS_PER_BLOCK))
    size = weight.element_size()
    yield from [down * columns * size] * gradients
    in_output = weight.dtype not in _HALVES
    job = Job((down, columns), (columns, 1), 0, (0,), size, size, max(size, 4), 4, in_output)
    staged = buffers(job, Card(gpu.card.sm_count, gpu.card.max_threads_per_sm))
    for _ in range(gradients):
        yield columns * size
        yield from and_returned(staged)
        yield -columns * size


def _layer_norm_backward(gpu: VirtualGpu, args: Any, kwargs: Any) -> Iterator[int]:
    tensor, normalized, weight, wanted = args[1], args[2], args[5], args[7]
    gradients = sum(wanted[1:])
    yield from dense_copies(args[0])
    if tensor.is_meta and weight is not None and gradients and tensor.numel():
        yield from _partials(gpu, tensor.numel() // prod(normalized), weight, gradients)


def _rms_norm_backward(gpu: VirtualGpu, args: Any, kwargs: Any) -> Iterator[int]:
    tensor, normalized, weight, wanted = args[1], args[2], args[4], args[5]
    yield from dense_copies(args[0])
    if tensor.is_meta and weight is not None and wanted[1] and tensor.numel():
        yield from _partials(gpu, tensor.numel() // prod(normalized), weight, 1)


def _accumulator(tensor: Tensor) -> int:
    return 8 if tensor.dtype is torch.float64 else 4


def _group_norm(gpu: VirtualGpu, args: Any, kwargs: Any) -> Iterator[int]:
    """GroupNormKernelImpl: a scale and a shift for each channel of each image, where there are pixels and weights."""
    tensor, weight, bias, images, channels, pixels = args[:6]
    if tensor.is_meta and tensor.numel() and pixels > 1 and (weight is not None or bias is not None):
        yield from [images * channels * _accumulator(tensor)] * 2


def _group_norm_backward(gpu: VirtualGpu, args: Any, kwargs: Any) -> Iterator[int]:
    """GroupNormBackwardKernelImpl: two sums for each channel of each image; then coefficients, c1 only with weights."""
    tensor, weight, images, channels, groups = args[1], args[4], args[5], args[6], args[8]
    if tensor.is_meta and tensor.numel():
        size = _accumulator(tensor)
        yield from [images * channels * size] * 2
        if args[7] > 1:
            yield from [images * channels * size] * (weight is not None)
            yield from [images * groups * size] * 2


def _dense_input(place: int) -> Callable[..., Iterator[int]]:
    """layer_norm_cuda, layer_norm_backward_cuda and those of RMS norm: an input that is permuted is copied first."""

    def rule(gpu: VirtualGpu, args: Any, kwargs: Any) -> Iterator[int]:
        yield from dense_copies(args[place])

    return rule


def _layer_norm_gradients(grad: Tensor, tensor: Tensor, shape: Any, mean: Any, rstd: Any, *rest: Any) -> Any:
    """In order, however the input lies, where PyTorch's meta kernel follows the input."""
    weight, bias, wanted = rest
    if not (grad.is_meta and tensor.is_meta):
        return NotImplemented
    members = (tensor, weight, bias)
    return tuple(
        torch.empty_like(member, memory_format=torch.contiguous_format) if asked and member is not None else None
        for member, asked in zip(members, wanted, strict=True)
    )


META = {"_fused_rms_norm": fused_rms_norm} if hasattr(aten, "_fused_rms_norm") else {}
SHAPES: dict[Any, Callable[..., Any]] = {aten.native_layer_norm_backward.default: _layer_norm_gradients}
EARLY = {
    aten.native_layer_norm.default: _dense_input(0),
    aten.native_layer_norm_backward.default: _dense_input(1),
    **({aten._fused_rms_norm.default: _dense_input(0)} if META else {}),
    **({aten._fused_rms_norm_backward.default: _dense_input(1)} if META else {}),
}
SCRATCH = {
    aten.native_layer_norm_backward.default: _layer_norm_backward,
    aten.native_group_norm.default: _group_norm,
    aten.native_group_norm_backward.default: _group_norm_backward,
    **({aten._fused_rms_norm_backward.default: _rms_norm_backward} if META else {}),
}
