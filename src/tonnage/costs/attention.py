"""Attention in one kernel: the products that a kernel like flash attention hides.

Counted dense, as `bmm` would: a causal mask, a window or dropout leaves nothing out. Where queries have more heads than
keys (grouped queries), every query head counts. Backward is four products (of the gradients of values, of scores, of
queries and of keys); that the fused kernels also compute the scores again is `again`. So a model costs the same on
every kernel, and as much as with the products written out.
"""

from __future__ import annotations

from collections.abc import Sequence

from tonnage.costs.cost import Cost, Rule, Unknown
from tonnage.costs.norm import SOFTMAX_FLOPS
from tonnage.costs.tensors import elements
from tonnage.trace import Op, TensorSpec

KIND = "attention"
FLASH = "_scaled_dot_product_flash_attention"
_PAD = "aten.constant_pad_nd.default"
_LENGTHS = Unknown("the lengths of packed sequences are values, which the recording does not have")


def _sizes(query: TensorSpec, key: TensorSpec, value: TensorSpec, *, heads_last: bool) -> tuple[int, int, int]:
    """Elements of the scores, and the head sizes of queries and values.

    Tensors are (batch, heads, length, size), or with `heads_last` (batch, length, heads, size).
    """
    length = key.shape[1 if heads_last else -2]
    return elements(query) // max(1, query.shape[-1]) * length, query.shape[-1], value.shape[-1]


def _forward(*, heads_last: bool = False) -> Rule:
    def rule(op: Op) -> Cost | Unknown:
        query, key, value = op.inputs[:3]
        if heads_last and _is_packed(op):
            return _LENGTHS
        scores, size, value_size = _sizes(query, key, value, heads_last=heads_last)
        rows = elements(query) // max(1, size)
        products = scores + rows * value_size
        return Cost(KIND, macs=scores * (size + value_size), products=products, flops=SOFTMAX_FLOPS * scores)

    return rule


def _backward(*, heads_last: bool = False) -> Rule:
    def rule(op: Op) -> Cost | Unknown:
        query, key, value = op.inputs[1:4]
        if heads_last and _is_packed(op):
            return _LENGTHS
        scores, size, value_size = _sizes(query, key, value, heads_last=heads_last)
        rows, keys = elements(query) // max(1, size), scores // max(1, query.shape[1 if heads_last else -2])
        products = scores + rows * size + keys * (size + value_size)
        macs = 2 * scores * (size + value_size)
        again = Cost(KIND, macs=scores * size, products=scores)
        return Cost(KIND, macs=macs, products=products, flops=SOFTMAX_FLOPS * scores, again=again)

    return rule


def _is_packed(op: Op) -> bool:
    """Whether sequences lie one after another, with integers that say where each begins."""
    return len(op.inputs[0].shape) < 4 or any(t.dtype == "int32" for t in op.inputs)


class Padding:
    """Gives flash attention the heads back that the model gave it, as a recording is read in order.

    PyTorch pads queries, keys and values to heads of a multiple of 8 right before the kernel
    (ATen/native/transformers/attention.cpp, pad_last_dim). The zeros are no work that the model asked for, and no other
    kernel has them.
    """

    def __init__(self) -> None:
        self._given: dict[tuple[int, tuple[TensorSpec, ...]], tuple[TensorSpec, ...]] = {}

    def undo(self, op: Op, before: Sequence[Op]) -> Op:
        """`op`, with the operators `before` it, on the heads before they were padded."""
        if op.name == f"aten.{FLASH}_backward.default":
            given = self._given.get((op.module, op.inputs[1:4]))
            return op._replace(inputs=(op.inputs[0], *given, *op.inputs[4:])) if given else op
        pads = before[-3:]
        heads = op.inputs[:3]
        if any(pad.name != _PAD for pad in pads) or tuple(pad.outputs[0] for pad in pads) != heads:
            return op
        given = self._given[op.module, heads] = tuple(pad.inputs[0] for pad in pads)
        return op._replace(inputs=given)


_FUSED = (
    FLASH,
    "_scaled_dot_product_efficient_attention",
    "_scaled_dot_product_cudnn_attention",
    "_scaled_dot_product_flash_attention_for_cpu",
    "_scaled_dot_product_fused_attention_overrideable",
)
RULES: dict[str, Rule] = {
    **dict.fromkeys(_FUSED, _forward()),
    **{f"{name}_backward": _backward() for name in _FUSED},
    **dict.fromkeys(("_flash_attention_forward", "_efficient_attention_forward"), _forward(heads_last=True)),
    **dict.fromkeys(("_flash_attention_backward", "_efficient_attention_backward"), _backward(heads_last=True)),
}
