"""CUDA's habits, one file for each family of kernels.

LAYER: kernels in front of autograd, by operator name. SCRATCH: the bytes that a kernel takes from the caching allocator
for itself, after its outputs and for the length of the call, as a function of the card and the operator's arguments; a
negative number gives the last buffer of so many bytes back before the call ends. EARLY: the same, before the outputs.
HOST_OUTPUTS: outputs that CUDA keeps in host memory. META: kernels that `meta` lacks.
"""

from __future__ import annotations

from tonnage.virtual.kernels import (
    activation,
    attention,
    attention_buffers,
    autocast,
    cudnn,
    dropout,
    embedding,
    indexing,
    linear,
    matmul,
    norm,
    reduction,
    transformer,
)

LAYER = {
    **autocast.LAYER,
    **cudnn.LAYER,
    **activation.LAYER,
    **dropout.LAYER,
    **attention.LAYER,
    **linear.LAYER,
    **transformer.LAYER,
}
EARLY = {**embedding.EARLY, **attention_buffers.EARLY, **norm.EARLY, **cudnn.EARLY}
SCRATCH = {
    **attention_buffers.SCRATCH,
    **cudnn.SCRATCH,
    **embedding.SCRATCH,
    **indexing.SCRATCH,
    **matmul.SCRATCH,
    **norm.SCRATCH,
    **reduction.SCRATCH,
}
HOST_OUTPUTS = attention_buffers.HOST_OUTPUTS
META = norm.META

__all__ = ["EARLY", "HOST_OUTPUTS", "LAYER", "META", "SCRATCH"]
