"""Gradients that meet at one tensor are added in place.

torch/csrc/autograd/input_buffer.cpp, accumulate: when grad mode is off and the buffered gradient is dense and owned
by the buffer alone, the new one is added into it. Under any dispatch mode autograd takes the out-of-place path
instead, which would hold a third tensor for the moment.
"""

from __future__ import annotations

from typing import Any

import torch

from tonnage.virtual.layout import is_dense

_OWNERS_OF_TENSOR = 3
_OWNERS_OF_STORAGE = 2
"""What the counts are inside a dispatch mode for a gradient that the buffer alone owns: the buffer, the boxed argument
and its Python wrapper; the tensor and the storage's Python wrapper. tests/unit/virtual/test_accumulation.py holds
them against a gradient with one more owner."""


def meets_in_place(args: Any, kwargs: Any) -> bool:
    """Whether this `add` is autograd adding a gradient into a buffer that nothing else owns."""
    if kwargs or len(args) != 2 or torch.is_grad_enabled() or torch._C._current_autograd_node() is None:
        return False
    old, new = args
    if not (isinstance(new, torch.Tensor) and old.is_meta and new.is_meta):
        return False
    if old.dtype != new.dtype or old.shape != new.shape or not is_dense(old):
        return False
    owners = torch._C._storage_Use_Count(old.untyped_storage()._cdata)
    return old._use_count() <= _OWNERS_OF_TENSOR and owners <= _OWNERS_OF_STORAGE
