"""Training steps without an optimizer, eager attention against sdpa, as transformers' pull requests published them.

The script is fxmarty's of 2024: one process, sdpa first over all batch sizes and lengths, then eager; its memory is
`max_memory_allocated()` of a loop of steps. What the allocator has cached from one size to the next decides how blocks
are cut, so a row is read off its whole sweep.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from itertools import product
from typing import NamedTuple

import torch
from torch import nn

import tonnage
from benchmarks.truth.reenacted import bert, gpt2, gpt_neox, opt
from benchmarks.truth.reenacted.loading import Shapes, from_pretrained
from benchmarks.truth.rows import NotRun, Predicted, Row, predicted, rows_of
from tonnage.units import format_bytes

WARM_UP, TIMED = 10, 2
"""The script timed 100 steps; once warm, every step takes what the one before took."""
HALF, SINGLE = torch.float16, torch.float32

MISPRINTED = {"hfsdpa-opt350m-sdpa-B4-S2048", "hfsdpa-opt350m-sdpa-B8-S2048"}
"""Where eager ran out of memory the published sdpa figure is that of half the length, to the digit."""


class Benchmark(NamedTuple):
    make: Callable[[str], nn.Module]
    vocabulary: int
    card: str
    torch: str
    stored: torch.dtype | None
    besides: Shapes


BENCHMARKS = {
    "opt350m": Benchmark(opt.ForCausalLM, 50272, "L40S", "2.4.0", None, {}),
    "pythia410m": Benchmark(
        gpt_neox.ForCausalLM,
        50304,
        "RTX 3080 Laptop 16GB",
        "2.2.1",
        HALF,
        # EleutherAI/pythia-410m-deduped: 911 MB are the parameters and 24 masks of 2048 x 2048 bytes.
        {f"gpt_neox.layers.{i}.attention.bias": ((1, 1, 2048, 2048), torch.uint8) for i in range(24)},
    ),
    "gpt2large": Benchmark(
        gpt2.LMHeadModel,
        50257,
        "RTX 3080 Laptop 16GB",
        "2.2.1",
        SINGLE,
        # openai-community/gpt2-large: 3.25 GB are the parameters and 36 masks of 1024 x 1024 fp32.
        {f"transformer.h.{i}.attn.bias": ((1, 1, 1024, 1024), SINGLE) for i in range(36)},
    ),
    "bertbase": Benchmark(bert.ForMaskedLM, 30522, "A100-SXM4-80GB", "2.2.0", SINGLE, {}),
}


def run(row: Row) -> Predicted:
    if row.id in MISPRINTED:
        raise NotRun("the published figure is a misprint: it repeats that of half the length to the digit")
    name = row.id.split("-")[1]
    if name not in BENCHMARKS:
        raise NotRun(f"no script for {row['model_config']}")
    said = sweep(name)[row["attention"], row["batch"], row["seq_or_resolution"]]
    if row["value_bytes"] is None:
        return _against_running_out(BENCHMARKS[name], said)
    if said is None:
        raise NotRun("ran out of memory, which the card did not")
    return said


def _against_running_out(benchmark: Benchmark, said: Predicted | None) -> Predicted:
    """The card ran out of memory there."""
    answer = "runs out of memory" if said is None else f"fits, {format_bytes(said.figures['allocated'])} allocated"
    return Predicted({}, benchmark.card, benchmark.torch, answer=answer, right=said is None)


@cache
def sweep(name: str) -> dict[tuple[str, int, int], Predicted | None]:
    """What the script read off at each size; None where it ran out of memory."""
    benchmark = BENCHMARKS[name]
    mine = [row for row in rows_of("hf_sdpa_tables") if row.id.split("-")[1] == name]
    sizes = list(product(sorted({r["batch"] for r in mine}), sorted({r["seq_or_resolution"] for r in mine})))
    peaks: dict[tuple[str, int, int], int | None] = {}
    with tonnage.virtual_gpu(benchmark.card, torch_version=benchmark.torch) as gpu:
        for kind in ("sdpa", "eager"):
            make = partial(benchmark.make, kind)
            model = from_pretrained(make, dtype=HALF, stored=benchmark.stored, besides=benchmark.besides)
            for batch, length in sizes:
                ids = torch.randint(benchmark.vocabulary - 1, (batch, length), device="cuda")
                try:
                    peaks[kind, batch, length] = steps(model, ids)
                except torch.OutOfMemoryError:
                    peaks[kind, batch, length] = None
            del model
            gc.collect()
    said = predicted(gpu)
    return {size: None if peak is None else replace(said, figures={"allocated": peak}) for size, peak in peaks.items()}


def steps(model: nn.Module, ids: torch.Tensor) -> int:
    """benchmark_training: the peak of the timed loop."""
    model.train()
    for step in range(WARM_UP + TIMED):
        if step == WARM_UP:
            torch.cuda.reset_peak_memory_stats()
            torch.cuda.empty_cache()
        model.zero_grad()
        outputs = model(ids)
        loss = outputs.logits.sum()
        loss.backward()
    return torch.cuda.max_memory_allocated()
