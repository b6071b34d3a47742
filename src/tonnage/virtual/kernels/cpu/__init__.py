"""The CPU's habits, where they are neither CUDA's nor those of `meta`.

What its kernels take inside themselves is not among them: oneDNN's reordered weights, a product's contiguous operands,
attention's buffers. Dropout is as on `meta`, with a mask of the input's own type.
"""

from __future__ import annotations

import torch

from tonnage.virtual.habits import Habits
from tonnage.virtual.kernels import activation, linear, lists
from tonnage.virtual.kernels.cpu import attention, autocast, norm, recurrent

CPU = Habits(
    torch.device("cpu"),
    "AutocastHPU",
    layer={
        **autocast.LAYER,
        **activation.LAYER,
        **linear.LAYER,
        **lists.LAYER,
        **attention.LAYER,
        **recurrent.LAYER,
    },
    shapes={**norm.SHAPES, **recurrent.SHAPES},
)

__all__ = ["CPU"]
