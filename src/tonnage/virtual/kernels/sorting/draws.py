"""Draws without replacement, and from weights: permutations and multinomials.

ATen/native/cuda/Randperm.cu, which sorts random keys, and ATen/native/Distributions.cpp.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil, log, log2
from typing import TYPE_CHECKING, Any

import torch

from tonnage.virtual.kernels.sorting import cub

if TYPE_CHECKING:
    from tonnage.virtual.gpu import VirtualGpu

aten = torch.ops.aten


def bits_of_permutation(count: int) -> int:
    """Bits of a random key so that of `count` none are alike, in nine permutations of ten (Algorithm of randperm).

    >>> bits_of_permutation(1000), bits_of_permutation(100_000)
    (23, 36)
    """
    return min(64, ceil(log2(count - (6 * count * count + 1) / (log(0.9) * 12))))


def _randperm(gpu: VirtualGpu, args: Any, kwargs: Any) -> Iterator[int]:
    """Positions, random keys, and both sorted by the keys."""
    count, size = args[0], (kwargs.get("dtype") or torch.int64).itemsize
    if not count or torch.device(kwargs.get("device") or "cpu").type == "cpu":
        return
    bits = bits_of_permutation(count)
    key = 4 if bits <= 32 else 8
    yield from (count * size, count * key, count * key)
    yield cub.radix_sort(count, key=key, value=size, bits=bits, capability=gpu.card.compute_capability)


def _multinomial(gpu: VirtualGpu, args: Any, kwargs: Any) -> Iterator[int]:
    """ATen/native/Distributions.cpp, multinomial_out: the largest of probabilities over exponential draws.

    With replacement, for several samples: cuda/MultinomialKernel.cu, the probabilities to a sum of one, and their sums.
    """
    weights, samples = args[:2]
    replaced = args[2] if len(args) > 2 else False
    if not weights.is_meta or not weights.numel():
        return
    size = weights.element_size()
    yield weights.numel() * size
    if replaced and samples > 1:
        yield weights.numel() * size
    elif samples > 1:
        yield weights.numel() // weights.shape[-1] * samples * size


SCRATCH = {aten.randperm.default: _randperm, aten.multinomial.default: _multinomial}
