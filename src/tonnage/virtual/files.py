"""`torch.save` and `torch.load` inside the block.

What is on the card carries no data, so saving it is refused, and before the file is opened: a checkpoint that is
there already stays. Files that name the card, or that are loaded to it, are read on the host and copied over.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from tonnage.errors import CannotRecord
from tonnage.virtual.storages import Place

if TYPE_CHECKING:
    from tonnage.tracking.patches import Patches
    from tonnage.virtual.device import VirtualDevice


def install_files(gpu: VirtualDevice, patches: Patches) -> None:
    patches.set(torch.Tensor, "_reduce_ex_internal", _reducing(gpu, torch.Tensor._reduce_ex_internal))
    patches.set(torch, "save", _saving(torch.save))
    patches.set(torch, "load", _loading(torch.load))


def _reducing(gpu: VirtualDevice, original: Callable[..., Any]) -> Callable[..., Any]:
    """What pickle and torch.save ask a tensor to do."""

    def reduce(tensor: torch.Tensor, protocol: int) -> Any:
        if tensor.layout is torch.strided and gpu.place_of(tensor) is Place.CARD:
            raise CannotRecord(
                "a tensor on the virtual GPU carries no data and cannot be saved, pickled or copied with copy.copy",
                hint="leave that line out while weighing",
            )
        return original(tensor, protocol)

    return reduce


class _Nowhere:
    """A file that keeps nothing."""

    def write(self, data: Any) -> int:
        return len(data)

    def flush(self) -> None:
        """Nothing was kept."""


def _saving(original: Callable[..., Any]) -> Callable[..., Any]:
    def save(obj: object, f: Any, *args: Any, **kwargs: Any) -> None:
        original(obj, _Nowhere(), *args, **kwargs)  # raises CannotRecord where there is no data
        original(obj, f, *args, **kwargs)

    return save


def _loading(original: Callable[..., Any]) -> Callable[..., Any]:
    def load(f: Any, map_location: Any = None, *args: Any, **kwargs: Any) -> Any:
        to_card: set[int] = set()

        def stay(storage: torch.UntypedStorage, location: str) -> torch.UntypedStorage:
            if _target(map_location, storage, location).startswith("cuda"):
                to_card.add(storage._cdata)
            return storage

        return _moved(original(f, stay, *args, **kwargs), to_card, {})

    return load


def _target(map_location: Any, storage: torch.UntypedStorage, location: str) -> str:
    """Where `torch.load` would put a storage that was saved from `location`."""
    if map_location is None:
        return location
    if isinstance(map_location, dict):
        return str(map_location.get(location, location))
    if callable(map_location):
        placed = map_location(storage, location)
        return location if placed is None else str(placed.device)
    return str(map_location)


def _moved(value: Any, to_card: set[int], seen: dict[int, Any]) -> Any:
    """`value` with the tensors whose storages are in `to_card` on the card, the containers kept."""
    if id(value) in seen:
        return seen[id(value)]
    result = value
    if isinstance(value, torch.Tensor):
        if value.is_cpu and value.layout is torch.strided and value.untyped_storage()._cdata in to_card:
            result = value.detach().cuda().requires_grad_(value.requires_grad)
            result = torch.nn.Parameter(result) if isinstance(value, torch.nn.Parameter) else result
    elif isinstance(value, torch.nn.Module):
        value._apply(lambda tensor: _moved(tensor, to_card, seen))
    elif isinstance(value, dict):
        for key in value:
            value[key] = _moved(value[key], to_card, seen)
    elif isinstance(value, list):
        value[:] = [_moved(item, to_card, seen) for item in value]
    elif type(value) is tuple:
        result = tuple(_moved(item, to_card, seen) for item in value)
    seen[id(value)] = result
    return result
