"""Dropout: CUDA fuses it and keeps a mask of one byte an element.

ATen/native/Dropout.cpp: `is_fused_kernel_acceptable` holds on CUDA for 0 < p < 1 in training, and then
`native_dropout` runs, whose mask is bool. Elsewhere a full-size mask of the input's own type is drawn.
"""

from __future__ import annotations

import torch

from tonnage.virtual.layer import behind, dataless


def dropout(tensor: torch.Tensor, p: float, train: bool) -> torch.Tensor:
    with behind():
        if train and 0 < p < 1 and tensor.numel() > 0 and dataless(tensor):
            return torch.native_dropout(tensor, p, train)[0]
        plain: torch.Tensor = torch.ops.aten.dropout.default(tensor, p, train)
        return plain


LAYER = {"dropout": dropout}
