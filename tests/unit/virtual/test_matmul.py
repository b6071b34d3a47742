"""Matrix products: operands that must be copied, and the workspaces of cuBLAS and cuBLASLt."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import tonnage
from tonnage.ledger import Category

KiB, MiB = 2**10, 2**20
EACH = 8_519_680
"""pytorch#95668: 2.0 prints 8519680 after one linear layer's forward, which is 2 x 4096 KiB + 8 x 16 KiB."""


def workspaces(gpu, start: int = 0) -> list[int]:
    ledger = gpu.recording.ledger
    return [ledger.sizes[i] for i in range(start, len(ledger.sizes)) if ledger.categories[i] == Category.WORKSPACE]


def living(gpu) -> list[int]:
    ledger = gpu.recording.ledger
    return [ledger.sizes[i] for i in ledger.live() if ledger.categories[i] == Category.WORKSPACE]


def test_the_first_product_takes_a_workspace_that_stays():
    with tonnage.virtual_gpu("RTX 3060") as gpu:
        a = torch.zeros(16, 16, device="cuda")
        b = a @ a
        assert living(gpu) == [EACH]
        b = b @ a
        del a, b
        assert living(gpu) == [EACH]
        assert torch.cuda.memory_allocated() == EACH


def test_backward_runs_in_a_thread_with_a_handle_of_its_own():
    with tonnage.virtual_gpu("RTX 3060") as gpu:
        weight = torch.zeros(16, 16, device="cuda", requires_grad=True)
        (weight @ weight).sum().backward()
        assert living(gpu) == [EACH, EACH]


def test_each_stream_has_its_own():
    with tonnage.virtual_gpu("RTX 3060") as gpu:
        a = torch.zeros(16, 16, device="cuda")
        a @ a
        with torch.cuda.stream(torch.cuda.Stream()):
            a @ a
            a @ a
        assert living(gpu) == [EACH, EACH]


def test_what_is_not_a_product_takes_none():
    with tonnage.virtual_gpu("RTX 3060") as gpu:
        torch.zeros(16, 16, device="cuda").exp().sum()
        assert workspaces(gpu) == []


def test_products_on_the_host_take_none():
    with tonnage.virtual_gpu("RTX 3060") as gpu:
        torch.zeros(4, 4) @ torch.zeros(4, 4)
        with gpu.host():
            torch.zeros(512, 512) @ torch.zeros(512, 512)
        assert workspaces(gpu) == []


def test_workspaces_can_be_cleared():
    with tonnage.virtual_gpu("RTX 3060") as gpu:
        a = torch.zeros(16, 16, device="cuda")
        a @ a
        torch._C._cuda_clearCublasWorkspaces()
        assert living(gpu) == []
        a @ a
        assert living(gpu) == [EACH]


@pytest.mark.parametrize(
    ("version", "persists", "for_the_call"),
    [("2.6.0", 0, 1), ("2.8.0", 0, 1), ("2.9.1", 1, 0), ("2.10.0", 1, 0), ("2.11.0", 0, 0), ("2.13.0", 0, 0)],
)
def test_a_bias_is_fused_by_cublaslt_with_a_workspace_by_version(version, persists, for_the_call):
    with tonnage.virtual_gpu("RTX 3060", torch_version=version) as gpu:
        layer = nn.Linear(16, 16, device="cuda")
        x = torch.zeros(4, 16, device="cuda")
        layer(x)
        layer(x)
        assert sorted(living(gpu)) == sorted([EACH] + [MiB] * persists)
        assert workspaces(gpu).count(MiB) == persists + 2 * for_the_call


def test_a_layer_without_bias_does_not_use_cublaslt():
    with tonnage.virtual_gpu("RTX 3060", torch_version="2.8.0") as gpu:
        nn.Linear(16, 16, bias=False, device="cuda")(torch.zeros(4, 16, device="cuda"))
        assert workspaces(gpu) == [EACH]


@pytest.mark.parametrize(("version", "asked"), [("2.8.0", True), ("2.9.1", True), ("2.10.0", False)])
def test_one_row_is_kept_from_cublaslt_since_2_10(version, asked):
    with tonnage.virtual_gpu("RTX 3060", torch_version=version) as gpu:
        nn.Linear(16, 16, device="cuda")(torch.zeros(1, 16, device="cuda"))
        assert (MiB in workspaces(gpu)) is asked


def test_one_output_is_always_kept_from_cublaslt():
    with tonnage.virtual_gpu("RTX 3060", torch_version="2.8.0") as gpu:
        nn.Linear(16, 1, device="cuda")(torch.zeros(4, 16, device="cuda"))
        assert workspaces(gpu) == [EACH]


def test_a_gradient_expanded_from_one_number_is_copied():
    """`y.sum().backward()`: strides (0, 0). Two products read it, so 4 x 8 fp32 numbers are copied twice."""
    with tonnage.virtual_gpu("RTX 3060") as gpu:
        layer = nn.Linear(16, 8, bias=False, device="cuda")
        x = torch.zeros(4, 16, device="cuda", requires_grad=True)
        loss = layer(x).sum()
        start = len(gpu.recording.ledger.sizes)
        loss.backward()
        assert [n for n in workspaces(gpu, start) if n != EACH] == [128, 128]


LAYOUTS = {
    "rows": (lambda: torch.zeros(32, 48), 0),
    "transposed": (lambda: torch.zeros(48, 32).t(), 0),
    "wider rows": (lambda: torch.zeros(32, 96)[:, :48], 0),
    "every other column": (lambda: torch.zeros(32, 96)[:, ::2], 32 * 48 * 4),
    "expanded rows": (lambda: torch.zeros(1, 48).expand(32, 48), 32 * 48 * 4),
    "one row of a larger step": (lambda: torch.zeros(4, 48)[::4], 0),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_blas_reads_rows_or_columns_that_do_not_overlap(name):
    make, copied = LAYOUTS[name]
    with tonnage.virtual_gpu("RTX 3060") as gpu, torch.device("cuda"):
        left = make()
        left @ torch.zeros(48, 16)
        assert [n for n in workspaces(gpu) if n != EACH] == [copied] * bool(copied)


def test_a_batch_is_copied_whole():
    with tonnage.virtual_gpu("RTX 3060") as gpu, torch.device("cuda"):
        torch.bmm(torch.zeros(2, 4, 16)[:, :, ::2], torch.zeros(2, 8, 4))
        assert workspaces(gpu) == [2 * 4 * 8 * 4, EACH]


def test_a_batch_of_one_matrix_repeated_is_read_where_it_lies():
    with tonnage.virtual_gpu("RTX 3060") as gpu, torch.device("cuda"):
        torch.bmm(torch.zeros(2, 4, 8), torch.zeros(1, 8, 4).expand(2, 8, 4))
        assert workspaces(gpu) == [EACH]


def test_a_vector_repeated_from_one_number_is_copied():
    with tonnage.virtual_gpu("RTX 3060") as gpu, torch.device("cuda"):
        torch.mv(torch.zeros(8, 4), torch.zeros(1).expand(4))
        assert workspaces(gpu) == [16, EACH]


def test_the_output_is_made_before_copies_and_workspace():
    with tonnage.virtual_gpu("RTX 3060") as gpu, torch.device("cuda"):
        left, right = torch.zeros(32, 96)[:, ::2], torch.zeros(48, 16)
        start = len(gpu.recording.ledger.sizes)
        out = left @ right
        assert list(gpu.recording.ledger.sizes)[start:] == [out.numel() * 4, 32 * 48 * 4, EACH]
