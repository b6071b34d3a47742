"""pytorch_memlab's README: what its memory reporter printed under "Total Used Memory", parameters and all.

The README is of PyTorch 1.x and names no card. Followed is the newest version without a cuBLAS workspace in the
allocator; nothing else of these sizes depends on either.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

import tonnage
from benchmarks.truth.rows import Predicted, Row, predicted

CARD, TORCH = "GTX 1080 Ti", "1.13"


def linear() -> int:
    model = nn.Linear(1024, 1024).cuda()  # noqa: F841
    return torch.cuda.memory_allocated()


def linear_step(*, product: bool = False, backward: bool = False) -> int:
    model = nn.Linear(1024, 1024).cuda()
    inp = torch.Tensor(512, 1024).cuda()
    out = model(inp * (inp + 2)).mean() if product else model(inp).mean()
    if backward:
        out.backward()
    return torch.cuda.memory_allocated()


def lstm(*, backward: bool) -> int:
    model = nn.LSTM(1024, 1024).cuda()
    inp = torch.Tensor(10, 10, 1024).cuda()
    if backward:
        out, _ = model(inp)
        out.mean().backward()
    return torch.cuda.memory_allocated()


SCRIPTS: dict[str, Callable[[], int]] = {
    "memlab-linear1024": linear,
    "memlab-linear-fwd": linear_step,
    "memlab-linear-bwd": lambda: linear_step(backward=True),
    "memlab-mul-fwd": lambda: linear_step(product=True),
    "memlab-lstm-init": lambda: lstm(backward=False),
    "memlab-lstm-bwd": lambda: lstm(backward=True),
}


def run(row: Row) -> Predicted:
    with tonnage.virtual_gpu(CARD, torch_version=TORCH) as gpu:
        return predicted(gpu, allocated=SCRIPTS[row.id]())
