"""BERT as of transformers 4.41 (models/bert/modeling_bert.py), with the head of the masked language model."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.truth.reenacted import masks


class Config(NamedTuple):
    """The sizes of bert-base-uncased."""

    vocabulary: int = 30522
    width: int = 768
    layers: int = 12
    heads: int = 12
    inner: int = 3072
    positions: int = 512
    dropout: float = 0.1


BERT_BASE = Config()


class Output(NamedTuple):
    logits: Tensor


class Embeddings(nn.Module):
    position_ids: Tensor
    token_type_ids: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(config.vocabulary, config.width, padding_idx=0)
        self.position_embeddings = nn.Embedding(config.positions, config.width)
        self.token_type_embeddings = nn.Embedding(2, config.width)
        self.LayerNorm = nn.LayerNorm(config.width)
        self.dropout = nn.Dropout(config.dropout)
        self.register_buffer("position_ids", torch.arange(config.positions).expand((1, -1)))
        self.register_buffer("token_type_ids", torch.zeros(1, config.positions, dtype=torch.long))

    def forward(self, ids: Tensor) -> Tensor:
        length = ids.shape[1]
        words = self.word_embeddings(ids)
        embedded = words + self.token_type_embeddings(self.token_type_ids[:, :length].expand(len(ids), length))
        positional = self.position_embeddings(self.position_ids[:, :length])
        embedded += positional
        embedded = self.LayerNorm(embedded)
        return self.dropout(embedded)


class SelfAttention(nn.Module):
    def __init__(self, config: Config, kind: str) -> None:
        super().__init__()
        self.kind, self.heads, self.size = kind, config.heads, config.width // config.heads
        self.query = nn.Linear(config.width, config.width)
        self.key = nn.Linear(config.width, config.width)
        self.value = nn.Linear(config.width, config.width)
        self.dropout = nn.Dropout(config.dropout)

    def _heads(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:-1], self.heads, self.size).permute(0, 2, 1, 3)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        attend = self._sdpa if self.kind == "sdpa" else self._eager
        return attend(self._heads(self.query(x)), self._heads(self.key(x)), self._heads(self.value(x)), mask)

    def _sdpa(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        dropout = self.dropout.p if self.training else 0.0
        out = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout)
        return out.transpose(1, 2).reshape(len(query), -1, self.heads * self.size)

    def _eager(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
        scores = torch.matmul(query, key.transpose(-1, -2))
        scores = scores / math.sqrt(self.size)
        scores = scores + mask
        probabilities = F.softmax(scores, dim=-1)
        probabilities = self.dropout(probabilities)
        out = torch.matmul(probabilities, value)
        return out.permute(0, 2, 1, 3).contiguous().view(len(query), -1, self.heads * self.size)


class Residual(nn.Module):
    """BertSelfOutput and BertOutput: a projection, dropout, and the norm of the sum with what went in before."""

    def __init__(self, inputs: int, config: Config) -> None:
        super().__init__()
        self.dense = nn.Linear(inputs, config.width)
        self.LayerNorm = nn.LayerNorm(config.width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, before: Tensor) -> Tensor:
        x = self.dense(x)
        x = self.dropout(x)
        return self.LayerNorm(x + before)


class Layer(nn.Module):
    def __init__(self, config: Config, kind: str) -> None:
        super().__init__()
        parts = {"self": SelfAttention(config, kind), "output": Residual(config.width, config)}
        self.attention = nn.ModuleDict(parts)
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(config.width, config.inner)})
        self.output = Residual(config.inner, config)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        attended = self.attention["output"](self.attention["self"](x, mask), x)
        return self.output(F.gelu(self.intermediate["dense"](attended)), attended)


class Model(nn.Module):
    def __init__(self, config: Config, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.embeddings = Embeddings(config)
        self.encoder = nn.ModuleDict({"layer": nn.ModuleList(Layer(config, kind) for _ in range(config.layers))})

    def forward(self, ids: Tensor) -> Tensor:
        padding = torch.ones(ids.shape, device=ids.device)
        x = self.embeddings(ids)
        mask = masks.for_sdpa(padding) if self.kind == "sdpa" else self._hidden(padding, x.dtype)
        for layer in self.encoder["layer"]:
            x = layer(x, mask)
        return x

    @staticmethod
    def _hidden(padding: Tensor, dtype: torch.dtype) -> Tensor:
        """get_extended_attention_mask of modeling_utils.py."""
        mask = padding[:, None, None, :].to(dtype)
        return (1.0 - mask) * torch.finfo(dtype).min


class Predictions(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        parts = {"dense": nn.Linear(config.width, config.width), "LayerNorm": nn.LayerNorm(config.width)}
        self.transform = nn.ModuleDict(parts)
        self.decoder = nn.Linear(config.width, config.vocabulary, bias=False)
        self.bias = nn.Parameter(torch.zeros(config.vocabulary))
        self.decoder.bias = self.bias

    def forward(self, x: Tensor) -> Tensor:
        x = self.transform["dense"](x)
        x = F.gelu(x)
        x = self.transform["LayerNorm"](x)
        return self.decoder(x)


class ForMaskedLM(nn.Module):
    def __init__(self, kind: str, config: Config = BERT_BASE) -> None:
        super().__init__()
        self.bert = Model(config, kind)
        self.cls = nn.ModuleDict({"predictions": Predictions(config)})
        self.cls["predictions"].decoder.weight = self.bert.embeddings.word_embeddings.weight

    def forward(self, ids: Tensor) -> Output:
        return Output(self.cls["predictions"](self.bert(ids)))
