"""Outputs of the most frequent operators, made without asking PyTorch's meta kernels.

Some of those are written in Python and take a millisecond each; in the plain cases (dense, contiguous, one type) the
answer is known. Each function returns NotImplemented in any other case. tests/unit/virtual/test_shapes.py holds every
one against PyTorch's own over many layouts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from tonnage.virtual.layout import is_dense

aten = torch.ops.aten
Tensor = torch.Tensor


def shape_of(func: Any) -> Callable[..., Any] | None:
    """The function that makes the outputs of `func`, if there is one here."""
    name = func.overloadpacket.__name__
    if name.startswith("_foreach_") and name.endswith("_"):
        return _nothing
    return _SHAPES.get(func)


def _nothing(tensors: Any, *args: Any, **kwargs: Any) -> Any:
    """An in-place operator on lists makes nothing."""
    return None if all(t.is_meta for t in tensors) else NotImplemented


def _each_like(tensors: Any, *args: Any, **kwargs: Any) -> Any:
    if all(t.is_meta and t.is_floating_point() and is_dense(t) for t in tensors):
        return [torch.empty_like(t) for t in tensors]
    return NotImplemented


def _addmm(bias: Tensor, left: Tensor, right: Tensor, **kwargs: Any) -> Any:
    if left.is_meta and bias.dim() == 1 and bias.dtype == left.dtype == right.dtype:
        if left.shape[1] == right.shape[0] and bias.shape[0] == right.shape[1]:
            return left.new_empty((left.shape[0], right.shape[1]))
    return NotImplemented


def _like_first(tensor: Tensor, *args: Any, **kwargs: Any) -> Any:
    if tensor.is_meta and tensor.is_floating_point() and is_dense(tensor):
        return torch.empty_like(tensor)
    return NotImplemented


def _like_both(first: Tensor, second: Any, *args: Any, **kwargs: Any) -> Any:
    """A pointwise operator on two tensors that lie alike."""
    if not (isinstance(second, Tensor) and first.is_meta and second.is_meta and first.is_floating_point()):
        return NotImplemented
    alike = first.dtype == second.dtype and first.shape == second.shape and first.stride() == second.stride()
    return torch.empty_like(first) if alike and is_dense(first) else NotImplemented


def _dropout(tensor: Tensor, p: float, train: bool | None) -> Any:
    if not (tensor.is_meta and train and 0 < p < 1 and is_dense(tensor)):
        return NotImplemented
    return torch.empty_like(tensor), torch.empty_like(tensor, dtype=torch.bool)


def _dropout_backward(grad: Tensor, mask: Tensor, scale: float) -> Any:
    if grad.is_meta and grad.shape == mask.shape and grad.is_contiguous() and mask.is_contiguous():
        return torch.empty_like(grad)
    return NotImplemented


def _layer_norm(tensor: Tensor, normalized: Any, weight: Any, bias: Any, eps: float) -> Any:
    if not (tensor.is_meta and tensor.is_contiguous() and tensor.dtype in (torch.float32, *_HALVES)):
        return NotImplemented
    kept = tensor.dim() - len(normalized)
    statistics = (*tensor.shape[:kept], *([1] * len(normalized)))
    mean, rstd = (tensor.new_empty(statistics, dtype=torch.float32) for _ in range(2))
    return torch.empty_like(tensor), mean, rstd


def _layer_norm_backward(
    grad: Tensor, tensor: Tensor, normalized: Any, mean: Any, rstd: Any, weight: Any, bias: Any, wanted: Any
) -> Any:
    if not (tensor.is_meta and tensor.is_contiguous() and grad.is_contiguous()):
        return NotImplemented
    if weight is None or bias is None or not all(wanted):
        return NotImplemented
    return torch.empty_like(tensor), torch.empty_like(weight), torch.empty_like(bias)


def _grouped_mm(left: Tensor, right: Tensor, offs: Any = None, bias: Any = None, out_dtype: Any = None) -> Any:
    """Products of groups of rows (mixture of experts), for every type: PyTorch's meta kernel takes bf16 only.

    ATen/native/GroupedMMUtils.h, create_grouped_gemm_output_tensor: rows are padded to 16 bytes.
    """
    if not (left.is_meta and right.is_meta):
        return NotImplemented
    if left.dim() == right.dim():
        groups = left.shape[0] if left.dim() == 3 else offs.shape[0]
        size = [groups, left.shape[-2], right.shape[-1]]
    else:
        size = [left.shape[-2], right.shape[-1]]
    dtype = out_dtype or left.dtype
    padded = -(-size[-1] * dtype.itemsize // 16) * 16 // dtype.itemsize
    stride = [size[-2] * padded, padded, 1][-len(size) :]
    return torch.empty_strided(size, stride, dtype=dtype, device=left.device)


_HALVES = (torch.float16, torch.bfloat16)
_SHAPES: dict[Any, Callable[..., Any]] = {
    aten.addmm.default: _addmm,
    aten.native_layer_norm.default: _layer_norm,
    aten.native_layer_norm_backward.default: _layer_norm_backward,
    aten.native_dropout.default: _dropout,
    **({aten._grouped_mm.default: _grouped_mm} if hasattr(aten, "_grouped_mm") else {}),
    aten.native_dropout_backward.default: _dropout_backward,
    **dict.fromkeys((aten.gelu.default, aten.silu.default, aten.relu.default, aten.tanh.default), _like_first),
    **dict.fromkeys(
        (
            aten.add.Tensor,
            aten.mul.Tensor,
            aten.sub.Tensor,
            aten.div.Tensor,
            aten.gelu_backward.default,
            aten.silu_backward.default,
            aten.mish_backward.default,
            aten.tanh_backward.default,
        ),
        _like_both,
    ),
    **dict.fromkeys((aten._foreach_sqrt.default, aten._foreach_add.List, aten._foreach_add.Scalar), _each_like),
}
