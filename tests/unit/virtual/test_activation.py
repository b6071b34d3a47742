"""Backward of SiLU and Mish makes one tensor on the card, whatever `meta` does."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

import tonnage
from tonnage.units import MiB


@pytest.mark.parametrize("activation", [F.silu, F.mish, F.gelu])
def test_backward_makes_one_tensor(activation) -> None:
    with tonnage.virtual_gpu("A100") as gpu:
        # GIVEN an activation of 8 MiB and its gradient
        x = torch.randn(2 * MiB, device="cuda", requires_grad=True)
        y = activation(x)
        gradient = torch.randn_like(y)
        before = gpu.memory_allocated()
        gpu.reset_peak_memory_stats()
        y.backward(gradient)
        # THEN backward held nothing but the result, which is the gradient of x
        assert gpu.max_memory_allocated() - before == 8 * MiB
        assert x.grad.shape == x.shape


def test_double_backward_is_taken_apart_as_on_cuda() -> None:
    with tonnage.virtual_gpu("A100"):
        x = torch.randn(64, device="cuda", requires_grad=True)
        (gradient,) = torch.autograd.grad(F.silu(x).sum(), x, create_graph=True)
        gradient.sum().backward()
        assert x.grad.shape == x.shape


def test_isinf_compares_absolute_values():
    """A half-precision transformer asks it of its hidden states: a tensor of their size, beside a bool for each."""
    with tonnage.virtual_gpu("A100") as gpu:
        x = torch.zeros(1024, 1024, device="cuda")
        start = len(gpu.recording.ledger.sizes)
        kept = torch.isinf(x)
        assert list(gpu.recording.ledger.sizes[start:]) == [4 * 2**20, 2**20]
        assert kept.dtype is torch.bool
        assert gpu.memory_allocated() == 5 * 2**20
        start = len(gpu.recording.ledger.sizes)
        torch.isinf(torch.zeros(8, dtype=torch.int64, device="cuda"))
        assert list(gpu.recording.ledger.sizes[start:]) == [64, 8]
