"""Outputs of operators for which PyTorch has no meta kernel, or none that can be asked, or one that is slow at first.

Meta kernels that are written in Python take up to a millisecond, and the first of them imports torch._dynamo and sympy,
which takes a second. The operators that most models begin with are answered here where they are plain; what
comes again is `remembered`. Each function returns NotImplemented where it does not know.
tests/unit/virtual/test_shapes.py holds them against PyTorch's own over many layouts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from tonnage.virtual.layout import convolves_channels_last, is_dense

aten = torch.ops.aten
Tensor = torch.Tensor
_META = torch.device("meta")
_TENSORS = (Tensor, torch.nn.Parameter)
_HALVES = (torch.float16, torch.bfloat16)
_FLOATS = (torch.float32, *_HALVES)


def shape_of(func: Any) -> Callable[..., Any] | None:
    """The function that makes the outputs of `func`, if there is one here."""
    name = func.overloadpacket.__name__
    if name.startswith(("_foreach_", "_fused_")) and name.endswith("_"):
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


def _mm(left: Tensor, right: Tensor) -> Any:
    if not _multiply(left, right, 2):
        return NotImplemented
    return _new((left.shape[0], right.shape[1]), left.dtype)


def _bmm(left: Tensor, right: Tensor, *, out: Any = None) -> Any:
    if not _multiply(left, right, 3) or left.shape[0] != right.shape[0]:
        return NotImplemented
    shape = (left.shape[0], left.shape[1], right.shape[2])
    return _new(shape, left.dtype) if out is None else _filled(out, shape, left.dtype)


def _addmm(bias: Tensor, left: Tensor, right: Tensor, **kwargs: Any) -> Any:
    if (
        not _is_plain(bias)
        or bias.dtype != left.dtype
        or bias.shape != right.shape[1:]
        or not _multiply(left, right, 2)
    ):
        return NotImplemented
    return _new((left.shape[0], right.shape[1]), left.dtype)


def _multiply(left: Tensor, right: Tensor, dim: int) -> bool:
    """Whether these are matrices (`dim` 2), or stacks of them, that can be multiplied."""
    return (
        _is_plain(left)
        and _is_plain(right)
        and left.dim() == right.dim() == dim
        and left.shape[-1] == right.shape[-2]
        and left.dtype == right.dtype
        and left.dtype.is_floating_point
    )


def _activation(tensor: Tensor, **kwargs: Any) -> Any:
    if not (tensor.dtype.is_floating_point and _keeps_its_layout(tensor)):
        return NotImplemented
    return _like(tensor, tensor.dtype)


def _of_two(first: Tensor, second: Any, **kwargs: Any) -> Any:
    """A pointwise operator: where no dimension is of one element, the strides of the first tensor decide.

    aten/src/ATen/TensorIterator.cpp, reorder_dimensions: the first operand whose strides tell two dimensions apart.
    """
    if not _meet(first, second):
        return NotImplemented
    if not isinstance(second, Tensor):
        return _activation(first)
    if first.shape == second.shape and second.is_contiguous() and first.stride() == _strides(first.shape):
        return _like(first, first.dtype)
    alike = first.shape == second.shape and first.stride() == second.stride()
    if _keeps_its_layout(first) and (alike or min(first.shape, default=0) > 1):
        return _like(first, first.dtype)
    return NotImplemented


def _into_first(first: Tensor, second: Any, **kwargs: Any) -> Any:
    return first if _meet(first, second) and is_dense(first) else NotImplemented


def _meet(first: Tensor, second: Any) -> bool:
    """Whether these are floats of one type, and the second is a number or broadcast to the first."""
    if not (_is_plain(first) and first.dtype.is_floating_point):
        return False
    if not isinstance(second, Tensor):
        return type(second) in (int, float)
    missing = first.dim() - second.dim()
    return (
        _is_plain(second)
        and second.dtype == first.dtype
        and missing >= 0
        and all(size in (1, full) for size, full in zip(second.shape, first.shape[missing:], strict=True))
    )


def _reduction(tensor: Tensor, dims: Any, keepdim: bool = False, *, dtype: Any = None) -> Any:
    if dtype is not None or tensor.dtype not in _FLOATS or not (dims and tensor.dim()):
        return NotImplemented
    if not (tensor.numel() and _is_in_order(tensor)):
        return NotImplemented
    gone = {dim % len(tensor.shape) for dim in dims}
    if len(gone) < len(dims):
        return NotImplemented
    sizes = [1 if dim in gone else size for dim, size in enumerate(tensor.shape) if keepdim or dim not in gone]
    return _new(sizes, tensor.dtype)


def _softmax(tensor: Tensor, dim: int, half_to_float: bool, *, out: Any = None) -> Any:
    if half_to_float or tensor.dtype not in _FLOATS or not (tensor.dim() and _is_in_order(tensor)):
        return NotImplemented
    return _like(tensor, tensor.dtype) if out is None else _filled(out, tensor.shape, tensor.dtype)


def _filled(out: Tensor, shape: Sequence[int], dtype: torch.dtype) -> Any:
    """`out`, if it is as large as what is written to it."""
    return out if _is_plain(out) and out.shape == (*shape,) and out.dtype == dtype else NotImplemented


def _zeros_like(tensor: Tensor, dtype: Any = None, layout: Any = None, device: Any = None, **kwargs: Any) -> Any:
    plain = device in (None, _META) and layout in (None, torch.strided) and not kwargs.get("pin_memory")
    if not (plain and kwargs.get("memory_format") in (None, torch.preserve_format) and _keeps_its_layout(tensor)):
        return NotImplemented
    return _like(tensor, dtype or tensor.dtype)


def _layer_norm(tensor: Tensor, normalized: Sequence[int], weight: Any, bias: Any, eps: float) -> Any:
    """The statistics are fp32, one of each for a row."""
    if tensor.dtype not in _FLOATS or not _is_in_order(tensor) or tensor.shape[-len(normalized) :] != (*normalized,):
        return NotImplemented
    if any(member is not None and not _is_in_order(member) for member in (weight, bias)):
        return NotImplemented
    kept = tensor.shape[: -len(normalized)]
    statistics = [_new((*kept, *[1] * len(normalized)), torch.float32) for _ in range(2)]
    return _like(tensor, tensor.dtype), *statistics


def _batch_norm(
    tensor: Tensor, weight: Any, bias: Any, mean: Any, variance: Any, training: bool, momentum: float, eps: float
) -> Any:
    """The statistics that are kept for backward are fp32, whether of the batch or those that were running."""
    members = [member for member in (weight, bias, mean, variance) if member is not None]
    if tensor.dtype not in _FLOATS or tensor.dim() < 2 or not _keeps_its_layout(tensor):
        return NotImplemented
    if tensor.numel() <= tensor.shape[1]:  # no variance: PyTorch says what it makes of that
        return NotImplemented
    if not (training or None not in (mean, variance)):
        return NotImplemented
    if any(not _is_in_order(m) or m.shape != tensor.shape[1:2] or m.dtype not in _FLOATS for m in members):
        return NotImplemented
    return _like(tensor, tensor.dtype), *(_new(tensor.shape[1:2], torch.float32) for _ in range(2))


def _convolution(tensor: Tensor, weight: Tensor, *args: Any) -> Any:
    """PyTorch's meta kernel forgets channels_last, which cuDNN keeps if the input or the weight has it."""
    if not convolves_channels_last(tensor, weight):
        return NotImplemented
    return _channels_last(aten.convolution.default(tensor, weight, *args))


