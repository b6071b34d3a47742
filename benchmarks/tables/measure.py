"""An ordinary script that measures activation memory on a CUDA card; nothing in it knows of tonnage.

For VGG16 and T5-small it prints the increase of `torch.cuda.memory_allocated` over one forward pass, inputs and
outputs still held, as the mean of three repeats: what the published report tabulates. On a machine with a card, run it;
`tables.py` beside it runs it on a virtual one.
"""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Callable
from typing import Any

import torch

MiB = 2**20
REPEATS = 3
VGG16_BATCHES = (1, 2, 4, 8, 16, 32)
T5_CELLS = ((1, 64), (2, 64), (4, 64), (8, 64), (16, 64), (8, 16), (8, 32), (8, 64), (8, 128), (8, 256))


def increase(model: torch.nn.Module, make_inputs: Callable[[], dict[str, torch.Tensor]]) -> int:
    """Bytes allocated by making the inputs and running the model, both still held."""
    gc.collect()
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated()
    inputs = make_inputs()
    with torch.no_grad():
        output = model(**inputs)
    after = torch.cuda.memory_allocated()
    del output
    return after - before


def mean_increase(model: torch.nn.Module, make_inputs: Callable[[], dict[str, torch.Tensor]]) -> float:
    return sum(increase(model, make_inputs) for _ in range(REPEATS)) / REPEATS


def images(batch: int) -> dict[str, torch.Tensor]:
    return {"x": torch.randn(batch, 3, 224, 224, device="cuda")}


def tokens(batch: int, seq: int) -> dict[str, torch.Tensor]:
    return {
        "input_ids": torch.randint(0, 32128, (batch, seq), device="cuda"),
        "attention_mask": torch.ones(batch, seq, dtype=torch.int64, device="cuda"),
        "decoder_input_ids": torch.zeros(batch, 1, dtype=torch.int64, device="cuda"),
    }


def measure(vgg16: torch.nn.Module, t5_small: torch.nn.Module) -> dict[str, list[dict[str, Any]]]:
    """Every cell of the report's two tables, measured in its order, in bytes."""
    vgg16, t5_small = vgg16.eval().cuda(), t5_small.eval().cuda()
    vgg_cells = [{"batch": b, "bytes": mean_increase(vgg16, lambda b=b: images(b))} for b in VGG16_BATCHES]
    t5_cells = [
        {"batch": b, "seq": s, "bytes": mean_increase(t5_small, lambda b=b, s=s: tokens(b, s))} for b, s in T5_CELLS
    ]
    return {"vgg16": vgg_cells, "t5_small": t5_cells}


def main() -> None:
    from torchvision.models import vgg16
    from transformers import T5Config, T5ForConditionalGeneration

    json.dump(measure(vgg16(), T5ForConditionalGeneration(T5Config())), sys.stdout, indent=1)


if __name__ == "__main__":
    main()
