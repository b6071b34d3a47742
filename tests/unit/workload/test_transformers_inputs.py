"""What is guessed for each family of transformers, on configs small enough to run."""

from __future__ import annotations

import pytest

from tonnage.errors import BadOption
from tonnage.scenario import Scenario
from tonnage.workload import libraries, resolve, run

transformers = libraries.load("transformers")

TEXT = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64, "vocab_size": 99}
ROPE = TEXT | {"num_key_value_heads": 1, "head_dim": 16, "max_position_embeddings": 300}
VISION = {k: v for k, v in TEXT.items() if k != "vocab_size"} | {"image_size": 32, "patch_size": 8}
CONV = {"hidden_sizes": [8, 16, 16, 16], "depths": [1, 1, 1, 1]}
BACKBONE = {"model_type": "resnet", "embedding_size": 8, "layer_type": "basic", **CONV}
T5 = {"d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 1, "num_heads": 2, "vocab_size": 99}
WHISPER = {
    "d_model": 32,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "num_mel_bins": 20,
    "max_source_positions": 30,
    "max_target_positions": 40,
    "vocab_size": 99,
    "pad_token_id": 0,
    "decoder_start_token_id": 1,
}
SAM_VISION = VISION | {"output_channels": 16, "num_pos_feats": 8, "mlp_dim": 64, "global_attn_indexes": [0]}
TOKENS = {"input_ids": (2, 24), "attention_mask": (2, 24)}
IMAGE = {"pixel_values": (2, 3, 32, 32)}

# Class, its config, the inputs of an inference with batch 2 and seq 24 where it takes tokens, and what training adds.
FAMILIES = [
    ("BertModel", TEXT, TOKENS, {}),
    ("BertForMaskedLM", TEXT, TOKENS, {"labels": (2, 24)}),
    ("BertForSequenceClassification", TEXT, TOKENS, {"labels": (2,)}),
    ("BertForTokenClassification", TEXT, TOKENS, {"labels": (2, 24)}),
    ("BertForQuestionAnswering", TEXT, TOKENS, {"start_positions": (2,), "end_positions": (2,)}),
    ("BertForPreTraining", TEXT, TOKENS, {"labels": (2, 24), "next_sentence_label": (2,)}),
    ("RobertaForMaskedLM", TEXT | {"max_position_embeddings": 66}, TOKENS, {"labels": (2, 24)}),
    ("DistilBertModel", {"dim": 32, "n_layers": 1, "n_heads": 2, "hidden_dim": 64, "vocab_size": 99}, TOKENS, {}),
    ("GPT2LMHeadModel", {"n_embd": 32, "n_layer": 1, "n_head": 2, "vocab_size": 99}, TOKENS, {"labels": (2, 24)}),
    ("LlamaForCausalLM", ROPE, TOKENS, {"labels": (2, 24)}),
    ("Qwen2ForCausalLM", ROPE, TOKENS, {"labels": (2, 24)}),
    ("Qwen3ForCausalLM", ROPE, TOKENS, {"labels": (2, 24)}),
    ("MistralForCausalLM", ROPE, TOKENS, {"labels": (2, 24)}),
    ("MixtralForCausalLM", ROPE | {"num_local_experts": 2}, TOKENS, {"labels": (2, 24)}),
    ("Gemma2ForCausalLM", ROPE, TOKENS, {"labels": (2, 24)}),
    ("Gemma3ForCausalLM", ROPE, TOKENS, {"labels": (2, 24)}),
    ("PhiForCausalLM", TEXT, TOKENS, {"labels": (2, 24)}),
    ("FalconForCausalLM", TEXT, TOKENS, {"labels": (2, 24)}),
    ("MambaForCausalLM", {"hidden_size": 32, "num_hidden_layers": 1, "vocab_size": 99}, TOKENS, {"labels": (2, 24)}),
    (
        "T5ForConditionalGeneration",
        T5,
        TOKENS | {"decoder_input_ids": (2, 1)},
        {"labels": (2, 24), "decoder_input_ids": (2, 24)},
    ),
    ("ViTForImageClassification", VISION, IMAGE, {"labels": (2,)}),
    ("DeiTForImageClassification", VISION, IMAGE, {"labels": (2,)}),
    (
        "SwinForImageClassification",
        {"image_size": 32, "patch_size": 4, "embed_dim": 8, "depths": [1, 1], "num_heads": [1, 2], "window_size": 4},
        IMAGE,
        {"labels": (2,)},
    ),
    ("ConvNextForImageClassification", CONV | {"image_size": 32}, IMAGE, {"labels": (2,)}),
    ("SegformerForSemanticSegmentation", {}, {"pixel_values": (2, 3, 512, 512)}, None),
    (
        "DetrForObjectDetection",
        {
            "use_timm_backbone": False,
            "use_pretrained_backbone": False,
            "backbone": None,
            "backbone_config": BACKBONE,
            "d_model": 16,
            "encoder_layers": 1,
            "decoder_layers": 1,
            "encoder_attention_heads": 2,
            "decoder_attention_heads": 2,
            "num_queries": 4,
        },
        {"pixel_values": (2, 3, 800, 800), "pixel_mask": (2, 800, 800)},
        None,
    ),
    (
        "CLIPModel",
        {
            "text_config": TEXT | {"max_position_embeddings": 30, "eos_token_id": 98, "bos_token_id": 97},
            "vision_config": VISION,
        },
        TOKENS | IMAGE,
        {},
    ),
    (
        "SamModel",
        {
            "vision_config": SAM_VISION,
            "prompt_encoder_config": {
                "hidden_size": 16,
                "image_size": 32,
                "patch_size": 8,
                "image_embedding_size": 4,
                "mask_input_channels": 4,
            },
            "mask_decoder_config": {
                "hidden_size": 16,
                "num_attention_heads": 2,
                "mlp_dim": 16,
                "num_hidden_layers": 1,
                "iou_head_hidden_dim": 16,
            },
        },
        IMAGE | {"input_boxes": (2, 1, 4)},
        {},
    ),
]


def config_of(class_name: str, fields: dict[str, object]):
    config = getattr(transformers, class_name).config_class(**fields)
    config.architectures = [class_name]
    return config


def shapes(ran) -> dict[str, tuple[int, ...]]:
    return {spec.name: spec.shape for spec in ran.inputs}


def scenario(expected: dict[str, object], **more) -> Scenario:
    return Scenario(batch=2, seq=24 if "input_ids" in expected else None, **more)


@pytest.mark.parametrize(("class_name", "fields", "expected", "labels"), FAMILIES, ids=[row[0] for row in FAMILIES])
def test_inference_and_training_run_with_guessed_inputs(class_name, fields, expected, labels):
    workload = resolve(config_of(class_name, fields))
    ran = run(workload, scenario(expected), device="cpu")
    assert shapes(ran) == expected
    assert all(any(guess.startswith(name) for guess in ran.guesses) for name in expected)
    if labels is not None:
        ran = run(workload, scenario(expected, mode="training"), device="cpu")
        assert shapes(ran) == expected | labels
        own = labels or class_name == "CLIPModel"
        assert any(guess.startswith("loss: the model's own" if own else "loss: mean of") for guess in ran.guesses)


def test_whisper_takes_features_of_its_config_and_seq_for_its_decoder():
    workload = resolve(config_of("WhisperForConditionalGeneration", WHISPER))
    features = {"input_features": (2, 20, 60)}
    assert shapes(run(workload, Scenario(batch=2), device="cpu")) == features | {"decoder_input_ids": (2, 1)}
    assert shapes(run(workload, Scenario(batch=2, seq=8), device="cpu")) == features | {"decoder_input_ids": (2, 8)}
    training = run(workload, Scenario(batch=2, mode="training"), device="cpu")
    assert shapes(training) == features | {"labels": (2, 40)}  # 128, or as many as there are positions


def test_a_live_model_is_asked_like_its_config():
    model = transformers.BertForMaskedLM(transformers.BertConfig(**TEXT))
    assert shapes(run(resolve(model), Scenario(batch=2, seq=24), device="cpu")) == TOKENS


@pytest.mark.parametrize(
    ("class_name", "fields", "most"),
    [
        ("BertModel", TEXT | {"max_position_embeddings": 40}, 40),
        ("GPT2LMHeadModel", {"n_embd": 32, "n_layer": 1, "n_head": 2, "vocab_size": 99, "n_positions": 40}, 40),
        ("RobertaModel", TEXT | {"max_position_embeddings": 42, "pad_token_id": 1}, 40),  # counts from pad_token_id + 1
        ("OPTForCausalLM", TEXT | {"max_position_embeddings": 40, "ffn_dim": 64, "word_embed_proj_dim": 32}, 40),
        ("GPTJForCausalLM", {"n_embd": 32, "n_layer": 1, "n_head": 2, "n_positions": 40, "rotary_dim": 4}, 40),
    ],
)
def test_seq_beyond_absolute_positions(class_name, fields, most):
    workload = resolve(config_of(class_name, fields))
    run(workload, Scenario(seq=most), device="cpu")
    with pytest.raises(BadOption, match=f"seq={most + 1} is beyond the {most} positions of {class_name}") as caught:
        run(workload, Scenario(seq=most + 1), device="cpu")
    assert f"seq={most}" in caught.value.hint
    assert f"seq was not given: {most} tokens taken" in run(workload, Scenario(), device="cpu").guesses


def test_seq_beyond_rotary_positions_is_told_and_allowed():
    ran = run(resolve(config_of("LlamaForCausalLM", ROPE)), Scenario(seq=301), device="cpu")
    assert shapes(ran)["input_ids"] == (1, 301)
    assert any("beyond max_position_embeddings 300" in guess for guess in ran.guesses)


def test_relative_positions_have_no_end():
    ran = run(resolve(config_of("T5ForConditionalGeneration", T5)), Scenario(seq=700), device="cpu")
    assert shapes(ran)["input_ids"] == (1, 700)


@pytest.mark.parametrize(
    ("class_name", "fields", "option", "said"),
    [
        ("ViTForImageClassification", VISION, {"seq": 8}, "takes no tokens"),
        ("BertModel", TEXT, {"image_size": 32}, "takes no images"),
        (
            "LlavaForConditionalGeneration",
            {"text_config": {"model_type": "llama"} | ROPE, "vision_config": VISION},
            {"image_size": 32},
            "only between tokens",
        ),
    ],
)
def test_options_that_mean_nothing_to_the_model(class_name, fields, option, said):
    with pytest.raises(BadOption, match=said) as caught:
        run(resolve(config_of(class_name, fields)), Scenario(**option), device="cpu")
    assert caught.value.hint


def test_another_image_size_is_interpolated():
    ran = run(resolve(config_of("ViTForImageClassification", VISION)), Scenario(image_size=48), device="cpu")
    assert shapes(ran) == {"pixel_values": (1, 3, 48, 48)}
    assert any("interpolate_pos_encoding" in guess for guess in ran.guesses)


def test_images_between_tokens_are_left_out_and_told():
    fields = {"text_config": {"model_type": "llama"} | ROPE, "vision_config": VISION, "image_token_index": 50}
    ran = run(resolve(config_of("LlavaForConditionalGeneration", fields)), Scenario(batch=2, seq=24), device="cpu")
    assert shapes(ran) == TOKENS
    assert any(guess.startswith("text only") for guess in ran.guesses)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_attention_is_the_libraries_switch(attention):
    seen = []
    workload = resolve(config_of("BertModel", TEXT))
    run(workload, Scenario(attention=attention), device="cpu", watch=lambda m: seen.append(m.config))
    assert seen[0]._attn_implementation == attention


def test_attention_of_a_live_model_is_changed_in_the_copy_alone():
    model = transformers.BertModel(transformers.BertConfig(**TEXT))
    seen = []
    run(resolve(model), Scenario(attention="eager"), device="cpu", watch=lambda m: seen.append(m.config))
    assert seen[0]._attn_implementation == "eager"
    assert model.config._attn_implementation == "sdpa"


def test_checkpointing_is_the_libraries_switch():
    seen = []
    workload = resolve(config_of("BertModel", TEXT))
    run(workload, Scenario(checkpointing=True, mode="training"), device="cpu", watch=seen.append)
    assert seen[0].is_gradient_checkpointing


def test_a_config_is_not_changed_and_its_dtype_not_followed():
    config = config_of("LlamaForCausalLM", ROPE | {"dtype": "bfloat16"})
    before = config.to_dict()
    seen = []
    run(resolve(config), Scenario(), device="cpu", watch=lambda m: seen.append({p.dtype for p in m.parameters()}))
    assert config.to_dict() == before
    assert [str(dtype) for dtype in seen[0]] == ["torch.float32"]
