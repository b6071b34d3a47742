"""Llama-2-7b in fp16: one prefill of 256 tokens, then 512 new ones, as optimum-benchmark of December 2023 measured it.

Its MemoryTracker empties the cache and resets the peaks before each of the two (optimum_benchmark/trackers/memory.py).
"""

from __future__ import annotations

from functools import cache, partial

import torch

import tonnage
from benchmarks.truth.reenacted.llama import LLAMA_2_7B, LLAMA_2_13B, Config, ForCausalLM, greedy_search
from benchmarks.truth.reenacted.loading import from_pretrained
from benchmarks.truth.rows import NotRun, Predicted, Row, predicted

MODELS = {"NousResearch/Llama-2-7b-hf": LLAMA_2_7B, "NousResearch/Llama-2-13b-hf": LLAMA_2_13B}
KINDS = {"eager": "eager", "sdpa via BetterTransformer": "sdpa", "flash_attention_2": "flash_attention_2"}


def run(row: Row) -> Predicted:
    model, kind = row["model_config"].partition(" ")[0], row["attention"]
    if model not in MODELS or kind not in KINDS:
        raise NotRun(f"no script for {model} with {kind} attention")
    prompt, _, new_tokens = str(row["seq_or_resolution"]).partition("+")
    version = row["torch"].partition("+")[0]
    return measured(
        MODELS[model],
        KINDS[kind],
        row["batch"],
        int(prompt),
        int(new_tokens or 0),
        card=row["gpu"],
        torch_version=version,
    )


@cache
def measured(
    config: Config, kind: str, batch: int, prompt: int, new_tokens: int, *, card: str, torch_version: str
) -> Predicted:
    """What was read off after the prefill or, in the same process, after the generation that followed."""
    with tonnage.virtual_gpu(card, torch_version=torch_version) as gpu, torch.no_grad():
        make = partial(ForCausalLM, kind, config)
        model = from_pretrained(make, dtype=torch.float16, stored=None, besides={}).eval()
        ids = torch.randint(config.vocabulary, (batch, prompt), device="cuda")
        mask = torch.ones(batch, prompt, dtype=torch.int64, device="cuda")
        start()
        model(ids, mask)
        if new_tokens:
            start()
            greedy_search(model, ids, mask, new_tokens=new_tokens)
        return predicted(gpu, allocated=torch.cuda.max_memory_allocated(), reserved=torch.cuda.max_memory_reserved())


def start() -> None:
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
