"""How transformers of 2024 brought a model to the card."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

Shapes = dict[str, tuple[tuple[int, ...], torch.dtype]]


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def from_pretrained(
    make: Callable[[], nn.Module], *, dtype: torch.dtype, stored: torch.dtype | None, besides: Shapes
) -> nn.Module:
    """`from_pretrained(name, torch_dtype=dtype)` inside `with torch.device("cuda")`.

    `stored` is the type of the tensors in a .safetensors file, and `besides` what it has beyond the parameters.
    Such a file is read before the model is made, and lies on the card until it has been copied into it: safetensors
    makes its tensors with `torch.asarray` (bindings/python/src/lib.rs, get_tensor), which such a block sends to the
    card (torch/utils/_device.py). A .bin file (None) is mapped on the host.
    """
    with default_dtype(dtype), torch.device("cuda"):
        file = {} if stored is None else _file(make, stored, besides)
        model = make()
        del file
        return model


def _file(make: Callable[[], nn.Module], stored: torch.dtype, besides: Shapes) -> dict[str, torch.Tensor]:
    """The tensors of the file in the order in which they are read: by name."""
    with torch.device("meta"):
        shapes: Shapes = {name: (tuple(p.shape), stored) for name, p in make().named_parameters()}
    shapes.update(besides)
    return {name: torch.empty(shape, dtype=dtype) for name, (shape, dtype) in sorted(shapes.items())}
