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
    with tonnage.virtual_gpu("A100", torch_version="2.13.0") as gpu:
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
    """4000 int64 indices of 1000 words: sorted, original, a range and cub's scratch, which go before the gradient of
    1000 x 64 comes; then 4000 starts, a count and the keys found, which go; 1000 parts and their starts, a count, 400 +
    1000 part starts and fp32 sums.

    The scratch: 2 passes over 10 bits keep 2 x 256 x 8 bytes of bins, 2 tiles of 3840 look back on 256 x 4 each, then
    keys, values (of 32,000 bytes, a multiple of 256), two counters in 256 bytes, and 255 to begin at a multiple.
    """
    n, words = 8 * 4000, 8 * 1000
    scratch = 4096 + 2048 + 2 * n + 256 + 255

    found = backward_of(ids(4000), 1000, 64, dtype=dtype)

    taken = [n, n, n, scratch, -scratch, -n, 1000 * 64 * size]
    taken += [n, 8, n, -n, words, words, 8, 8 * 1400, 1400 * 64 * 4]
    given_back = [1400 * 64 * 4, 8 * 1400, 8, words, words, 8, n, n, n]
    assert found == [*taken, *(-size for size in given_back)]


@pytest.mark.parametrize(("version", "passes"), [("2.12.0", 8), ("2.13.0", 1)])
def test_ids_are_sorted_by_the_bits_of_the_vocabulary_from_2_13(version, passes):
    """100 words are 7 bits, one pass, which needs no second buffers; before, all 64 bits were sorted."""
    n = 8 * 4000
    with tonnage.virtual_gpu("A100", torch_version=version) as gpu:
        table = nn.Embedding(100, 64, device="cuda")
        out = table(ids(4000).cuda())
        start = len(gpu.recording.ledger)
        out.backward(torch.zeros_like(out))
        found = traffic(gpu, start)
    scratch = passes * 2048 + 2048 + (2 * n if passes > 1 else 0) + 256 + 255
    assert scratch in found


@pytest.mark.parametrize(
    ("version", "dtype", "size", "kept"),
    [
        ("2.10.0", torch.bfloat16, 2, [8 * 402, 402 * 64 * 4]),
        ("2.11.0", torch.float32, 4, [8 * 402, 8 * 402]),
        ("2.11.0", torch.bfloat16, 2, [8 * 402, 8 * 402, 2 * 64 * 4]),
    ],
)
def test_few_rows_are_added_to_directly_from_2_11(version, dtype, size, kept):
    """Two rows of 64 are 2 blocks of work for 108 SMs: no sums of 400 + 2 parts, but which row each part is of, and
    for 16-bit gradients the rows in fp32."""
    with tonnage.virtual_gpu("A100", torch_version=version) as gpu:
        table = nn.Embedding(2, 64, device="cuda", dtype=dtype)
        out = table(ids(4000).cuda())
        grad = torch.zeros_like(out)
        start = len(gpu.recording.ledger)
        out.backward(grad)
        found = traffic(gpu, start)
    taken = [n for n in found if n > 0]
    assert taken[-len(kept) :] == kept
    assert taken[4] == 2 * 64 * size


def test_a_small_vocabulary_does_not_bound_the_rows():
    """GPT-2 small, 8192 tokens: 819 + 8192 rows of 768 fp32 numbers, 26.4 MiB beside the gradient."""
    found = backward_of(ids(8192), 50257, 768)

    assert max(n for n in found if n != 50257 * 768 * 4) == 9011 * 768 * 4


def test_counting_frequencies_sorts_however_few():
    n = 8 * 10

    assert backward_of(ids(10), 1000, 64, scale_grad_by_freq=True)[:8] == [n, n, n, 1, -1, -n, n, 1000 * 64 * 4]


def test_a_gradient_that_is_not_dense_is_copied_first():
    with tonnage.virtual_gpu("A100") as gpu:
        table = nn.Embedding(100, 64, device="cuda")
        out = table(ids(8).cuda())
        start = len(gpu.recording.ledger)
        out.sum().backward()
        copied = [n for n in traffic(gpu, start) if n == 8 * 64 * 4]
        assert copied == [8 * 64 * 4]


def test_a_bag_of_embeddings_is_trained():
    """What the CPU's kernel returns beside the bags is of other sizes than the card's."""
    with tonnage.virtual_gpu("A100"):
        bag = nn.EmbeddingBag(10, 8, mode="mean", device="cuda")
        bag(torch.zeros(4, 3, dtype=torch.int64, device="cuda")).sum().backward()
        assert bag.weight.grad.shape == (10, 8)
