"""What cuDNN takes for itself is the library's own choice, and is listed instead of counted.

Convolutions take a workspace for the length of each call (ATen/native/cudnn/Conv_v8.cpp, run_conv_plan); its size
depends on the plan that cuDNN's heuristics choose for card, type and shape, from nothing to hundreds of MiB. Recurrent
layers are one cuDNN call with a workspace, a reserve kept for backward and packed weights (cudnn/RNN.cpp); here they
run step by step instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import torch

from tonnage.virtual.layer import active_gpu, behind, dataless

if TYPE_CHECKING:
    from tonnage.virtual.gpu import VirtualGpu

aten = torch.ops.aten
_WORKSPACE = "the library chooses their size; a peak inside a convolution may be higher"
_TRIALS = "the first call of each shape tries plans in one buffer of their largest workspace, then empties the cache"


def _convolution(gpu: VirtualGpu, args: Any, kwargs: Any) -> Iterator[int]:
    if args[0].is_meta:
        gpu.not_counted("cuDNN's convolution workspaces", _WORKSPACE)
        if gpu.cudnn_benchmark or torch.backends.cudnn.benchmark:
            gpu.not_counted("cudnn.benchmark's trials", _TRIALS)
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
    aten.convolution.default: _convolution,
    aten.convolution_backward.default: _convolution,
}
