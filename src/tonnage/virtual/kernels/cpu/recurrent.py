"""Recurrent layers on the CPU: oneDNN runs an LSTM a layer and direction at a time, with a workspace for backward.

ATen/native/RNN.cpp, use_mkldnn, takes it for fp32; ATen/native/mkldnn/RNN.cpp, mkldnn_rnn, is what is run here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from tonnage.virtual.layer import active, behind, dataless

aten = torch.ops.aten
_LSTM = 2
"""ideep::rnn_kind::LSTM."""
_PAGE, _LINE, _ALIASING = 4096, 64, 256


def lstm(input: Tensor, hx: Sequence[Tensor], params: Sequence[Tensor], *options: Any) -> Any:
    if _takes_onednn(input, hx, params):
        return _layers(input, hx, params, *options)
    if dataless(input) and input.dtype is not torch.float32:
        active().not_counted("oneDNN's LSTM", "run step by step, where oneDNN may take a layer in this type whole")
    with behind():
        return aten.lstm.input(input, hx, params, *options)


def _takes_onednn(input: Tensor, hx: Sequence[Tensor], params: Sequence[Tensor]) -> bool:
    projected = hx[0].shape[2] != hx[1].shape[2]
    alike = all(t.dtype is torch.float32 for t in (input, *hx, *params))
    return dataless(input) and alike and input.numel() > 0 and not projected and torch.backends.mkldnn.is_available()


def _layers(
    input: Tensor,
    hx: Sequence[Tensor],
    params: Sequence[Tensor],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> Any:
    """mkldnn_rnn."""
    input = layer_input = (input.transpose(0, 1) if batch_first else input).contiguous()  # a copy lives to the end
    hidden, cells = (state.contiguous() for state in hx)
    each, directions = (4 if has_biases else 2), (2 if bidirectional else 1)
    last_hidden, last_cells = [], []
    options = (_LSTM, hidden.shape[2], num_layers, has_biases, bidirectional, batch_first, train)
    outputs = [layer_input] * directions  # as in C++ the last layer's stay until they are replaced
    for index in range(num_layers * directions):
        direction = index % directions
        weights = list(params[index * each : (index + 1) * each])
        weights += [] if has_biases else [torch.zeros_like(weight) for weight in weights]
        made = aten.mkldnn_rnn_layer.default(
            layer_input, *weights, hidden[index], cells[index], direction > 0, [], *options
        )
        del weights
        outputs[direction] = made[0]
        last_hidden.append(made[1])
        last_cells.append(made[2])
        del made
        if direction == directions - 1:
            layer_input = outputs[0] if directions == 1 else torch.cat(outputs, -1)
            if dropout and train and index < len(hidden) - directions:
                layer_input = torch.dropout(layer_input, dropout, True)
    output = layer_input.transpose(0, 1) if batch_first else layer_input
    return output, torch.stack(last_hidden), torch.stack(last_cells)


def one_layer(input: Tensor, w0: Tensor, w1: Tensor, w2: Tensor, w3: Tensor, hx: Tensor, cx: Tensor, *rest: Any) -> Any:
    """The outputs of `mkldnn_rnn_layer`: PyTorch's meta kernel takes batch and sequence for each other."""
    steps, batch, width = input.shape
    hidden = hx.shape[-1]
    nbytes = workspace_bytes(steps, batch, width, hidden) if torch.is_grad_enabled() else 0
    workspace = torch.empty(nbytes, dtype=torch.uint8, device=input.device)
    return input.new_empty(steps, batch, hidden), torch.empty_like(hx), torch.empty_like(cx), workspace


def one_layer_backward(
    input: Tensor, w0: Tensor, w1: Tensor, w2: Tensor, w3: Tensor, hx: Tensor, cx: Tensor, *rest: Any
) -> Any:
    """The outputs of `mkldnn_rnn_layer_backward`: each bias gets a gradient of its own, and not one for both."""
    biases = (input.new_empty(4 * hx.shape[-1], dtype=torch.float32) for _ in range(2))
    like = (torch.empty_like(t, dtype=torch.float32) for t in (input, w0, w1))
    return *like, *biases, torch.empty_like(hx, dtype=torch.float32), torch.empty_like(cx, dtype=torch.float32)


def workspace_bytes(steps: int, batch: int, width: int, hidden: int) -> int:
    """What oneDNN keeps of a layer in fp32 from forward to backward, each buffer on pages of its own.

    oneDNN, src/cpu/rnn/rnn_utils.hpp, set_conf and set_workspace_sizes; rnn_utils.cpp, set_offsets: gates, hidden
    states, and for inputs and steps one more than there are: states, cells, and the gradients of both and of a layer.
    """
    states = 2 * (steps + 1) * batch
    wide, narrow = states * _leading(max(width, hidden)), states * hidden
    buffers = (steps * batch * _leading(4 * hidden), steps * batch * _leading(hidden), wide, wide, wide, narrow, narrow)
    return sum(-(-4 * count // _PAGE) * _PAGE for count in buffers)


def _leading(dim: int) -> int:
    """get_good_ld: whole cache lines, and no multiple of 256 elements, which would alias."""
    line = _LINE // 4
    padded = -(-dim // line) * line
    return padded + line if padded % _ALIASING == 0 else padded


def _recurrent(name: str) -> Callable[..., Any]:
    """The layer with the input of each step multiplied by itself, and a line that says so.

    ATen/native/RNN.cpp, FullLayer: on a CPU the inputs of all steps are multiplied at once.
    """
    op = getattr(aten, name).input

    def kernel(*args: Any) -> Any:
        if dataless(args[0]):
            reason = "the products of its inputs are made step by step, where the CPU makes those of all steps at once"
            active().not_counted(f"the CPU's {name.upper().replace('_', ' ')}", reason)
        with behind():
            return op(*args)

    return kernel


LAYER = {
    "lstm.input": lstm,
    **{f"{name}.input": _recurrent(name) for name in ("gru", "rnn_tanh", "rnn_relu")},
}
SHAPES: dict[Any, Callable[..., Any]] = {
    aten.mkldnn_rnn_layer.default: one_layer,
    aten.mkldnn_rnn_layer_backward.default: one_layer_backward,
}
