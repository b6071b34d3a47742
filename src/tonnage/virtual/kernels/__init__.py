"""CUDA's habits, one file or folder for each family of kernels; the CPU's are in `cpu`.

LAYER: kernels in front of autograd, by operator name. SCRATCH: the bytes that a kernel takes from the caching allocator
for itself, after its outputs and for the length of the call, as a function of the card and the operator's arguments; a
negative number gives the last buffer of so many bytes back before the call ends. EARLY: the same, before the outputs.
HOST_OUTPUTS: outputs that CUDA keeps in host memory, by the rules of the version. META: kernels that `meta` lacks.
SHAPES: outputs of operators that it cannot run, or makes in another memory. TAKEN_APART: operators whose parts are
recorded in their place.
"""

from __future__ import annotations

from typing import Any

from tonnage.virtual.habits import Habits
from tonnage.virtual.kernels import (
    activation,
    attention,
    autocast,
    ctc,
    cudnn,
    dropout,
    embedding,
    foreach,
    indexing,
    linear,
    lists,
    loss,
    matmul,
    norm,
    reduction,
    softmax,
    sorting,
)
from tonnage.virtual.storages import Place

LAYER: dict[str, Any] = {
    **autocast.LAYER,
    **ctc.LAYER,
    **cudnn.LAYER,
    **softmax.LAYER,
    **activation.LAYER,
    **dropout.LAYER,
    **attention.LAYER,
    **indexing.LAYER,
    **linear.LAYER,
    **lists.LAYER,
}
EARLY = {
    **activation.EARLY,
    **attention.EARLY,
    **ctc.EARLY,
    **cudnn.EARLY,
    **embedding.EARLY,
    **foreach.EARLY,
    **indexing.EARLY,
    **loss.EARLY,
    **norm.EARLY,
    **sorting.EARLY,
}
SCRATCH = {
    **attention.SCRATCH,
    **ctc.SCRATCH,
    **cudnn.SCRATCH,
    **embedding.SCRATCH,
    **foreach.SCRATCH,
    **indexing.SCRATCH,
    **loss.SCRATCH,
    **matmul.SCRATCH,
    **norm.SCRATCH,
    **reduction.SCRATCH,
    **softmax.SCRATCH,
    **sorting.SCRATCH,
}
HOST_OUTPUTS = attention.HOST_OUTPUTS
META = norm.META
SHAPES = {**ctc.SHAPES, **cudnn.SHAPES, **loss.SHAPES, **norm.SHAPES}
CUDA = Habits(Place.CARD.value, "AutocastIPU", LAYER, EARLY, SCRATCH, HOST_OUTPUTS, SHAPES, loss.TAKEN_APART)

__all__ = ["CUDA", "META"]
