"""Softmax: backward multiplies gradient and output into a tensor of their size first.

ATen/native/cuda/SoftMax.cu: softmax_backward_cuda_out, `tmp = grad * output`, which the logarithm's does without;
host_softmax and host_softmax_backward make their inputs dense.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from tonnage.virtual.gpu import VirtualGpu

aten = torch.ops.aten


def dense_copies(*tensors: torch.Tensor) -> Iterator[int]:
    """Bytes of what a kernel copies because it cannot read it as it lies."""
    for tensor in tensors:
        if tensor.is_meta and not tensor.is_contiguous():
            yield tensor.numel() * tensor.element_size()


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


SCRATCH = {
    **dict.fromkeys((aten._softmax.default, aten._softmax.out, aten._log_softmax.default), _forward),
    aten._softmax_backward_data.default: _backward,
    aten._log_softmax_backward_data.default: _logarithm_backward,
}
