"""Llama-2-7b in fp16: one prefill of 256 tokens, then 512 new ones, as optimum-benchmark of December 2023 measured it.

Its MemoryTracker empties the cache and resets the peaks before each of the two (optimum_benchmark/trackers/memory.py).
"""

from __future__ import annotations

from functools import cache

import torch

import tonnage
from benchmarks.truth.reenacted.llama import LLAMA_2_7B, ForCausalLM, greedy_search
from benchmarks.truth.reenacted.loading import from_pretrained
from benchmarks.truth.rows import Predicted, Row, predicted

PROMPT, NEW_TOKENS = 256, 512
KINDS = {"eager": "eager", "sdpa via BetterTransformer": "sdpa", "flash_attention_2": "flash_attention_2"}


def run(row: Row) -> Predicted:
    return measured(KINDS[row["attention"]], row["batch"], generate="generate" in row["task"])


@cache
def measured(kind: str, batch: int, *, generate: bool) -> Predicted:
    """What was read off after the prefill or, in the same process, after the generation that followed."""
    with tonnage.virtual_gpu("A100-SXM4-80GB", torch_version="2.1.1") as gpu, torch.no_grad():
        model = from_pretrained(lambda: ForCausalLM(kind), dtype=torch.float16, stored=None, besides={}).eval()
        ids = torch.randint(LLAMA_2_7B.vocabulary, (batch, PROMPT), device="cuda")
        mask = torch.ones(batch, PROMPT, dtype=torch.int64, device="cuda")
        start()
        model(ids, mask)
        if generate:
            start()
            greedy_search(model, ids, mask, new_tokens=NEW_TOKENS)
        return predicted(gpu, allocated=torch.cuda.max_memory_allocated(), reserved=torch.cuda.max_memory_reserved())


def start() -> None:
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
