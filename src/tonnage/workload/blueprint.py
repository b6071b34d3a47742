"""What a built model is made of, as plain data: its modules, and its parameters and buffers under all their names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn

from tonnage.trace import Module, Parameter

_MOST_ITEMS = 8
"""Longer lists are tables of the model's and no sizes."""


def module_of(path: str, module: nn.Module) -> Module:
    """One module without its children."""
    cls = type(module)
    return Module(path, cls.__name__, cls.__module__, dict(_facts(module)))


def modules_of(root: nn.Module) -> list[Module]:
    """Every module of `root` once, itself first, in the order of `named_modules`."""
    return [module_of(path, module) for path, module in root.named_modules()]


def members_of(root: nn.Module) -> Iterator[Parameter]:
    """Every parameter and buffer of `root` under every name it has."""
    for kind, members in (
        ("parameter", root.named_parameters(remove_duplicate=False)),
        ("buffer", root.named_buffers(remove_duplicate=False)),
    ):
        for name, tensor in members:
            yield Parameter(
                name,
                tuple(tensor.shape),
                str(tensor.dtype).removeprefix("torch."),
                tensor.numel() * tensor.element_size(),
                tensor.requires_grad,
                id(tensor),
                kind,
            )


def _facts(module: nn.Module) -> Iterator[tuple[str, Any]]:
    for name, value in vars(module).items():
        if not name.startswith("_") and name != "training" and _is_plain(value):
            yield name, tuple(value) if isinstance(value, (list, tuple)) else value


def _is_plain(value: object) -> bool:
    if isinstance(value, (list, tuple)):
        return len(value) <= _MOST_ITEMS and all(type(item) in (int, float) for item in value)
    return value is None or type(value) in (bool, int, float, str)
