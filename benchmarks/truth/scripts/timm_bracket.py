"""Whether timm's benchmark.py fits on the card at a batch size, and not at the next larger one that it tried.

A row gives no bytes, only the batch size that ran, so its outcome is a flag: what the virtual card says of both sizes.
"""

from __future__ import annotations

import torch
from torch import nn

import tonnage
from benchmarks.truth.rows import Predicted, Row, predicted
from tonnage.workload.libraries import load

STEPS = 2
SIZES = (512, 384, 256, 192, 128, 96, 64, 48, 32, 24, 16, 12, 8)
"""The batch sizes that benchmark.py goes down when one does not fit (decay_batch_step)."""
TORCH = "1.12.0"


def without_fused_attention(name: str) -> nn.Module:
    """The model as timm built it before torch 2.0 had scaled_dot_product_attention."""
    layers = load("timm").layers
    layers.set_fused_attn(False)
    try:
        return load("timm").create_model(name)
    finally:
        layers.set_fused_attn(True)


def benchmark(name: str, batch: int, size: int) -> Predicted:
    """TrainBenchmarkRunner of timm's benchmark.py: `--amp`, NCHW, SGD with Nesterov momentum, cudnn.benchmark."""
    with tonnage.virtual_gpu("RTX 3090", torch_version=TORCH, cudnn_benchmark=True) as gpu:
        with gpu.host():
            model = without_fused_attention(name)
        model.to("cuda").train()
        loss = nn.CrossEntropyLoss()
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9, nesterov=True, foreach=False)
        images = torch.randn(batch, 3, size, size, device="cuda")
        for _ in range(STEPS):
            optimizer.zero_grad(set_to_none=False)
            with torch.autocast("cuda", dtype=torch.float16):
                output = model(images)
                target = torch.empty(batch, device="cuda", dtype=torch.long).random_(1000)
                loss(output, target).backward()
            optimizer.step()
        return predicted(gpu, reserved=torch.cuda.max_memory_reserved())


def fits(name: str, batch: int, size: int) -> bool:
    try:
        benchmark(name, batch, size)
    except torch.OutOfMemoryError:
        return False
    return True


def run(row: Row) -> Predicted:
    name, batch, size = row["model_config"].removeprefix("timm "), row["batch"], row["seq_or_resolution"]
    larger = [tried for tried in SIZES if tried > batch]
    here, next_one = fits(name, batch, size), larger and fits(name, larger[-1], size)
    said = f"{'fits' if here else 'runs out'} at {batch}"
    said += f", {'fits' if next_one else 'runs out'} at {larger[-1]}" if larger else ", the first size tried"
    return Predicted({}, "RTX 3090", TORCH, answer=said, right=here and not next_one)
