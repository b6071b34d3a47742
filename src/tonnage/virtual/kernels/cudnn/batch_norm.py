"""Batch normalisation: cuDNN's where it can, else PyTorch's, whose channels-last kernels meet in a staging buffer.

ATen/native/Normalization.cpp, _select_batch_norm_backend: cuDNN takes fp32, and fp16 with fp32 weights, of three and
more dimensions, up to some batch size. It wants operands that lie alike (cudnn/BatchNorm.cpp), and for channels-last a
workspace of its own. PyTorch's kernels for channels-last, and for the two dimensions of BatchNorm1d, sum blocks of
rows first (ATen/native/cuda/Normalization.cuh).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tonnage.virtual.layout import like_channels_last

if TYPE_CHECKING:
    from tonnage.virtual.gpu import VirtualGpu

aten = torch.ops.aten
MAX_BLOCK, MAX_BLOCKS, WARP, ROWS_PER_THREAD, FEWEST_BLOCKS = 512, 128, 32, 16, 8
"""MAX_BLOCK_SIZE, MAX_H_BLOCK, OPTIMAL_TILE_W and ELEMENTS_PER_THREAD; and grids that are not worth a second pass."""
MOST_IMAGES, MOST_IMAGES_IN_EVAL = 880801, 65535


def by_cudnn(tensor: Tensor, weight: Tensor | None, bias: bool, training: bool) -> bool:
    """Whether cuDNN normalises `tensor` (_select_batch_norm_backend)."""
    if weight is None or not bias or tensor.dim() < 3 or not torch.backends.cudnn.enabled:
        return False
    if torch.bfloat16 in (tensor.dtype, weight.dtype):
        return False
    if tensor.dtype is torch.float16 and weight.dtype is not torch.float32:
        return False
    return tensor.shape[0] <= (MOST_IMAGES if training else MOST_IMAGES_IN_EVAL)


def staging(rows: int, channels: int) -> tuple[int, int]:
    """How many blocks share the rows, and how many the channels (flexible_launch_configs, to be met in one buffer).

    >>> staging(rows=32 * 56 * 56, channels=64)
    (128, 2)
    """
    width = min(_power_of_two(channels), WARP)
    height = min(_power_of_two(-(-rows // ROWS_PER_THREAD)), MAX_BLOCK // width)
    if width * height != MAX_BLOCK:
        width = min(_power_of_two(channels), MAX_BLOCK // height)
    down = min(-(-rows // (height * ROWS_PER_THREAD)), MAX_BLOCKS)
    return (down if down >= FEWEST_BLOCKS else 1), -(-channels // width)


def _power_of_two(n: int) -> int:
    return 1 << (max(n, 1).bit_length() - 1)


def _in_rows(tensor: Tensor) -> bool:
    """Whether the channels of a row are neighbours (batch_norm_use_channels_last_kernels)."""
    return like_channels_last(tensor) or (tensor.is_contiguous() and tensor.stride(1) == 1)


def _partial_sums(tensor: Tensor, sums: int) -> Iterator[int]:
    channels = tensor.shape[1]
    down, across = staging(tensor.numel() // channels, channels)
    if down > 1:
        yield sums * channels * down * (8 if tensor.dtype is torch.float64 else 4)
        yield 4 * across


def _forward(gpu: VirtualGpu, args: Any, kwargs: Any) -> Iterator[int]:
    tensor, weight, bias, _, _, training = args[:6]
    if not tensor.is_meta or not tensor.numel():
        return
    if by_cudnn(tensor, weight, bias is not None, training):
        _note(gpu, tensor, training)
    elif training and _in_rows(tensor):
        yield from _partial_sums(tensor, 4)


def _backward(gpu: VirtualGpu, args: Any, kwargs: Any) -> Iterator[int]:
    gradient, tensor, weight, _, _, _, _, training, _, wanted = args
    if not tensor.is_meta or not tensor.numel() or not training:
        return
    if by_cudnn(tensor, weight, wanted[2], training):
        _note(gpu, tensor, training)
        if gradient.stride() != tensor.stride():
            yield gradient.numel() * gradient.element_size()
    elif _in_rows(tensor) and _in_rows(gradient):
        yield from [tensor.shape[1] * (8 if tensor.dtype is torch.float64 else 4)] * 2
        yield from _partial_sums(tensor, 2)


def _note(gpu: VirtualGpu, tensor: Tensor, training: bool) -> None:
    gpu.load("cudnn")
    if training and like_channels_last(tensor):
        gpu.not_counted("cuDNN's batch norm workspaces in channels-last", "the library chooses their size")


SCRATCH = {aten.native_batch_norm.default: _forward, aten.native_batch_norm_backward.default: _backward}
