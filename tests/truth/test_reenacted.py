"""The models of the truth bench, written anew after old versions of transformers, have the published sizes."""

from __future__ import annotations

import pytest
import torch

from benchmarks.truth.reenacted import bert, gpt2, gpt_neox, llama, opt

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
