"""Matrix products: every element of the result is one dot product."""

from __future__ import annotations

from tonnage.costs.cost import Cost, Rule
from tonnage.costs.tensors import elements
from tonnage.trace import Op

KIND = "matrix product"


def _product(left: int) -> Rule:
    """Input `left` times the one after it; where it is not the first, the first is added to the result."""

    def rule(op: Op) -> Cost:
        points = elements(op.outputs[0])
        return Cost(KIND, macs=points * op.inputs[left].shape[-1], products=points, bias=points if left else 0)

    return rule


def _summed_batch(op: Op) -> Cost:
    """`addbmm`: one dot product runs over the matrices of the batch as well."""
    points = elements(op.outputs[0])
    batch, _, inner = op.inputs[1].shape
    return Cost(KIND, macs=points * batch * inner, products=points, bias=points)


def _outer(op: Op) -> Cost:
    points = elements(op.outputs[0])
    return Cost(KIND, macs=points, products=points, bias=points)


def _with_activation(op: Op) -> Cost:
    points = elements(op.outputs[0])
    return Cost(KIND, macs=points * op.inputs[1].shape[-1], products=points, bias=points, flops=points)


def _grouped(op: Op) -> Cost:
    """`_grouped_mm`: groups of rows by a matrix each. Every row is in one group, whatever the groups are.

    Where both are matrices (the gradient of the weights) the groups divide the inner dimension instead.
    """
    left, right = op.inputs[:2]
    points = elements(op.outputs[0])
    if len(left.shape) == len(right.shape) == 2:
        return Cost(KIND, macs=elements(left) * right.shape[-1], products=points)
    return Cost(KIND, macs=points * left.shape[-1], products=points)


def _grouped_loop_backward(op: Op) -> Cost:
    """The gradients of rows and weights in transformers' loop over experts (transformers/integrations/moe.py)."""
    rows, weight = op.inputs[:2]
    return Cost(KIND, macs=2 * elements(rows) * weight.shape[-1], products=elements(rows) + elements(weight))


def _trilinear(op: Op) -> Cost:
    """`nn.Bilinear`: ATen/native/Linear.cpp, _trilinear, in two steps as it runs them.

    The three tensors are broadcast to one shape. Where the second has all its dimensions, as the weight of a bilinear
    layer has, the first step sums over the summed dimensions that the third lacks, the second over the others.
    """
    shapes = []
    for tensor, missing in zip(op.inputs, op.arguments[3:6], strict=True):
        shape = list(tensor.shape)
        for dim in missing:
            shape.insert(dim, 1)
        shapes.append(shape)
    summed = set(op.arguments[6])
    first = last = between = points = 1
    for dim, sizes in enumerate(zip(*shapes, strict=True)):
        size = max(sizes)
        in_first = max(sizes[:2])
        first *= in_first
        if dim in summed and sizes[2] == 1:
            continue
        between *= in_first
        last *= size
        points *= 1 if dim in summed else size
    return Cost(KIND, macs=first + last, products=between + points)


def _affine_grid(op: Op) -> Cost:
    """`affine_grid`: each point, with a 1 appended, by a matrix of the dimensions it has."""
    points = elements(op.outputs[0])
    return Cost(KIND, macs=points * (op.outputs[0].shape[-1] + 1), products=points)


def _euclidean(op: Op) -> Cost:
    """`_euclidean_dist`: one product of vectors that have their own square and a 1 appended (native/Distance.cpp)."""
    points = elements(op.outputs[0])
    return Cost(KIND, macs=points * (op.inputs[0].shape[-1] + 2), products=points)


OF_LIBRARIES: dict[str, Rule] = {
    "transformers.grouped_mm_fallback": _product(0),
    "transformers.grouped_mm_fallback_backward": _grouped_loop_backward,
}
"""Operators that are not PyTorch's, with their library."""

RULES: dict[str, Rule] = {
    **dict.fromkeys(("mm", "bmm", "mv", "dot", "vdot", "_int_mm", "_scaled_mm", "_scaled_mm_v2"), _product(0)),
    **dict.fromkeys(("_weight_int8pack_mm", "_weight_int4pack_mm"), _product(0)),
    **dict.fromkeys(("addmm", "addmv", "baddbmm"), _product(1)),
    **dict.fromkeys(("_grouped_mm", "_scaled_grouped_mm", "_scaled_grouped_mm_v2"), _grouped),
    "_addmm_activation": _with_activation,
    "addbmm": _summed_batch,
    "addr": _outer,
    "_trilinear": _trilinear,
    "affine_grid_generator": _affine_grid,
    "_euclidean_dist": _euclidean,
}
