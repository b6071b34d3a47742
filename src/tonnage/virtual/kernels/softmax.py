"""Softmax of PyTorch before 1.11 keeps its input for backward, besides its result.

derivatives.yaml of 1.10: `self: _softmax_backward_data(grad, result, dim, self)`, for the input's type alone; 1.11 asks
for `self.scalar_type()` instead and lets the input go. In eager attention that is one more tensor of all scores for
every layer. The input that is kept is the one before a cast, as CUDA reads fp16 and writes fp32 in one kernel.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from tonnage.virtual.kernels import autocast
from tonnage.virtual.layer import active_gpu, dataless


def _keeping_input(kernel: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    def softmax(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        result = kernel(tensor, *args, **kwargs)
        if active_gpu().rules.softmax_keeps_input and result.grad_fn is not None and dataless(tensor):
            kept: dict[Any, Any] = result.grad_fn.metadata  # type: ignore[assignment]  # a property, not a method
            kept["input"] = tensor.detach()
            result.grad_fn.register_hook(lambda *_: kept.clear())  # a node lets go of what it saved once it has run
        return result

    return softmax


LAYER = {name: _keeping_input(autocast.LAYER[name]) for name in ("softmax.int", "log_softmax.int")}
