"""`linear` adds its bias in place where it cannot be fused into the product.

ATen/native/Linear.cpp: a two-dimensional input, and a contiguous one of three or more dimensions, goes to `addmm`. Any
other is multiplied first, and then `output.add_(bias)`; only tensors that are not plain, and `meta` tensors are taken
for such, get an `add` with an output of its own.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tonnage.virtual.layer import active, behind, dataless

aten = torch.ops.aten


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Any:
    cast = active().autocast.lower
    with behind():
        input, weight, bias = cast(input), cast(weight), cast(bias)
        if bias is None or not dataless(input) or input.dim() == 2 or (input.dim() > 2 and input.is_contiguous()):
            return aten.linear.default(input, weight, bias)
        return aten.linear.default(input, weight).add_(bias)


LAYER = {"linear": linear}
