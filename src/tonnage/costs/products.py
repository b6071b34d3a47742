"""Matrix products: every element of the result is one dot product."""

from __future__ import annotations

from collections.abc import Sequence

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

    The three tensors are broadcast to one shape. The first step multiplies two and sums over the summed dimensions that
    the third lacks; the second multiplies by the third and sums over the others.
    """
    shapes = [_with_ones(tensor.shape, missing) for tensor, missing in zip(op.inputs, op.arguments[3:6], strict=True)]
    summed, third_lacks = set(op.arguments[6]), set(op.arguments[5])
    first = between = second = points = 1
    for dim, sizes in enumerate(zip(*shapes, strict=True)):
        first *= max(sizes[:2])
        if dim not in summed & third_lacks:
            between *= max(sizes[:2])
            second *= max(sizes)
        if dim not in summed:
            points *= max(sizes)
    return Cost(KIND, macs=first + second, products=between + points)


def _with_ones(shape: Sequence[int], missing: Sequence[int]) -> list[int]:
    sizes = list(shape)
    for dim in missing:
        sizes.insert(dim, 1)
    return sizes


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
