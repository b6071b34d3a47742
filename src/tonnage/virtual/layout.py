"""How a tensor lies in memory."""

from __future__ import annotations

import torch


def is_dense(tensor: torch.Tensor) -> bool:
    """Whether the elements fill one run of memory, each once (c10/core/TensorImpl.h, non-overlapping and dense)."""
    expected = 1
    for stride, size in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if size == 1:
            continue
        if stride != expected:
            return False
        expected *= size
    return True


def like_channels_last(tensor: torch.Tensor) -> bool:
    """Whether `tensor.suggest_memory_format()` is channels_last or channels_last_3d.

    c10/core/MemoryFormat.h, is_channels_last_strides_2d_s4: strides grow from the channels to the images; where sizes
    of one leave it open, the answer is no.
    """
    sizes, strides = tensor.shape, tensor.stride()
    if tensor.dim() not in (4, 5) or strides[1] == 0:
        return False
    least = 0
    for dim in (1, *range(tensor.dim() - 1, 1, -1), 0):
        if sizes[dim] == 0 or strides[dim] < least or (dim == 0 and least == strides[1]):
            return False
        least = strides[dim] * max(sizes[dim], 1)
    return True


def convolves_channels_last(tensor: torch.Tensor, weight: torch.Tensor) -> bool:
    """ConvUtils.h, cudnn_conv_suggest_memory_format: if the input or the weight lies so, and not in fp64."""
    return tensor.dtype is not torch.float64 and (like_channels_last(tensor) or like_channels_last(weight))
