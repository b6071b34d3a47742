"""One training step under fp16 autocast on a T4, after a warm-up step, as torch-preflight measured it.

The context was measured once, before anything was allocated, so a row's process is that and what was reserved.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

import tonnage
from benchmarks.truth.rows import NotRun, Predicted, Row, predicted
from tonnage.workload.libraries import load

Loss = Callable[[nn.Module, torch.Tensor], torch.Tensor]


def language_loss(model: nn.Module, ids: torch.Tensor) -> torch.Tensor:
    out = model(input_ids=ids, labels=ids)
    return out.loss


def mean_square(model: nn.Module, ids: torch.Tensor) -> torch.Tensor:
    return model(input_ids=ids).last_hidden_state.float().pow(2).mean()


def classes(batch: int) -> Loss:
    target = torch.randint(0, 1000, (batch,), device="cuda")
    return lambda model, x: F.cross_entropy(model(x), target)


def model_of(name: str) -> nn.Module:
    if name.startswith("torchvision"):
        return load("torchvision").models.resnet50()
    model, _, rest = name.partition("(")
    transformers = load("transformers")
    return getattr(transformers, model)(getattr(transformers, rest.partition("(")[0])())


def step(model: nn.Module, optimizer: torch.optim.Optimizer, loss_of: Loss, x: Any) -> None:
    optimizer.zero_grad(set_to_none=True)
    with torch.autocast("cuda", dtype=torch.float16):
        loss = loss_of(model, x)
    loss.backward()
    optimizer.step()


def run(row: Row) -> Predicted:
    name, batch, size = row["model_config"], row["batch"], row["seq_or_resolution"]
    if not name.startswith(("GPT2LMHeadModel", "BertModel", "DistilBertModel", "torchvision.models.resnet50")):
        raise NotRun(f"no script for {name}")
    with tonnage.virtual_gpu("T4", torch_version=row["torch"]) as gpu:
        with gpu.host():
            model = model_of(name)
        model.to("cuda").train()
        optimizer = torch.optim.AdamW(model.parameters())
        if name.startswith("torchvision"):
            x, loss_of = torch.randn(batch, 3, size, size, device="cuda"), classes(batch)
        else:
            x = torch.randint(0, model.config.vocab_size, (batch, size), device="cuda")
            loss_of = language_loss if name.startswith("GPT2LM") else mean_square
        step(model, optimizer, loss_of, x)
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        step(model, optimizer, loss_of, x)
        reserved = torch.cuda.max_memory_reserved()
        return predicted(
            gpu,
            allocated=torch.cuda.max_memory_allocated(),
            reserved=reserved,
            process=reserved + gpu.context_bytes(),
        )
