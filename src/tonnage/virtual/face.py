"""The device face: what `device="cuda"` means and what a tensor answers when asked where it is.

Underneath, a tensor on the card is a `meta` tensor. This mode turns every "cuda" on its way into PyTorch into
"meta", and every question about a tensor's device into the answer of a card. It does not see calls made inside
Python functions that PyTorch handed it (torch.nn.functional and such): there the tensor is plainly on `meta`,
consistently, which is why `Tensor.backward`, whose body may run user code, is re-entered with the mode on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils import _device

from tonnage.virtual.storages import Place

if TYPE_CHECKING:
    from tonnage.virtual.gpu import VirtualGpu

Args = tuple[Any, ...]
Kwargs = dict[str, Any]
Handler = Callable[["DeviceFace", Callable[..., Any], Args, Kwargs], Any]

META = torch.device("meta")
CUDA = Place.CARD.value
REAL_ON_HOST = 16384
"""Elements up to which a tensor made on the data-free host is real all the same, so that its values are known."""

_UNTOUCHED = ("tensor", "as_tensor", "from_numpy", "frombuffer", "asarray", "sparse_coo_tensor")
"""Constructors that are handed their data: on the host they stay real whatever their size."""


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

    def __init__(self, gpu: VirtualGpu) -> None:
        super().__init__()
        self.gpu = gpu

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Args = (), kwargs: Kwargs | None = None
    ) -> Any:
        handler = _HANDLERS.get(func)
        if handler is not None:
            return handler(self, func, args, kwargs or {})
        if kwargs and kwargs.get("device") is not None:
            return self.make(func, args, kwargs, as_device(kwargs["device"]))
        if _device.CURRENT_DEVICE is not None or self.gpu.on_host:
            return self.make_on_default(func, args, kwargs or {})
        return func(*args, **kwargs) if kwargs else func(*args)

    def make_on_default(self, func: Callable[..., Any], args: Args, kwargs: Kwargs) -> Any:
        """Runs a call that names no device: a factory follows `torch.set_default_device`."""
        if func not in _device._device_constructors():
            return func(*args, **kwargs)
        return self.make(func, args, kwargs, _device.CURRENT_DEVICE or torch.device("cpu"))

    def make(self, func: Callable[..., Any], args: Args, kwargs: Kwargs, device: torch.device | None) -> Any:
        """Runs a call that names `device`, where the result is then taken to be."""
        if device is None:
            return func(*args, **kwargs)
        if device.type == "cuda":
            self.gpu.check_device(device)
            if _wants_pinned(kwargs):
                kwargs = {**kwargs, "pin_memory": False}
            return self.placed(Place.CARD, func, args, {**kwargs, "device": META})
        if device.type == "meta":
            return self.placed(Place.META, func, args, {**kwargs, "device": META})
        if device.type == "cpu" and self.gpu.on_host and _large_factory(func):
            return self.on_host(func, args, kwargs)
        if _wants_pinned(kwargs):
            kwargs = {**kwargs, "pin_memory": False}
        return func(*args, **kwargs)

    def on_host(self, func: Callable[..., Any], args: Args, kwargs: Kwargs) -> Any:
        """A tensor of the host: without data if it is large, real if it is small."""
        made = self.placed(Place.HOST, func, args, {**kwargs, "device": META})
        if isinstance(made, torch.Tensor) and made.numel() > REAL_ON_HOST:
            return made
        return func(*args, **{**kwargs, "device": torch.device("cpu")})

    def placed(self, place: Place, func: Callable[..., Any], args: Args, kwargs: Kwargs) -> Any:
        before, self.gpu.placing = self.gpu.placing, place
        try:
            return func(*args, **kwargs)
        finally:
            self.gpu.placing = before

    def move(self, tensor: torch.Tensor, device: torch.device, args: Args, kwargs: Kwargs) -> Any:
        """`tensor.to(device, ...)` with the rest of the arguments of `to`."""
        gpu = self.gpu
        if device.type == "cuda":
            gpu.check_device(device)
            return gpu.values.to_card(tensor, args, kwargs)
        if device.type == "cpu":
            return gpu.values.to_host(tensor, args, kwargs)
        if device.type == "meta" and gpu.place_of(tensor) is not Place.META:
            return self.placed(Place.META, torch.empty_like, (tensor,), {"device": META, **_only_dtype(args, kwargs)})
        return tensor.to(device, *args, **kwargs)


def _wants_pinned(kwargs: Kwargs) -> bool:
    return bool(kwargs.get("pin_memory"))


def _large_factory(func: Callable[..., Any]) -> bool:
    return getattr(func, "__name__", "") not in _UNTOUCHED and func in _device._device_constructors()


def _only_dtype(args: Args, kwargs: Kwargs) -> Kwargs:
    dtype = kwargs.get("dtype", next((a for a in args if isinstance(a, torch.dtype)), None))
    return {} if dtype is None else {"dtype": dtype}


def _device_of(face: DeviceFace, func: Callable[..., Any], args: Args, kwargs: Kwargs) -> torch.device:
    device: torch.device = func(*args)
    return face.gpu.place_of(args[0]).value if device.type == "meta" else device


def _is_cuda(face: DeviceFace, func: Callable[..., Any], args: Args, kwargs: Kwargs) -> bool:
    return _device_of(face, torch.Tensor.device.__get__, args, {}).type == "cuda"


def _is_cpu(face: DeviceFace, func: Callable[..., Any], args: Args, kwargs: Kwargs) -> bool:
    return _device_of(face, torch.Tensor.device.__get__, args, {}).type == "cpu"


def _is_meta(face: DeviceFace, func: Callable[..., Any], args: Args, kwargs: Kwargs) -> bool:
    return _device_of(face, torch.Tensor.device.__get__, args, {}).type == "meta"


def _get_device(face: DeviceFace, func: Callable[..., Any], args: Args, kwargs: Kwargs) -> int:
    return 0 if _is_cuda(face, func, args, kwargs) else -1


def _to(face: DeviceFace, func: Callable[..., Any], args: Args, kwargs: Kwargs) -> Any:
    tensor, *rest = args
    target = rest[0] if rest else kwargs.get("device", kwargs.get("other"))
    if isinstance(target, torch.Tensor):
        device, dtype = _device_of(face, torch.Tensor.device.__get__, (target,), {}), target.dtype
        kept = {name: value for name, value in kwargs.items() if name != "other"}
        return face.move(tensor, device, (dtype, *rest[1:]), kept)
    if isinstance(target, torch.dtype) and kwargs.get("device") is not None:
        kept = {name: value for name, value in kwargs.items() if name != "device"}
        return face.move(tensor, _named(kwargs["device"]), tuple(rest), kept)
    device_or_none = None if isinstance(target, torch.dtype) else as_device(target)
    if device_or_none is None:
        return func(*args, **kwargs)
    if rest:
        return face.move(tensor, device_or_none, tuple(rest[1:]), kwargs)
    return face.move(tensor, device_or_none, (), {n: v for n, v in kwargs.items() if n != "device"})


def _named(device: Any) -> torch.device:
    found = as_device(device)
    assert found is not None, device
    return found


def _cuda(face: DeviceFace, func: Callable[..., Any], args: Args, kwargs: Kwargs) -> Any:
    given = args[1] if len(args) > 1 else kwargs.get("device")
    device = CUDA if given is None else _named(given)
    kept = {name: value for name, value in kwargs.items() if name != "device"}
    return face.move(args[0], device, (), kept)


def _cpu(face: DeviceFace, func: Callable[..., Any], args: Args, kwargs: Kwargs) -> Any:
    return face.move(args[0], torch.device("cpu"), (), kwargs)


def _needs_data(face: DeviceFace, func: Callable[..., Any], args: Args, kwargs: Kwargs) -> Any:
    """A call that reads values (`tolist`, `repr`, ...): made on a copy in host memory."""
    return func(face.gpu.values.on_cpu(args[0]), *args[1:], **kwargs)


def _numpy(face: DeviceFace, func: Callable[..., Any], args: Args, kwargs: Kwargs) -> Any:
    if _is_cuda(face, func, args, {}) and not kwargs.get("force"):
        raise TypeError(
            "can't convert cuda:0 device type tensor to numpy. "
            "Use Tensor.cpu() to copy the tensor to host memory first."
        )
    return _needs_data(face, func, args, kwargs)


def _repr(face: DeviceFace, func: Callable[..., Any], args: Args, kwargs: Kwargs) -> str:
    tensor = args[0]
    if tensor.device.type != "meta" or face.gpu.place_of(tensor) is Place.META:
        return str(func(*args, **kwargs))
    place = face.gpu.place_of(tensor)
    known = face.gpu.values.known(tensor)
    where = "" if place is Place.HOST else f", device='{place.value}'"
    if known is not None:
        text = func(known.requires_grad_(tensor.requires_grad) if tensor.is_floating_point() else known)
        return f"{text[:-1]}{where})"
    return f"tensor(..., size={tuple(tensor.shape)}, dtype={tensor.dtype}{where})"


def _format(face: DeviceFace, func: Callable[..., Any], args: Args, kwargs: Kwargs) -> str:
    tensor, spec = args
    if tensor.dim() == 0 and tensor.device.type == "meta":
        return str(format(tensor.detach().item(), spec))
    return format(_repr(face, torch.Tensor.__repr__, (tensor,), {}), spec)


def _set_data(face: DeviceFace, func: Callable[..., Any], args: Args, kwargs: Kwargs) -> None:
    """`tensor.data = other`: CUDA lets a tensor cross from host to card so; `meta` needs the two swapped."""
    tensor, other = args
    if tensor.device.type == other.device.type:
        func(tensor, other)
        return
    requires_grad = tensor.requires_grad
    alias = other.detach()
    if isinstance(tensor, torch.nn.Parameter):
        alias = torch.nn.Parameter(alias, requires_grad)
    else:
        alias.requires_grad_(requires_grad)
    torch.utils.swap_tensors(tensor, alias)


def _backward(face: DeviceFace, func: Callable[..., Any], args: Args, kwargs: Kwargs) -> None:
    names = ("gradient", "retain_graph", "create_graph", "inputs")
    given: Kwargs = dict(zip(names, args[1:], strict=False)) | kwargs
    with face:
        torch.autograd.backward(
            args[0],
            given.get("gradient"),
            given.get("retain_graph"),
            given.get("create_graph", False),
            inputs=given.get("inputs"),
        )


def _pin_memory(face: DeviceFace, func: Callable[..., Any], args: Args, kwargs: Kwargs) -> torch.Tensor:
    tensor: torch.Tensor = args[0]
    return tensor


def _is_pinned(face: DeviceFace, func: Callable[..., Any], args: Args, kwargs: Kwargs) -> bool:
    return False


def _type(face: DeviceFace, func: Callable[..., Any], args: Args, kwargs: Kwargs) -> Any:
    if len(args) > 1 or kwargs or not _is_cuda(face, func, args, {}):
        return func(*args, **kwargs)
    return "torch.cuda." + torch.empty(0, dtype=args[0].dtype).type().removeprefix("torch.")


def _getters() -> dict[Callable[..., Any], Handler]:
    tensor = torch.Tensor
    return {
        tensor.device.__get__: _device_of,
        tensor.is_cuda.__get__: _is_cuda,  # type: ignore[attr-defined]
        tensor.is_cpu.__get__: _is_cpu,  # type: ignore[attr-defined]
        tensor.is_meta.__get__: _is_meta,  # type: ignore[attr-defined]
        tensor.data.__set__: _set_data,  # type: ignore[attr-defined]
    }


_HANDLERS: dict[Callable[..., Any], Handler] = {
    **_getters(),
    torch.Tensor.get_device: _get_device,
    torch.Tensor.to: _to,
    torch.Tensor.cuda: _cuda,
    torch.Tensor.cpu: _cpu,
    torch.Tensor.numpy: _numpy,
    torch.Tensor.tolist: _needs_data,
    torch.Tensor.__array__: _needs_data,
    torch.Tensor.__repr__: _repr,
    torch.Tensor.__format__: _format,
    torch.Tensor.backward: _backward,
    torch.Tensor.pin_memory: _pin_memory,
    torch.Tensor.is_pinned: _is_pinned,
    torch.Tensor.type: _type,
}
