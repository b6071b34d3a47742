"""Tensors that stand for others: same shape, stride, type and sharing, and no data where they are large."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import torch

KEPT_ELEMENTS = 16384
"""Tensors up to this size keep their values: code that reads the values of a tensor reads small ones."""


def make(tensors: Sequence[torch.Tensor]) -> dict[int, torch.Tensor]:
    """A stand-in on the CPU for each of `tensors`, by the identity of the original.

    Those that share a storage share one again. Tensors that are not plain strided ones are left to whoever copies
    them: an uninitialised one has no data, a sparse or wrapped one cannot be had without.
    """
    sharing: dict[int, list[torch.Tensor]] = defaultdict(list)
    for tensor in filter(_is_plain, tensors):
        sharing[tensor.untyped_storage()._cdata].append(tensor)
    with torch.no_grad():
        return {number: made for group in sharing.values() for number, made in _make_group(group)}


def unknown_values(tensors: Sequence[torch.Tensor]) -> tuple[str, ...]:
    """What was assumed about small tensors that had no values to copy."""
    unknown = sum(_is_plain(t) and t.is_meta and t.numel() <= KEPT_ELEMENTS for t in tensors)
    return (f"{unknown} small tensors on the meta device have no values; zeros taken",) if unknown else ()


def _make_group(group: list[torch.Tensor]) -> list[tuple[int, torch.Tensor]]:
    if len(group) == 1 and _is_dense(group[0]):
        tensor = group[0]
        data = torch.empty_strided(tensor.size(), tensor.stride(), dtype=tensor.dtype, device="cpu")
        _copy_values(data, tensor)
        return [(id(tensor), _as(tensor, data))]
    base = _base(group)
    return [(id(tensor), _as(tensor, _view(base, tensor))) for tensor in group]


def _base(group: list[torch.Tensor]) -> torch.Tensor:
    """The whole storage of `group` as one flat tensor."""
    first = group[0]
    dtype = first.dtype if all(t.dtype == first.dtype for t in group) else torch.uint8
    count = first.untyped_storage().nbytes() // dtype.itemsize
    base = torch.empty(count, dtype=dtype, device="cpu")
    if count <= KEPT_ELEMENTS:
        _copy_values(base, torch.empty(0, dtype=dtype, device=first.device).set_(first.untyped_storage()))
    return base


def _view(base: torch.Tensor, tensor: torch.Tensor) -> torch.Tensor:
    typed = base if base.dtype == tensor.dtype else _retyped(base, tensor.dtype)
    return typed.as_strided(tensor.size(), tensor.stride(), tensor.storage_offset())


def _retyped(base: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return base[: base.numel() // dtype.itemsize * dtype.itemsize].view(dtype)


def _copy_values(new: torch.Tensor, old: torch.Tensor) -> None:
    if new.numel() > KEPT_ELEMENTS:
        return
    if old.is_meta:
        new.zero_()
    else:
        new.copy_(old.detach())


def _as(tensor: torch.Tensor, data: torch.Tensor) -> torch.Tensor:
    """`data` as the kind of tensor that `tensor` is; one in the middle of a graph becomes a constant."""
    requires_grad = tensor.requires_grad and tensor.is_leaf
    if type(tensor) is torch.Tensor:
        return data.requires_grad_(requires_grad)
    return torch.Tensor._make_subclass(_kind(tensor), data, requires_grad)


def _kind(tensor: torch.Tensor) -> type[torch.Tensor]:
    """Its type, unless that is a fake tensor's, which no storage can be given."""
    if type(tensor).__torch_dispatch__ is torch.Tensor.__torch_dispatch__:
        return type(tensor)
    return torch.nn.Parameter if isinstance(tensor, torch.nn.Parameter) else torch.Tensor


def _is_plain(tensor: torch.Tensor) -> bool:
    return (
        tensor.layout is torch.strided
        and not tensor.is_quantized
        and not torch.nn.parameter.is_lazy(tensor)
        and not hasattr(type(tensor), "__tensor_flatten__")
    )


def _is_dense(tensor: torch.Tensor) -> bool:
    """Whether no two elements share a place and none lies between them."""
    expected = 1
    if tensor.numel() == 0:
        return True
    for stride, size in sorted(zip(tensor.stride(), tensor.size(), strict=True)):
        if size != 1 and stride != expected:
            return False
        expected *= size
    return True
