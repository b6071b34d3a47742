"""What a tensor on the card answers: where it is, what it holds, how it is moved.

Each function stands for one call of PyTorch (`HANDLERS` in `face`); the mode is off while it runs, so `.device`
there is the tensor's real one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import _tensor_str

from tonnage.virtual.face import CUDA, HANDLERS, Args, DeviceFace, Kwargs, as_device
from tonnage.virtual.legacy import TypeOnCard, type_on_card
from tonnage.virtual.storages import Place
from tonnage.virtual.values import small, unrecorded

Call = Callable[..., Any]


# Where it is ----------------------------------------------------------------------------------------------------------


def _device_of(face: DeviceFace, func: Call, args: Args, kwargs: Kwargs) -> torch.device:
    device: torch.device = func(*args)
    return face.gpu.device_of(args[0]) if device.type == "meta" else device


def _where(face: DeviceFace, tensor: torch.Tensor) -> str:
    device = tensor.device
    return face.gpu.device_of(tensor).type if device.type == "meta" else device.type


def _is_cuda(face: DeviceFace, func: Call, args: Args, kwargs: Kwargs) -> bool:
    return _where(face, args[0]) == "cuda"


def _is_cpu(face: DeviceFace, func: Call, args: Args, kwargs: Kwargs) -> bool:
    return _where(face, args[0]) == "cpu"


def _is_meta(face: DeviceFace, func: Call, args: Args, kwargs: Kwargs) -> bool:
    return _where(face, args[0]) == "meta"


def _get_device(face: DeviceFace, func: Call, args: Args, kwargs: Kwargs) -> int:
    return 0 if _is_cuda(face, func, args, kwargs) else -1


def _data_ptr(face: DeviceFace, func: Call, args: Args, kwargs: Kwargs) -> int:
    tensor: torch.Tensor = args[0]
    if tensor.device.type != "meta" or face.gpu.place_of(tensor) is not Place.CARD or tensor.numel() == 0:
        return int(func(*args, **kwargs))
    return face.gpu.address(tensor.untyped_storage()) + int(tensor.storage_offset()) * tensor.element_size()


def _device(face: DeviceFace, func: Call, args: Args, kwargs: Kwargs) -> Any:
    """`torch.device(0)` is the card."""
    if len(args) == 1 and not kwargs and isinstance(args[0], int):
        return torch.device("cuda", args[0])
    return func(*args, **kwargs)


# How it is moved ------------------------------------------------------------------------------------------------------


def _to(face: DeviceFace, func: Call, args: Args, kwargs: Kwargs) -> Any:
    tensor, *rest = args
    target = rest[0] if rest else kwargs.get("device")
    if isinstance(target, torch.Tensor):
        device = _device_of(face, torch.Tensor.device.__get__, (target,), {})
        return face.move(tensor, device, (target.dtype, *rest[1:]), kwargs)
    if isinstance(target, torch.dtype) and kwargs.get("device") is not None:
        return face.move(tensor, _named(kwargs["device"]), tuple(rest), _without_device(kwargs))
    device_or_none = None if isinstance(target, torch.dtype) else as_device(target)
    if device_or_none is None:
        return func(*args, **kwargs)
    return face.move(tensor, device_or_none, tuple(rest[1:]), kwargs if rest else _without_device(kwargs))


def _named(device: Any) -> torch.device:
    found = as_device(device)
    if found is None:
        raise TypeError(f"{device!r} names no device")
    return found


def _without_device(kwargs: Kwargs) -> Kwargs:
    return {name: value for name, value in kwargs.items() if name != "device"}


def _cuda(face: DeviceFace, func: Call, args: Args, kwargs: Kwargs) -> Any:
    given = args[1] if len(args) > 1 else kwargs.get("device")
    return face.move(args[0], CUDA if given is None else _named(given), args[2:], _without_device(kwargs))


def _cpu(face: DeviceFace, func: Call, args: Args, kwargs: Kwargs) -> Any:
    return face.move(args[0], torch.device("cpu"), (), kwargs)


def _type(face: DeviceFace, func: Call, args: Args, kwargs: Kwargs) -> Any:
    target = args[1] if len(args) > 1 else kwargs.get("dtype")
    on_card = target if isinstance(target, TypeOnCard) else type_on_card(target)
    if on_card is not None:
        return face.move(args[0], CUDA, (on_card.dtype,), {})
    if target is None and _is_cuda(face, func, args, {}):
        return "torch.cuda." + torch.empty(0, dtype=args[0].dtype).type().removeprefix("torch.")
    return func(*args, **kwargs)


def _new_tensor(face: DeviceFace, func: Call, args: Args, kwargs: Kwargs) -> Any:
    tensor, *rest = args
    given = kwargs.get("device")
    if (_where(face, tensor) if given is None else _named(given).type) != "cuda":
        return func(*args, **kwargs)
    return face.make(torch.tensor, tuple(rest), {"dtype": tensor.dtype, **kwargs}, CUDA)


def _set_data(face: DeviceFace, func: Call, args: Args, kwargs: Kwargs) -> None:
    """`tensor.data = other`: CUDA lets a tensor cross from host to card so; `meta` needs the two exchanged.

    The Python object stays, with its attributes and hooks; its gradient comes along, as `Module.to` wants it.
    """
    tensor, other = args
    if tensor.device.type == other.device.type:
        func(tensor, other)
        return
    grad, hooks = tensor.grad, (tensor._backward_hooks, tensor._post_accumulate_grad_hooks)
    alias = other.detach().requires_grad_(tensor.requires_grad)
    torch._C._swap_tensor_impl(tensor, alias)
    if hooks[0]:
        tensor._backward_hooks = hooks[0]
    if hooks[1]:
        tensor._post_accumulate_grad_hooks = hooks[1]
    if grad is not None:
        where = _device_of(face, torch.Tensor.device.__get__, (tensor,), {})
        _set_data(face, func, (grad, face.move(grad.detach(), where, (), {})), {})
        tensor.grad = grad


def _set_item(face: DeviceFace, func: Call, args: Args, kwargs: Kwargs) -> None:
    """`tensor[index] = 0.0`: for a tensor on CUDA the number stays on the host.

    torch/csrc/autograd/python_variable_indexing.cpp, THPVariable_setitem; on `meta` it becomes a tensor there.
    """
    tensor, index, value = args
    if isinstance(value, (bool, int, float)) and _is_cuda(face, func, (tensor,), {}):
        value = torch.tensor(value, dtype=tensor.dtype, device="cpu")
    func(tensor, index, value)


# What it holds --------------------------------------------------------------------------------------------------------


def _values(face: DeviceFace, func: Call, args: Args, kwargs: Kwargs) -> Any:
    """A call that reads values (`tolist`, ...): made on a copy in host memory."""
    return func(face.gpu.values.on_cpu(args[0]), *args[1:], **kwargs)


def _numpy(face: DeviceFace, func: Call, args: Args, kwargs: Kwargs) -> Any:
    if _is_cuda(face, func, args, {}) and not kwargs.get("force"):
        raise TypeError(
            "can't convert cuda:0 device type tensor to numpy. "
            "Use Tensor.cpu() to copy the tensor to host memory first."
        )
    if args[0].device.type == "meta":
        return _values(face, func, args, kwargs)
    return func(*args, **kwargs)


def _isfinite(face: DeviceFace, func: Call, args: Args, kwargs: Kwargs) -> Any:
    """PyTorch makes it of comparisons, which forget that unknown floats are taken to be finite."""
    finite = func(*args, **kwargs)
    values = face.gpu.values
    if finite.device.type == "meta" and values.known(finite) is None and small(finite):
        with unrecorded():
            values.learn(finite, torch.ones(finite.shape, dtype=torch.bool))
    return finite


def _repr(face: DeviceFace, func: Call, args: Args, kwargs: Kwargs) -> str:
    tensor = args[0]
    if tensor.device.type != "meta" or face.gpu.place_of(tensor) is Place.META:
        return str(func(*args, **kwargs))
    device = face.gpu.device_of(tensor)
    where = "" if device.type == "cpu" else f"device='{device}'"
    known = face.gpu.values.known(tensor)
    if known is None:
        return str(func(*args, **kwargs)).replace("device='meta', " if not where else "device='meta'", where)
    suffixes = [where] if where else []
    if tensor.dtype not in _OBVIOUS or (tensor.is_floating_point() and tensor.dtype is not torch.get_default_dtype()):
        suffixes.append(f"dtype={tensor.dtype}")
    if tensor.grad_fn is not None:
        suffixes.append(f"grad_fn=<{type(tensor.grad_fn).__name__}>")
    elif tensor.requires_grad:
        suffixes.append("requires_grad=True")
    text = _tensor_str._tensor_str(known, 7) if known.numel() else "[]"
    return str(_tensor_str._add_suffixes(f"tensor({text}", suffixes, 7, force_newline=False))


_OBVIOUS = (torch.float16, torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.bool)
"""Types whose printed values show them; a floating one only as the default."""


def _format(face: DeviceFace, func: Call, args: Args, kwargs: Kwargs) -> str:
    tensor, spec = args
    if tensor.dim() == 0 and tensor.device.type == "meta" and face.gpu.place_of(tensor) is not Place.META:
        return str(format(tensor.detach().item(), spec))
    return format(_repr(face, torch.Tensor.__repr__, (tensor,), {}), spec)


# Host memory ----------------------------------------------------------------------------------------------------------


def _pin_memory(face: DeviceFace, func: Call, args: Args, kwargs: Kwargs) -> torch.Tensor:
    """A copy, as CUDA makes; page-locked memory is the host's and counts as nothing on the card."""
    if _where(face, args[0]) != "cpu":
        raise RuntimeError(f"cannot pin 'torch.{_where(face, args[0])}' tensor: only dense CPU tensors can be pinned")
    return face.gpu.storages.pin(args[0].clone())


