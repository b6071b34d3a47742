"""Labels for a transformers model, so that training goes through the model's own loss."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from tonnage.workload import tensors

if TYPE_CHECKING:
    from tonnage.workload.transformers_inputs import Maker

_CLASSES = ("SequenceClassification", "ImageClassification", "AudioClassification", "VideoClassification")
_TOKENS = (
    "MaskedLM",
    "CausalLM",
    "LMHeadModel",
    "LMHead",
    "ConditionalGeneration",
    "EncoderDecoderModel",
    "PreTraining",
)
_CTC_LABELS = 20


def add_labels(maker: Maker) -> None:
    """Adds what the model's loss needs, after the task in its class name; says so where it has no such loss."""
    if "return_loss" in maker.parameters:
        maker.put("return_loss", True, "training", "the model's own contrastive loss")
    elif "start_positions" in maker.parameters and "end_positions" in maker.parameters:
        for name in ("start_positions", "end_positions"):
            maker.put(name, _choice(maker, maker.seq), "batch", "random positions")
    elif "labels" in maker.parameters:
        _add_task_labels(maker)
    if "next_sentence_label" in maker.parameters:
        maker.put("next_sentence_label", _choice(maker, 2), "batch", "random answers")


def _add_task_labels(maker: Maker) -> None:
    name = maker.class_name
    if name.endswith(_CLASSES):
        _put(maker, _class_labels(maker), "batch")
    elif name.endswith("MultipleChoice"):
        _put(maker, _choice(maker, maker.kwargs["input_ids"].shape[1]), "batch")
    elif name.endswith("NextSentencePrediction"):
        _put(maker, _choice(maker, 2), "batch")
    elif name.endswith("TokenClassification"):
        _put(maker, tensors.random_ids((maker.batch, maker.seq), maker.config.num_labels), maker.seq_origin)
    elif name.endswith("SemanticSegmentation"):
        (height, width), origin = maker.image_sides()
        _put(maker, tensors.random_ids((maker.batch, height, width), maker.config.num_labels), origin)
    elif name.endswith("CTC"):
        _put(maker, maker.random_ids((maker.batch, _CTC_LABELS)), "tonnage's default")
    elif name.endswith(_TOKENS) or maker.decodes:
        length = maker.decoder_length() if maker.decodes else maker.seq
        _put(maker, maker.random_ids((maker.batch, length)), maker.seq_origin)
    else:
        maker.guesses.append(f"labels: none, those of {name} cannot be guessed")


def _class_labels(maker: Maker) -> torch.Tensor:
    count = maker.config.num_labels
    if count == 1:  # the library takes one label for a regression
        return tensors.zeros((maker.batch,), tensors.float_dtype(maker.model))
    return _choice(maker, count)


def _choice(maker: Maker, count: int) -> torch.Tensor:
    return tensors.random_ids((maker.batch,), count)


def _put(maker: Maker, labels: torch.Tensor, origin: str) -> None:
    shape = " × ".join(map(str, labels.shape))
    maker.put("labels", labels, origin, f"{shape} random labels")
