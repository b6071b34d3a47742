"""Peaks that Liger-Kernel published for PyTorch's own kernels.

The figures were stored as fp32 MiB, so above 16 GiB they are known to 2 KiB. The rows do not say which PyTorch ran:
taken is one of the days of the Liger-Kernel version that the notes name.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

import tonnage
from benchmarks.truth.rows import Predicted, Row, predicted

REPEATS = 10
TORCH = {"0.2.1": "2.4.0", "0.4.2": "2.5.1", "0.6.0": "2.8.0", "0.7.0": "2.10.0"}

Step = Callable[[], Any]


def cross_entropy(vocabulary: int) -> Step:
    x = torch.randn(16384, vocabulary, device="cuda", requires_grad=True)
    target = torch.randint(vocabulary, (16384,), device="cuda")
    loss = nn.CrossEntropyLoss()
    return lambda: loss(x, target).backward()


def fused_linear_cross_entropy(rows: int) -> Step:
    heads = [nn.Linear(4096, 128256, bias=False, dtype=torch.bfloat16).cuda() for _ in range(2)]
    x = torch.randn(rows, 4096, dtype=torch.bfloat16, device="cuda", requires_grad=True)
    target = torch.randint(128256, (rows,), device="cuda")
    return lambda: F.cross_entropy(heads[0](x), target).backward()


def norm(first: nn.Module, unused: nn.Module, *shape: int) -> Step:
    first, unused = first.cuda(), unused.cuda()
    x = torch.randn(*shape, device="cuda")
    gradient = torch.randn_like(x)
    x.requires_grad_(True)

    def step(_resident: nn.Module = unused) -> None:
        first(x).backward(gradient, retain_graph=True)

    return step


def layer_norm(width: int) -> Step:
    return norm(nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width), 4096, width)


def group_norm(channels: int) -> Step:
    make = nn.GroupNorm
    return norm(make(channels // 4, channels, eps=1e-6), make(channels // 4, channels, eps=1e-6), 128, channels, 512)


class GatedMlp(nn.Module):
    """transformers' LlamaMLP: down(silu(gate(x)) * up(x)), no biases."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(4096, 11008, bias=False)
        self.up = nn.Linear(4096, 11008, bias=False)
        self.down = nn.Linear(11008, 4096, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down(F.silu(self.gate(x)) * self.up(x))


def swiglu(length: int) -> Step:
    layer = GatedMlp().cuda().to(torch.bfloat16)
    x = torch.randn(4, length, 4096, device="cuda", dtype=torch.bfloat16, requires_grad=True)

    def step() -> None:
        y = layer(x)
        y.backward(torch.randn_like(y), retain_graph=True)

    return step


def kl_div(vocabulary: int) -> Step:
    x = torch.randn(16384, vocabulary, device="cuda", requires_grad=True).log_softmax(-1)
    target = torch.randn(16384, vocabulary, device="cuda").softmax(-1)
    loss = nn.KLDivLoss(reduction="batchmean")
    return lambda: loss(x, target).backward(retain_graph=True)


def tvd(vocabulary: int) -> Step:
    p = torch.randn(16384, vocabulary, device="cuda", requires_grad=True).softmax(-1)
    q = torch.randn(16384, vocabulary, device="cuda").softmax(-1)

    def step() -> None:
        loss = (torch.abs(p - q) / 2).sum() / p.size(0)
        loss.backward(retain_graph=True)

    return step


STEPS = {
    "cross_entropy": cross_entropy,
    "fused_linear_cross_entropy": fused_linear_cross_entropy,
    "layer_norm": layer_norm,
    "group_norm": group_norm,
    "swiglu": swiglu,
    "kl_div": kl_div,
    "tvd": tvd,
}
CARDS = {
    "NVIDIA A100-SXM4-80GB": "A100-SXM4-80GB",
    "NVIDIA H100 PCIe": "H100 PCIe",
    "NVIDIA H100 80GB HBM3": "H100",
    "NVIDIA B200": "B200",
}


def run(row: Row) -> Predicted:
    kind, size = row.id.split("-")[1], int(row["seq_or_resolution"].partition("=")[2])
    version = re.search(r"Liger-Kernel version ([\d.]+)", row["notes"])
    assert version is not None
    with tonnage.virtual_gpu(CARDS[row["gpu"]], torch_version=TORCH[version[1]]) as gpu:
        step = STEPS[kind](size)
        for _ in range(REPEATS):
            torch.cuda.reset_peak_memory_stats()
            step()
        return predicted(gpu, allocated=torch.cuda.max_memory_allocated())
