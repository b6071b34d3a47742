"""Backward of activations that CUDA runs as one kernel and `meta` takes apart; and the contrary, `isinf`.

native_functions.yaml gives silu_backward and mish_backward a composite fallback besides their CUDA kernels; `meta` runs
it, and holds half a dozen tensors of the activation's size where CUDA makes one. ATen/native/UnaryOps.cpp, isinf: the
absolute values are made and compared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import torch

from tonnage.virtual.layer import behind, dataless

if TYPE_CHECKING:
    from tonnage.virtual.gpu import VirtualGpu

aten = torch.ops.aten


def _whole(op: Any) -> Callable[..., torch.Tensor]:
    """The operator below autograd, where it is not taken apart; its double backward never calls it."""

    def kernel(grad: torch.Tensor, tensor: torch.Tensor) -> torch.Tensor:
        with behind():
            if not dataless(grad) or torch.is_grad_enabled():
                plain: torch.Tensor = op(grad, tensor)
                return plain
            with torch._C._AutoDispatchBelowAutograd():
                whole: torch.Tensor = op(grad, tensor)
                return whole

    return kernel


def _absolute(gpu: VirtualGpu, args: Any, kwargs: Any) -> Iterator[int]:
    tensor = args[0]
    if tensor.is_meta and tensor.is_floating_point():
        yield tensor.numel() * tensor.element_size()


EARLY = {aten.isinf.default: _absolute}
LAYER = {
    "silu_backward": _whole(aten.silu_backward.default),
    "mish_backward": _whole(aten.mish_backward.default),
}
