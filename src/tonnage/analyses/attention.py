"""Attention's scores: which kernel runs, and the bytes of every matrix of queries by keys that lies in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from math import prod

from msgspec import Struct

from tonnage.costs.tensors import nbytes
from tonnage.ledger import Kind, Ledger
from tonnage.recording import Recording
from tonnage.trace import Op

FUSED = {
    "aten._scaled_dot_product_flash_attention.default": "flash",
    "aten._scaled_dot_product_flash_attention_for_cpu.default": "flash",
    "aten._flash_attention_forward.default": "flash",
    "aten._scaled_dot_product_efficient_attention.default": "memory-efficient",
    "aten._efficient_attention_forward.default": "memory-efficient",
    "aten._scaled_dot_product_cudnn_attention.default": "cuDNN",
    "aten._native_multi_head_attention.default": "fast path",
    "aten._transformer_encoder_layer_fwd.default": "fast path",
}
"""Operators that do all of attention. Flash, memory-efficient and cuDNN keep a number for each query, and no scores."""

WRITTEN_OUT = {"aten._softmax.default": "eager", "aten._safe_softmax.default": "math"}
"""The softmax between the two products: models call the first, scaled_dot_product_attention's math path the second."""

_BACKWARD = "aten._softmax_backward_data.default"
_PRODUCTS = {"aten.bmm.default", "aten.baddbmm.default", "aten.matmul.default"}
_COPY = "aten.clone.default"
REACH = 12
"""How far from its softmax a product may be: scaling, masks, casts and dropout with their views lie between."""


class Attention(Struct, frozen=True, kw_only=True):
    """How attention is computed, and what its scores take.

    `calls` counts forward calls by the kernel that runs: "flash", "memory-efficient", "cuDNN", "fast path", "math"
    (scaled_dot_product_attention written out) or "eager" (the model's own products and softmax). `scores_bytes` is what
    tensors of batch × heads × queries × keys take at the peak, masks of dropout and gradients included;
    `most_scores_bytes` is the most that they take at any time. Both are bytes as asked for, and 0 for fused kernels.
    """

    calls: dict[str, int]
    scores_bytes: int
    most_scores_bytes: int


def account_attention(recording: Recording, at: int) -> Attention | None:
    """The attention of `recording`, whose peak is event `at`; None where there is none.

    A real device tells no shapes: there only fused kernels are counted.
    """
    ops = recording.trace.ops
    calls: Counter[str] = Counter(FUSED[op.name] for op in ops if op.name in FUSED)
    makers: dict[int, set[int]] = {}
    for index, op in enumerate(ops):
        if op.outputs and (op.name in WRITTEN_OUT or op.name == _BACKWARD):
            found = dict(_scores(ops, index))
            makers.update(found)
            if found and op.name in WRITTEN_OUT:
                calls[WRITTEN_OUT[op.name]] += 1
    if not calls:
        return None
    now, most = _alive(recording.ledger, makers, at)
    return Attention(calls=dict(calls), scores_bytes=now, most_scores_bytes=most)


def _scores(ops: Sequence[Op], softmax: int) -> Iterator[tuple[int, set[int]]]:
    """The operators from the product that makes scores to before the one that uses them, with the bytes of scores."""
    before = next((i for i in range(softmax - 1, softmax - REACH, -1) if i >= 0 and ops[i].name in _PRODUCTS), None)
    after = next((i for i in range(softmax + 1, softmax + REACH) if i < len(ops) and ops[i].name in _PRODUCTS), None)
    shape = ops[softmax].outputs[0].shape
    if before is None or after is None or len(shape) < 3 or ops[before].outputs[0].shape[-2:] != shape[-2:]:
        return
    square = shape[-2:] == ops[after].outputs[0].shape[-2:]  # values have the shape of scores
    for index in range(before, after):
        op = ops[index]
        sizes = {nbytes([spec]) for spec in op.outputs if _alike(spec.shape, shape)}
        if sizes and not (square and op.name == _COPY):
            yield index, sizes


def _alike(shape: tuple[int, ...], scores: tuple[int, ...]) -> bool:
    return shape[-2:] == scores[-2:] and prod(shape) == prod(scores)


def _alive(ledger: Ledger, makers: dict[int, set[int]], at: int) -> tuple[int, int]:
    """Bytes of scores that live at event `at`, and the most that ever live; scratch of their makers is none of them."""
    held = now = most = 0
    for event, (kind, argument) in enumerate(zip(ledger.kinds, ledger.arguments, strict=True)):
        if kind in (Kind.ALLOC, Kind.FREE):
            size = ledger.sizes[argument]
            if size in makers.get(ledger.ops[argument], ()):
                held += size if kind == Kind.ALLOC else -size
                most = max(most, held)
        if event == at:
            now = held
    return now, most
