"""GPT-2 as of transformers 4.42 (models/gpt2/modeling_gpt2.py): the first with sdpa, for training with a cache."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Config(NamedTuple):
    """The sizes of gpt2-large."""

    vocabulary: int = 50257
    width: int = 1280
    layers: int = 36
    heads: int = 20
    positions: int = 1024
    dropout: float = 0.1


GPT2_LARGE = Config()


class Output(NamedTuple):
    logits: Tensor
    past_key_values: tuple[tuple[Tensor, Tensor], ...]


class Conv1D(nn.Module):
    """transformers/pytorch_utils.py: a linear layer with its weight the other way."""

    def __init__(self, outputs: int, inputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(inputs, outputs))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        return torch.addmm(self.bias, x.view(-1, x.size(-1)), self.weight).view(*x.shape[:-1], -1)


def new_gelu(x: Tensor) -> Tensor:
    return 0.5 * x * (1.0 + torch.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * torch.pow(x, 3.0))))


class Attention(nn.Module):
    bias: Tensor

    def __init__(self, config: Config, kind: str) -> None:
        super().__init__()
        self.kind, self.heads = kind, config.heads
        side = config.positions
        self.register_buffer("bias", torch.tril(torch.ones((side, side), dtype=torch.bool)).view(1, 1, side, side))
        self.register_buffer("masked_bias", torch.tensor(-1e4))
        self.c_attn = Conv1D(3 * config.width, config.width)
        self.c_proj = Conv1D(config.width, config.width)
        self.attn_dropout = nn.Dropout(config.dropout)
        self.resid_dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        batch, length, width = x.shape
        parts = self.c_attn(x).split(width, dim=2)
        query, key, value = (t.view(batch, length, self.heads, -1).permute(0, 2, 1, 3) for t in parts)
        attend = self._sdpa if self.kind == "sdpa" else self._eager
        out = attend(query, key, value)
        out = out.permute(0, 2, 1, 3).contiguous()
        out = self.c_proj(out.view(batch, length, width))
        return self.resid_dropout(out), (key, value)

    def _sdpa(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        dropout = self.attn_dropout.p if self.training else 0.0
        return F.scaled_dot_product_attention(query, key, value, dropout_p=dropout, is_causal=True)

    def _eager(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        weights = torch.matmul(query, key.transpose(-1, -2))
        weights = weights / torch.full([], value.size(-1) ** 0.5, dtype=weights.dtype, device=weights.device)
        length = query.size(-2)
        lowest = torch.full([], torch.finfo(weights.dtype).min, dtype=weights.dtype, device=weights.device)
        weights = torch.where(self.bias[:, :, :length, :length], weights, lowest)
        weights = F.softmax(weights, dim=-1)
        weights = self.attn_dropout(weights)
        return torch.matmul(weights, value)


class Mlp(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        self.c_fc = Conv1D(4 * config.width, config.width)
        self.c_proj = Conv1D(config.width, 4 * config.width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = self.c_fc(x)
        x = new_gelu(x)
        x = self.c_proj(x)
        return self.dropout(x)


class Block(nn.Module):
    def __init__(self, config: Config, kind: str) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.width)
        self.attn = Attention(config, kind)
        self.ln_2 = nn.LayerNorm(config.width)
        self.mlp = Mlp(config)

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        residual = x
        x = self.ln_1(x)
        attended, present = self.attn(x)
        x = attended + residual
        residual = x
        x = self.ln_2(x)
        fed = self.mlp(x)
        return residual + fed, present


class Model(nn.Module):
    def __init__(self, config: Config, kind: str) -> None:
        super().__init__()
        self.wte = nn.Embedding(config.vocabulary, config.width)
        self.wpe = nn.Embedding(config.positions, config.width)
        self.drop = nn.Dropout(config.dropout)
        self.h = nn.ModuleList(Block(config, kind) for _ in range(config.layers))
        self.ln_f = nn.LayerNorm(config.width)

    def forward(self, ids: Tensor) -> tuple[Tensor, tuple[tuple[Tensor, Tensor], ...]]:
        positions = torch.arange(ids.shape[1], device=ids.device).unsqueeze(0)
        embedded = self.wte(ids)
        positional = self.wpe(positions)
        x = embedded + positional
        x = self.drop(x)
        presents = []
        for block in self.h:
            x, present = block(x)
            presents.append(present)
        return self.ln_f(x), tuple(presents)


class LMHeadModel(nn.Module):
    def __init__(self, kind: str, config: Config = GPT2_LARGE) -> None:
        super().__init__()
        self.transformer = Model(config, kind)
        self.lm_head = nn.Linear(config.width, config.vocabulary, bias=False)
        self.lm_head.weight = self.transformer.wte.weight

    def forward(self, ids: Tensor) -> Output:
        x, presents = self.transformer(ids)
        return Output(self.lm_head(x), presents)
