"""Recurrent layers: one call of cuDNN, with its weights in one buffer and a reserve kept for backward.

ATen/native/cudnn/RNN.cpp: `flatten_parameters` moves the weights into one buffer (copy_weights_to_flat_buf_views),
which every call reads; weights that do not lie in one are copied into a new buffer at each call (_cudnn_rnn). Backward
makes one buffer for all gradients of weights, and the gradients are views of it (_cudnn_rnn_backward_weight).

How large reserve and workspace are, cuDNN says (cudnnGetRNNTempSpaceSizes). Counted is the least that backward cannot
do without: for each step, sequence and direction the activations of the gates, an LSTM's cell, what a GRU's new gate
made of the state, and what a layer below the last one gave. Forward without a reserve needs the gates of one layer in a
workspace, for their products with the input are made for all steps at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from tonnage.virtual.layer import active_gpu, behind, dataless
from tonnage.virtual.storages import Place

if TYPE_CHECKING:
    from tonnage.virtual.gpu import VirtualGpu

aten = torch.ops.aten
_DTYPES = (torch.float16, torch.float32, torch.float64)
_STEP_BY_STEP = "run step by step, where cuDNN makes one call with its own workspace and reserve"
_BEYOND = "the library chooses them; counted is the least that it cannot do without"


class Kind(NamedTuple):
    """One of cuDNN's layers: its `mode`, its gates, and how many values of a hidden unit's step backward needs."""

    name: str
    mode: int
    gates: int
    kept: int


KINDS = {
    "rnn_relu": Kind("RNN RELU", 0, 1, 0),
    "rnn_tanh": Kind("RNN TANH", 1, 1, 0),
    "lstm": Kind("LSTM", 2, 4, 5),
    "gru": Kind("GRU", 3, 3, 4),
}
"""A plain RNN's backward needs its outputs alone, and those of the last layer are kept outside of the reserve."""
_BY_MODE = {kind.mode: kind for kind in KINDS.values()}


def _steps(input: Tensor, hx: Tensor) -> int:
    """Steps x sequences, over all layers and directions; a packed input has them in its first dimension."""
    return prod(input.shape[:-1]) * int(hx.shape[0])


def _reserve(kind: Kind, input: Tensor, hx: Tensor, hidden: int, num_layers: int) -> int:
    steps = _steps(input, hx)
    inner = steps * (num_layers - 1) // num_layers * int(hx.shape[2])
    return (steps * kind.kept * hidden + inner) * input.element_size()


def _weights(weight: Sequence[Tensor], stride: int, mode: int, hidden: int) -> int:
    """Elements of cuDNN's weight space: it has two biases for each gate, also where the layer has none."""
    layers = len(weight) // stride
    biases = 0 if any(w.dim() == 1 for w in weight) else 2 * _BY_MODE[mode].gates * hidden * layers
    return sum(w.numel() for w in weight) + biases


def cudnn_rnn(
    input: Tensor,
    weight: list[Tensor],
    weight_stride0: int,
    weight_buf: Tensor | None,
    hx: Tensor,
    cx: Tensor | None,
    mode: int,
    hidden_size: int,
    proj_size: int,
    num_layers: int,
    batch_first: bool,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_sizes: list[int],
    dropout_state: Tensor | None,
) -> Any:
    """The outputs of `_cudnn_rnn`: output, last states, reserve, and the weights if they had to be gathered."""
    width = (proj_size or hidden_size) * (2 if bidirectional else 1)
    shape = (*input.shape[:-1], width)
    if batch_first and not batch_sizes:
        output = input.new_empty((shape[1], shape[0], width)).transpose(0, 1)
    else:
        output = input.new_empty(shape)
    cy = input.new_empty(0 if cx is None else cx.shape)
    size = _reserve(_BY_MODE[mode], input, hx, hidden_size, num_layers) if train else 0
    gathered = 0 if weight_buf is not None else _weights(weight, weight_stride0, mode, hidden_size)
    reserve = input.new_empty(size, dtype=torch.uint8)
    return output, hx.new_empty(hx.shape), cy, reserve, input.new_empty(gathered)


def cudnn_rnn_backward(
    input: Tensor,
    weight: list[Tensor],
    weight_stride0: int,
    weight_buf: Tensor,
    hx: Tensor,
    cx: Tensor | None,
    output: Tensor,
    grad_output: Tensor | None,
    grad_hy: Tensor | None,
    grad_cy: Tensor | None,
    mode: int,
    hidden_size: int,
    *args: Any,
) -> Any:
    """Gradients of input and states, and views of one buffer for those of the weights."""
    dcx = None if cx is None else cx.new_empty(cx.shape)
    gradients: list[Tensor] = []
    if args[-1][3]:
        flat = input.new_empty(_weights(weight, weight_stride0, mode, hidden_size))
        gradients = list(_views(flat, weight))
    return input.new_empty(input.shape), hx.new_empty(hx.shape), dcx, gradients


