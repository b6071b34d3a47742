"""The models of the truth bench that are written anew after old versions of transformers are what those were."""

from __future__ import annotations

import pytest
import torch

from benchmarks.truth.reenacted import bert, gpt2, gpt_neox, llama, opt, t5
from tonnage.workload.libraries import load

PUBLISHED = {
    # The catalogue's figures (src/tonnage/data/models), each with its source there.
    "opt-350m": (opt.ForCausalLM, 331_196_416),
    "pythia-410m": (gpt_neox.ForCausalLM, 405_334_016),
    "gpt2-large": (gpt2.LMHeadModel, 774_030_080),
    "Llama-2-7b": (llama.ForCausalLM, 6_738_415_616),
    "Llama-2-13b": (lambda kind: llama.ForCausalLM(kind, llama.LLAMA_2_13B), 13_015_864_320),
    # 109,482,240 of BertModel, less its pooler of 768 * 768 + 768, with a dense layer, a norm and a bias for each word.
    "bert-base-uncased": (bert.ForMaskedLM, 109_482_240 - 590_592 + 590_592 + 2 * 768 + 30_522),
}


@pytest.mark.parametrize("name", PUBLISHED)
@pytest.mark.parametrize("kind", ["eager", "sdpa"])
def test_parameters(name: str, kind: str) -> None:
    make, parameters = PUBLISHED[name]
    with torch.device("meta"):
        model = make(kind)
    assert sum(p.numel() for p in model.parameters()) == parameters


def small_t5() -> torch.nn.Module:
    transformers = load("transformers")
    config = transformers.T5Config(
        vocab_size=40, d_model=16, d_kv=4, d_ff=24, num_layers=3, num_heads=4, decoder_start_token_id=0
    )
    return transformers.T5ForConditionalGeneration(config)


def test_t5_of_4_51_computes_what_that_of_today_does() -> None:
    pytest.importorskip("transformers")
    model = small_t5().eval()
    ids = torch.arange(1, 15).reshape(2, 7)
    mask = torch.tensor([[1] * 7, [1] * 4 + [0] * 3])
    today = model(input_ids=ids, attention_mask=mask, labels=ids)
    with t5.of_4_51():
        then = model(input_ids=ids, attention_mask=mask, labels=ids)
    assert torch.allclose(today.logits, then.logits, atol=1e-5)
    assert torch.allclose(today.loss, then.loss, atol=1e-5)


def test_t5_of_4_51_adds_a_mask_to_the_position_bias_once_for_a_stack() -> None:
    pytest.importorskip("transformers")
    model = small_t5()
    ids = torch.ones(2, 7, dtype=torch.int64)
    with t5.of_4_51(), torch.profiler.profile(record_shapes=True) as profile:
        model(input_ids=ids, attention_mask=torch.ones_like(ids), labels=ids)
    added = [event.input_shapes[:2] for event in profile.events() if event.name == "aten::add"]
    # encoder and cross-attention: (1, heads, queries, keys) + (batch, 1, 1, keys); decoder: (batch, 1, queries, keys)
    assert added.count([[1, 4, 7, 7], [2, 1, 1, 7]]) == 2
    assert added.count([[1, 4, 7, 7], [2, 1, 7, 7]]) == 1
