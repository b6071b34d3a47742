"""Writing to indexed places, and masks.

ATen/native/cuda/Indexing.cu, index_put_with_sort_kernel: adding to indexed places sorts the indices first.
IndexKernel.cpp, masked_scatter__cuda: a running count of the mask, of 8 bytes an element. TensorAdvancedIndexing.cpp,
_index_put_impl_: a number of the host goes to the card. Onehot.cpp: zeros that are written into, where `meta` compares.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod
from typing import TYPE_CHECKING, Any

import torch

from tonnage.virtual.kernels.buffers import dense_copies
from tonnage.virtual.kernels.sorting import cub
from tonnage.virtual.layer import behind, dataless

if TYPE_CHECKING:
    from tonnage.virtual.gpu import VirtualGpu

aten = torch.ops.aten
INDEX = 8


def _index_put(gpu: VirtualGpu, args: Any, kwargs: Any) -> Iterator[int]:
    target, indices, value, *rest = args
    accumulate = rest[0] if rest else kwargs.get("accumulate", False)
    if not target.is_meta or not target.numel():
        return
    if not value.is_meta:
        yield value.numel() * value.element_size()
    if accumulate or torch.are_deterministic_algorithms_enabled():
        yield from _sorted_put(gpu, target, indices, value)


def _sorted_put(
    gpu: VirtualGpu, target: torch.Tensor, indices: Sequence[torch.Tensor | None], value: torch.Tensor
) -> Iterator[int]:
    """What is held while sorted indices are gone through; checks of their range are left out, of single elements."""
    places = [place for place, index in enumerate(indices) if index is not None]
    yield from dense_copies(target)
    shape = torch.broadcast_shapes(*(index.shape for index in indices if index is not None))
    count = prod(shape)
    yield from _linear_index(count, len(places))
    kept = [size for dim, size in enumerate(target.shape) if dim not in places]
    if value.numel() != count * prod(kept) or not value.is_contiguous():
        yield count * prod(kept) * target.element_size()
    together = places == list(range(places[0], places[-1] + 1))
    if not together and target.is_contiguous():
        yield target.numel() * target.element_size()
    slice_size = prod(target.shape[places[-1] + 1 :]) if together else prod(kept)
    if count and slice_size:
        yield from [count * INDEX] * 3
        bits = cub.bits_of((target.numel() - 1) // slice_size)
        yield cub.radix_sort(count, key=INDEX, value=INDEX, bits=bits, capability=gpu.card.compute_capability)


def _linear_index(count: int, dims: int) -> Iterator[int]:
    """computeLinearIndex: each index modulo its dimension, times its stride, added to the first."""
    for number in range(dims):
        yield from [count * INDEX] * 2
        yield from [-count * INDEX] * (1 if number == 0 else 2)


# Masks ----------------------------------------------------------------------------------------------------------------


def _masked_scatter(gpu: VirtualGpu, args: Any, kwargs: Any) -> Iterator[int]:
    target, mask, source = args
    if not target.is_meta or not target.numel():
        return
    elements = prod(torch.broadcast_shapes(target.shape, mask.shape))
    yield elements * INDEX
    if mask.numel() != elements or not mask.is_contiguous():
        yield elements
    yield from dense_copies(source)


def _masked_scatter_backward(gpu: VirtualGpu, args: Any, kwargs: Any) -> Iterator[int]:
    """The gradient of the source is selected by the mask's positions; it takes as many as the source has elements."""
    grad, mask, sizes = args
    if grad.is_meta:
        yield prod(sizes) * max(grad.dim(), mask.dim(), 1) * INDEX


def one_hot(tensor: torch.Tensor, num_classes: int = -1) -> Any:
    with behind():
        if not dataless(tensor) or not tensor.numel() or num_classes == 0:
            return aten.one_hot.default(tensor, num_classes)
        classes = int(tensor.max().item()) + 1 if num_classes == -1 else num_classes
        zeros = tensor.new_zeros((*tensor.shape, classes))
        return zeros.scatter_(-1, tensor.unsqueeze(-1), 1)


LAYER = {"one_hot": one_hot}
EARLY = {aten.masked_scatter_backward.default: _masked_scatter_backward}
SCRATCH = {
    **dict.fromkeys(
        (
            aten.index_put_.default,
            aten.index_put.default,
            aten._index_put_impl_.default,
            aten._unsafe_index_put.default,
        ),
        _index_put,
    ),
    **dict.fromkeys((aten.masked_scatter_.default, aten.masked_scatter.default), _masked_scatter),
}
