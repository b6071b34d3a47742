"""The zoo: models whose parameters and multiply-accumulates are derived by hand, each in the words of the truth."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tonnage.workload import libraries

Inputs = tuple[tuple[Any, ...], dict[str, Any]]
Subject = tuple[Callable[[], Any], Inputs | None]


def mlp(*sizes: int) -> nn.Module:
    first, hidden, last = sizes
    return nn.Sequential(nn.Flatten(), nn.Linear(first, hidden), nn.ReLU(), nn.Linear(hidden, last))


class Einsum(nn.Module):
    """Attention and MLP of raw parameters: 4 d*d for attention, 2 * 4 d*d for the MLP."""

    def __init__(self, d: int = 512, heads: int = 8) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Parameter(torch.empty(3, d, d))
        self.out = nn.Parameter(torch.empty(d, d))
        self.up = nn.Parameter(torch.empty(4 * d, d))
        self.down = nn.Parameter(torch.empty(4 * d, d))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = (torch.einsum("bsd,de->bse", x, w).unflatten(-1, (self.heads, -1)).transpose(1, 2) for w in self.qkv)
        scores = (q @ k.transpose(-2, -1)).softmax(-1)
        x = F.linear((scores @ v).transpose(1, 2).flatten(-2), self.out)
        return F.linear(x, self.up).relu() @ self.down


class Shared(nn.Module):
    """Embedding(1000, 256), one Linear(256, 256) called three times, head tied to the embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(1000, 256)
        self.layer = nn.Linear(256, 256)
        self.head = nn.Linear(256, 1000, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.embedding(ids)
        for _ in range(3):
            x = self.layer(x)
        return self.head(x)


def ids(seq: int = 128) -> torch.Tensor:
    return torch.zeros(1, seq, dtype=torch.int64)


def tokens(seq: int = 128, **more: Any) -> Inputs:
    return (), {"input_ids": ids(seq), **more}


SMALL_LLAMA = {
    "vocab_size": 32000,
    "hidden_size": 512,
    "intermediate_size": 1408,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
}
LLAMA_8B = {
    "vocab_size": 128256,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
}


@pytest.fixture(scope="session")
def subjects() -> dict[str, Subject]:
    """What makes each model of `tests/truth/zoo.json`, and its inputs (None: those that `weigh` makes)."""
    pytest.importorskip("transformers")
    T = libraries.load("transformers")
    return {
        "mlp": (lambda: mlp(784, 128, 10), ((torch.zeros(1, 784),), {})),
        "mha512": (lambda: nn.MultiheadAttention(512, 8, batch_first=True), ((torch.zeros(1, 128, 512),) * 3, {})),
        "enclayer": (
            lambda: nn.TransformerEncoderLayer(512, 8, batch_first=True),
            ((torch.zeros(1, 128, 512),), {}),
        ),
        "declayer": (
            lambda: nn.TransformerDecoderLayer(512, 8, batch_first=True),
            ((torch.zeros(1, 64, 512), torch.zeros(1, 128, 512)), {}),
        ),
        "einsum": (Einsum, ((torch.zeros(1, 128, 512),), {})),
        "shared": (Shared, ((ids(),), {})),
        "vgg16": (lambda: "torchvision:vgg16", None),
        "resnet50": (lambda: "torchvision:resnet50", None),
        "vit_b_16": (lambda: "torchvision:vit_b_16", None),
        "timm_vit_b16": (lambda: "timm:vit_base_patch16_224", None),
        "convnext_tiny": (lambda: "torchvision:convnext_tiny", None),
        "bert": (lambda: T.BertConfig(architectures=["BertModel"]), tokens()),
        "t5": (lambda: T.T5Config(architectures=["T5Model"]), tokens(decoder_input_ids=ids(64))),
        "t5cg": (
            lambda: T.T5Config(architectures=["T5ForConditionalGeneration"]),
            tokens(decoder_input_ids=ids(64)),
        ),
        "gpt2": (lambda: T.GPT2Config(architectures=["GPT2LMHeadModel"]), tokens(use_cache=False)),
        "llama_s": (lambda: T.LlamaConfig(architectures=["LlamaForCausalLM"], **SMALL_LLAMA), tokens(use_cache=False)),
        "llama8b": (lambda: T.LlamaConfig(architectures=["LlamaForCausalLM"], **LLAMA_8B), tokens(use_cache=False)),
        "mamba_s": (
            lambda: T.MambaConfig(
                architectures=["MambaForCausalLM"],
                vocab_size=32000,
                hidden_size=512,
                num_hidden_layers=4,
                state_size=16,
            ),
            tokens(64),
        ),
    }


@pytest.fixture(scope="session")
def counted() -> dict[str, Callable[[], Any]]:
    """What makes each model of the counts of `tests/truth/seed_tables.json`."""
    return {
        "t5-small": lambda: "t5-small",
        "vgg16": lambda: "torchvision:vgg16",
        "bert-base-uncased": lambda: "bert-base-uncased",
        "mlp_784_128_10": lambda: mlp(784, 128, 10),
        "mlp_3072_128_10": lambda: mlp(3072, 128, 10),
        "multihead_attention_512_8": lambda: nn.MultiheadAttention(512, 8),
        "feed_forward_512_2048": lambda: mlp(512, 2048, 512),
        "layer_norm_512": lambda: nn.LayerNorm(512),
        "transformer_encoder_layer_512_8": lambda: nn.TransformerEncoderLayer(512, 8),
        "transformer_decoder_layer_512_8": lambda: nn.TransformerDecoderLayer(512, 8),
    }
