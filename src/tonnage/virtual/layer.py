"""The layer in front of autograd that carries a device's habits.

`meta` kernels take other paths in a few composite operators than those of CUDA or the CPU: dropout draws a full-size
mask, attention takes the math path, autocast is not obeyed. An autocast dispatch key that nothing else uses, one for
each type of device, gets a kernel for each of them; all other operators fall through it in C++ at no cost. The key is
active only inside a block, in that thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, cast

import torch

from tonnage.tracking.patches import Patches

if TYPE_CHECKING:
    from tonnage.virtual.device import VirtualDevice
    from tonnage.virtual.gpu import VirtualGpu
    from tonnage.virtual.habits import Habits

Kernel = Callable[..., Any]
_active: list[VirtualDevice] = []


def behind() -> Any:
    """A block in which operators skip this layer and go on to autograd."""
    return torch._C._ExcludeDispatchKeyGuard(active().habits.dispatch_keys)


def before() -> Any:
    """A block in which operators come through this layer again."""
    return torch._C._IncludeDispatchKeyGuard(active().habits.dispatch_key)


def dataless(tensor: torch.Tensor) -> bool:
    """Whether `tensor` is on `meta` underneath; `tensor.is_meta` may be answered by the device face here."""
    return torch._C._dispatch_keys(tensor).has(torch._C.DispatchKey.Meta)


def active() -> VirtualDevice:
    return _active[-1]


def active_gpu() -> VirtualGpu:
    """The active device, for kernels that are a card's alone."""
    return cast("VirtualGpu", active())


@cache
def _install(habits: Habits) -> list[torch.library.Library]:
    """Registers the kernels, once in a process; the libraries must be kept alive."""
    rest = torch.library.Library("_", "IMPL")
    rest.fallback(torch.library.fallthrough_kernel, habits.key)
    aten = torch.library.Library("aten", "IMPL")
    for name, kernel in habits.layer.items():
        aten.impl(name, kernel, habits.key)
    return [rest, aten]


@contextmanager
def _kernels_for_meta(device: VirtualDevice) -> Iterator[None]:
    """A block in which `meta` has kernels of its own where CUDA has one and PyTorch takes its operator apart."""
    aten = torch.library.Library("aten", "IMPL")
    for name, kernel in device.meta_kernels().items():
        # Library.impl refuses, for it wants such operators taken apart; here they must not be.
        vars(aten)["m"].impl(name, "Meta", kernel, False)
    try:
        yield
    finally:
        aten._destroy()


def _has_torch_function(original: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """What modules ask before they take a fused path: true for tensor subclasses, and not for our own device face."""

    def has_torch_function(arguments: Any) -> bool:
        others = tuple(a for a in arguments if type(a) not in (torch.Tensor, torch.nn.Parameter, type(None)))
        return bool(others) and original(others)

    return has_torch_function


@contextmanager
def layer_of(device: VirtualDevice) -> Iterator[None]:
    """A block in which the layer is in place for `device`."""
    with _kernels_for_meta(device), _layer_for(device):
        patches = Patches()
        patches.set(torch.overrides, "has_torch_function", _has_torch_function(torch.overrides.has_torch_function))
        try:
            yield
        finally:
            patches.restore()


@contextmanager
def _layer_for(device: VirtualDevice) -> Iterator[None]:
    _install(device.habits)
    _active.append(device)
    key = device.habits.dispatch_key
    excluded = torch._C._dispatch_tls_is_dispatch_key_excluded(key)
    torch._C._dispatch_tls_set_dispatch_key_excluded(key, False)
    try:
        with before():
            yield
    finally:
        torch._C._dispatch_tls_set_dispatch_key_excluded(key, excluded)
        _active.pop()
