"""OPT as of transformers 4.46.0 (models/opt/modeling_opt.py): the first with sdpa, for training with a cache."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.truth.reenacted import masks


class Config(NamedTuple):
    """The sizes of opt-350m: embeddings narrower than the layers, and norms after them."""

    vocabulary: int = 50272
    width: int = 1024
    embedding: int = 512
    layers: int = 24
    heads: int = 16
    inner: int = 4096
    positions: int = 2048
    dropout: float = 0.1


OPT_350M = Config()


class Output(NamedTuple):
    logits: Tensor
    past_key_values: tuple[tuple[Tensor, Tensor], ...]


class Attention(nn.Module):
    def __init__(self, config: Config, kind: str) -> None:
        super().__init__()
        self.kind, self.heads, self.size = kind, config.heads, config.width // config.heads
        self.k_proj = nn.Linear(config.width, config.width)
        self.v_proj = nn.Linear(config.width, config.width)
        self.q_proj = nn.Linear(config.width, config.width)
        self.out_proj = nn.Linear(config.width, config.width)

    def _shape(self, x: Tensor) -> Tensor:
        batch, length, _ = x.shape
        return x.view(batch, length, self.heads, self.size).transpose(1, 2).contiguous()

    def forward(self, x: Tensor, mask: Tensor | None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        query = self._shape(self.q_proj(x) * self.size**-0.5)
        key = self._shape(self.k_proj(x))
        value = self._shape(self.v_proj(x))
        attend = self._sdpa if self.kind == "sdpa" else self._eager
        return self.out_proj(attend(query, key, value, mask)), (key, value)

    def _sdpa(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        out = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=mask is None, scale=1.0)
        return out.transpose(1, 2).contiguous().view(len(query), -1, self.heads * self.size)

    def _eager(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
        batch, heads, length, size = query.shape
        q, k, v = (t.view(batch * heads, -1, size) for t in (query, key, value))
        weights = torch.bmm(q, k.transpose(1, 2))
        weights = weights.view(batch, heads, length, -1) + mask
        weights = torch.max(weights, torch.tensor(torch.finfo(weights.dtype).min, device=weights.device))
        weights = weights.view(batch * heads, length, -1)
        weights = F.softmax(weights, dim=-1, dtype=torch.float32).to(torch.float16)
        probabilities = F.dropout(weights, p=0.0, training=self.training)
        out = torch.bmm(probabilities, v)
        return out.view(batch, heads, length, size).transpose(1, 2).reshape(batch, length, heads * size)


class Layer(nn.Module):
    def __init__(self, config: Config, kind: str) -> None:
        super().__init__()
        self.dropout = config.dropout
        self.self_attn = Attention(config, kind)
        self.self_attn_layer_norm = nn.LayerNorm(config.width)
        self.fc1 = nn.Linear(config.width, config.inner)
        self.fc2 = nn.Linear(config.inner, config.width)
        self.final_layer_norm = nn.LayerNorm(config.width)

    def forward(self, x: Tensor, mask: Tensor | None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        residual = x
        x, present = self.self_attn(x, mask)
        x = F.dropout(x, p=self.dropout, training=self.training)
        x = residual + x
        x = self.self_attn_layer_norm(x)
        shape = x.shape
        x = x.reshape(-1, x.size(-1))
        residual = x
        x = self.fc1(x)
        x = F.relu(x)
        x = self.fc2(x)
        x = F.dropout(x, p=self.dropout, training=self.training)
        x = (residual + x).view(shape)
        return self.final_layer_norm(x), present


class Decoder(nn.Module):
    def __init__(self, config: Config, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.embed_tokens = nn.Embedding(config.vocabulary, config.embedding)
        self.embed_positions = nn.Embedding(config.positions + 2, config.width)
        self.project_out = nn.Linear(config.width, config.embedding, bias=False)
        self.project_in = nn.Linear(config.embedding, config.width, bias=False)
        self.layers = nn.ModuleList(Layer(config, kind) for _ in range(config.layers))

    def forward(self, ids: Tensor) -> tuple[Tensor, tuple[tuple[Tensor, Tensor], ...]]:
        embedded = self.embed_tokens(ids)
        padding = torch.ones(*ids.shape, device=ids.device)
        if self.kind == "sdpa":
            mask = masks.for_sdpa(padding)
        else:
            mask = masks.causal(padding, embedded.dtype, ids.shape[1])
        positions = torch.cumsum(padding, dim=1)
        positions = (positions * padding - 1).long()
        positional = self.embed_positions(positions + 2)
        embedded = self.project_in(embedded)
        x = embedded + positional
        presents = []
        for layer in self.layers:
            x, present = layer(x, mask)
            presents.append(present)
        return self.project_out(x), tuple(presents)


class ForCausalLM(nn.Module):
    def __init__(self, kind: str, config: Config = OPT_350M) -> None:
        super().__init__()
        self.model = nn.ModuleDict({"decoder": Decoder(config, kind)})
        self.lm_head = nn.Linear(config.embedding, config.vocabulary, bias=False)
        self.lm_head.weight = self.model["decoder"].embed_tokens.weight

    def forward(self, ids: Tensor) -> Output:
        x, presents = self.model["decoder"](ids)
        return Output(self.lm_head(x).contiguous(), presents)