def _is_pinned(face: DeviceFace, func: Call, args: Args, kwargs: Kwargs) -> bool:
    return args[0].untyped_storage() in face.gpu.storages.pinned


def _share_memory(face: DeviceFace, func: Call, args: Args, kwargs: Kwargs) -> Any:
    return args[0] if _is_cuda(face, func, args, {}) else func(*args, **kwargs)


_T: Any = torch.Tensor
HANDLERS.update(
    {
        _T.device.__get__: _device_of,
        _T.is_cuda.__get__: _is_cuda,
        _T.is_cpu.__get__: _is_cpu,
        _T.is_meta.__get__: _is_meta,
        _T.get_device: _get_device,
        torch.get_device: _get_device,
        torch.device: _device,
        _T.data_ptr: _data_ptr,
        _T.to: _to,
        _T.cuda: _cuda,
        _T.cpu: _cpu,
        _T.type: _type,
        _T.new_tensor: _new_tensor,
        _T.data.__set__: _set_data,
        _T.__setitem__: _set_item,
        _T.numpy: _numpy,
        _T.__array__: _numpy,
        _T.tolist: _values,
        _T.isfinite: _isfinite,
        torch.isfinite: _isfinite,
        _T.__repr__: _repr,
        _T.__format__: _format,
        _T.pin_memory: _pin_memory,
        _T.is_pinned: _is_pinned,
        _T.share_memory_: _share_memory,
    }
)
