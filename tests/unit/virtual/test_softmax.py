"""Softmax: what autograd keeps of it, by version."""

from __future__ import annotations

import pytest
import torch

import tonnage

SCORES = 4 * 512 * 512  # bytes


@pytest.mark.parametrize(("version", "kept"), [("1.10.2", 3), ("1.11.0", 2)], ids=["input-and-result", "result-only"])
def test_softmax_kept_its_input_up_to_1_10(version: str, kept: int) -> None:
    with tonnage.virtual_gpu("V100", torch_version=version):
        x = torch.randn(512, 512, device="cuda", requires_grad=True)
        y = torch.softmax(x * 2, dim=-1)
        assert torch.cuda.memory_allocated() == kept * SCORES
        y.backward(y.detach())
        assert torch.cuda.memory_allocated() == 3 * SCORES  # x, its gradient and the result


def test_what_is_kept_under_autocast_is_the_input_in_fp16() -> None:
    with tonnage.virtual_gpu("V100", torch_version="1.10.2"), torch.autocast("cuda", dtype=torch.float16):
        x = torch.randn(512, 512, device="cuda", requires_grad=True)
        y = torch.log_softmax(x.half(), dim=-1)
        assert y.dtype is torch.float32
        assert torch.cuda.memory_allocated() == SCORES + SCORES // 2 + SCORES


def test_nothing_is_kept_without_a_gradient() -> None:
    with tonnage.virtual_gpu("V100", torch_version="1.10.2"), torch.no_grad():
        y = torch.softmax(torch.randn(512, 512, device="cuda"), dim=-1)
        assert torch.cuda.memory_allocated() == y.nbytes == SCORES
