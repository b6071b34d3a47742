"""Embedding backward: what is sorted, in which order, and what it takes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import tonnage

KiB = 2**10


def traffic(gpu, start: int) -> list[int]:
    """Sizes taken (positive) and given back (negative) since event `start`."""
    ledger = gpu.recording.ledger
    events = list(ledger.events())[start:]
    return [(1 if kind.name == "ALLOC" else -1) * ledger.sizes[n] for kind, n in events]


def backward_of(indices, vocabulary: int, width: int, *, dtype=torch.float32, **options) -> list[int]:
    with tonnage.virtual_gpu("A100") as gpu:
        table = nn.Embedding(vocabulary, width, device="cuda", dtype=dtype, **options)
        kept = indices.cuda()
        out = table(kept)
        grad = torch.zeros_like(out)
        start = len(gpu.recording.ledger)
        out.backward(grad)
        return traffic(gpu, start)


def ids(count: int) -> torch.Tensor:
    return torch.zeros(count, dtype=torch.int64)


def test_up_to_3072_indices_only_the_gradient_is_made():
    assert backward_of(ids(3072), 1000, 64) == [1000 * 64 * 4]


@pytest.mark.parametrize(("dtype", "size"), [(torch.float32, 4), (torch.bfloat16, 2), (torch.float16, 2)])
def test_above_that_they_are_sorted_and_summed_in_parts(dtype, size):
    """4000 int64 indices of 1000 words: sorted, original and a range that goes before the gradient of 1000 x 64 comes;
    then 4000 starts, a count, 1000 parts and their starts, a count, 400 + 1000 part starts and fp32 sums."""
    n, words = 8 * 4000, 8 * 1000

    found = backward_of(ids(4000), 1000, 64, dtype=dtype)

    taken = [n, n, n, -n, 1000 * 64 * size, n, 8, words, words, 8, 8 * 1400, 1400 * 64 * 4]
    given_back = [1400 * 64 * 4, 8 * 1400, 8, words, words, 8, n, n, n]
    assert found == [*taken, *(-size for size in given_back)]


def test_a_small_vocabulary_does_not_bound_the_rows():
    """GPT-2 small, 8192 tokens: 819 + 8192 rows of 768 fp32 numbers, 26.4 MiB beside the gradient."""
    found = backward_of(ids(8192), 50257, 768)

    assert max(n for n in found if n != 50257 * 768 * 4) == 9011 * 768 * 4


def test_counting_frequencies_sorts_however_few():
    n = 8 * 10

    assert backward_of(ids(10), 1000, 64, scale_grad_by_freq=True)[:6] == [n, n, n, n, -n, 1000 * 64 * 4]


def test_a_gradient_that_is_not_dense_is_copied_first():
    with tonnage.virtual_gpu("A100") as gpu:
        table = nn.Embedding(100, 64, device="cuda")
        out = table(ids(8).cuda())
        start = len(gpu.recording.ledger)
        out.sum().backward()
        copied = [n for n in traffic(gpu, start) if n == 8 * 64 * 4]
        assert copied == [8 * 64 * 4]


def test_cub_is_listed_as_missing():
    with tonnage.virtual_gpu("A100") as gpu:
        table = nn.Embedding(1000, 64, device="cuda")
        table(ids(4000).cuda()).sum().backward()
    assert [entry.what for entry in gpu.recording.not_counted] == ["cub's scratch in embedding backward"]
