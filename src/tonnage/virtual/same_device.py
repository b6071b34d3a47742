"""Operators on tensors of different devices: what CUDA refuses, and the few that it takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from tonnage.virtual.storages import Place

if TYPE_CHECKING:
    from tonnage.virtual.device import VirtualDevice

aten = torch.ops.aten

INDEXING = {
    aten.index.Tensor,
    aten.index_put.default,
    aten.index_put_.default,
    aten._unsafe_index.Tensor,
    aten._unsafe_index_put.default,
    aten._index_put_impl_.default,
}
_ACROSS = {
    *INDEXING,
    aten.copy_.default,
    aten._to_copy.default,
    aten._foreach_copy_.default,
    aten._pack_padded_sequence.default,
    aten._ctc_loss.Tensor,
    aten._ctc_loss_backward.Tensor,
    aten.set_.source_Storage,
    aten.set_.source_Storage_storage_offset,
}
"""Copies, indices and lengths: operators of which an argument may be in host memory."""


def adopt_lists(gpu: VirtualDevice, tensor: torch.Tensor, indices: Sequence[torch.Tensor | None]) -> None:
    """Takes note of indices that were born with no operator, where `tensor` is on the device."""
    if gpu.storages.place_of(tensor) is Place.CARD:
        for index in indices:
            if index is not None and index.is_meta and gpu.storages.find(index) is None:
                gpu.born(index.untyped_storage(), Place.CARD)


def crosses(func: Any) -> bool:
    """Whether `func` takes tensors of different devices; attention keeps its random state on the host."""
    name = func.name()
    return (func in _ACROSS and func not in INDEXING) or ("attention" in name and "backward" in name)


def check_same_device(gpu: VirtualDevice, func: Any, args: Any, inputs: list[torch.Tensor]) -> None:
    """Raises as CUDA does for tensors on the host and on the card; a CPU tensor of one element may meet any other."""
    devices = [gpu.device_of(t) if t.is_meta else t.device for t in inputs]
    if func in INDEXING:
        _check_indices(devices, args)
        return
    found = {device for tensor, device in zip(inputs, devices, strict=True) if tensor.dim() or device.type != "cpu"}
    written = func._schema.arguments and func._schema.arguments[0].alias_info
    if written and written.is_write and isinstance(args[0], torch.Tensor):
        found.add(devices[0])
    if len(found) > 1:
        first, second = sorted(map(str, found), key=lambda name: not name.startswith("cuda"))[:2]
        raise RuntimeError(
            f"Expected all tensors to be on the same device, but found at least two devices, {first} and {second}!"
        )


def _check_indices(devices: list[torch.device], args: Any) -> None:
    given = sum(index is not None for index in args[1])
    for device in devices[1 : 1 + given]:
        if device.type != "cpu" and device != devices[0]:
            raise RuntimeError(
                f"indices should be either on cpu or on the same device as the indexed tensor ({devices[0]})"
            )
