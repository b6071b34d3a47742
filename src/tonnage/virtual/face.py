"""The device face: what `device="cuda"` means and what a tensor answers when asked where it is.

Underneath, a tensor on the card is a `meta` tensor. This mode turns every "cuda" on its way into PyTorch into
"meta"; `answers` holds what it says to every question about a tensor's device or values. It does not see calls made
inside Python functions that PyTorch handed it (torch.nn.functional and such): there the tensor is plainly on `meta`,
consistently. Backward may run user code, so `runtime` enters the mode again for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils import _device

from tonnage.virtual.storages import Place
from tonnage.virtual.values import dtype_among

if TYPE_CHECKING:
    from tonnage.virtual.device import VirtualDevice

Args = tuple[Any, ...]
Call = Callable[..., Any]
Kwargs = dict[str, Any]
Handler = Callable[["DeviceFace", Callable[..., Any], Args, Kwargs], Any]

META = torch.device("meta")
CUDA = Place.CARD.value
REAL_ON_HOST = 16384
"""Elements up to which a tensor made on the data-free host is real all the same, so that its values are known."""

_GIVEN_DATA = {torch.tensor: "data", torch.as_tensor: "data", torch.asarray: "obj"}
"""Constructors that are handed their data, and under which name."""
_UNTOUCHED = {*_GIVEN_DATA, torch.from_numpy, torch.frombuffer, torch.sparse_coo_tensor}
"""Constructors that on the host stay real whatever their size."""

HANDLERS: dict[Callable[..., Any], Handler] = {}
"""Calls that are answered rather than run; filled by `answers`."""


def as_device(device: Any) -> torch.device | None:
    """The torch.device that `device` names in a factory or `.to`, or None if it names none."""
    if isinstance(device, torch.device):
        return device
    if isinstance(device, str):
        return torch.device(device)
    if isinstance(device, int) and not isinstance(device, bool):
        return torch.device("cuda", device)
    return None


class DeviceFace(TorchFunctionMode):
    """Makes `meta` tensors look like tensors on the card of `gpu`."""

    def __init__(self, gpu: VirtualDevice) -> None:
        super().__init__()
        self.gpu = gpu

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Args = (), kwargs: Kwargs | None = None
    ) -> Any:
        if func in HANDLERS:
            return self.answer(func, args, kwargs or {})
        if kwargs:
            if kwargs.get("device") is not None:
                return self.make(func, args, kwargs, as_device(kwargs["device"]))
            if kwargs.get("pin_memory"):
                return self.make(func, args, kwargs, _device.CURRENT_DEVICE or torch.device("cpu"))
        if _device.CURRENT_DEVICE is not None or self.gpu.on_host:
            return self.make_on_default(func, args, kwargs or {})
        return func(*args, **kwargs) if kwargs else func(*args)

    def answer(self, func: Callable[..., Any], args: Args, kwargs: Kwargs) -> Any:
        """Answers a call that is about where a tensor is or what it holds; runs any other."""
        handler = HANDLERS.get(func)
        return func(*args, **kwargs) if handler is None else handler(self, func, args, kwargs)

    def make_on_default(self, func: Callable[..., Any], args: Args, kwargs: Kwargs) -> Any:
        """Runs a call that names no device: a factory follows `torch.set_default_device`."""
        if func not in _device._device_constructors():
            return func(*args, **kwargs)
        return self.make(func, args, kwargs, _device.CURRENT_DEVICE or torch.device("cpu"))

    def make(self, func: Callable[..., Any], args: Args, kwargs: Kwargs, device: torch.device | None) -> Any:
        """Runs a call that names `device`, where the result then is."""
        if device is None:
            return func(*args, **kwargs)
        pinned = kwargs.get("pin_memory")
        if pinned:
            kwargs = {**kwargs, "pin_memory": False}
        if device.type == "cuda":
            self.gpu.check_device(device)
            if func in _GIVEN_DATA:
                return self.from_data(func, args, kwargs)
            return self.placed(Place.CARD, func, args, {**kwargs, "device": META})
        if device.type == "meta":
            return self.placed(Place.META, func, args, {**kwargs, "device": META})
        if device.type == "cpu" and self.gpu.on_host and _large_factory(func):
            return self.on_host(func, args, kwargs)
        made = func(*args, **kwargs)
        if pinned:
            self.gpu.storages.pin(made)
        return made

    def on_host(self, func: Callable[..., Any], args: Args, kwargs: Kwargs) -> Any:
        """A tensor of the host: without data if it is large, real if it is small."""
        made = self.placed(Place.HOST, func, args, {**kwargs, "device": META})
        if isinstance(made, torch.Tensor) and made.numel() > REAL_ON_HOST:
            return made
        return func(*args, **{**kwargs, "device": torch.device("cpu")})

    def from_data(self, func: Callable[..., Any], args: Args, kwargs: Kwargs) -> Any:
        """`torch.tensor(data, device="cuda")`: made on the host and copied over."""
        data = args[0] if args else kwargs[_GIVEN_DATA[func]]
        if isinstance(data, torch.Tensor):
            return self.placed(Place.CARD, func, args, {**kwargs, "device": META})
        on_cpu = {**kwargs, "device": torch.device("cpu"), "requires_grad": False}
        if func is torch.as_tensor:  # the one that cannot be told
            del on_cpu["requires_grad"]
        made = self.gpu.values.to_card(func(*args, **on_cpu), (), {})
        return made.requires_grad_() if kwargs.get("requires_grad") else made

    def placed(self, place: Place, func: Callable[..., Any], args: Args, kwargs: Kwargs) -> Any:
        """Runs a call whose outputs are at `place`, wherever its inputs are."""
        with self.gpu.arriving_at(place):
            return func(*args, **kwargs)

    def move(self, tensor: torch.Tensor, device: torch.device, args: Args, kwargs: Kwargs) -> Any:
        """`tensor.to(device, ...)` with the rest of the arguments of `to`."""
        gpu = self.gpu
        if device.type == "cuda":
            gpu.check_device(device)
            return gpu.values.to_card(tensor, args, kwargs)
        if device.type == "cpu":
            return gpu.values.to_host(tensor, args, kwargs)
        if device.type == "meta" and gpu.place_of(tensor) is not Place.META:
            dtype = dtype_among(args, kwargs)
            return self.placed(Place.META, torch.empty_like, (tensor,), {"device": META, "dtype": dtype})
        return tensor.to(device, *args, **kwargs)


def _large_factory(func: Callable[..., Any]) -> bool:
    return func not in _UNTOUCHED and func in _device._device_constructors()
