"""Gradients that meet at one tensor are added in place.

torch/csrc/autograd/input_buffer.cpp, accumulate: when grad mode is off and the buffered gradient is dense and owned
by the buffer alone, the new one is added into it. Under any dispatch mode autograd takes the out-of-place path
instead, which would hold a third tensor for the moment.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tonnage.virtual.layout import is_dense


class Owners(NamedTuple):
    """Reference counts of a gradient, as seen inside a dispatch mode."""

    tensor: int
    storage: int


def owners_of(gradient: torch.Tensor) -> Owners:
    storage = gradient.untyped_storage()
    return Owners(gradient._use_count(), torch._C._storage_Use_Count(storage._cdata))  # type: ignore[attr-defined]


class _Probe(TorchDispatchMode):
    """Counts the owners of the first gradient that another is added to."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen: list[Owners] = []

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.add.Tensor:
            self.seen.append(owners_of(args[0]))
        return func(*args, **(kwargs or {}))


@cache
def sole_owner() -> Owners:
    """The counts of a gradient that the buffer alone owns.

    The dispatcher, its boxing and Python hold references of their own, how many depends on the PyTorch version: so it
    is asked once, with the square of a product, whose first gradient nothing else holds.
    """
    with torch.enable_grad(), torch.inference_mode(False):
        weight = torch.empty(2, 2, device="meta", requires_grad=True)
        product = weight @ weight.detach()
        total = (product * product).sum()
        probe = _Probe()
        with probe:
            total.backward()
    return probe.seen[0]


def meets_in_place(args: Any, kwargs: Any) -> bool:
    """Whether this `add` is autograd adding a gradient into a buffer that nothing else owns."""
    if kwargs or len(args) != 2 or torch.is_grad_enabled() or torch._C._current_autograd_node() is None:
        return False
    old, new = args
    if not (isinstance(new, torch.Tensor) and old.is_meta and new.is_meta):
        return False
    if old.dtype != new.dtype or old.shape != new.shape or not is_dense(old):
        return False
    owners, sole = owners_of(old), sole_owner()
    return owners.tensor <= sole.tensor and owners.storage <= sole.storage
