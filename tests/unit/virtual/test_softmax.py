"""Softmax: what it reads, what autograd keeps of it by version, and what backward takes for itself."""

from __future__ import annotations

import pytest
import torch

import tonnage
from tonnage.virtual.gpu import VirtualGpu

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


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=["fp32", "fp16"])
def test_backward_multiplies_the_gradient_by_the_output_first(dtype: torch.dtype) -> None:
    """SoftMax.cu, softmax_backward_cuda_out: beside its result there is a product, for the length of the call."""
    with tonnage.virtual_gpu("A100") as gpu:
        scores = torch.zeros(4, 64, 256, device="cuda", dtype=dtype, requires_grad=True)
        weights = scores.softmax(-1)
        grad = torch.empty_like(weights)
        start = len(gpu.recording.ledger)
        weights.backward(grad)
        assert sizes(gpu, start) == [scores.nbytes, scores.nbytes, -scores.nbytes]


@pytest.mark.parametrize("asked", ["dtype", "autocast"])
def test_fp16_is_read_as_it_is_for_an_fp32_result(asked: str) -> None:
    """SoftMax.cpp: no cast before; backward takes an fp32 gradient, makes the fp16 one, and its product in fp32."""
    with tonnage.virtual_gpu("A100") as gpu:
        scores = torch.zeros(4, 64, 256, device="cuda", dtype=torch.float16, requires_grad=True)
        start = len(gpu.recording.ledger)
        if asked == "dtype":
            weights = scores.softmax(-1, dtype=torch.float32)
        else:
            with torch.autocast("cuda", dtype=torch.float16):
                weights = scores.softmax(-1)
        assert weights.dtype is torch.float32
        grad = torch.empty_like(weights)
        weights.backward(grad)
        single = weights.nbytes
        assert sizes(gpu, start) == [single, single, scores.nbytes, single, -single]


def test_bf16_is_cast_before() -> None:
    with tonnage.virtual_gpu("A100") as gpu, torch.no_grad():
        scores = torch.zeros(4, 64, 256, device="cuda", dtype=torch.bfloat16)
        start = len(gpu.recording.ledger)
        weights = scores.softmax(-1, dtype=torch.float32)
        assert sizes(gpu, start) == [weights.nbytes, weights.nbytes, -weights.nbytes]


def test_backward_of_log_softmax_has_no_product() -> None:
    with tonnage.virtual_gpu("A100") as gpu:
        scores = torch.zeros(4, 64, 256, device="cuda", requires_grad=True)
        logs = scores.log_softmax(-1)
        grad = torch.empty_like(logs)
        start = len(gpu.recording.ledger)
        logs.backward(grad)
        assert sizes(gpu, start) == [scores.nbytes]


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_a_transposed_input_is_copied(name: str) -> None:
    with tonnage.virtual_gpu("A100") as gpu:
        x = torch.zeros(4, 64, 64, device="cuda").transpose(-1, -2)
        start = len(gpu.recording.ledger)
        result = getattr(x, name)(-1)
        assert sizes(gpu, start) == [result.nbytes, result.nbytes, -result.nbytes]


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_an_expanded_gradient_is_made_dense_once(name: str) -> None:
    """The product of the softmax is dense, so nothing is copied besides; the gradient of the logarithm is copied."""
    with tonnage.virtual_gpu("A100") as gpu:
        x = torch.zeros(4, 64, 64, device="cuda", requires_grad=True)
        total = getattr(x, name)(-1).sum()
        start = len(gpu.recording.ledger)
        total.backward()
        assert sizes(gpu, start).count(x.nbytes) == 2


def sizes(gpu: VirtualGpu, start: int) -> list[int]:
    """What was taken, and with a minus given back, from event `start` on."""
    ledger = gpu.recording.ledger
    return [(1 if kind.name == "ALLOC" else -1) * ledger.sizes[n] for kind, n in list(ledger.events())[start:]]
