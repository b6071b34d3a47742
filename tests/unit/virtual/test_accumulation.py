"""Gradients that meet: added in place where the buffer alone owns the first, into a third tensor elsewhere."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import tonnage
from tonnage.units import MiB

SIDE = 1024
EACH = SIDE * SIDE * 4


def zeros(**options) -> torch.Tensor:
    return torch.zeros(SIDE, SIDE, device="cuda", **options)


def peak_over(run) -> int:
    """Bytes above the present that `run` reaches."""
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    run()
    return torch.cuda.max_memory_allocated() - before


def test_two_gradients_of_one_tensor_are_added_in_place():
    """x.exp() used by two sigmoids: at most the two gradients that meet, besides the one of x and small change."""
    with tonnage.virtual_gpu("A100") as gpu:
        x = zeros(requires_grad=True)
        middle = x.exp()
        loss = (middle.sigmoid() + middle.tanh()).sum()
        del middle
        loss.backward()
        names = [op.name for op in gpu.recording.trace.ops if op.phase == 2]
    assert "aten.add_.Tensor" in names
    assert "aten.add.Tensor" not in names


def test_a_gradient_that_someone_else_holds_is_left_as_it_is():
    with tonnage.virtual_gpu("A100") as gpu:
        x = zeros(requires_grad=True)
        middle, held = x.exp(), []
        left, right = middle.sigmoid(), middle.tanh()
        for output in (left, right):
            output.grad_fn.register_hook(lambda inputs, outputs: held.append(inputs[0]))
        (left + right).sum().backward()
        names = [op.name for op in gpu.recording.trace.ops if op.phase == 2]
    assert len(held) == 2
    assert "aten.add.Tensor" in names
    assert "aten.add_.Tensor" not in names


def test_create_graph_adds_out_of_place():
    with tonnage.virtual_gpu("A100") as gpu:
        x = zeros(requires_grad=True)
        middle = x.exp()
        torch.autograd.grad((middle.sigmoid() + middle.tanh()).sum(), x, create_graph=True)
        names = [op.name for op in gpu.recording.trace.ops if op.phase == 2]
    assert "aten.add_.Tensor" not in names


def test_a_residual_needs_no_third_tensor():
    """Backward of x + f(x) into a leaf: the gradient of the sum, of f, and no sum of the two beside them."""
    with tonnage.virtual_gpu("A100"):
        x = zeros(requires_grad=True)
        loss = (x.exp() * 1.0 + x.sin()).sum()
        grad_peak = peak_over(loss.backward)
        assert x.grad is not None
    assert grad_peak <= 3 * EACH + MiB


def test_a_second_backward_adds_into_the_gradient_that_is_there():
    with tonnage.virtual_gpu("A100"):
        layer = nn.Linear(SIDE, SIDE, bias=False, device="cuda")
        x = torch.zeros(4, SIDE, device="cuda")
        layer(x).sum().backward()
        first = layer.weight.grad
        second = layer(x).sum()
        before = torch.cuda.memory_allocated()
        second.backward()
        assert layer.weight.grad is first
        del second
        assert torch.cuda.memory_allocated() <= before


def test_tied_weights_meet_in_one_gradient():
    with tonnage.virtual_gpu("A100") as gpu:
        table = nn.Embedding(SIDE, SIDE, device="cuda")
        head = nn.Linear(SIDE, SIDE, bias=False, device="cuda")
        head.weight = table.weight
        ids = torch.zeros(8, dtype=torch.int64, device="cuda")
        loss = head(table(ids)).sum()
        peak = peak_over(loss.backward)
        workspace = gpu.rules.cublas_workspace
        assert table.weight.grad is head.weight.grad
    assert 2 * EACH <= peak - workspace < 3 * EACH


def test_retain_graph_keeps_what_was_saved():
    with tonnage.virtual_gpu("A100"):
        x = zeros(requires_grad=True)
        loss = x.exp().sum()
        before = torch.cuda.memory_allocated()
        loss.backward(retain_graph=True)
        assert torch.cuda.memory_allocated() == before + EACH
        loss.backward()
        assert torch.cuda.memory_allocated() == before  # the gradient is there, the saved result has gone


INTO_ZEROS = {
    "index": lambda x, i: x[i],
    "gather": lambda x, i: x.gather(1, i[None]),
    "index_select": lambda x, i: x.index_select(0, i),
    "max": lambda x, i: x.max(0).values,
    "topk": lambda x, i: x.topk(3).values,
}


@pytest.mark.parametrize("name", INTO_ZEROS)
def test_the_gradient_of_a_choice_is_written_into_zeros(name: str) -> None:
    with tonnage.virtual_gpu("A100") as gpu:
        # GIVEN 8 MiB of which a few elements are chosen
        x = torch.randn(1024, 2048, device="cuda", requires_grad=True)
        chosen = INTO_ZEROS[name](x, torch.arange(8, device="cuda")).sum()
        before = gpu.memory_allocated()
        gpu.reset_peak_memory_stats()
        chosen.backward()
        # THEN backward made one tensor of that size, which is the gradient, and some small ones
        assert 8 * MiB <= gpu.max_memory_allocated() - before < 9 * MiB
        assert x.grad.shape == x.shape


def test_what_a_function_of_the_users_writes_is_not_in_place() -> None:
    class Choice(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x[0]

        @staticmethod
        def backward(ctx, grad):
            zeros = torch.zeros(1024, 2048, device="cuda")
            return zeros.index_add(0, torch.zeros(1, dtype=torch.int64, device="cuda"), grad[None])

    with tonnage.virtual_gpu("A100") as gpu:
        x = torch.randn(1024, 2048, device="cuda", requires_grad=True)
        chosen = Choice.apply(x).sum()
        before = gpu.memory_allocated()
        gpu.reset_peak_memory_stats()
        chosen.backward()
        assert gpu.max_memory_allocated() - before >= 16 * MiB
