"""The CTC loss: sums over alignments, kept for backward, which makes as many again.

ATen/native/LossCTC.cpp, ctc_loss: CUDA reads the lengths on the host. cuda/LossCTC.cu, ctc_loss_gpu_template and
ctc_loss_backward_gpu_template: lengths and offsets go back to the card first. cuDNN's own loss, for one row of int32
targets of which 0 is the blank, is not modelled, and listed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tonnage.virtual.kernels.buffers import and_returned
from tonnage.virtual.layer import active_gpu, behind, dataless

if TYPE_CHECKING:
    from tonnage.virtual.gpu import VirtualGpu

aten = torch.ops.aten
LARGE = 450
"""The crude measure above which backward works on whole tensors."""


def ctc_loss(log_probs: Tensor, targets: Tensor, input_lengths: Tensor, target_lengths: Tensor, *rest: Any) -> Any:
    with behind():
        if not dataless(log_probs):
            return aten.ctc_loss.Tensor(log_probs, targets, input_lengths, target_lengths, *rest)
        if (
            targets.dtype is torch.int32
            and targets.dim() == 1
            and log_probs.dtype is torch.float32
            and not any(rest[:1])
        ):
            active_gpu().not_counted("cuDNN's CTC loss", "what it takes is its own choice: PyTorch's stands in")
        steps = _on_host(input_lengths, log_probs.shape[0])
        lengths = _on_host(target_lengths, targets.shape[-1] // (target_lengths.numel() if targets.dim() == 1 else 1))
        return aten.ctc_loss.IntList(log_probs, targets, steps, lengths, *rest)


def _on_host(lengths: Tensor, longest: int) -> list[int]:
    values = active_gpu().values
    known = values.asked(lengths) if dataless(lengths) else lengths
    if known is None:
        values.assume("lengths of a CTC loss are unknown: all are taken to be as long as can be")
        return [longest] * lengths.numel()
    return [int(length) for length in known.flatten().tolist()]


def shapes(log_probs: Tensor, targets: Tensor, lengths: Any, target_lengths: Sequence[int], *rest: Any) -> Any:
    """The loss of each sequence, and log_alpha: a place for each step, and each target with a blank on both sides."""
    steps, batch, _ = log_probs.shape
    places = 2 * max(target_lengths, default=0) + 1
    return log_probs.new_empty(batch), log_probs.new_empty((batch, steps, places))


def backward_shape(grad: Tensor, log_probs: Tensor, *rest: Any) -> Tensor:
    return torch.empty_like(log_probs, memory_format=torch.contiguous_format)


def _lengths(gpu: VirtualGpu, args: Any, kwargs: Any) -> Iterator[int]:
    yield from [args[0].shape[1] * 8] * 3


def _beta(gpu: VirtualGpu, args: Any, kwargs: Any) -> Iterator[int]:
    alpha = args[6]
    yield from [args[1].shape[1] * 8] * 3
    yield alpha.numel() * alpha.element_size()


def _on_whole_tensors(gpu: VirtualGpu, args: Any, kwargs: Any) -> Iterator[int]:
    """Where the problem is large: alpha and beta of the blanks, summed in the logarithm over the places."""
    log_probs, alpha = args[1], args[6]
    steps, batch, labels = log_probs.shape
    if 2 * steps + 24 * batch // 10 + 2 * labels // 10 <= LARGE:
        return
    each = batch * steps * alpha.element_size()
    blanks = each * (alpha.shape[2] // 2 + 1)
    yield from and_returned([blanks, each, each, blanks])  # the sum; logsumexp's result, maxima, what is above them
    if len(args) > 8 and args[8]:  # zero_infinity: which are infinite, and another gradient
        yield from (batch, log_probs.numel() * log_probs.element_size())


LAYER = {"ctc_loss.Tensor": ctc_loss}
SHAPES: dict[Any, Callable[..., Any]] = {
    aten._ctc_loss.default: shapes,
    aten._ctc_loss_backward.default: backward_shape,
}
EARLY = {aten._ctc_loss.default: _lengths, aten._ctc_loss_backward.default: _beta}
SCRATCH = {aten._ctc_loss_backward.default: _on_whole_tensors}
