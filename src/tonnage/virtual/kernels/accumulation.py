"""What autograd does in place, and not under a dispatch mode.

Gradients that meet at one tensor: when grad mode is off and the buffered gradient is dense and owned by the buffer
alone, the new one is added into it (torch/csrc/autograd/input_buffer.cpp, accumulate). Gradients of an index, a gather,
a maximum, what a mask selects: zeros are made and written into (torch/csrc/autograd/FunctionsManual.cpp,
index_backward, gather_backward, value_selecting_reduction_backward and masked_select_backward). A tensor subclass or a
dispatch mode makes autograd take an out-of-place variant of each, which would hold one tensor more for the moment.
"""

from __future__ import annotations

import sys
from functools import cache
from typing import Any, NamedTuple

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tonnage.virtual.layout import is_dense

aten = torch.ops.aten


class Owners(NamedTuple):
    """Reference counts of a gradient, as seen inside a dispatch mode."""

    tensor: int
    storage: int
    python: int
    """Names of its Python object, which C++ sees as one owner that is there whenever Python looks."""


def owners_of(args: Any) -> Owners:
    """The owners of the first argument of an operator, whose tensors are in one list besides."""
    storage = args[0].untyped_storage()
    shared = torch._C._storage_Use_Count(storage._cdata)
    return Owners(args[0]._use_count(), shared, sys.getrefcount(args[0]))


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
            inputs = list(args)  # as the recorder has them when it asks
            self.seen.append(owners_of(args))
            del inputs
        return func(*args, **(kwargs or {}))


@cache
def sole_owner() -> Owners:
    """The counts of a gradient that the buffer alone owns.

    The dispatcher, its boxing and Python hold references of their own, how many depends on the PyTorch version: so it
    is asked once, with the square of a product, whose first gradient nothing else holds.
    """
    with torch.enable_grad(), torch.inference_mode(False):
        weight = torch.zeros(2, 2, device="cpu", requires_grad=True)
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
    if not _alike(*args):
        return False
    return all(count <= least for count, least in zip(owners_of(args), sole_owner(), strict=True))


IN_PLACE = {
    aten.index_put.default: aten.index_put_.default,
    aten.index_add.default: aten.index_add_.default,
    aten.masked_scatter.default: aten.masked_scatter_.default,
    aten.put.default: aten.put_.default,
    aten.scatter.src: aten.scatter_.src,
    aten.scatter.value: aten.scatter_.value,
    aten.scatter_add.default: aten.scatter_add_.default,
}
"""The operators that write into zeros of their own making, and what CUDA runs for them."""
_ZEROS = (aten.new_zeros.default, aten.zeros.default, aten.zeros_like.default)


def writes_into_its_own(zeros: torch.Tensor, made_by: Any) -> bool:
    """Whether autograd itself, and no function of the user's, writes into the zeros it made in this backward.

    `made_by` is the operator that made the storage of `zeros`. The formula holds its zeros in several places, so the
    owners of the storage are counted and not those of the tensor.
    """
    node = torch._C._current_autograd_node()
    if node is None or torch.is_grad_enabled() or isinstance(node, torch.autograd.function.BackwardCFunction):
        return False
    storage = zeros.untyped_storage()
    shared = torch._C._storage_Use_Count(storage._cdata)
    return made_by in _ZEROS and shared <= sole_owner().storage


def _alike(old: Any, new: Any) -> bool:
    if not (isinstance(new, torch.Tensor) and old.is_meta and new.is_meta):
        return False
    return old.dtype == new.dtype and old.shape == new.shape and is_dense(old)