def _views(flat: Tensor, weight: Sequence[Tensor]) -> Iterator[Tensor]:
    begin = 0
    for one in weight:
        yield flat[begin : begin + one.numel()].view(one.shape)
        begin += one.numel()


def _zeros(gpu: VirtualGpu, args: Any, kwargs: Any) -> Iterator[int]:
    """Gradients that did not arrive are zeros (_cudnn_rnn_backward)."""
    hx, cx, output, *arrived = args[4:10]
    for given, like in zip(arrived, (output, hx, cx), strict=True):
        if given is None and like is not None:
            yield like.numel() * like.element_size()


def _workspace(gpu: VirtualGpu, args: Any, kwargs: Any) -> Iterator[int]:
    """The gates of one layer for all steps; in training they lie in the reserve."""
    input, hx, mode, hidden, num_layers, train = (args[i] for i in (0, 4, 6, 7, 9, 12))
    gpu.load("cudnn")
    gpu.not_counted(f"cuDNN's reserve and workspace beyond the {_BY_MODE[mode].name}'s own values", _BEYOND)
    if not train:
        gates = _steps(input, hx) // num_layers * _BY_MODE[mode].gates * hidden
        yield gates * input.element_size()


def in_one_buffer(weight: Sequence[Tensor]) -> bool:
    return len({w.untyped_storage()._cdata for w in weight}) == 1


def flatten_parameters(layer: nn.RNNBase) -> None:
    """`nn.RNNBase.flatten_parameters` on the card: the weights move into one buffer."""
    gpu, weight = active_gpu(), layer._flat_weights
    tensors = [w for w in weight if isinstance(w, Tensor)]
    if len(tensors) < len(layer._flat_weights_names) or not torch.backends.cudnn.enabled or in_one_buffer(tensors):
        return
    first = tensors[0].dtype
    if any(w.dtype != first or first not in _DTYPES or gpu.place_of(w) is not Place.CARD for w in tensors):
        return
    mode = KINDS[layer.mode.lower()].mode
    stride = len(tensors) // (layer.num_layers * (2 if layer.bidirectional else 1))
    with torch.no_grad():
        flat = torch.zeros(_weights(tensors, stride, mode, layer.hidden_size), dtype=first, device="cuda")
        for one, view in zip(tensors, _views(flat, tensors), strict=True):
            one.data = view


def _packed(*args: Any) -> tuple[Any, ...]:
    """The arguments of `lstm.data` and the like in the order of `.input`, with the batch sizes at the end."""
    data, batch_sizes, hx, *rest = args
    return (data, hx, *rest, False, batch_sizes.tolist())


def _layer(op: Any, kind: Kind, *, packed: bool) -> Callable[..., Any]:
    """The kernel in front of autograd of one overload: one call of cuDNN where it takes the type, else step by step."""

    def kernel(*args: Any, **kwargs: Any) -> Any:
        if not dataless(args[0]):
            with behind():
                return op(*args, **kwargs)
        if args[0].dtype not in _DTYPES or not torch.backends.cudnn.enabled or torch.is_autocast_enabled("cuda"):
            active_gpu().not_counted(f"cuDNN's {kind.name}", _STEP_BY_STEP)
            with behind():
                return op(*args, **kwargs)
        input, hidden, weight, biases, layers, dropout, train, both, first, *sizes = _packed(*args) if packed else args
        hx, cx = hidden if kind.name == "LSTM" else (hidden, None)
        if dropout and train and layers > 1:
            active_gpu().not_counted("cuDNN's dropout state", "one buffer for the card, whose size the library says")
        stride = (4 if biases else 2) + (cx is not None and cx.shape[2] != hx.shape[2])
        size = weight[1].shape[0] // kind.gates
        projected = hx.shape[2] if hx.shape[2] != size else 0
        buffer = weight[0].detach() if in_one_buffer(weight) else None
        with behind():
            made = aten._cudnn_rnn(
                *(input, weight, stride, buffer, hx, cx, kind.mode, size, projected, layers, first),
                *(dropout, train, both, sizes[0] if sizes else [], None),
            )
        return made[:3] if cx is not None else made[:2]

    return kernel


LAYER = {
    f"{name}.{overload}": _layer(getattr(getattr(aten, name), overload), kind, packed=overload == "data")
    for name, kind in KINDS.items()
    for overload in ("input", "data")
}
EARLY = {aten._cudnn_rnn_backward.default: _zeros}
SCRATCH = {aten._cudnn_rnn.default: _workspace}
SHAPES: dict[Any, Callable[..., Any]] = {
    aten._cudnn_rnn.default: cudnn_rnn,
    aten._cudnn_rnn_backward.default: cudnn_rnn_backward,
}
