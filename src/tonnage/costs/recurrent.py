"""Recurrent layers: in one call as cuDNN and MKL-DNN make it, or the gates of one step.

Step by step a layer is ordinary products and a pointwise kernel for its gates, which have rules of their own; the calls
here hide the products. Every weight matrix (gates of the input, gates of the state, projection), of every layer and
direction, is multiplied with one vector per step and sequence.
"""

from __future__ import annotations

from collections.abc import Iterable

from tonnage.costs.cost import Cost, Rule
from tonnage.costs.tensors import elements
from tonnage.trace import Op, TensorSpec

KIND = "recurrent"


def _whole(op: Op, weights: Iterable[TensorSpec], passes: int) -> Cost:
    """A layer whose input is (length, batch, size), or (steps in all, size) of packed sequences."""
    vectors = elements(op.inputs[0]) // op.inputs[0].shape[-1]
    macs, products, bias = 0, 0, 0
    for weight in weights:
        if len(weight.shape) == 2:
            macs += vectors * elements(weight)
            products += vectors * weight.shape[0]
        else:
            bias += vectors * elements(weight)
    return Cost(KIND, macs=passes * macs, products=passes * products, bias=bias)


def _listed(passes: int) -> Rule:
    """The weights are the list after the input. Backward makes two passes: gradients of inputs, and of weights."""

    def rule(op: Op) -> Cost:
        weights = op.arguments[1]
        return _whole(op, op.inputs[1 : 1 + len(weights)], passes)

    return rule


def _mkldnn(op: Op) -> Cost:
    return _whole(op, op.inputs[1:5], 1)


def _gates(op: Op) -> Cost:
    """One operation for each element of the gates, as of any pointwise operator."""
    return Cost("elementwise", flops=elements(op.inputs[0]))


RULES: dict[str, Rule] = {
    **dict.fromkeys(("_cudnn_rnn", "miopen_rnn"), _listed(1)),
    **dict.fromkeys(("_cudnn_rnn_backward", "miopen_rnn_backward"), _listed(2)),
    "mkldnn_rnn_layer": _mkldnn,
    **dict.fromkeys(("_thnn_fused_lstm_cell", "_thnn_fused_gru_cell"), _gates),
    **dict.fromkeys(("_thnn_fused_lstm_cell_backward_impl", "_thnn_fused_gru_cell_backward"), _gates),
}
