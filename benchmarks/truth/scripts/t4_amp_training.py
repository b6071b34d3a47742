"""Training steps under autocast on a T4, as torch-preflight 0.5.0 measured them (tests/calibration/measure_cuda.py).

One process measures the context, small stacks of blocks, and then the models; each time a warm-up step and the one
that counts. Two things of the script decide: what a step's forward gave lives to the end of the step, and the precision
is bf16, although a T4 emulates it: `torch.cuda.is_bf16_supported()` is true there. So attention takes the math path.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import tonnage
from benchmarks.truth.rows import NotRun, Predicted, Row, predicted
from tonnage.virtual.gpu import VirtualGpu
from tonnage.workload.libraries import load

PRECISION = torch.bfloat16

Step = Callable[[], None]


class Stack(NamedTuple):
    """The sizes of a stack of blocks, and whether its attention is scaled_dot_product_attention."""

    layers: int
    width: int
    heads: int
    inner: int
    batch: int
    length: int
    dropout: float
    fused: bool


STACKS = (
    Stack(4, 512, 8, 2048, 4, 256, 0.0, False),
    Stack(6, 768, 12, 3072, 8, 512, 0.1, False),
    Stack(6, 768, 12, 3072, 4, 1024, 0.0, True),
    Stack(12, 768, 12, 3072, 2, 512, 0.0, False),
    Stack(4, 1024, 16, 4096, 2, 1024, 0.0, True),
)
CONFIGS = {"GPT2LMHeadModel": "GPT2Config", "DistilBertModel": "DistilBertConfig", "BertModel": "BertConfig"}


class Block(nn.Module):
    def __init__(self, sizes: Stack) -> None:
        super().__init__()
        width, bias = sizes.width, sizes.dropout > 0
        self.heads, self.fused = sizes.heads, sizes.fused
        self.ln1 = nn.LayerNorm(width)
        self.q = nn.Linear(width, width, bias=bias)
        self.k = nn.Linear(width, width, bias=bias)
        self.v = nn.Linear(width, width, bias=bias)
        self.o = nn.Linear(width, width, bias=bias)
        self.ln2 = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, sizes.inner, bias=bias)
        self.fc2 = nn.Linear(sizes.inner, width, bias=bias)
        self.drop = nn.Dropout(sizes.dropout) if bias else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        size = width // self.heads
        y = self.ln1(x)
        q, k, v = (p(y).view(batch, length, self.heads, size).transpose(1, 2) for p in (self.q, self.k, self.v))
        if self.fused:
            attended = F.scaled_dot_product_attention(q, k, v)
        else:
            attended = self.drop(((q @ k.transpose(-2, -1)) / size**0.5).softmax(-1)) @ v
        x = x + self.drop(self.o(attended.transpose(1, 2).reshape(batch, length, width)))
        return x + self.drop(self.fc2(F.gelu(self.fc1(self.ln2(x)))))


def run(row: Row) -> Predicted:
    name = row["model_config"].partition("(")[0].rpartition(".")[2]
    if name not in (*CONFIGS, "resnet50"):
        raise NotRun(f"no script for {name}")
    return session()[name, row["batch"], row["seq_or_resolution"]]


@cache
def session() -> dict[tuple[str, int, int], Predicted]:
    """The whole process, and what it read off of each model."""
    peaks: dict[tuple[str, int, int], dict[str, int]] = {}
    with tonnage.virtual_gpu("T4", torch_version="2.11.0") as gpu:
        first_products()
        for sizes in STACKS:
            with clean():
                peak(stack_step(sizes))
        for name in CONFIGS:
            for batch, length in ((4, 128), (8, 256)):
                with clean():
                    peaks[name, batch, length] = peak(text_step(gpu, name, batch, length))
        for batch in (16, 32):
            with clean():
                peaks["resnet50", batch, 224] = peak(image_step(gpu, batch))
    said = predicted(gpu)
    outside = gpu.context_bytes() + gpu.libraries_bytes()
    return {size: replace(said, figures={**p, "process": p["reserved"] + outside}) for size, p in peaks.items()}


@contextmanager
def clean() -> Iterator[None]:
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    yield
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()


def first_products() -> None:
    """measure_cuda_context: cuBLAS and cuDNN are used once."""
    a = torch.randn(256, 256, device="cuda")
    (a @ a).sum().item()
    convolution = nn.Conv2d(3, 16, 3, padding=1).cuda()
    convolution(torch.randn(1, 3, 64, 64, device="cuda")).sum().backward()
    del a, convolution
    torch.cuda.empty_cache()


def peak(step: Step) -> dict[str, int]:
    """training_peak."""
    step()
    torch.cuda.reset_peak_memory_stats()
    step()
    return {"allocated": torch.cuda.max_memory_allocated(), "reserved": torch.cuda.max_memory_reserved()}


def stack_step(sizes: Stack) -> Step:
    model = nn.Sequential(*(Block(sizes) for _ in range(sizes.layers))).cuda()
    optimizer = torch.optim.AdamW(model.parameters())
    x = torch.randn(sizes.batch, sizes.length, sizes.width, device="cuda")

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cuda", dtype=PRECISION):
            loss = model(x).float().pow(2).mean()
        loss.backward()
        optimizer.step()

    return step


def text_step(gpu: VirtualGpu, name: str, batch: int, length: int) -> Step:
    transformers = load("transformers")
    with gpu.host():
        model = getattr(transformers, name)(getattr(transformers, CONFIGS[name])())
    model = model.cuda().train()
    optimizer = torch.optim.AdamW(model.parameters())
    ids = torch.randint(0, model.config.vocab_size - 1, (batch, length), device="cuda")

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cuda", dtype=PRECISION):
            if name == "GPT2LMHeadModel":
                out = model(input_ids=ids, labels=ids)
                loss = out.loss
            else:
                out = model(input_ids=ids)
                loss = out.last_hidden_state.float().pow(2).mean()
        loss.backward()
        optimizer.step()

    return step


def image_step(gpu: VirtualGpu, batch: int) -> Step:
    with gpu.host():
        model = load("torchvision").models.resnet50()
    model = model.cuda().train()
    optimizer = torch.optim.AdamW(model.parameters())
    x = torch.randn(batch, 3, 224, 224, device="cuda")
    target = torch.randint(0, 1000, (batch,), device="cuda")

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cuda", dtype=PRECISION):
            loss = F.cross_entropy(model(x), target)
        loss.backward()
        optimizer.step()

    return step
