"""Caches of keys and values: what transformers' kinds take, per token, and what generation takes beside them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

import tonnage
from tonnage.virtual.gpu import VirtualGpu
from tonnage.workload.libraries import load

pytest.importorskip("transformers")

BATCH, HEADS, SIZE, LAYERS = 2, 4, 64, 3
TOKEN = BATCH * HEADS * SIZE * 2
"""Bytes of the keys, or the values, of one token of every sequence in one layer, in 16 bits."""


def config(**more):
    sizes = {"hidden_size": 8 * SIZE, "num_attention_heads": 8, "num_key_value_heads": HEADS, "intermediate_size": 64}
    return {"vocab_size": 1000, "num_hidden_layers": LAYERS, "max_position_embeddings": 256, **sizes, **more}


def states(tokens: int) -> tuple[torch.Tensor, torch.Tensor]:
    made = (torch.empty(BATCH, HEADS, tokens, SIZE, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    return next(made), next(made)


def traffic(gpu: VirtualGpu, act: Callable[[], object]) -> list[int]:
    """What `act` took and, with a minus, gave back, in order; what is under a token is left out."""
    start = len(gpu.recording.ledger)
    act()
    ledger = gpu.recording.ledger
    moved = [(1 if kind.name == "ALLOC" else -1) * ledger.sizes[n] for kind, n in list(ledger.events())[start:]]
    return [size for size in moved if abs(size) >= TOKEN]


def test_a_dynamic_cache_is_made_anew_one_tensor_at_a_time() -> None:
    """torch.cat: the longer tensor is there before the shorter one goes, for keys and then for values."""
    with tonnage.virtual_gpu("A100") as gpu:
        cache = load("transformers").DynamicCache()
        prompt, token = states(10), states(1)
        assert traffic(gpu, lambda: cache.update(*prompt, 0)) == [10 * TOKEN, 10 * TOKEN]
        for length in (11, 12):
            assert traffic(gpu, lambda: cache.update(*token, 0)) == [
                length * TOKEN, -(length - 1) * TOKEN, length * TOKEN, -(length - 1) * TOKEN
            ]  # fmt: skip


def test_a_static_cache_is_taken_whole_and_written_into() -> None:
    transformers = load("transformers")
    with tonnage.virtual_gpu("A100") as gpu:
        cache = transformers.StaticCache(transformers.LlamaConfig(**config()), max_cache_len=64)
        prompt, token = states(10), states(1)
        assert traffic(gpu, lambda: cache.update(*prompt, 0)) == [64 * TOKEN, 64 * TOKEN]
        assert traffic(gpu, lambda: cache.update(*token, 0)) == []


def test_a_sliding_cache_keeps_the_whole_prompt_until_the_next_token() -> None:
    """The last 15 of 40 tokens are kept as a view; the next token makes 16, and from then on 15 of 16 are a view."""
    transformers = load("transformers")
    with tonnage.virtual_gpu("A100") as gpu:
        cache = transformers.DynamicCache(config=transformers.MistralConfig(**config(sliding_window=16)))
        prompt, token = states(40), states(1)
        assert traffic(gpu, lambda: cache.update(*prompt, 0)) == [40 * TOKEN, 40 * TOKEN]
        for before in (40, 16):
            assert traffic(gpu, lambda: cache.update(*token, 0)) == [
                16 * TOKEN, 16 * TOKEN, -before * TOKEN, -before * TOKEN
            ]  # fmt: skip


def test_a_tuple_of_keys_and_values_is_there_twice_at_the_end_of_a_step() -> None:
    """transformers up to 4.35: a step gives a new tuple of all layers, and the old one is an argument until it ends."""

    def step(past: list[tuple[torch.Tensor, torch.Tensor]]) -> list[tuple[torch.Tensor, torch.Tensor]]:
        return [tuple(torch.cat([old, new], dim=2) for old, new in zip(layer, token, strict=True)) for layer in past]

    with tonnage.virtual_gpu("A100"):
        past, token = [states(63) for _ in range(LAYERS)], states(1)
        torch.cuda.reset_peak_memory_stats()
        past = step(past)
        kept = torch.cuda.memory_allocated()
        assert torch.cuda.max_memory_allocated() - kept == LAYERS * 2 * 63 * TOKEN
        assert kept == LAYERS * 2 * 64 * TOKEN + 2 * TOKEN


@pytest.fixture
def llama():
    transformers = load("transformers")
    with tonnage.virtual_gpu("A100") as gpu:
        with gpu.host():
            model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**config())).to(torch.bfloat16)
        yield gpu, model.cuda().eval()


def generated(model, prompt: int, new: int, **more):
    ids = torch.randint(3, 1000, (BATCH, prompt), device="cuda")
    mask = torch.ones_like(ids)
    length = {"min_new_tokens": new, "max_new_tokens": new, "pad_token_id": 0}
    return model.generate(ids, attention_mask=mask, return_dict_in_generate=True, do_sample=False, **length, **more)


@pytest.mark.parametrize("new", [2, 9])
def test_generation_leaves_a_key_and_a_value_for_every_token_but_the_last(llama, new: int) -> None:
    _, model = llama
    cache = generated(model, 32, new).past_key_values
    before = torch.cuda.memory_allocated()
    del cache
    assert before - torch.cuda.memory_allocated() == LAYERS * 2 * (32 + new - 1) * TOKEN


def test_every_step_casts_the_last_logits_to_fp32_and_makes_the_ids_anew(llama) -> None:
    """generation/utils.py: `outputs.logits[:, -1, :].to(copy=True, dtype=torch.float32)`, then `torch.cat` of ids."""
    gpu, model = llama
    ops_before = len(gpu.recording.trace.ops)
    generated(model, 32, 5)
    recording = gpu.recording
    made = [
        (recording.trace.ops[op].name, size)
        for op, size in zip(recording.ledger.ops, recording.ledger.sizes, strict=True)
        if op >= ops_before
    ]
    assert made.count(("aten._to_copy.default", BATCH * 1000 * 4)) == 5
    for length in range(33, 38):
        assert ("aten.cat.default", BATCH * length * 8) in made


def test_the_logits_of_a_prompt_are_only_those_of_its_last_token(llama) -> None:
    """generate asks for `logits_to_keep=1`: no tensor of prompt x vocabulary is made."""
    gpu, model = llama
    generated(model, 32, 2)
    made = {spec.shape for op in gpu.recording.trace.ops for spec in op.outputs}
    assert (BATCH, 1, 1000) in made
    assert (BATCH, 32, 1000) not in made
