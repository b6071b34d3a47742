"""`torch.cuda.FloatTensor` and its like: the names of tensor types on the card, from before `dtype`."""

from __future__ import annotations

from typing import Any

import torch

DTYPES = {
    "FloatTensor": torch.float32,
    "DoubleTensor": torch.float64,
    "HalfTensor": torch.float16,
    "BFloat16Tensor": torch.bfloat16,
    "LongTensor": torch.int64,
    "IntTensor": torch.int32,
    "ShortTensor": torch.int16,
    "CharTensor": torch.int8,
    "ByteTensor": torch.uint8,
    "BoolTensor": torch.bool,
}


class TypeOnCard(type):
    """One such type: `isinstance` asks a tensor's device and dtype, a call makes a tensor."""

    dtype: torch.dtype

    def __instancecheck__(cls, tensor: object) -> bool:
        return isinstance(tensor, torch.Tensor) and tensor.is_cuda and tensor.dtype is cls.dtype

    def __call__(cls, *args: Any) -> torch.Tensor:
        """Sizes give an uninitialised tensor, anything else is its data."""
        if all(isinstance(size, int) for size in args):
            return torch.empty(args or (0,), dtype=cls.dtype, device="cuda")
        if isinstance(args[0], torch.Size):
            return torch.empty(args[0], dtype=cls.dtype, device="cuda")
        return torch.tensor(args[0], dtype=cls.dtype, device="cuda")


TYPES = {name: TypeOnCard(name, (), {"dtype": dtype, "__module__": "torch.cuda"}) for name, dtype in DTYPES.items()}


def type_on_card(name: Any) -> TypeOnCard | None:
    """The type that "torch.cuda.FloatTensor" names, or None."""
    prefix = "torch.cuda."
    return TYPES.get(name.removeprefix(prefix)) if isinstance(name, str) and name.startswith(prefix) else None
