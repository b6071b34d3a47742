"""Whose habits are followed: what PyTorch does on one type of device where `meta` does otherwise."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, cast

import torch

Rule = Callable[..., Iterable[int]]


@dataclass(frozen=True, eq=False)
class Habits:
    """The habits of PyTorch on `device`, by operator.

    `layer` are kernels in front of autograd, by name, under a dispatch `key` that nothing else uses. `early` and
    `scratch` give the bytes that a kernel takes for itself before and after its outputs, `host_outputs` which outputs
    are in host memory; both are asked with the device. `shapes` make outputs that are unlike those of `meta`, or say
    NotImplemented. Of operators that are `taken_apart` the parts are recorded in their place.
    """

    device: torch.device
    key: str
    layer: Mapping[str, Callable[..., Any]]
    early: Mapping[Any, Rule] = field(default_factory=dict)
    scratch: Mapping[Any, Rule] = field(default_factory=dict)
    host_outputs: Mapping[Any, Callable[..., tuple[int, ...]]] = field(default_factory=dict)
    shapes: Mapping[Any, Callable[..., Any]] = field(default_factory=dict)
    taken_apart: Collection[Any] = ()

    @cached_property
    def dispatch_key(self) -> torch._C.DispatchKey:
        return cast("torch._C.DispatchKey", getattr(torch._C.DispatchKey, self.key))

    @cached_property
    def dispatch_keys(self) -> torch._C.DispatchKeySet:
        return torch._C.DispatchKeySet(self.dispatch_key)
