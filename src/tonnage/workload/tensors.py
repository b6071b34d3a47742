"""Input tensors on the CPU, made by the factories that a user would call."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import torch
from torch import nn


def random_ids(shape: tuple[int, ...], vocabulary: int, *, avoid: Iterable[int] = ()) -> torch.Tensor:
    """Token ids from the longest run of the vocabulary in which none of `avoid` lies."""
    low, high = longest_run(vocabulary, avoid)
    return torch.randint(low, high, shape, device="cpu")


def longest_run(vocabulary: int, avoid: Iterable[int]) -> tuple[int, int]:
    """The widest [low, high) within [0, vocabulary) without any of `avoid`.

    >>> longest_run(100, [0, 1, 60])
    (2, 60)
    """
    walls = [-1, *sorted({n for n in avoid if 0 <= n < vocabulary}), vocabulary]
    low, high = max(((a + 1, b) for a, b in pairwise(walls)), key=lambda run: run[1] - run[0])
    return (low, high) if low < high else (0, vocabulary)


def random_features(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    return torch.randn(shape, dtype=dtype, device="cpu")


def ones(shape: tuple[int, ...]) -> torch.Tensor:
    return torch.ones(shape, dtype=torch.int64, device="cpu")


def zeros(shape: tuple[int, ...], dtype: torch.dtype = torch.int64) -> torch.Tensor:
    return torch.zeros(shape, dtype=dtype, device="cpu")


def float_dtype(model: nn.Module) -> torch.dtype:
    """The type that the model computes in: that of its first floating parameter."""
    for parameter in model.parameters():
        if parameter.is_floating_point():
            return parameter.dtype
    return torch.get_default_dtype()
