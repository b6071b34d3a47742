"""The outputs of norms on the CPU, whose statistics are not those of `meta`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

aten = torch.ops.aten
_HALVES = (torch.bfloat16, torch.float16)


def _kept(tensor: Tensor, weight: Tensor | None, bias: Tensor | None) -> torch.dtype:
    """The type of a norm's statistics: ATen/native/cpu/mixed_data_type.h, param_scalar_type.

    That of the input, but fp32 for a half whose weights are fp32.
    """
    weights = weight if weight is not None else bias
    mixed = tensor.dtype in _HALVES and weights is not None and weights.dtype is torch.float32
    return torch.float32 if mixed else tensor.dtype


def _batch_norm(tensor: Tensor, weight: Any, bias: Any, mean: Any, variance: Any, training: bool, *rest: Any) -> Any:
    """ATen/native/Normalization.cpp, batch_norm_cpu: nothing is kept of the statistics that were running."""
    members = [member for member in (weight, bias, mean, variance) if member is not None]
    kept = _kept(tensor, members[0] if members else None, None)
    channels = tensor.shape[1] if training else 0
    return torch.empty_like(tensor), *(tensor.new_empty(channels, dtype=kept) for _ in range(2))


def _layer_norm(tensor: Tensor, normalized: Sequence[int], weight: Any, bias: Any, eps: float) -> Any:
    """ATen/native/layer_norm.cpp, layer_norm_cpu."""
    shape = [*tensor.shape[: -len(normalized)], *[1] * len(normalized)]
    statistics = (tensor.new_empty(shape, dtype=_kept(tensor, weight, bias)) for _ in range(2))
    return torch.empty_like(tensor, memory_format=torch.contiguous_format), *statistics


def _group_norm(
    tensor: Tensor, weight: Any, bias: Any, images: int, channels: int, pixels: int, groups: int, eps: float
) -> Any:
    """ATen/native/group_norm.cpp, native_group_norm."""
    statistics = (tensor.new_empty(images, groups, dtype=_kept(tensor, weight, bias)) for _ in range(2))
    return torch.empty_like(tensor), *statistics


SHAPES: dict[Any, Callable[..., Any]] = {
    aten.native_batch_norm.default: _batch_norm,
    aten.native_layer_norm.default: _layer_norm,
    aten.native_group_norm.default: _group_norm,
}
