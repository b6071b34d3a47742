"""The models of tests/truth/zoo.json, built plainly as any of the tools would be given them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from tonnage.workload.libraries import load


class Subject(NamedTuple):
    """A model in eval mode and what it is called with."""

    model: nn.Module
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class Einsum(nn.Module):
    """Attention and MLP of raw parameters, through einsum, F.linear and @."""

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
    """One layer called three times, head tied to the embedding."""

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


def mlp() -> Subject:
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10))
    return Subject(model, (torch.zeros(1, 784),), {})


def sequence(length: int = 128) -> torch.Tensor:
    return torch.zeros(1, length, 512)


def ids(length: int = 128) -> torch.Tensor:
    return torch.zeros(1, length, dtype=torch.int64)


def vision(name: str) -> Callable[[], Subject]:
    return lambda: Subject(getattr(load("torchvision").models, name)(), (torch.zeros(1, 3, 224, 224),), {})


def timm_vit() -> Subject:
    return Subject(load("timm").create_model("vit_base_patch16_224"), (torch.zeros(1, 3, 224, 224),), {})


def text(model: str, config: str, length: int = 128, target: int = 0, **sizes: Any) -> Callable[[], Subject]:
    """A model of transformers with random weights."""

    def build() -> Subject:
        transformers = load("transformers")
        built = getattr(transformers, model)(getattr(transformers, config)(**sizes))
        decoder = {"decoder_input_ids": ids(target)} if target else {}
        return Subject(built, (), {"input_ids": ids(length), **decoder})

    return build


LLAMA_SMALL = {
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
MAMBA_SMALL = {"vocab_size": 32000, "hidden_size": 512, "num_hidden_layers": 4, "state_size": 16}

BUILDERS: dict[str, Callable[[], Subject]] = {
    "mlp": mlp,
    "mha512": lambda: Subject(nn.MultiheadAttention(512, 8, batch_first=True), (sequence(),) * 3, {}),
    "enclayer": lambda: Subject(nn.TransformerEncoderLayer(512, 8, batch_first=True), (sequence(),), {}),
    "declayer": lambda: Subject(
        nn.TransformerDecoderLayer(512, 8, batch_first=True), (sequence(64), sequence(128)), {}
    ),
    "einsum": lambda: Subject(Einsum(), (sequence(),), {}),
    "shared": lambda: Subject(Shared(), (ids(),), {}),
    "vgg16": vision("vgg16"),
    "resnet50": vision("resnet50"),
    "vit_b_16": vision("vit_b_16"),
    "timm_vit_b16": timm_vit,
    "convnext_tiny": vision("convnext_tiny"),
    "bert": text("BertModel", "BertConfig"),
    "t5": text("T5Model", "T5Config", target=64, use_cache=False),
    "t5cg": text("T5ForConditionalGeneration", "T5Config", target=64, use_cache=False),
    "gpt2": text("GPT2LMHeadModel", "GPT2Config", use_cache=False),
    "llama_s": text("LlamaForCausalLM", "LlamaConfig", use_cache=False, **LLAMA_SMALL),
    "llama8b": text("LlamaForCausalLM", "LlamaConfig", use_cache=False, **LLAMA_8B),
    "mamba_s": text("MambaForCausalLM", "MambaConfig", length=64, use_cache=False, **MAMBA_SMALL),
}


def build(name: str, device: str) -> Subject:
    """The model `name` of the zoo and its inputs, made on `device`."""
    with torch.device(device):
        subject = BUILDERS[name]()
    subject.model.eval()
    return subject
