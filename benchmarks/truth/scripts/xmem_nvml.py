"""fp32 training of CNNs and language models, as NVML saw it: the peak, less what the context held.

The authors' loop (xMem, Middleware 2025): four steps, the batch moved to the card in each. NVML's first sample was
taken when the context existed and nothing else, so what is compared is everything that came after it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import nn

import tonnage
from benchmarks.truth.rows import NotRun, Predicted, Row, predicted
from tonnage.scenario import Scenario
from tonnage.workload import catalogue
from tonnage.workload.libraries import load
from tonnage.workload.resolve import resolve

STEPS = 4
UNLIMITED = 1 << 40
CARDS = {"NVIDIA GeForce RTX 3060": "RTX 3060", "NVIDIA GeForce RTX 4060": "RTX 4060"}

Batch = dict[str, torch.Tensor]


def plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.rpartition("/")[2].lower())


def vision(name: str, batch: int, size: int) -> tuple[nn.Module, Batch]:
    """A model of torchvision under its class's or builder's name; MnasNet is the one of full width."""
    models = load("torchvision").models
    builders = {plain(builder): builder for builder in models.list_models(module=models)}
    name = {"mnasnet": "mnasnet10"}.get(plain(name), plain(name))
    if name not in builders:
        raise NotRun(f"torchvision has no {name}")
    data = {"x": torch.randn(batch, 3, size, size), "y": torch.randint(10, (batch,))}
    return models.get_model(builders[name]), data


def language(name: str, batch: int, length: int) -> tuple[nn.Module, Batch]:
    """A model of transformers from its config, with its language-modelling head."""
    known = {plain(known): known for known in catalogue.names()}
    if plain(name) not in known:
        raise NotRun(f"the catalogue has no {name}")
    ids = torch.randint(100, (batch, length))
    attention = "eager" if plain(name).startswith("t5") else None
    model = resolve(known[plain(name)]).build(Scenario(attention=attention))
    return model, {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids.clone()}


def t5_attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    dropout: float,
    position_bias: torch.Tensor,
    **kwargs: Any,
) -> tuple[torch.Tensor, torch.Tensor]:
    """T5's only attention until transformers 5, as T5Attention.forward of 4.51 had it.

    The mask was added to the position bias once, in the first layer of a stack, and the sum to the scores in place.
    """
    masked = getattr(position_bias, "masked", None)
    if masked is None:
        masked = position_bias if attention_mask is None else position_bias + attention_mask
        position_bias.masked = masked
    scores = torch.matmul(query, key.transpose(3, 2))
    scores += masked
    weights = F.softmax(scores.float(), dim=-1).type_as(scores)
    weights = F.dropout(weights, p=dropout, training=module.training)
    return torch.matmul(weights, value).transpose(1, 2).contiguous(), weights


def cache_update(self: Any, keys: torch.Tensor, values: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
    """DynamicCache.update of transformers 4.51: the first keys and values are kept as they are, without a copy."""
    first = not self.is_initialized
    if first:
        self.lazy_initialization(keys, values)
    self.keys = keys if first else torch.cat([self.keys, keys], dim=-2)
    self.values = values if first else torch.cat([self.values, values], dim=-2)
    return self.keys, self.values


@contextmanager
def transformers_of_april_2025() -> Iterator[None]:
    transformers = load("transformers")
    t5, cache = transformers.models.t5.modeling_t5, transformers.cache_utils.DynamicLayer
    with patch.object(t5, "eager_attention_forward", t5_attention), patch.object(cache, "update", cache_update):
        yield


def train_vision(model: nn.Module, optimizer: torch.optim.Optimizer, data: Batch) -> None:
    for _ in range(STEPS):
        optimizer.zero_grad()
        x, y = data["x"].to("cuda"), data["y"].to("cuda")
        out = model(x)
        loss = F.cross_entropy(out, y)
        loss.backward()
        optimizer.step()
        torch.max(out, 1)


def train_language(model: nn.Module, optimizer: torch.optim.Optimizer, data: Batch) -> None:
    for _ in range(STEPS):
        optimizer.zero_grad()
        batch = {name: tensor.to("cuda") for name, tensor in data.items()}
        out = model(**batch)
        out.loss.backward()
        optimizer.step()


def on_card(row: Row, total_memory: int | None = None) -> Predicted:
    make, train = (language, train_language) if row["seq_or_resolution"] == 128 else (vision, train_vision)
    with tonnage.virtual_gpu(CARDS[row["gpu"]], torch_version=row["torch"], total_memory=total_memory) as gpu:
        with gpu.host():
            model, data = make(row["model_config"], row["batch"], row["seq_or_resolution"])
        model.to("cuda").train()
        optimizer = getattr(torch.optim, row["optimizer"])(model.parameters(), lr=1e-3)
        train(model, optimizer, data)
        beside = gpu.process_bytes() - gpu.memory_reserved() - gpu.context_bytes()
        return predicted(gpu, process=gpu.max_memory_reserved() + beside)


def run(row: Row) -> Predicted:
    """On the card itself; if that runs out of memory, what it takes without a limit, with a flag that says so."""
    with transformers_of_april_2025():
        try:
            return on_card(row)
        except torch.OutOfMemoryError:
            without = on_card(row, total_memory=UNLIMITED)
    return replace(without, flags=[*without.flags, "runs out of memory on the card"])
