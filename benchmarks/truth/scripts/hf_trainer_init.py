"""What the weights of a model take once they are on the card, as transformers' Trainer published it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

import tonnage
from benchmarks.truth.rows import Predicted, Row, predicted
from tonnage.workload.libraries import load

transformers = load("transformers")

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


def run(row: Row) -> Predicted:
    with tonnage.virtual_gpu("A100") as gpu:
        with gpu.host():
            model = MODELS[row.id]()
        before = torch.cuda.memory_allocated()
        model.to("cuda")
        return predicted(gpu, allocated=torch.cuda.memory_allocated() - before)
