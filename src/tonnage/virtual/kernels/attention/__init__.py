"""Attention: which kernel runs, what it makes of its inputs, and what it takes for itself."""

from __future__ import annotations

from tonnage.virtual.kernels.attention import backends, buffers, transformer

LAYER = {**backends.LAYER, **transformer.LAYER}
EARLY = buffers.EARLY
SCRATCH = buffers.SCRATCH
HOST_OUTPUTS = buffers.HOST_OUTPUTS
