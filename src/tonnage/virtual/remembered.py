"""What operators made before, so that the second layer of a model costs less than the first.

PyTorch's meta kernels that are written in Python (products, means, concatenations, whatever broadcasts) take up to
some milliseconds a call, and a model asks for the same ones in every layer. What comes out follows from the layouts of
the tensors and from the other arguments: where these come again, tensors of the layouts that came out are made anew,
in a microsecond, and PyTorch is not asked. tests/unit/virtual/test_remembered.py holds recordings with and without
this against each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

MOST = 1 << 15
"""Layouts, of inputs and outputs, that are kept before all are forgotten; some 15 MB of memory."""

_META = torch.device("meta")
_NOT_BY_LAYOUT = (torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape, torch.Tag.inplace_view)
_CHANGES_THE_TENSOR = {torch.ops.aten._resize_output_.default, torch.ops.aten.requires_grad_.default}
_TENSORS = {torch.Tensor, torch.nn.Parameter}
_SEQUENCES = {list, tuple}
_PLAIN = {
    *(type(None), bool, int, float, complex, str),
    *(torch.dtype, torch.device, torch.layout, torch.memory_format),
}


class Layout(NamedTuple):
    """A tensor without data: its size, its strides in elements, its type."""

    size: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype

    def make(self) -> torch.Tensor:
        return torch.empty_strided(self.size, self.stride, dtype=self.dtype, device=_META)


class Made(NamedTuple):
    """What an operator returned: a tensor (`sequence` is None), or a list or tuple of tensors and other things.

    No parts: its first argument, which it had written to.
    """

    sequence: type | None
    parts: list[Any]

    def again(self, args: Any) -> Any:
        """The same for these arguments: tensors that share memory with nothing, or the first of them itself."""
        if not self.parts:
            return args[0]
        if self.sequence is None:
            return self.parts[0].make()
        return self.sequence([part.make() if type(part) is Layout else part for part in self.parts])


_ITSELF = Made(None, [])


class Remembered:
    """What was made, by `key_of` the call."""

    def __init__(self) -> None:
        self._made: dict[Any, Made] = {}
        self._layouts = 0

    def get(self, key: Any) -> Made | None:
        return self._made.get(key)

    def keep(self, key: Any, args: Any, inputs: Sequence[torch.Tensor], out: Any) -> None:
        """Keeps what came out, if it can be made anew."""
        made = _ITSELF if args and out is args[0] and out.is_meta else _made_of(out, inputs)
        if made is None:
            return
        self._layouts += len(inputs) + len(made.parts)
        if self._layouts > MOST:
            self._made.clear()
            self._layouts = len(inputs) + len(made.parts)
        self._made[key] = made


def follows_from_layouts(func: Any) -> bool:
    """Whether what `func` returns depends on no values, and it writes nothing, or nothing but its only tensor."""
    if func in _CHANGES_THE_TENSOR or any(tag in func.tags for tag in _NOT_BY_LAYOUT):
        return False
    arguments, returns = func._schema.arguments, func._schema.returns
    if not any(part.alias_info is not None for part in (*arguments, *returns)):
        return True
    tensors = [a for a in arguments if "Tensor" in str(a.type)]
    return tensors == arguments[:1] and len(returns) == 1 and _is_written(tensors[0]) and _is_written(returns[0])


def _is_written(part: Any) -> bool:
    return part.alias_info is not None and part.alias_info.is_write


def key_of(func: Any, args: Any, kwargs: Any) -> Any:
    """Everything that the layouts of the outputs can follow from, or None if that is not known of an argument."""
    key = [func, torch.get_default_dtype(), torch.are_deterministic_algorithms_enabled()]
    try:
        key += map(_facts, args)
        for name in kwargs:
            key += name, _facts(kwargs[name])
    except TypeError:
        return None
    return tuple(key)


def _facts(value: Any) -> Any:
    """An argument as a part of the key. 1, 1.0 and True are equal and give results of different types."""
    kind = type(value)
    if kind in _TENSORS and value.layout is torch.strided:
        return value.shape, value.stride(), value.dtype, value.is_meta
    if kind in _PLAIN:
        return kind, value
    if kind in _SEQUENCES:
        return tuple(map(_facts, value))
    raise TypeError(f"what follows from {kind.__name__} is not known")


def _made_of(out: Any, inputs: Sequence[torch.Tensor]) -> Made | None:
    """`out` by its layouts, if every tensor in it is a newborn that PyTorch would make of its layout alone."""
    sequence = type(out) if type(out) in _SEQUENCES else None
    storages = {tensor.untyped_storage()._cdata for tensor in inputs}
    parts: list[Any] = []
    for part in [out] if sequence is None else out:
        if _is_plain(part):
            storage = part.untyped_storage()._cdata
            if storage in storages:
                return None
            storages.add(storage)
            parts.append(_layout_of(part))
        elif sequence is not None and type(part) in _PLAIN:
            parts.append(part)
        else:
            return None
    return Made(sequence, parts)


def _layout_of(tensor: torch.Tensor) -> Layout:
    return Layout(tuple(tensor.shape), tensor.stride(), tensor.dtype)


def _is_plain(value: Any) -> bool:
    """Whether `value` is what `Layout.make` makes: all of its storage, dense, and no conjugate and the like."""
    if type(value) is not torch.Tensor or not value.is_meta or value.layout is not torch.strided or value.is_quantized:
        return False
    twin = _layout_of(value).make()
    keys = torch._C._dispatch_keys
    return (
        value.storage_offset() == 0
        and value.untyped_storage().nbytes() == twin.untyped_storage().nbytes()
        and keys(value).raw_repr() == keys(twin).raw_repr()
    )
