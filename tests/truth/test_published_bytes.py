"""Published measurements, to the byte: each script as its author ran it, on the virtual card instead of the real one.

`published.jsonl` holds the rows with their sources. Nothing here is tuned to a row: a script is what the row says was
run, and the only card and version it names are the row's.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

import tonnage
from tonnage.workload.libraries import load

pytest.importorskip("transformers")
transformers = load("transformers")

ROWS = {
    row["id"]: row
    for row in map(json.loads, Path(__file__).with_name("published.jsonl").read_text(encoding="utf-8").splitlines())
}

ROBERTA = {"vocab_size": 50265, "max_position_embeddings": 514, "type_vocab_size": 1}
LARGE = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}


def before_june_2021(model: nn.Module) -> nn.Module:
    """BERT's embeddings got a token_type_ids buffer with transformers #11252; these rows are older."""
    del model.base_model.embeddings.token_type_ids
    return model


def bert_three_labels() -> nn.Module:
    config = transformers.BertConfig(vocab_size=28996, num_labels=3)
    return before_june_2021(transformers.BertForSequenceClassification(config))


def gpt2(**config: int) -> nn.Module:
    """GPT-2 as the library of that time built it: transformers 4.5 registered a causal mask and a scalar per layer."""
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(**config))
    for block in model.transformer.h:
        block.attn.register_buffer("bias", torch.ones(1, 1, 1024, 1024, dtype=torch.uint8).tril())
        block.attn.register_buffer("masked_bias", torch.tensor(-1e4))
    return model


def roberta(head: str, **config: int) -> nn.Module:
    return before_june_2021(getattr(transformers, head)(transformers.RobertaConfig(**ROBERTA, **config)))


def bart(**config: int) -> nn.Module:
    return transformers.BartForConditionalGeneration(transformers.BartConfig(**config))


MODELS: dict[str, Callable[[], nn.Module]] = {
    "hfinit-bert-base-cased-3": bert_three_labels,
    "hfinit-gpt2-lm": gpt2,
    "hfinit-gpt2-v50000": lambda: gpt2(vocab_size=50000),
    "hfinit-distilgpt2-lm": lambda: gpt2(n_layer=6),
    "hfinit-gpt2-medium-lm": lambda: gpt2(n_layer=24, n_embd=1024, n_head=16),
    "hfinit-roberta-base-mlm": lambda: roberta("RobertaForMaskedLM"),
    "hfinit-roberta-base-qa": lambda: roberta("RobertaForQuestionAnswering"),
    "hfinit-roberta-large-mc": lambda: roberta("RobertaForMultipleChoice", **LARGE),
    "hfinit-bart-large-50265": lambda: bart(vocab_size=50265),
    "hfinit-distilbart-12-6": lambda: bart(vocab_size=50264, decoder_layers=6),
}


@pytest.mark.parametrize(
    "row", [row for row in ROWS.values() if row["group"] == "hf_trainer_init"], ids=lambda r: r["id"]
)
def test_weights_on_the_card(row: dict) -> None:
    with tonnage.virtual_gpu("A100") as gpu:
        with gpu.host():
            model = MODELS[row["id"]]()
        before = torch.cuda.memory_allocated()
        model.to("cuda")
        assert torch.cuda.memory_allocated() - before == row["value_bytes"]


def two_linears() -> tuple[int, int]:
    """pytorch#74443: allocated after the forward pass and after backward."""
    model = nn.Sequential(nn.Linear(1024, 1024, bias=False), nn.Linear(1024, 1024, bias=False)).cuda()
    x = torch.rand(4, 256, 1024).cuda()
    y = model(x).sum()
    forward = torch.cuda.memory_allocated()
    y.backward()
    return forward, torch.cuda.memory_allocated()


def test_two_linears_before_workspaces_were_counted() -> None:
    with tonnage.virtual_gpu("V100", torch_version="1.13"):
        forward, backward = two_linears()
    assert forward == ROWS["pt-74443-a"]["value_bytes"]
    assert backward == ROWS["pt-74443-b"]["value_bytes"]


def test_the_workspace_that_stays() -> None:
    with tonnage.virtual_gpu("A10G", torch_version="2.0.0"):

        def forward() -> None:
            model = nn.Linear(1, 1, device="cuda")
            model(torch.randn(1, 1, device="cuda"))

        forward()
        torch.cuda.synchronize()
        assert torch.cuda.memory_allocated() == ROWS["pt-95668"]["value_bytes"]
    with tonnage.virtual_gpu("A10G", torch_version="1.13"):
        forward()
        assert torch.cuda.memory_allocated() == 0, "the row's note: torch 1.13 printed 0"


def test_every_row_is_run() -> None:
    other = {"pt-74443-a", "pt-74443-b", "pt-95668"}
    assert set(ROWS) == set(MODELS) | other
