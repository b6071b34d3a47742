"""Softmax: backward takes the product of gradient and output, and both ways want their inputs in order."""

from __future__ import annotations

import pytest
import torch

import tonnage

N = 4 * 8 * 128 * 128


@pytest.fixture
def gpu():
    with tonnage.virtual_gpu("A100") as card:
        yield card


def traffic(gpu, run) -> list[int]:
    """Sizes taken and given back (negative) while `run` is at work; what it returns lives on."""
    start = len(gpu.recording.ledger)
    gpu.kept = run()
    ledger = gpu.recording.ledger
    return [(1 if kind.name == "ALLOC" else -1) * ledger.sizes[n] for kind, n in list(ledger.events())[start:]]


def scores(dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.zeros(4, 8, 128, 128, device="cuda", dtype=dtype, requires_grad=True)


@pytest.mark.parametrize(("dtype", "size"), [(torch.float32, 4), (torch.bfloat16, 2)])
def test_backward_multiplies_gradient_and_output_first(gpu, dtype, size):
    out = scores(dtype).softmax(-1)
    grad = torch.zeros_like(out)
    assert traffic(gpu, lambda: out.backward(grad)) == [size * N, size * N, -size * N]


def test_the_logarithms_backward_does_not(gpu):
    out = scores().log_softmax(-1)
    grad = torch.zeros_like(out)
    assert traffic(gpu, lambda: out.backward(grad)) == [4 * N]


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_a_transposed_input_is_copied(gpu, name):
    x = scores().detach().transpose(-1, -2)
    assert traffic(gpu, lambda: getattr(x, name)(-1)) == [4 * N, 4 * N, -4 * N]


def test_an_expanded_gradient_is_multiplied_as_it_is(gpu):
    """The product is in order, so nothing is copied besides; the logarithm's gradient is."""
    for name, copies in (("softmax", 1), ("log_softmax", 1)):
        total = getattr(scores(), name)(-1).sum()
        found = traffic(gpu, total.backward)
        assert found.count(4 * N) == 1 + copies
