"""What cuDNN takes for itself. Much of it is the library's own choice: what is not known of it is listed.

Convolutions, batch norm and recurrent layers have files of their own. Attention by cuDNN takes a workspace
(cudnn/MHA.cpp).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch

from tonnage.virtual.kernels.cudnn import batch_norm, convolution, recurrent

if TYPE_CHECKING:
    from tonnage.virtual.gpu import VirtualGpu

aten = torch.ops.aten


def _attention(gpu: VirtualGpu, args: Any, kwargs: Any) -> Iterator[int]:
    gpu.not_counted("cuDNN's attention workspaces", "the library chooses their size")
    yield from ()


LAYER = recurrent.LAYER
EARLY = recurrent.EARLY
SCRATCH = {
    **batch_norm.SCRATCH,
    **convolution.SCRATCH,
    **recurrent.SCRATCH,
    **{
        operator.default: _attention
        for name in ("", "_backward")
        if (operator := getattr(aten, f"_scaled_dot_product_cudnn_attention{name}", None)) is not None
    },
}
