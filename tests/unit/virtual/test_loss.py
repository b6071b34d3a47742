"""Losses: made whole before they are reduced, held against what the CPU's allocator saw of the same code."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch.profiler import ProfilerActivity, profile

import tonnage

ROWS, COLUMNS = 64, 1024
WHOLE = ROWS * COLUMNS * 4
SMALL = 64
"""Bytes of the few numbers by which a CPU's mean differs from a card's."""

LOSSES: dict[str, Callable[..., torch.Tensor]] = {
    "mse": F.mse_loss,
    "smooth_l1": F.smooth_l1_loss,
    "huber": F.huber_loss,
    "l1": F.l1_loss,
    "soft_margin": F.soft_margin_loss,
    "bce": lambda x, y, **options: F.binary_cross_entropy(x.sigmoid(), y, **options),
    "kl_div": F.kl_div,
    "poisson": F.poisson_nll_loss,
}


def inputs(device: str) -> list[torch.Tensor]:
    return [torch.rand(ROWS, COLUMNS, device=device).requires_grad_(), torch.rand(ROWS, COLUMNS, device=device)]


def on_cpu(run: Callable[[], object]) -> tuple[int, int]:
    """Bytes that stay after `run`, and the most above what was there, as torch.profiler saw them."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        kept = run()
    events = [e for e in seen.profiler.kineto_results.events() if e.name() == "[memory]"]
    now = peak = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    del kept
    return now, peak


def on_card(gpu, run: Callable[[], object]) -> tuple[int, int]:
    """The same of the requests to the card's allocator."""
    ledger = gpu.recording.ledger
    start, now, peak = len(ledger), 0, 0
    kept = run()
    for kind, number in list(ledger.events())[start:]:
        now += ledger.sizes[number] * {"ALLOC": 1, "FREE": -1}[kind.name]
        peak = max(peak, now)
    del kept
    return now, peak


@pytest.mark.filterwarnings("ignore:reduction. 'mean' divides")
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("name", LOSSES)
def test_forward_takes_and_keeps_what_it_does_on_a_cpu(name, reduction):
    loss = LOSSES[name]
    x, y = inputs("cpu")
    loss(x, y, reduction=reduction)
    expected = on_cpu(lambda: loss(x, y, reduction=reduction))
    with tonnage.virtual_gpu("A100") as gpu:
        x, y = inputs("cuda")
        found = on_card(gpu, lambda: loss(x, y, reduction=reduction))
    assert found == pytest.approx(expected, abs=SMALL)


@pytest.mark.parametrize("name", ["mse", "smooth_l1", "soft_margin", "bce"])
def test_a_loss_that_is_resized_keeps_the_memory_of_all(name):
    """`torch.nn.functional.mse_loss(x, y).untyped_storage().nbytes()` is that of x, on every device."""
    with tonnage.virtual_gpu("A100"):
        value = LOSSES[name](*inputs("cuda"))
        assert value.shape == ()
        assert value.untyped_storage().nbytes() == WHOLE
    real = LOSSES[name](*inputs("cpu"))
    assert real.untyped_storage().nbytes() == WHOLE


def test_a_sum_of_squares_is_made_beside_its_output():
    """The output as large as the input, the squares, and the number and semaphore of the reduction's blocks."""
    with tonnage.virtual_gpu("A100") as gpu:
        x, y = (t.detach() for t in inputs("cuda"))
        start = len(gpu.recording.ledger.sizes)
        kept = F.mse_loss(x, y)
        assert list(gpu.recording.ledger.sizes[start:])[:2] == [WHOLE, WHOLE]
        assert kept.item() is not None


def test_log_sigmoid_keeps_no_buffer():
    """On CUDA only its input is kept for backward; a CPU keeps a buffer of that size."""
    with tonnage.virtual_gpu("A100") as gpu:
        x, _ = inputs("cuda")
        assert on_card(gpu, lambda: F.logsigmoid(x)) == (WHOLE, WHOLE)


def test_bce_with_logits_is_made_of_its_parts():
    """The logarithm of the sigmoid and 1 - target, which becomes the loss: two at once, and none is kept."""
    with tonnage.virtual_gpu("A100") as gpu:
        x, y = inputs("cuda")
        kept, peak = on_card(gpu, lambda: F.binary_cross_entropy_with_logits(x, y))
        names = {op.name for op in gpu.recording.trace.ops}
    assert kept == 4
    assert 2 * WHOLE <= peak <= 2 * WHOLE + 4096
    assert "aten.log_sigmoid_forward.default" in names


def test_half_precision_targets_of_another_type_make_a_loss_of_the_wider():
    with tonnage.virtual_gpu("A100"):
        x, y = inputs("cuda")
        value = F.mse_loss(x.half(), y)
        assert value.dtype is torch.float32
        assert value.untyped_storage().nbytes() == WHOLE


def test_margin_losses_have_a_gradient():
    with tonnage.virtual_gpu("A100"):
        x, _ = inputs("cuda")
        labels = torch.zeros(ROWS, dtype=torch.int64, device="cuda")
        F.multi_margin_loss(x, labels).backward()
        assert x.grad.shape == (ROWS, COLUMNS)


def test_distances_pad_and_multiply():
    """_euclidean_dist of 256 and 128 points of 64: each with two columns more, and the norms they are made of."""
    with tonnage.virtual_gpu("A100") as gpu:
        a, b = torch.zeros(256, 64, device="cuda"), torch.zeros(128, 64, device="cuda")
        torch.cdist(a, b)
        sizes = list(gpu.recording.ledger.sizes)
    assert sizes.count(256 * 66 * 4) == sizes.count(128 * 66 * 4) == 1
