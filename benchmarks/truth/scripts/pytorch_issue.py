"""Scripts in PyTorch issues and pull requests, with the bytes that their authors saw."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

import tonnage
from benchmarks.truth.rows import Predicted, Row, predicted

BEFORE_WORKSPACES = "1.13"
"""The cuBLAS workspace came into the allocator with 2.0; these rows are older."""


def two_linears(*, backward: bool) -> int:
    model = nn.Sequential(nn.Linear(1024, 1024, bias=False), nn.Linear(1024, 1024, bias=False)).cuda()
    x = torch.rand(4, 256, 1024).cuda()
    y = model(x).sum()
    if backward:
        y.backward()
    return torch.cuda.memory_allocated()


def one_linear() -> int:
    nn.Linear(1, 1, device="cuda")(torch.randn(1, 1, device="cuda"))
    torch.cuda.synchronize()
    return torch.cuda.memory_allocated()


def one_vector() -> int:
    t = torch.rand(400_000_000, device="cuda:0")  # noqa: F841
    return torch.cuda.memory_allocated()


def sorted_vector() -> int:
    torch.sort(torch.rand(400_000_000, device="cuda:0"))
    return torch.cuda.max_memory_allocated()


def four_matrices() -> int:
    z = [torch.ones((8192, 8192)).cuda() for _ in range(4)]
    del z
    return torch.cuda.max_memory_allocated()


SCRIPTS: dict[str, tuple[str, str, Callable[[], int]]] = {
    "pt-74443-a": ("V100", BEFORE_WORKSPACES, lambda: two_linears(backward=False)),
    "pt-74443-b": ("V100", BEFORE_WORKSPACES, lambda: two_linears(backward=True)),
    "pt-95668": ("A10G", "2.0.0", one_linear),
    "pt-77049-pre": ("A100", BEFORE_WORKSPACES, one_vector),
    "pt-77049-sort": ("A100", "1.11.0", sorted_vector),
    "pt-15985-a": ("V100", BEFORE_WORKSPACES, four_matrices),
}
"""Card, version and script; where an issue names no card, none of the sizes depends on it."""


def run(row: Row) -> Predicted:
    card, version, script = SCRIPTS[row.id]
    with tonnage.virtual_gpu(card, torch_version=version) as gpu:
        return predicted(gpu, allocated=script())
