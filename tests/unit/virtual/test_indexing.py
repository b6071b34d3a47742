"""Adding to indexed places, and masks: what is sorted and counted beside the outputs."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

import tonnage
from tonnage.virtual.kernels.sorting import cub

kept: list[object] = []


@pytest.fixture
def gpu():
    with tonnage.virtual_gpu("A100", torch_version="2.13.0") as card:
        yield card
        kept.clear()


def traffic(gpu, run) -> list[int]:
    """Sizes taken and given back (negative) while `run` is at work; what it returns lives on."""
    start = len(gpu.recording.ledger)
    kept.append(run())
    ledger = gpu.recording.ledger
    return [(1 if kind.name == "ALLOC" else -1) * ledger.sizes[n] for kind, n in list(ledger.events())[start:]]


def test_the_gradient_of_an_index_sorts_the_indices(gpu):
    """A table of 2401 x 12 read at 4096 places, as a relative position bias is: the remainder and the product with the
    stride, of which one stays; sorted, original and a range; a sort of 12 bits in 2 passes over 2 tiles."""
    n = 4096 * 8
    table = torch.zeros(2401, 12, device="cuda", requires_grad=True)
    places = torch.zeros(4096, dtype=torch.int64, device="cuda")
    out = table[places]
    grad = torch.zeros_like(out)
    scratch = 2 * 2048 + 2 * 1024 + 2 * n + 256 + 255
    found = traffic(gpu, lambda: out.backward(grad))
    assert found == [2401 * 12 * 4, n, n, -n, n, n, n, scratch, -scratch, -n, -n, -n, -n]


def test_two_indices_become_one_linear_index(gpu):
    """Each further index is taken modulo and multiplied, then added to the first and let go."""
    n = 1000 * 8
    table = torch.zeros(100, 50, 64, device="cuda", requires_grad=True)
    places = torch.zeros(1000, dtype=torch.int64, device="cuda")
    out = table[places, places]
    grad = torch.zeros_like(out)
    found = traffic(gpu, lambda: out.backward(grad))
    assert found[1:7] == [n, n, -n, n, n, -n]
    assert found[7:12] == [-n, n, n, n, 1]  # 1000 pairs are sorted in one tile


def test_a_gradient_that_is_not_dense_is_copied(gpu):
    table = torch.zeros(100, 64, device="cuda", requires_grad=True)
    out = table[torch.zeros(1000, dtype=torch.int64, device="cuda")]
    found = traffic(gpu, out.sum().backward)
    assert 1000 * 64 * 4 in found


def test_setting_indexed_places_sorts_nothing(gpu):
    x, places = torch.zeros(100, 64, device="cuda"), torch.zeros(10, dtype=torch.int64, device="cuda")
    value = torch.ones(10, 64, device="cuda")
    assert traffic(gpu, lambda: x.index_put_((places,), value)) == []


def test_a_number_of_the_host_goes_over(gpu):
    x, places = torch.zeros(100, 64, device="cuda"), torch.zeros(10, dtype=torch.int64, device="cuda")

    def assign():
        x[places] = 1.0

    assert traffic(gpu, assign) == [4, -4]


def test_apart_dimensions_are_brought_together_in_a_copy(gpu):
    x = torch.zeros(10, 20, 30, device="cuda")
    places = torch.zeros(3000, dtype=torch.int64, device="cuda")
    value = torch.zeros(3000, 20, device="cuda")
    found = traffic(gpu, lambda: torch.ops.aten.index_put_(x, [places, None, places], value, True))
    assert 10 * 20 * 30 * 4 in found


# Masks ----------------------------------------------------------------------------------------------------------------


def test_masked_scatter_counts_in_int64(gpu):
    """Image features put among word embeddings, 4 x 100 x 64: 8 bytes for each of them, and the mask made whole."""
    n = 4 * 100 * 64
    words, features = torch.zeros(4, 100, 64, device="cuda"), torch.zeros(50, 64, device="cuda")
    mask = torch.zeros(4, 100, dtype=torch.bool, device="cuda").unsqueeze(-1).expand_as(words)
    assert traffic(gpu, lambda: words.masked_scatter(mask, features)) == [4 * n, 8 * n, n, -n, -8 * n]
    assert traffic(gpu, lambda: words.masked_scatter_(mask, features)) == [8 * n, n, -n, -8 * n]


def test_the_gradient_of_what_was_scattered_is_selected_by_position(gpu):
    """50 x 64 elements of three dimensions: 3 int64 each while they are gathered."""
    words = torch.zeros(4, 100, 64, device="cuda")
    features = torch.zeros(50, 64, device="cuda", requires_grad=True)
    mask = torch.zeros(4, 100, dtype=torch.bool, device="cuda").unsqueeze(-1).expand_as(words)
    out = words.masked_scatter(mask, features)
    grad = torch.zeros_like(out)
    n = 50 * 64
    assert traffic(gpu, lambda: out.backward(grad)) == [3 * 8 * n, 4 * n, -3 * 8 * n]


def test_masked_select_is_an_index(gpu):
    """Positions in two dimensions, 16 bytes for each element if all are selected."""
    x = torch.randn(100, 200, device="cuda")
    mask = torch.rand(100, 200, device="cuda") > 0.5
    n = 100 * 200
    assert traffic(gpu, lambda: x.masked_select(mask)) == [16 * n, 4 * n, -16 * n]
    assert x[mask].shape == x.masked_select(mask).shape == (n,)


def test_the_gradient_of_masked_select_is_scattered_into_zeros(gpu):
    n = 100 * 200
    x = torch.randn(100, 200, device="cuda", requires_grad=True)
    mask = torch.rand(100, 200, device="cuda") > 0.5
    out = x.masked_select(mask)
    grad = torch.zeros_like(out)
    assert traffic(gpu, lambda: out.backward(grad)) == [4 * n, 8 * n, -8 * n]


# One-hot --------------------------------------------------------------------------------------------------------------


def test_one_hot_is_zeros_that_are_written_into(gpu):
    labels = torch.tensor([1, 3, 0], device="cuda")
    assert traffic(gpu, lambda: F.one_hot(labels, 8)) == [3 * 8 * 8]
    assert F.one_hot(labels).tolist() == [[0, 1, 0, 0], [0, 0, 0, 1], [1, 0, 0, 0]]
    assert F.one_hot(torch.tensor([1, 0])).tolist() == [[0, 1], [1, 0]]


def test_the_sort_is_of_the_bits_of_the_table():
    assert cub.bits_of((2401 * 12 - 1) // 12) == 12
