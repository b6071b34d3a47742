"""Outputs of operators for which PyTorch has no meta kernel, or none that can be asked.

Each function returns NotImplemented where it does not know.
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
    """An in-place operator on lists makes nothing, and a list of all parameters makes a long key."""
    return None if all(t.is_meta for t in tensors) else NotImplemented


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


def _mish_backward(grad: Tensor, tensor: Tensor) -> Any:
    """One kernel on CUDA, which PyTorch takes apart on `meta`."""
    alike = grad.dtype == tensor.dtype and grad.shape == tensor.shape and grad.stride() == tensor.stride()
    return torch.empty_like(tensor) if alike and tensor.is_meta and is_dense(tensor) else NotImplemented


_SHAPES: dict[Any, Callable[..., Any]] = {
    aten.mish_backward.default: _mish_backward,
    **({aten._grouped_mm.default: _grouped_mm} if hasattr(aten, "_grouped_mm") else {}),
}
