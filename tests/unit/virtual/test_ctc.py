"""The CTC loss: alpha is kept, backward makes beta and, for large problems, works on whole tensors."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

import tonnage

STEPS, BATCH, LABELS, LONGEST = 50, 16, 20, 10
PLACES = 2 * LONGEST + 1
LENGTHS = [8 * BATCH] * 3


def lengths(value: int, device: str = "cpu") -> torch.Tensor:
    return torch.full((BATCH,), value, dtype=torch.int64, device=device)


def traffic(gpu, run) -> list[int]:
    start = len(gpu.recording.ledger)
    gpu.kept = run()
    ledger = gpu.recording.ledger
    return [(1 if kind.name == "ALLOC" else -1) * ledger.sizes[n] for kind, n in list(ledger.events())[start:]]


def loss(steps: int = STEPS, device: str = "cpu", **options):
    log_probs = torch.zeros(steps, BATCH, LABELS, device="cuda", requires_grad=True)
    targets = torch.ones(BATCH, LONGEST, dtype=torch.int64, device="cuda")
    return F.ctc_loss(log_probs, targets, lengths(steps, device), lengths(LONGEST, device), reduction="none", **options)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_loss_and_alpha_for_each_step_and_place(device):
    """Two lengths and an offset go to the card and are let go; log_alpha is 16 x 50 x 21 fp32 numbers."""
    loss_and_alpha = [4 * BATCH, 4 * BATCH * STEPS * PLACES]
    with tonnage.virtual_gpu("A100") as gpu:
        found = traffic(gpu, lambda: loss(device=device))
    taken = [*LENGTHS, *loss_and_alpha, *(-n for n in LENGTHS)]
    at = found.index(loss_and_alpha[1]) - 4
    assert found[at : at + 8] == taken


def test_backward_makes_beta_and_the_gradient():
    alpha, grad = 4 * BATCH * STEPS * PLACES, 4 * STEPS * BATCH * LABELS
    with tonnage.virtual_gpu("A100") as gpu:
        out = loss()
        ones = torch.ones_like(out)
        found = traffic(gpu, lambda: out.backward(ones))
    assert found[:5] == [*LENGTHS, alpha, grad]
    assert found[5:9] == [-alpha, *(-n for n in LENGTHS)]


def test_a_large_problem_sums_over_whole_tensors():
    """2 x 300 + 2.4 x 16 + 0.2 x 20 is above 450: the blanks' places of alpha and beta, summed; the result of logsumexp
    and its maxima, one for each step; what lies above the maxima."""
    steps = 300
    blanks, each = 4 * BATCH * steps * (LONGEST + 1), 4 * BATCH * steps
    with tonnage.virtual_gpu("A100") as gpu:
        out = loss(steps)
        ones = torch.ones_like(out)
        found = traffic(gpu, lambda: out.backward(ones))
    assert found[5:13] == [blanks, each, each, blanks, -blanks, -each, -each, -blanks]


def test_infinite_losses_take_another_gradient():
    steps = 300
    grad = 4 * steps * BATCH * LABELS
    with tonnage.virtual_gpu("A100") as gpu:
        out = loss(steps, zero_infinity=True)
        before = gpu.memory_allocated()
        gpu.reset_peak_memory_stats()
        out.backward(torch.ones_like(out))
        assert gpu.max_memory_allocated() - before >= 2 * grad


def test_unknown_lengths_are_the_longest_and_said():
    with tonnage.virtual_gpu("A100") as gpu:
        log_probs = torch.zeros(STEPS, BATCH, LABELS, device="cuda")
        targets = torch.ones(BATCH, LONGEST, dtype=torch.int64, device="cuda")
        unknown = torch.rand(1000, BATCH, device="cuda").sum(0).long()
        found = traffic(gpu, lambda: F.ctc_loss(log_probs, targets, unknown, unknown))
        assumed = [a.what for a in gpu.recording.assumptions]
    assert 4 * BATCH * STEPS * PLACES in found
    assert assumed == ["lengths of a CTC loss are unknown: all are taken to be as long as can be"]


def test_what_cudnn_would_run_is_listed():
    with tonnage.virtual_gpu("A100") as gpu:
        log_probs = torch.zeros(STEPS, BATCH, LABELS, device="cuda")
        targets = torch.ones(BATCH * LONGEST, dtype=torch.int32, device="cuda")
        F.ctc_loss(log_probs, targets, lengths(STEPS), lengths(LONGEST))
    assert [entry.what for entry in gpu.recording.not_counted] == ["cuDNN's CTC loss"]


def test_on_the_host_the_loss_is_a_number():
    with tonnage.virtual_gpu("A100"):
        log_probs = torch.zeros(STEPS, BATCH, LABELS).log_softmax(-1)
        value = F.ctc_loss(log_probs, torch.ones(BATCH, LONGEST, dtype=torch.int64), lengths(STEPS), lengths(LONGEST))
    assert value.item() > 0
