"""OctoCoder under a text-generation pipeline, as transformers' guide to optimizing LLMs printed it in 2023."""

from __future__ import annotations

import torch
from torch import nn

import tonnage
from benchmarks.truth.reenacted.loading import default_dtype
from benchmarks.truth.rows import NotRun, Predicted, Row, predicted
from tonnage.workload.libraries import load

OCTOCODER: dict[str, int] = {
    "vocab_size": 49152,
    "n_positions": 8192,
    "n_embd": 6144,
    "n_layer": 40,
    "n_head": 48,
    "n_inner": 24576,
    "multi_query": True,
    "bos_token_id": 0,
    "eos_token_id": 0,
}
PROMPT, NEW_TOKENS = 20, 60
"""The prompt is one question; a token of it is 20 KB of keys and values."""


def octocoder() -> nn.Module:
    """GPTBigCode as of transformers 4.33, which registered a causal mask of all positions."""
    transformers = load("transformers")
    with default_dtype(torch.bfloat16):
        model = transformers.GPTBigCodeForCausalLM(transformers.GPTBigCodeConfig(**OCTOCODER))
    side = OCTOCODER["n_positions"]
    model.transformer.register_buffer("bias", torch.ones(side, side, dtype=torch.bool).tril(), persistent=False)
    return model


def run(row: Row) -> Predicted:
    if "bitsandbytes" in row["dtype"]:
        raise NotRun("its weights are bitsandbytes', whose kernels are not modelled")
    if "long" in row["id"]:
        raise NotRun("the length of its prompt was not printed, and it decides")
    with tonnage.virtual_gpu("A100 40GB", torch_version="2.0.1") as gpu:
        with gpu.host():
            model = octocoder()
        model = model.to("cuda").eval()
        ids = torch.randint(OCTOCODER["vocab_size"], (1, PROMPT), device="cuda")
        length = {"min_new_tokens": NEW_TOKENS, "max_new_tokens": NEW_TOKENS, "pad_token_id": 0}
        model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, **length)
        return predicted(gpu, allocated=torch.cuda.max_memory_allocated())
