"""The layer in front of autograd that carries CUDA's habits.

`meta` kernels take other paths than CUDA's in a few composite operators: dropout draws a full-size mask, attention
takes the math path, autocast is not obeyed. An autocast dispatch key that nothing else uses gets a kernel for each
of them; all other operators fall through it in C++ at no cost. The key is active only inside a `virtual_gpu` block,
in that thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

import torch

from tonnage.tracking.patches import Patches

if TYPE_CHECKING:
    from tonnage.virtual.gpu import VirtualGpu

_NAME = "AutocastIPU"
_KEY = getattr(torch._C.DispatchKey, _NAME)
_KEYS = torch._C.DispatchKeySet(_KEY)

Kernel = Callable[..., Any]
_active: list[VirtualGpu] = []


def behind() -> Any:
    """A block in which operators skip this layer and go on to autograd."""
    return torch._C._ExcludeDispatchKeyGuard(_KEYS)


def before() -> Any:
    """A block in which operators come through this layer again."""
    return torch._C._IncludeDispatchKeyGuard(_KEY)


def dataless(tensor: torch.Tensor) -> bool:
    """Whether `tensor` is on `meta` underneath; `tensor.is_meta` may be answered by the device face here."""
    return torch._C._dispatch_keys(tensor).has(torch._C.DispatchKey.Meta)


def active_gpu() -> VirtualGpu:
    return _active[-1]


@cache
def _install() -> list[torch.library.Library]:
    """Registers the kernels, once in a process; the libraries must be kept alive."""
    from tonnage.virtual.kernels import LAYER

    rest = torch.library.Library("_", "IMPL")
    rest.fallback(torch.library.fallthrough_kernel, _NAME)
    aten = torch.library.Library("aten", "IMPL")
    for name, kernel in LAYER.items():
        aten.impl(name, kernel, _NAME)
    return [rest, aten]


@contextmanager
def _kernels_for_meta(gpu: VirtualGpu) -> Iterator[None]:
    """A block in which `meta` has kernels of its own where CUDA has one and PyTorch takes its operator apart."""
    from tonnage.virtual.kernels import META

    aten = torch.library.Library("aten", "IMPL")
    if gpu.rules.fuses_rms_norm:
        for name, kernel in META.items():
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
def cuda_habits(gpu: VirtualGpu) -> Iterator[None]:
    """A block in which the layer is in place for `gpu`."""
    with _kernels_for_meta(gpu), _layer_for(gpu):
        patches = Patches()
        patches.set(torch.overrides, "has_torch_function", _has_torch_function(torch.overrides.has_torch_function))
        try:
            yield
        finally:
            patches.restore()


@contextmanager
def _layer_for(gpu: VirtualGpu) -> Iterator[None]:
    _install()
    _active.append(gpu)
    excluded = torch._C._dispatch_tls_is_dispatch_key_excluded(_KEY)
    torch._C._dispatch_tls_set_dispatch_key_excluded(_KEY, False)
    try:
        with before():
            yield
    finally:
        torch._C._dispatch_tls_set_dispatch_key_excluded(_KEY, excluded)
        _active.pop()
