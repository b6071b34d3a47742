"""Indices out of a list, as in `x[[0, 1]]`: PyTorch makes them on the tensor's device, past the dispatcher.

They have to be known before autograd saves them, or a checkpoint finds another device in its second run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from tonnage.virtual.layer import active, behind
from tonnage.virtual.same_device import adopt_lists

aten = torch.ops.aten


def index(tensor: Tensor, indices: Sequence[Tensor | None]) -> Any:
    adopt_lists(active(), tensor, indices)
    with behind():
        return aten.index.Tensor(tensor, indices)


def index_put_(tensor: Tensor, indices: Sequence[Tensor | None], values: Tensor, accumulate: bool = False) -> Any:
    adopt_lists(active(), tensor, indices)
    with behind():
        return aten.index_put_.default(tensor, indices, values, accumulate)


LAYER: dict[str, Callable[..., Any]] = {"index.Tensor": index, "index_put_": index_put_}
