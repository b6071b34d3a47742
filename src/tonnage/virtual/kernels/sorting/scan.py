"""Running sums and products: ATen/native/cuda/ScanKernels.cpp."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from tonnage.virtual.gpu import VirtualGpu

aten = torch.ops.aten


def _running(gpu: VirtualGpu, args: Any, kwargs: Any) -> Iterator[int]:
    """cumsum and cumprod: the input in the type of the result, and in order. cub's few KiB for one row are left out."""
    tensor, dtype = args[0], kwargs.get("dtype")
    if not tensor.is_meta or not tensor.numel():
        return
    whole = not (tensor.is_floating_point() or tensor.is_complex())
    dtype = dtype or (torch.int64 if whole else tensor.dtype)
    if tensor.dtype != dtype:
        yield tensor.numel() * dtype.itemsize
    if not tensor.is_contiguous():
        yield tensor.numel() * dtype.itemsize


SCRATCH = {aten.cumsum.default: _running, aten.cumprod.default: _running}
