"""fp32 training of CNNs and language models, as NVML saw it: the peak, less what its first sample showed.

The authors' loops (xMem, Middleware 2025: exp/trainer/train_loop.py): four steps, the batch moved to the card in each.
A thread samples NVML from the start of a loop on. The loop of language models then sleeps for two seconds, so that the
first sample shows the context alone. The loop of CNNs goes on at once: while the thread starts NVML and reads
everything else about both cards (plugins/monitor/nvml.py), the model moves to the card, in less than 100 ms, and the
optimizer is made; then the first images are resized. So the first sample of a CNN has the weights in it, and the
states of an optimizer that makes them at once (Adagrad). It is a race, and the authors' runs of one size differ.

Some of the authors' runs zeroed gradients after forward or at the end of a step (`zero_out`, drawn at random in
exp/run.py); the rows do not say which, so all run as their `script` says.
"""

from __future__ import annotations

import os
import re
from dataclasses import replace
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import nn

import tonnage
from benchmarks.truth.reenacted import t5
from benchmarks.truth.rows import NotRun, Predicted, Row, predicted
from tonnage.scenario import Scenario
from tonnage.workload import catalogue
from tonnage.workload.libraries import load
from tonnage.workload.resolve import resolve

STEPS = 4
UNLIMITED = 1 << 40
CARDS = {"NVIDIA GeForce RTX 3060": "RTX 3060", "NVIDIA GeForce RTX 4060": "RTX 4060"}

NAMES = {"mnasnet": "mnasnet10", "mobenetv3small": "mobilenetv3small", "mobenetv3large": "mobilenetv3large"}
OF_TEN_CLASSES = set(NAMES.values())
"""perf_estimator/models.py of xMem: MnasNet of full width and MobileNetV3, its name misspelt, are made for CIFAR-10."""

Batch = dict[str, torch.Tensor]


def plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.rpartition("/")[2].lower())


def vision(name: str, batch: int, size: int) -> tuple[nn.Module, Batch]:
    """A model of torchvision under its class's, its builder's or the authors' name."""
    models = load("torchvision").models
    builders = {plain(builder): builder for builder in models.list_models(module=models)}
    name = NAMES.get(plain(name), plain(name))
    if name not in builders:
        raise NotRun(f"torchvision has no {name}")
    data = {"x": torch.randn(batch, 3, size, size), "y": torch.randint(10, (batch,))}
    return models.get_model(builders[name], num_classes=10 if name in OF_TEN_CLASSES else 1000), data


def language(name: str, batch: int, length: int) -> tuple[nn.Module, Batch]:
    """A model of transformers from its config, with its language-modelling head."""
    known = {plain(known): known for known in catalogue.names()}
    if plain(name) not in known:
        raise NotRun(f"the catalogue has no {name}")
    ids = torch.randint(100, (batch, length))
    model = resolve(known[plain(name)]).build(Scenario())
    return model, {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids.clone()}


def optimizer_of(name: str, model: nn.Module) -> torch.optim.Optimizer:
    """torch's, but transformers' Adafactor, the one that knows `relative_step` (transformer_train_loop)."""
    if name == "Adafactor":
        return load("transformers").optimization.Adafactor(model.parameters(), lr=1e-3, relative_step=False)
    return getattr(torch.optim, name)(model.parameters(), lr=1e-3)


def train_vision(model: nn.Module, optimizer: torch.optim.Optimizer, data: Batch) -> None:
    for _ in range(STEPS):
        optimizer.zero_grad()
        x, y = data["x"].to("cuda"), data["y"].to("cuda")
        out = model(x)
        loss = F.cross_entropy(out, y)
        loss.backward()
        optimizer.step()
        _ = torch.max(out, 1)  # lives until the next one, as in their loop


def train_language(model: nn.Module, optimizer: torch.optim.Optimizer, data: Batch) -> None:
    for _ in range(STEPS):
        optimizer.zero_grad()
        batch = {name: tensor.to("cuda") for name, tensor in data.items()}
        out = model(**batch)
        out.loss.backward()
        optimizer.step()


def on_card(row: Row, total_memory: int | None = None) -> Predicted:
    of_language = row["seq_or_resolution"] == 128
    make, train = (language, train_language) if of_language else (vision, train_vision)
    with tonnage.virtual_gpu(CARDS[row["gpu"]], torch_version=row["torch"], total_memory=total_memory) as gpu:
        with gpu.host():
            model, data = make(row["model_config"], row["batch"], row["seq_or_resolution"])
        model.to("cuda").train()
        optimizer = optimizer_of(row["optimizer"], model)
        first_sample = gpu.context_bytes() + (0 if of_language else gpu.memory_reserved())
        train(model, optimizer, data)
        beside = gpu.process_bytes() - gpu.memory_reserved()
        return predicted(gpu, process=gpu.max_memory_reserved() + beside - first_sample)


def run(row: Row) -> Predicted:
    """On the card itself; if that runs out of memory, what it takes without a limit, with a flag that says so.

    The authors switch cuBLAS's workspaces off: CUBLAS_WORKSPACE_CONFIG in experiments/evaluation.py and in
    experiments_llm/evaluation.py. That the later exp/run.py ran with it too is assumed.
    """
    with t5.of_4_51(), patch.dict(os.environ, {"CUBLAS_WORKSPACE_CONFIG": ":0:0"}):
        try:
            return on_card(row)
        except torch.OutOfMemoryError:
            without = on_card(row, total_memory=UNLIMITED)
    return replace(without, flags=[*without.flags, "runs out of memory on the card"])
