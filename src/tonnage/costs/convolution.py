"""Convolutions: grouped, dilated, transposed, of one to three dimensions, and their gradients.

Points in the padding count: a kernel reads them as zeros. A transposed convolution multiplies every point of its
*input* by the whole kernel, so it costs what the convolution does whose gradient it is.
"""

from __future__ import annotations

from tonnage.costs.cost import Cost, Rule
from tonnage.costs.tensors import elements
from tonnage.trace import Op, TensorSpec

KIND = "convolution"
_TRANSPOSED, _BACKWARD_TRANSPOSED, _OUTPUT_MASK = 6, 7, 10
"""Places among the arguments of `convolution` and `convolution_backward`."""


def _macs(reads: TensorSpec, writes: TensorSpec, weight: TensorSpec, transposed: bool) -> int:
    """Each point of the output, transposed: of the input, by the part of the weight that belongs to its channel.

    `weight` is (C_out, C_in / groups, kernel), transposed: (C_in, C_out / groups, kernel).
    """
    points = elements(reads if transposed else writes)
    return points * elements(weight) // weight.shape[0] if weight.shape[0] else 0


def _forward(op: Op) -> Cost:
    reads, weight = op.inputs[:2]
    points = elements(op.outputs[0])
    macs = _macs(reads, op.outputs[0], weight, bool(op.arguments[_TRANSPOSED]))
    return Cost(KIND, macs=macs, products=points, bias=points if len(op.inputs) > 2 else 0)


def _backward(op: Op) -> Cost:
    """The gradients of input and weight each take the products of forward; that of a bias sums."""
    gradient, reads, weight = op.inputs[:3]
    mask = op.arguments[_OUTPUT_MASK]
    wanted = [tensor for index, tensor in enumerate((reads, weight)) if mask[index]]
    macs = _macs(reads, gradient, weight, bool(op.arguments[_BACKWARD_TRANSPOSED]))
    bias = elements(gradient) if mask[2] else 0
    return Cost(KIND, macs=len(wanted) * macs, products=sum(map(elements, wanted)), bias=bias)


def _time_batch_channel(op: Op) -> Cost:
    """`conv_tbc`: the weight is (kernel, C_in, C_out)."""
    points = elements(op.outputs[0])
    length, channels, _ = op.inputs[1].shape
    return Cost(KIND, macs=points * length * channels, products=points, bias=points)


RULES: dict[str, Rule] = {
    "convolution": _forward,
    "convolution_backward": _backward,
    "conv_tbc": _time_batch_channel,
}
