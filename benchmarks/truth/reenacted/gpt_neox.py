"""GPT-NeoX as of transformers 4.42 (models/gpt_neox/modeling_gpt_neox.py): the first with sdpa, training with a cache.

Its rotary tables are fp32 whatever the model is, so queries and keys are too from there on: sdpa casts them back, and
eager attention does not.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.truth.reenacted.rotary import rotated


class Config(NamedTuple):
    """The sizes of pythia-410m."""

    vocabulary: int = 50304
    width: int = 1024
    layers: int = 24
    heads: int = 16
    inner: int = 4096
    positions: int = 2048
    rotary: float = 0.25


PYTHIA_410M = Config()


class Output(NamedTuple):
    logits: Tensor
    past_key_values: tuple[tuple[Tensor, Tensor], ...]


class RotaryEmbedding(nn.Module):
    cos_cached: Tensor
    sin_cached: Tensor

    def __init__(self, size: int, positions: int) -> None:
        super().__init__()
        frequencies = 1.0 / (10000 ** (torch.arange(0, size, 2, dtype=torch.int64).float() / size))
        self.register_buffer("inv_freq", frequencies)
        angles = torch.outer(torch.arange(positions, dtype=torch.int64).type_as(frequencies), frequencies)
        both = torch.cat((angles, angles), dim=-1)
        self.register_buffer("cos_cached", both.cos())
        self.register_buffer("sin_cached", both.sin())


class Attention(nn.Module):
    bias: Tensor

    def __init__(self, config: Config, kind: str) -> None:
        super().__init__()
        self.kind, self.heads, self.size = kind, config.heads, config.width // config.heads
        self.rotary = int(self.size * config.rotary)
        side = config.positions
        self.register_buffer("bias", torch.tril(torch.ones((side, side), dtype=torch.bool)).view(1, 1, side, side))
        self.register_buffer("masked_bias", torch.tensor(-1e9))
        self.rotary_emb = RotaryEmbedding(self.rotary, side)
        self.query_key_value = nn.Linear(config.width, 3 * config.width)
        self.dense = nn.Linear(config.width, config.width)

    def forward(self, x: Tensor, positions: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        query, key, value = self._projected(x, positions)
        attend = self._sdpa if self.kind == "sdpa" else self._eager
        out = attend(query, key, value)
        out = out.transpose(1, 2).contiguous().view(x.shape)
        return self.dense(out), (key, value)

    def _projected(self, x: Tensor, positions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        qkv = self.query_key_value(x).view(*x.shape[:-1], self.heads, 3 * self.size)
        query, key, value = (t.permute(0, 2, 1, 3) for t in qkv.split(self.size, dim=-1))
        length, table = x.shape[1], self.rotary_emb
        cos, sin = table.cos_cached[:length], table.sin_cached[:length]
        turned, kept = query[..., : self.rotary], query[..., self.rotary :]
        key_turned, key_kept = key[..., : self.rotary], key[..., self.rotary :]
        query, key = rotated(turned, key_turned, cos, sin, positions)
        return torch.cat((query, kept), dim=-1), torch.cat((key, key_kept), dim=-1), value

    def _sdpa(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        query, key = query.to(value.dtype), key.to(value.dtype)
        return F.scaled_dot_product_attention(query, key, value, is_causal=True)

    def _eager(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        batch, heads, length, size = query.shape
        visible = self.bias[:, :, :length, :length]
        query, key = query.view(batch * heads, length, size), key.view(batch * heads, length, size)
        scores = torch.zeros(batch * heads, length, length, dtype=query.dtype, device=key.device)
        scores = torch.baddbmm(scores, query, key.transpose(1, 2), beta=1.0, alpha=size**-0.5)
        scores = scores.view(batch, heads, length, length)
        lowest = torch.tensor(torch.finfo(scores.dtype).min, dtype=scores.dtype, device="cpu").to(scores.device)
        scores = torch.where(visible, scores, lowest)
        weights = F.softmax(scores, dim=-1)
        weights = weights.to(value.dtype)
        return torch.matmul(weights, value)


class Mlp(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        self.dense_h_to_4h = nn.Linear(config.width, config.inner)
        self.dense_4h_to_h = nn.Linear(config.inner, config.width)

    def forward(self, x: Tensor) -> Tensor:
        return self.dense_4h_to_h(F.gelu(self.dense_h_to_4h(x)))


class Layer(nn.Module):
    def __init__(self, config: Config, kind: str) -> None:
        super().__init__()
        self.input_layernorm = nn.LayerNorm(config.width)
        self.post_attention_layernorm = nn.LayerNorm(config.width)
        self.attention = Attention(config, kind)
        self.mlp = Mlp(config)

    def forward(self, x: Tensor, positions: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        attended, present = self.attention(self.input_layernorm(x), positions)
        fed = self.mlp(self.post_attention_layernorm(x))
        return fed + attended + x, present


class Model(nn.Module):
    def __init__(self, config: Config, kind: str) -> None:
        super().__init__()
        self.embed_in = nn.Embedding(config.vocabulary, config.width)
        self.layers = nn.ModuleList(Layer(config, kind) for _ in range(config.layers))
        self.final_layer_norm = nn.LayerNorm(config.width)

    def forward(self, ids: Tensor) -> tuple[Tensor, tuple[tuple[Tensor, Tensor], ...]]:
        positions = torch.arange(ids.shape[1], device=ids.device).unsqueeze(0)
        x = self.embed_in(ids)
        presents = []
        for layer in self.layers:
            x, present = layer(x, positions)
            presents.append(present)
        return self.final_layer_norm(x), tuple(presents)


class ForCausalLM(nn.Module):
    def __init__(self, kind: str, config: Config = PYTHIA_410M) -> None:
        super().__init__()
        self.gpt_neox = Model(config, kind)
        self.embed_out = nn.Linear(config.width, config.vocabulary, bias=False)

    def forward(self, ids: Tensor) -> Output:
        x, presents = self.gpt_neox(ids)
        return Output(self.embed_out(x), presents)
