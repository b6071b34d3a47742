"""Adding into indexed places: CUDA sorts the indices first.

ATen/native/cuda/Indexing.cu, index_put_with_sort_kernel: the linear index, its sorted copy, the order and a range, each
of 8 bytes an index, with cub's scratch for the sort. The indices of a gradient are few against its elements, so these
are listed and not counted.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from tonnage.virtual.gpu import VirtualGpu

aten = torch.ops.aten


def _index_put(gpu: VirtualGpu, args: Any, kwargs: Any) -> Iterator[int]:
    accumulate = args[3] if len(args) > 3 else kwargs.get("accumulate", False)
    if accumulate and args[0].is_meta:
        gpu.not_counted("sort buffers of index_put_", "32 bytes an index and cub's scratch, for the length of the call")
    yield from ()


SCRATCH = {aten.index_put_.default: _index_put, aten.index_put.default: _index_put}
