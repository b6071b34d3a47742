"""Moves inputs to the device, without changing the user's tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch


def place(value: Any, device: torch.device | str) -> Any:
    """`value` with every tensor in it on `device`; containers are rebuilt, tensors that occur twice stay one.

    A tensor that is there already is cloned, because a model may change its input in place. One on the meta device
    has no values: zeros stand for them.
    """
    return _place(value, torch.device(device), {})


def _place(value: Any, device: torch.device, done: dict[int, torch.Tensor]) -> Any:
    if isinstance(value, torch.Tensor):
        if id(value) not in done:
            done[id(value)] = _place_tensor(value, device)
        return done[id(value)]
    if isinstance(value, Mapping):
        placed = {key: _place(item, device, done) for key, item in value.items()}
        return placed if type(value) is dict else _rebuilt(value, placed)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(_place(item, device, done) for item in value))
    if isinstance(value, list | tuple):
        return type(value)(_place(item, device, done) for item in value)
    return value


def _rebuilt(original: Mapping[Any, Any], placed: dict[Any, Any]) -> Any:
    try:
        return type(original)(placed)  # type: ignore[call-arg]
    except TypeError:
        return placed


def _place_tensor(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    if tensor.device.type == "meta" and device.type != "meta":
        moved = torch.zeros_like(tensor, device=device)
    elif tensor.device == device or (tensor.device.type == device.type and device.index is None):
        moved = tensor.detach().clone()
    else:
        moved = tensor.detach().to(device)
    return moved.requires_grad_(tensor.requires_grad)