def _convolution_backward(grad: Tensor, tensor: Tensor, weight: Tensor, *args: Any) -> Any:
    """The gradients of input and weight lie as cuDNN makes them, in the format of the two that it makes them of."""
    made = aten.convolution_backward.default(grad, tensor, weight, *args)
    if not (weight.is_meta and convolves_channels_last(tensor, weight)):
        return made
    return (*(part if part is None else _channels_last(part) for part in made[:2]), made[2])


def _channels_last(tensor: Tensor) -> Tensor:
    format = torch.channels_last if tensor.dim() == 4 else torch.channels_last_3d
    return torch.empty_like(tensor, memory_format=format)


def _is_plain(tensor: Tensor) -> bool:
    """Whether it is on `meta`, and of no class that may have an answer of its own."""
    return type(tensor) in _TENSORS and tensor.is_meta


def _keeps_its_layout(tensor: Tensor) -> bool:
    """Whether what is as large as `tensor` lies as it does, down to the strides of dimensions of one element."""
    return _is_in_order(tensor) or (_is_plain(tensor) and is_dense(tensor) and min(tensor.shape) > 1)


def _is_in_order(tensor: Tensor) -> bool:
    return _is_plain(tensor) and tensor.stride() == _strides(tensor.shape)


def _strides(shape: Sequence[int]) -> tuple[int, ...]:
    """Of a new tensor: ATen's, in which a dimension of no elements counts as one."""
    strides = [1] * len(shape)
    for dim in range(len(shape) - 2, -1, -1):
        strides[dim] = strides[dim + 1] * max(shape[dim + 1], 1)
    return tuple(strides)


def _like(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=dtype, device=_META)


def _new(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    return torch.empty_strided(shape, _strides(shape), dtype=dtype, device=_META)


_SHAPES: dict[Any, Callable[..., Any]] = {
    aten.mm.default: _mm,
    aten.bmm.default: _bmm,
    aten.bmm.out: _bmm,
    aten.addmm.default: _addmm,
    aten._addmm_activation.default: _addmm,
    aten.relu.default: _activation,
    aten.gelu.default: _activation,
    aten.add.Tensor: _of_two,
    aten.mul.Tensor: _of_two,
    **dict.fromkeys((aten.add_.Tensor, aten.mul_.Tensor, aten.div_.Tensor), _into_first),
    aten.sum.dim_IntList: _reduction,
    aten.mean.dim: _reduction,
    aten._softmax.default: _softmax,
    aten._softmax.out: _softmax,
    aten.zeros_like.default: _zeros_like,
    aten.native_layer_norm.default: _layer_norm,
    aten.native_batch_norm.default: _batch_norm,
    aten.mish_backward.default: _mish_backward,
    aten.convolution.default: _convolution,
    aten.convolution_backward.default: _convolution_backward,
    **({aten._grouped_mm.default: _grouped_mm} if hasattr(aten, "_grouped_mm") else {}),
}
