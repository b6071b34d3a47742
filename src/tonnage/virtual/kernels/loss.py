"""Losses that are made whole before they are reduced; some keep the whole one's memory behind their one number.

ATen/native/Loss.cpp: mse_loss and smooth_l1_loss make an output of the input's size and resize it to one element, which
leaves its memory as it is, and take another for the loss itself; soft_margin_loss reduces in place of its output;
huber_loss makes it beside. cuda/Loss.cu, binary_cross_entropy_cuda: as soft_margin_loss. cuda/Activation.cpp,
log_sigmoid_forward_cuda: no buffer for backward, which the CPU keeps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tonnage.virtual.kernels.reduction import opmath, reduce_buffers

if TYPE_CHECKING:
    from tonnage.virtual.gpu import VirtualGpu

aten = torch.ops.aten
NONE, MEAN = 0, 1
"""at::Reduction."""


def _reduction(args: Any, place: int = 2) -> int:
    return int(args[place]) if len(args) > place else MEAN


def _whole(first: Tensor, second: Tensor) -> Tensor:
    """A tensor as the loss of each element is."""
    shape = torch.broadcast_shapes(first.shape, second.shape)
    dtype = torch.promote_types(first.dtype, second.dtype)
    return torch.empty(shape, dtype=dtype, device="meta")


def _kept_whole(place: int) -> Callable[..., Any]:
    """The output of a loss whose reduction is its argument `place`: one number in the memory of all."""

    def shape(*args: Any, **kwargs: Any) -> Any:
        if not args[0].is_meta or _reduction(args, place) == NONE:
            return NotImplemented
        return _whole(*args[:2]).resize_(())

    return shape


def _log_sigmoid(tensor: Tensor) -> Any:
    return (torch.empty_like(tensor), tensor.new_empty(0)) if tensor.is_meta else NotImplemented


def _like_the_input(grad: Tensor, tensor: Tensor, *rest: Any) -> Any:
    """For want of a meta kernel (cuda/MultiMarginLoss.cu, MultiLabelMarginCriterion.cu)."""
    return torch.empty_like(tensor, memory_format=torch.contiguous_format) if tensor.is_meta else NotImplemented


def _reduced(gpu: VirtualGpu, whole: Tensor) -> tuple[int, ...]:
    return reduce_buffers(gpu, whole, (), out_dtype=whole.dtype, accumulator=opmath(whole.dtype), vectorised=True)


def _beside(gpu: VirtualGpu, args: Any, kwargs: Any) -> Iterator[int]:
    """mse_loss and smooth_l1_loss: the loss of each element, and what its reduction takes."""
    if args[0].is_meta and _reduction(args) != NONE:
        whole = _whole(*args[:2])
        yield whole.numel() * whole.element_size()
        yield from _reduced(gpu, whole)


def _in_place(place: int) -> Callable[..., Iterator[int]]:
    """A loss that is reduced to a number of its own, which is copied over it."""

    def rule(gpu: VirtualGpu, args: Any, kwargs: Any) -> Iterator[int]:
        if args[0].is_meta and _reduction(args, place) != NONE:
            whole = _whole(*args[:2])
            yield whole.element_size()
            yield from _reduced(gpu, whole)

    return rule


def _huber(gpu: VirtualGpu, args: Any, kwargs: Any) -> Iterator[int]:
    if args[0].is_meta and _reduction(args) != NONE:
        yield _whole(*args[:2]).nbytes


def _huber_reduced(gpu: VirtualGpu, args: Any, kwargs: Any) -> Iterator[int]:
    if args[0].is_meta and _reduction(args) != NONE:
        yield from _reduced(gpu, _whole(*args[:2]))


def _soft_margin_backward(gpu: VirtualGpu, args: Any, kwargs: Any) -> Iterator[int]:
    """exp(-target * input), of whose three tensors the last is kept."""
    if args[1].is_meta:
        each = _whole(*args[1:3]).nbytes
        yield from (each, each, each, -each, -each)


SHAPES: dict[Any, Callable[..., Any]] = {
    aten.mse_loss.default: _kept_whole(2),
    aten.smooth_l1_loss.default: _kept_whole(2),
    aten.soft_margin_loss.default: _kept_whole(2),
    aten.binary_cross_entropy.default: _kept_whole(3),
    aten.log_sigmoid_forward.default: _log_sigmoid,
    aten.multi_margin_loss_backward.default: _like_the_input,
    aten.multilabel_margin_loss_backward.default: _like_the_input,
}
EARLY = {aten.huber_loss.default: _huber, aten.soft_margin_loss_backward.default: _soft_margin_backward}
SCRATCH = {
    **dict.fromkeys((aten.mse_loss.default, aten.smooth_l1_loss.default), _beside),
    aten.soft_margin_loss.default: _in_place(2),
    aten.binary_cross_entropy.default: _in_place(3),
    aten.huber_loss.default: _huber_reduced,
}
TAKEN_APART = {aten.binary_cross_entropy_with_logits.default, aten._euclidean_dist.default}
"""Operators that CUDA makes of others, and `meta` does not; none has a kernel for a device."""
