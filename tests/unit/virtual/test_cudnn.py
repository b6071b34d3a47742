"""What cuDNN takes for itself is listed, never a silent zero."""

from __future__ import annotations

import torch
from torch import nn

import tonnage


def not_counted(gpu) -> list[str]:
    return [missing.what for missing in gpu.recording.not_counted]


def test_benchmarking_lists_its_trials() -> None:
    with tonnage.virtual_gpu("A100", cudnn_benchmark=True) as gpu:
        nn.Conv2d(3, 8, 3).cuda()(torch.randn(1, 3, 8, 8, device="cuda"))
    assert not_counted(gpu) == ["cuDNN's convolution workspaces beyond copies", "cudnn.benchmark's trials"]


def test_nothing_is_listed_for_the_host_or_for_a_linear_layer() -> None:
    with tonnage.virtual_gpu("A100") as gpu:
        nn.Conv2d(3, 8, 3)(torch.randn(1, 3, 8, 8))
        nn.LSTM(8, 8)(torch.randn(5, 2, 8))
        nn.Linear(8, 8).cuda()(torch.randn(2, 8, device="cuda"))
    assert not_counted(gpu) == []


def test_attention_by_cudnn_lists_its_workspace() -> None:
    with tonnage.virtual_gpu("H100", torch_version="2.13.0") as gpu:
        q = torch.randn(1, 2, 128, 64, device="cuda", dtype=torch.bfloat16)
        nn.functional.scaled_dot_product_attention(q, q, q)
    assert not_counted(gpu) == ["cuDNN's attention workspaces"]
