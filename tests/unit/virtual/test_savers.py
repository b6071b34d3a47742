"""What people do to save memory in training, in matrices of one size counted by hand."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import nn
from torch.autograd.graph import save_on_cpu, saved_tensors_hooks

import tonnage

SIDE = 512
EACH = SIDE * SIDE * 4


@pytest.fixture(autouse=True)
def card() -> Iterator[tonnage.VirtualGpu]:
    with tonnage.virtual_gpu("A100") as gpu:
        yield gpu


def matrix(**options) -> torch.Tensor:
    return torch.zeros(SIDE, SIDE, device="cuda", **options)


def matrices(nbytes: int) -> int:
    """How many matrices; a few scalars may be beside them."""
    count, rest = divmod(nbytes, EACH)
    assert rest <= 8 * 512
    return count


def sines(x: torch.Tensor, count: int) -> torch.Tensor:
    for _ in range(count):
        x = torch.sin(x)  # keeps its input
    return x


def test_what_a_chain_keeps_without_any_saving():
    y = sines(matrix(requires_grad=True), 5)  # noqa: F841
    assert matrices(torch.cuda.memory_allocated()) == 6


def test_activations_on_the_host_leave_the_card():
    x = matrix(requires_grad=True)
    with save_on_cpu(pin_memory=True):
        y = sines(x, 5)
    assert matrices(torch.cuda.memory_allocated()) == 2
    torch.cuda.reset_peak_memory_stats()
    y.backward(y.detach())
    # x, y, and in each step the gradient that comes, what is fetched, its cosine, and the gradient that goes
    assert matrices(torch.cuda.max_memory_allocated()) == 6
    assert matrices(torch.cuda.memory_allocated()) == 3


def test_hooks_decide_what_is_kept():
    """Halves are kept instead: of the input of each of the four sines, x among them."""
    x = matrix(requires_grad=True)
    with saved_tensors_hooks(lambda t: t.half(), lambda t: t.float()):
        y = sines(x, 4)
    assert torch.cuda.memory_allocated() == 2 * EACH + 4 * (EACH // 2)
    y.backward(y.detach())
    assert x.grad is not None


@pytest.mark.parametrize("in_backward", [False, True], ids=["after", "in-backward"])
def test_an_optimizer_in_backward_holds_one_gradient_at_a_time(in_backward: bool):
    weights = [nn.Parameter(matrix()) for _ in range(4)]
    steps = {p: torch.optim.SGD([p], lr=0.1, foreach=False) for p in weights}

    def step(p: torch.Tensor) -> None:
        steps[p].step()
        steps[p].zero_grad()

    if in_backward:
        for p in weights:
            p.register_post_accumulate_grad_hook(step)
    loss = torch.stack([p.sum() for p in weights]).sum()
    torch.cuda.reset_peak_memory_stats()
    loss.backward()
    assert matrices(torch.cuda.max_memory_allocated()) == (5 if in_backward else 8)
    assert matrices(torch.cuda.memory_allocated()) == (4 if in_backward else 8)
