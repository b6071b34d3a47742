"""Softmax: fp16 in and fp32 out in one kernel, the product that backward makes, and what old versions kept.

ATen/native/SoftMax.cpp, softmax and log_softmax: asked for fp32, CUDA reads an fp16 input as it is, where `meta` and
the CPU cast it first. Autocast asks for fp32.

ATen/native/cuda/SoftMax.cu, softmax_backward_cuda_out: `Tensor tmp = grad * output`, one more tensor of all scores in
eager attention, for the length of the call. Log-softmax has no such product. Both make their inputs dense.

Before 1.11 softmax kept its input for backward, besides its result. derivatives.yaml of 1.10:
`self: _softmax_backward_data(grad, result, dim, self)`, for the input's type alone; 1.11 asks for `self.scalar_type()`
instead and lets the input go. In eager attention that is one more tensor of all scores for every layer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tonnage.virtual.kernels import autocast
from tonnage.virtual.kernels.buffers import dense_copies
from tonnage.virtual.layer import active_gpu, behind, dataless

if TYPE_CHECKING:
    from tonnage.virtual.gpu import VirtualGpu

aten = torch.ops.aten


def _reading_halves(name: str) -> Callable[..., Tensor]:
    """`softmax` or `log_softmax`, with an fp16 input read as it is for an fp32 result."""
    cast, whole = autocast.LAYER[f"{name}.int"], getattr(aten, f"_{name}").default

    def kernel(tensor: Tensor, dim: int, dtype: torch.dtype | None = None) -> Tensor:
        single = dtype is torch.float32 or (dtype is None and active_gpu().autocast.dtype is not None)
        if not (single and tensor.dtype is torch.float16 and dataless(tensor)):
            plain: Tensor = cast(tensor, dim, dtype)
            return plain
        with behind():
            read: Tensor = whole(tensor, dim, True)
            return read

    return kernel


def _keeping_input(kernel: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def softmax(tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        result = kernel(tensor, *args, **kwargs)
        if active_gpu().rules.softmax_keeps_input and result.grad_fn is not None and dataless(tensor):
            kept: dict[Any, Any] = result.grad_fn.metadata  # type: ignore[assignment]  # a property, not a method
            kept["input"] = tensor.detach()
            result.grad_fn.register_hook(lambda *_: kept.clear())  # a node lets go of what it saved once it has run
        return result

    return softmax


def _forward(gpu: VirtualGpu, args: Any, kwargs: Any) -> Iterator[int]:
    yield from dense_copies(args[0])


def _logarithm_backward(gpu: VirtualGpu, args: Any, kwargs: Any) -> Iterator[int]:
    yield from dense_copies(*args[:2])


def _backward(gpu: VirtualGpu, args: Any, kwargs: Any) -> Iterator[int]:
    grad, output = args[:2]
    if grad.is_meta and grad.numel():
        product = grad * output
        yield product.numel() * product.element_size()
        yield from dense_copies(product, output)


LAYER = {f"{name}.int": _keeping_input(_reading_halves(name)) for name in ("softmax", "log_softmax")}
SCRATCH = {
    **dict.fromkeys((aten._softmax.default, aten._softmax.out, aten._log_softmax.default), _forward),
    aten._softmax_backward_data.default: _backward,
    aten._log_softmax_backward_data.default: _logarithm_backward,
}
