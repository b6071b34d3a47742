"""Llama as of transformers 4.35 (models/llama/modeling_llama.py), and that version's greedy search.

Its cache is a tuple that every step makes anew, one key longer: the old one lives until the step after.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.truth.reenacted import masks
from benchmarks.truth.reenacted.rotary import rotated

Cache = tuple[tuple[Tensor, Tensor], ...]

END = 2
"""Llama's end-of-sequence token."""


class Config(NamedTuple):
    """The sizes of Llama-2-7b."""

    vocabulary: int = 32000
    width: int = 4096
    layers: int = 32
    heads: int = 32
    inner: int = 11008
    positions: int = 4096


LLAMA_2_7B = Config()
LLAMA_2_13B = Config(width=5120, layers=40, heads=40, inner=13824)


class Output(NamedTuple):
    logits: Tensor
    past_key_values: Cache


class RMSNorm(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        dtype = x.dtype
        x = x.to(torch.float32)
        variance = x.pow(2).mean(-1, keepdim=True)
        x = x * torch.rsqrt(variance + 1e-5)
        return self.weight * x.to(dtype)


class RotaryEmbedding(nn.Module):
    cos_cached: Tensor
    sin_cached: Tensor

    def __init__(self, size: int, positions: int) -> None:
        super().__init__()
        frequencies = 1.0 / (10000 ** (torch.arange(0, size, 2).float() / size))
        self.register_buffer("inv_freq", frequencies)
        angles = torch.einsum("i,j->ij", torch.arange(positions, dtype=frequencies.dtype), frequencies)
        both, dtype = torch.cat((angles, angles), dim=-1), torch.get_default_dtype()
        self.register_buffer("cos_cached", both.cos().to(dtype))
        self.register_buffer("sin_cached", both.sin().to(dtype))


class Attention(nn.Module):
    """`kind`: "eager", "flash_attention_2" (the package's own kernel), or "sdpa" as BetterTransformer calls it."""

    def __init__(self, config: Config, kind: str) -> None:
        super().__init__()
        self.kind, self.heads, self.size = kind, config.heads, config.width // config.heads
        self.q_proj = nn.Linear(config.width, config.width, bias=False)
        self.k_proj = nn.Linear(config.width, config.width, bias=False)
        self.v_proj = nn.Linear(config.width, config.width, bias=False)
        self.o_proj = nn.Linear(config.width, config.width, bias=False)
        self.rotary_emb = RotaryEmbedding(self.size, config.positions)

    def forward(
        self, x: Tensor, mask: Tensor | None, positions: Tensor, past: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        batch, length, width = x.shape
        query, key, value = self.q_proj(x), self.k_proj(x), self.v_proj(x)
        query, key, value = (t.view(batch, length, self.heads, -1).transpose(1, 2) for t in (query, key, value))
        query, key = rotated(query, key, self.rotary_emb.cos_cached, self.rotary_emb.sin_cached, positions)
        if past is not None:
            key = torch.cat([past[0], key], dim=2)
            value = torch.cat([past[1], value], dim=2)
        attend = self._eager if self.kind == "eager" else self._fused
        out = attend(query, key, value, mask)
        out = out.transpose(1, 2).contiguous().reshape(batch, length, width)
        return self.o_proj(out), (key, value)

    def _eager(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
        weights = torch.matmul(query, key.transpose(2, 3)) / math.sqrt(self.size)
        weights = weights + mask
        weights = F.softmax(weights, dim=-1, dtype=torch.float32).to(query.dtype)
        return torch.matmul(weights, value)

    def _fused(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        """optimum/bettertransformer/models/attention.py, llama_forward: a batch of one goes without a mask."""
        if self.kind == "sdpa" and len(query) > 1:
            return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return F.scaled_dot_product_attention(query, key, value, is_causal=query.shape[2] > 1)


class Mlp(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.width, config.inner, bias=False)
        self.up_proj = nn.Linear(config.width, config.inner, bias=False)
        self.down_proj = nn.Linear(config.inner, config.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    def __init__(self, config: Config, kind: str) -> None:
        super().__init__()
        self.self_attn = Attention(config, kind)
        self.mlp = Mlp(config)
        self.input_layernorm = RMSNorm(config.width)
        self.post_attention_layernorm = RMSNorm(config.width)

    def forward(
        self, x: Tensor, mask: Tensor | None, positions: Tensor, past: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        residual = x
        x = self.input_layernorm(x)
        x, present = self.self_attn(x, mask, positions, past)
        x = residual + x
        residual = x
        x = self.post_attention_layernorm(x)
        x = self.mlp(x)
        return residual + x, present


class Model(nn.Module):
    def __init__(self, config: Config, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.embed_tokens = nn.Embedding(config.vocabulary, config.width)
        self.layers = nn.ModuleList(Layer(config, kind) for _ in range(config.layers))
        self.norm = RMSNorm(config.width)

    def forward(self, ids: Tensor, mask: Tensor, positions: Tensor | None, past: Cache | None) -> tuple[Tensor, Cache]:
        if positions is None:
            positions = torch.arange(ids.shape[1], device=ids.device).unsqueeze(0)
        x = self.embed_tokens(ids)
        hidden = None if self.kind == "flash_attention_2" else masks.summed(mask, x.dtype, ids.shape[1])
        presents = []
        for index, layer in enumerate(self.layers):
            x, present = layer(x, hidden, positions, None if past is None else past[index])
            presents.append(present)
        return self.norm(x), tuple(presents)


class ForCausalLM(nn.Module):
    def __init__(self, kind: str, config: Config = LLAMA_2_7B) -> None:
        super().__init__()
        self.model = Model(config, kind)
        self.lm_head = nn.Linear(config.width, config.vocabulary, bias=False)

    def forward(self, ids: Tensor, mask: Tensor, positions: Tensor | None = None, past: Cache | None = None) -> Output:
        x, presents = self.model(ids, mask, positions, past)
        logits = self.lm_head(x)
        logits = logits.float()
        return Output(logits, presents)


def next_inputs(ids: Tensor, mask: Tensor, past: Cache | None) -> tuple[Tensor, Tensor, Tensor, Cache | None]:
    """prepare_inputs_for_generation: once there is a cache, only the last token goes in."""
    positions = mask.long().cumsum(-1) - 1
    positions.masked_fill_(mask == 0, 1)
    if past is not None:
        ids = ids[:, -1:]
        positions = positions[:, -1:]
    return ids, mask, positions, past


@torch.no_grad()
def greedy_search(model: nn.Module, ids: Tensor, mask: Tensor, *, new_tokens: int) -> Tensor:
    """generation/utils.py, greedy_search, of a fixed number of new tokens."""
    end = torch.tensor([END], device="cpu").to(ids.device)
    unfinished = torch.ones(ids.shape[0], dtype=torch.long, device=ids.device)
    past = None
    for _ in range(new_tokens):
        inputs = next_inputs(ids, mask, past)
        outputs = model(*inputs)
        logits = outputs.logits[:, -1, :]
        tokens = torch.argmax(logits, dim=-1)
        tokens = tokens * unfinished + END * (1 - unfinished)
        ids = torch.cat([ids, tokens[:, None]], dim=-1)
        past = outputs.past_key_values
        mask = torch.cat([mask, mask.new_ones((len(mask), 1))], dim=-1)
        unfinished = unfinished.mul(tokens.tile(1, 1).ne(end.unsqueeze(1)).prod(dim=0))
        unfinished.max() == 0  # noqa: B015  (asked in vain here: min_new_tokens forbids the token)
    return ids
