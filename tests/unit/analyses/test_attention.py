"""Attention's scores, counted by hand: B = 2, heads = 4, 8 queries and keys, head size 16, so 512 scores."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

import tonnage
from tonnage.allocator import Settings
from tonnage.analyses.attention import Attention, account_attention
from tonnage.analyses.fit import replay_without_limit
from tonnage.analyses.memory import account_memory
from tonnage.ledger import Ledger
from tonnage.recording import Recording
from tonnage.trace import Op, Trace

B, HEADS, LENGTH, SIZE = 2, 4, 8, 16
SCORES = B * HEADS * LENGTH * LENGTH


class Eager(nn.Module):
    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = dropout

    def forward(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        weights = F.softmax(q @ k.transpose(-1, -2) / 4, dim=-1)
        return F.dropout(weights, self.dropout, training=True) @ v


class Fused(nn.Module):
    def forward(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return F.scaled_dot_product_attention(q, k, v)


def attention_of(
    module: nn.Module, *, dtype: torch.dtype = torch.float32, size: int = SIZE, train: bool = False, gpu: str = "A100"
) -> Attention | None:
    with tonnage.virtual_gpu(gpu) as device, torch.set_grad_enabled(train):
        q, k, v = (
            torch.randn(B, HEADS, LENGTH, size, device="cuda", dtype=dtype, requires_grad=train) for _ in range(3)
        )
        device.mark("start")
        out = module(q, k, v)
        if train:
            out.sum().backward()
    recording = device.recording
    return account_memory(recording, replay_without_limit(recording, Settings.parse(""))).attention


def test_scores_products_and_softmax() -> None:
    """The product, what it is scaled to, and the softmax of that: the second needs the first, the third the second."""
    found = attention_of(Eager())
    assert found is not None
    assert found.calls == {"eager": 1}
    assert found.most_scores_bytes == 2 * SCORES * 4


def test_training_keeps_the_softmax_dropout_and_its_mask() -> None:
    """Kept: softmax and dropout's result in fp32, its mask in a byte; backward of dropout adds a gradient, 13 bytes.

    Softmax's is more: its output and that one's gradient, the product of the two, and what comes out.
    """
    found = attention_of(Eager(0.5), train=True)
    assert found is not None
    assert found.most_scores_bytes == SCORES * 4 * 4


def test_values_of_the_shape_of_scores_are_none() -> None:
    """With heads as long as the sequence a copy of the values has their shape."""
    found = attention_of(Eager(), size=LENGTH)
    assert found is not None
    assert found.most_scores_bytes == 2 * SCORES * 4


@pytest.mark.parametrize(
    ("gpu", "dtype", "kernel"),
    [("A100", torch.float16, "flash"), ("A100", torch.float32, "memory-efficient"), ("H100", torch.float16, "cuDNN")],
    ids=["flash", "efficient", "cudnn"],
)
def test_fused_kernels_keep_none(gpu: str, dtype: torch.dtype, kernel: str) -> None:
    found = attention_of(Fused(), dtype=dtype, gpu=gpu, train=True)
    assert found == Attention(calls={kernel: 1}, scores_bytes=0, most_scores_bytes=0)


def test_the_math_path_says_so() -> None:
    with sdpa_kernel(SDPBackend.MATH):
        found = attention_of(Fused())
    assert found is not None
    assert found.calls == {"math": 1}
    assert found.most_scores_bytes >= 2 * SCORES * 4


def test_a_softmax_that_is_no_attention() -> None:
    class Classifier(nn.Module):
        def forward(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
            return F.softmax(q.flatten(1), dim=-1)

    assert attention_of(Classifier()) is None


def test_a_real_device_tells_no_shapes():
    trace = Trace(ops=[Op(name, 0, 1, (), ()) for name in ("aten.bmm.default", "aten._softmax.default")])
    ledger = Ledger()
    ledger.mark("start")
    environment = tonnage.weigh(Fused(), inputs=((torch.randn(B, HEADS, LENGTH, SIZE),) * 3, {})).environment
    assert account_attention(Recording(ledger, trace, environment), 0) is None
