"""Dropout: fused on CUDA, with a mask of one byte an element."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

import tonnage


def made(**options) -> list[int]:
    with tonnage.virtual_gpu("A100") as gpu:
        x = torch.zeros(64, 128, device="cuda", dtype=options.pop("dtype", torch.float32), requires_grad=True)
        start = len(gpu.recording.ledger.sizes)
        out = F.dropout(x, **options)
        assert out.shape == x.shape
        return list(gpu.recording.ledger.sizes)[start:]


@pytest.mark.parametrize(("dtype", "size"), [(torch.float32, 4), (torch.bfloat16, 2)])
def test_training_makes_the_output_and_a_mask_of_bytes(dtype, size):
    assert made(p=0.1, dtype=dtype) == [64 * 128 * size, 64 * 128]


def test_evaluation_makes_nothing():
    assert made(p=0.1, training=False) == []


def test_the_mask_lives_until_backward_has_used_it():
    with tonnage.virtual_gpu("A100"):
        x = torch.zeros(1024, 1024, device="cuda", requires_grad=True)
        before = torch.cuda.memory_allocated()
        loss = F.dropout(x, 0.5).sum()
        assert torch.cuda.memory_allocated() == before + 2**20 + 512
        loss.backward()
        del loss
        assert torch.cuda.memory_allocated() == before + x.numel() * 4


def test_dropout_of_the_host_is_not_recorded():
    with tonnage.virtual_gpu("A100") as gpu:
        F.dropout(torch.ones(8))
        assert len(gpu.recording.ledger) == 0
