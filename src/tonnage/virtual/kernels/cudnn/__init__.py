"""What cuDNN takes for itself. Much of it is the library's own choice: what is not known of it is listed.

Convolutions are in a file of their own. Recurrent layers are one cuDNN call with a workspace, a reserve kept for
backward and packed weights (cudnn/RNN.cpp); here they run step by step instead. Attention by cuDNN takes a workspace
as well (cudnn/MHA.cpp).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import torch

from tonnage.virtual.kernels.cudnn import convolution
from tonnage.virtual.layer import active_gpu, behind, dataless

if TYPE_CHECKING:
    from tonnage.virtual.gpu import VirtualGpu

aten = torch.ops.aten


def _attention(gpu: VirtualGpu, args: Any, kwargs: Any) -> Iterator[int]:
    gpu.not_counted("cuDNN's attention workspaces", "the library chooses their size")
    yield from ()


def _recurrent(op: Any, name: str) -> Callable[..., Any]:
    """The layer step by step, with a line that says so."""

    def kernel(*args: Any, **kwargs: Any) -> Any:
        if dataless(args[0]):
            reason = "run step by step, where cuDNN makes one call with its own workspace and reserve"
            active_gpu().not_counted(f"cuDNN's {name}", reason)
        with behind():
            return op(*args, **kwargs)

    return kernel


LAYER = {
    f"{name}.{kind}": _recurrent(getattr(getattr(aten, name), kind), name.upper().replace("_", " "))
    for name in ("lstm", "gru", "rnn_tanh", "rnn_relu")
    for kind in ("input", "data")
}
SCRATCH = {
    **convolution.SCRATCH,
    **{
        operator.default: _attention
        for name in ("", "_backward")
        if (operator := getattr(aten, f"_scaled_dot_product_cudnn_attention{name}", None)) is not None
    },
}
