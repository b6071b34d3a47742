from __future__ import annotations

import string

import pytest
import torch
from torch import nn

import tonnage
from tonnage.analyses.components import Explanation
from tonnage.analyses.structure import read_structure
from tonnage.render.sentences import LANGUAGES, fill
from tonnage.scenario import Scenario
from tonnage.workload import resolve
from tonnage.workload.blueprint import members_of, modules_of
from tonnage.workload.catalogue import all_entries

ENTRIES = list({entry.architecture: entry.name for entry in all_entries()}.values())
VISION = ["torchvision:vgg16", "torchvision:mobilenet_v2", "torchvision:swin_t", "timm:resnext50_32x4d"]


def built(name: str) -> nn.Module:
    with torch.device("meta"):
        return resolve(name).build(Scenario())


def explanations(model: nn.Module) -> dict[str, Explanation]:
    """What is said of each part of a model that was not run, by path."""
    return of_structure(read_structure(modules_of(model), list(members_of(model))))


def explanations_of_run(model: nn.Module, *shape: int) -> dict[str, Explanation]:
    recording = tonnage.weigh(model, inputs=((torch.zeros(shape),), {})).recording
    return of_structure(read_structure(recording.trace.modules, recording.trace.parameters, recording=recording))


def of_structure(structure) -> dict[str, Explanation]:
    found = {}

    def walk(node):
        if node.explanation is not None:
            found[node.path] = node.explanation
        for child in node.children:
            walk(child)

    walk(structure.root)
    return found


def kinds(model: nn.Module) -> dict[str, str]:
    return {path: explanation.kind for path, explanation in explanations(model).items()}


BERT = "encoder.layer.{0-11}"
T5 = "decoder.block.{1-5}"
LLAMA = "model.layers.{0-31}"

# Sizes are those of the published configs; the arithmetic is done here and not there.
PUBLISHED = [
    ("bert-base-uncased", "embeddings.word_embeddings", "token_embedding",
     {"rows": 30522, "width": 768, "parameters": 23_440_896}),
    ("bert-base-uncased", "embeddings.position_embeddings", "position_embedding", {"rows": 512}),
    ("bert-base-uncased", "embeddings.token_type_embeddings", "segment_embedding", {"rows": 2, "parameters": 1536}),
    ("bert-base-uncased", "embeddings.LayerNorm", "layer_norm", {"width": "768", "parameters": 1536}),
    ("bert-base-uncased", f"{BERT}.attention.self", "self_attention",
     {"width": 768, "heads": 12, "head_size": 64, "inner": 768}),
    ("bert-base-uncased", BERT, "transformer_block", {"width": 768, "inner": 3072}),
    ("bert-base-uncased", f"{BERT}.intermediate.intermediate_act_fn", "activation", {"name": "GELU"}),
    ("bert-base-uncased", f"{BERT}.output.dropout", "dropout", {"rate": "0.1"}),
    ("bert-base-uncased", "encoder", "encoder_stack", {"blocks": 12, "type": "BertLayer"}),
    ("bert-base-uncased", "pooler", "pooler", {"width": 768, "activation": "Tanh", "parameters": 590_592}),
    ("t5-small", "shared", "token_embedding", {"rows": 32128, "width": 512}),
    ("t5-small", "encoder.embed_tokens", "tied_embedding", {"same": "shared.weight"}),
    ("t5-small", "decoder.block.0.layer.0.SelfAttention.relative_attention_bias", "relative_position_bias",
     {"buckets": 32, "heads": 8, "parameters": 256}),
    ("t5-small", f"{T5}.layer.0.SelfAttention", "self_attention", {"heads": 8, "head_size": 64}),
    ("t5-small", f"{T5}.layer.1.EncDecAttention", "cross_attention", {"heads": 8, "head_size": 64, "inner": 512}),
    ("t5-small", f"{T5}.layer.2.DenseReluDense", "feed_forward_with",
     {"width": 512, "inner": 2048, "activation": "ReLU", "parameters": 2 * 512 * 2048}),
    ("t5-small", f"{T5}.layer.2.layer_norm", "rms_norm", {"width": 512}),
    ("t5-small", T5, "cross_block", {"width": 512, "inner": 2048}),
    ("t5-small", "lm_head", "tied_language_model_head", {"vocabulary": 32128, "same": "shared.weight"}),
    ("google/mt5-small", "encoder.final_layer_norm", "rms_norm", {"width": 512}),
    ("google/flan-t5-small", "decoder.block.{1-7}.layer.1.EncDecAttention", "cross_attention",
     {"width": 512, "heads": 6, "head_size": 64, "inner": 384}),
    ("google/flan-t5-small", "encoder.block.{1-7}.layer.1.DenseReluDense", "gated_feed_forward_with",
     {"width": 512, "inner": 1024, "activation": "GELU (tanh)", "parameters": 3 * 512 * 1024}),
    ("gpt2", "transformer.wpe", "position_embedding", {"rows": 1024, "width": 768}),
    ("gpt2", "transformer.h.{0-11}.attn", "self_attention", {"width": 768, "heads": 12, "head_size": 64}),
    ("gpt2", "transformer.h.{0-11}.mlp", "feed_forward_with",
     {"width": 768, "inner": 3072, "parameters": 2 * 768 * 3072 + 3072 + 768}),
    ("gpt2", "transformer", "stack", {"blocks": 12, "type": "GPT2Block"}),
    ("meta-llama/Llama-3.1-8B", f"{LLAMA}.self_attn", "grouped_query_attention",
     {"width": 4096, "heads": 32, "kv_heads": 8, "group": 4, "head_size": 128, "inner": 4096, "kv_inner": 1024}),
    ("meta-llama/Llama-3.1-8B", f"{LLAMA}.mlp", "gated_feed_forward_with",
     {"width": 4096, "inner": 14336, "activation": "SiLU", "parameters": 3 * 4096 * 14336}),
    ("meta-llama/Llama-3.1-8B", "model.rotary_emb", "rotary", {"size": 128, "pairs": 64}),
    ("meta-llama/Llama-3.1-8B", "lm_head", "language_model_head",
     {"vocabulary": 128_256, "width": 4096, "parameters": 128_256 * 4096}),
    ("meta-llama/Llama-2-7b-hf", f"{LLAMA}.self_attn", "self_attention", {"heads": 32, "head_size": 128}),
    ("google/gemma-2b", "model.layers.{0-17}.self_attn", "multi_query_attention",
     {"width": 2048, "heads": 8, "kv_heads": 1, "head_size": 256, "inner": 2048, "kv_inner": 256}),
    ("tiiuae/falcon-7b", "transformer.h.{0-31}.self_attention", "multi_query_attention",
     {"width": 4544, "heads": 71, "head_size": 64, "inner": 4544, "kv_inner": 64}),
    ("tiiuae/falcon-40b", "transformer.h.{0-59}.self_attention", "grouped_query_attention",
     {"width": 8192, "heads": 128, "kv_heads": 8, "group": 16, "head_size": 64, "kv_inner": 512}),
    ("microsoft/Phi-3-mini-4k-instruct", f"{LLAMA}.self_attn", "self_attention", {"heads": 32, "head_size": 96}),
    ("EleutherAI/pythia-70m", "gpt_neox.rotary_emb", "rotary", {"size": 16, "pairs": 8}),  # a quarter of 64
    ("mistralai/Mixtral-8x7B-v0.1", f"{LLAMA}.mlp.gate", "router",
     {"experts": 8, "picked": 2, "width": 4096, "parameters": 8 * 4096}),
    ("mistralai/Mixtral-8x7B-v0.1", f"{LLAMA}.mlp.experts", "experts",
     {"experts": 8, "picked": 2, "each": 3 * 4096 * 14336, "parameters": 8 * 3 * 4096 * 14336,
      "active": 2 * 3 * 4096 * 14336}),
    ("mistralai/Mixtral-8x7B-v0.1", LLAMA, "expert_block", {"experts": 8, "picked": 2}),
    ("Qwen/Qwen3-30B-A3B", "model.layers.{0-47}.mlp.experts", "experts",
     {"experts": 128, "picked": 8, "each": 3 * 2048 * 768}),
    ("answerdotai/ModernBERT-base", "layers.0.mlp", "gated_feed_forward_with",
     {"width": 768, "inner": 1152, "parameters": 3 * 768 * 1152}),
    ("answerdotai/ModernBERT-base", "final_norm", "layer_norm_no_bias", {"width": "768"}),
    ("allenai/OLMo-1B-hf", "model.norm", "layer_norm_plain", {"width": "2048"}),
    ("state-spaces/mamba-130m-hf", "backbone.layers.{0-23}.mixer", "ssm_mixer",
     {"width": 768, "inner": 1536, "state": 16, "states": 24_576, "kernel": 4, "rank": 48, "selected": 80}),
    ("state-spaces/mamba-130m-hf", "backbone.layers.{0-23}.mixer.conv1d", "depthwise_convolution",
     {"inputs": 1536, "outputs": 1536, "kernel": "4", "arithmetic": "(4 + 1)*1536", "parameters": 7680}),
    ("state-spaces/mamba-130m-hf", "backbone", "stack", {"blocks": 24, "type": "MambaBlock"}),
    ("openai/whisper-tiny", "model.encoder.embed_positions", "fixed_position_embedding", {"rows": 1500, "width": 384}),
    ("openai/whisper-tiny", "model.decoder.layers.{0-3}.self_attn", "self_attention", {"heads": 6, "head_size": 64}),
    ("openai/whisper-tiny", "model.decoder.layers.{0-3}.encoder_attn", "cross_attention", {"heads": 6, "inner": 384}),
    ("openai/whisper-tiny", "model.encoder.layers.{0-3}", "transformer_block", {"width": 384, "inner": 1536}),
    ("openai/whisper-tiny", "proj_out", "tied_language_model_head", {"vocabulary": 51865}),
    ("google/vit-base-patch16-224", "vit.embeddings", "vision_positions",
     {"patches": 196, "positions": 197, "parameters": 198 * 768}),
    ("google/vit-base-patch16-224", "vit.embeddings.patch_embeddings.projection", "patch_embedding_sized",
     {"image": "224 x 224", "patch": "16 x 16", "grid": "14 x 14", "patches": 196, "channels": 3,
      "arithmetic": "(16*16*3 + 1)*768", "parameters": 590_592}),
    ("google/vit-base-patch16-224", "classifier", "classifier",
     {"width": 768, "classes": 1000, "arithmetic": "(768 + 1)*1000", "parameters": 769_000}),
    ("microsoft/swin-tiny-patch4-window7-224",
     "swin.encoder.layers.0.blocks.1.attention.relative_position_bias", "window_bias",
     {"window": "7 x 7", "heads": 3, "offsets": "(2*7 - 1) x (2*7 - 1) = 169", "parameters": 507}),
    ("microsoft/swin-tiny-patch4-window7-224", "swin.encoder.layers.3.blocks.1.attention", "self_attention",
     {"width": 768, "heads": 24, "head_size": 32}),
    ("facebook/wav2vec2-base", "feature_extractor.conv_layers.0.layer_norm", "group_norm",
     {"groups": 512, "channels": 512, "each": 1, "parameters": 1024}),
    ("facebook/detr-resnet-50", "model.decoder.layers.{0-5}.encoder_attn", "cross_attention", {"heads": 8}),
    ("timm:vit_base_patch16_224", "blocks.{0-11}.attn", "self_attention", {"width": 768, "heads": 12, "head_size": 64}),
    ("torchvision:vit_b_16", "encoder.layers.encoder_layer_{0-11}.self_attention", "self_attention",
     {"width": 768, "heads": 12, "head_size": 64, "inner": 768}),
    ("torchvision:resnet50", "layer2.{1-3}", "residual_block",
     {"convolutions": "1 x 1, 3 x 3, 1 x 1", "inputs": 512, "outputs": 512}),
    ("torchvision:resnet50", "layer2.0", "residual_block_projected", {"inputs": 256, "outputs": 512}),
    ("torchvision:resnet50", "avgpool", "global_average_pooling", {}),
    ("torchvision:resnet50", "bn1", "batch_norm", {"channels": 64, "parameters": 128}),
    ("torchvision:vgg16", "avgpool", "adaptive_average_pooling", {"size": "7 x 7"}),
    ("torchvision:vgg16", "classifier.6", "classifier", {"width": 4096, "classes": 1000, "parameters": 4_097_000}),
    ("timm:resnext50_32x4d", "layer1.{1-2}.conv2", "grouped_convolution",
     {"groups": 32, "inputs": 128, "outputs": 128, "arithmetic": "3*3*128/32*128", "parameters": 4608}),
]  # fmt: skip


@pytest.mark.parametrize("name, path, kind, numbers", PUBLISHED, ids=lambda value: str(value)[:60])
def test_published_models(name, path, kind, numbers):
    found = explanations(built(name))[path]
    assert found.kind == kind
    assert {key: found.numbers.get(key) for key in numbers} == numbers


@pytest.mark.parametrize("name", [*ENTRIES, *VISION])
def test_what_is_said_can_be_said_and_its_arithmetic_is_right(name):
    found = explanations(built(name))
    assert found
    for explanation in found.values():
        for language in LANGUAGES.values():
            template = language.sentences[explanation.kind]
            assert {field for _, field, _, _ in string.Formatter().parse(template) if field} == {*explanation.numbers}
            assert fill(template, **explanation.numbers)
        arithmetic = explanation.numbers.get("arithmetic")
        if arithmetic is not None:
            assert eval(arithmetic) == explanation.numbers.get("first", explanation.numbers["parameters"])


@pytest.mark.parametrize("name", ENTRIES)
def test_heads_are_those_of_the_config(name):
    """A second method for head layouts: what the config of a model with one attention layout says."""
    model = built(name)
    config = model.config
    if any(hasattr(config, part) for part in ("vision_config", "decoder_attention_heads")):
        pytest.skip("several configs or several layouts")
    heads = next((n for key in ("num_attention_heads", "n_head", "num_heads") if (n := getattr(config, key, 0))), None)
    groups = getattr(config, "num_key_value_heads", None) or heads
    layouts = [e.numbers for e in explanations(model).values() if e.kind.endswith("attention")]
    if isinstance(heads, int):
        assert layouts
        assert {numbers["heads"] for numbers in layouts} == {heads}
        if hasattr(config, "num_key_value_heads"):
            assert {numbers.get("kv_heads", heads) for numbers in layouts} == {groups}


class TestSizes:
    """Output sizes, where a run showed what went in."""

    def test_the_first_convolution_of_vgg(self):
        found = explanations_of_run(nn.Sequential(nn.Conv2d(3, 64, 3, padding=1)), 1, 3, 224, 224)["0"]
        assert found.kind == "convolution_sized"
        assert found.numbers["size"] == "(224 + 2*1 - 3)/1 + 1 = 224"
        assert found.numbers["arithmetic"] == "(3*3*3 + 1)*64"

    @pytest.mark.parametrize(
        "layer, size",
        [
            (nn.Conv2d(3, 8, 7, stride=2, padding=3), "floor((224 + 2*3 - 7)/2) + 1 = 112"),
            (nn.Conv2d(3, 8, 3, dilation=2), "(224 - 2*(3 - 1) - 1)/1 + 1 = 220"),
            (nn.Conv2d(3, 8, (1, 5), padding=(0, 2)), "(224 - 1)/1 + 1 = 224, (224 + 2*2 - 5)/1 + 1 = 224"),
            (nn.Conv2d(3, 3, 3, groups=3), "(224 - 3)/1 + 1 = 222"),
            (nn.ConvTranspose2d(3, 8, 4, stride=2, padding=1), "(224 - 1)*2 - 2*1 + 4 = 448"),
            (nn.ConvTranspose2d(3, 8, 3, stride=2, output_padding=1), "(224 - 1)*2 + 3 + 1 = 450"),
            (nn.MaxPool2d(2), "(224 - 2)/2 + 1 = 112"),
            (nn.MaxPool2d(3, stride=2), "floor((224 - 3)/2) + 1 = 111"),
            (nn.MaxPool2d(3, stride=2, ceil_mode=True), "ceil((224 - 3)/2) + 1 = 112"),
            (nn.AvgPool2d(2), "(224 - 2)/2 + 1 = 112"),
        ],
        ids=str,
    )
    def test_arithmetic(self, layer, size):
        found = explanations_of_run(nn.Sequential(layer), 1, 3, 224, 224)["0"]
        assert found.kind.endswith("_sized")
        assert found.numbers["size"] == size

    def test_padding_that_depends_on_the_size_has_no_arithmetic(self):
        found = explanations_of_run(nn.Sequential(nn.Conv2d(3, 8, 3, padding="same")), 1, 3, 8, 8)["0"]
        assert found.kind == "convolution"
        assert "size" not in found.numbers

    def test_patches_of_an_image_that_was_run(self):
        model = nn.Module()
        model.patch_embed = nn.Sequential(nn.Conv2d(3, 8, 4, stride=4))
        model.forward = lambda x: model.patch_embed(x)
        found = explanations_of_run(model, 1, 3, 32, 16)["patch_embed.0"]
        assert (found.numbers["grid"], found.numbers["patches"]) == ("8 x 4", 32)


class TestRecurrent:
    def test_lstm(self):
        found = explanations(nn.LSTM(10, 20, num_layers=2, bidirectional=True))[""]
        # first layer 4*((10 + 20)*20 + 2*20) in each direction, second 4*((40 + 20)*20 + 2*20)
        assert found.kind == "lstm"
        assert found.numbers == {
            "inputs": 10, "hidden": 20, "layers": 2, "directions": 2,
            "arithmetic": "4*((10 + 20)*20 + 2*20)", "first": 2560, "parameters": 2 * 2560 + 2 * 4960,
        }  # fmt: skip

    def test_gru_without_biases(self):
        found = explanations(nn.GRU(10, 20, bias=False))[""]
        assert (found.kind, found.numbers["arithmetic"]) == ("gru", "3*((10 + 20)*20)")
        assert (found.numbers["first"], found.numbers["parameters"]) == (1800, 1800)


class TestExpertsInAList:
    def model(self, **facts: int) -> nn.Module:
        model = nn.Module()
        model.gate = nn.Linear(8, 4, bias=False)
        model.experts = nn.ModuleList(nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8)) for _ in range(4))
        for name, value in facts.items():
            setattr(model, name, value)
        return model

    def test_they_are_counted(self):
        found = explanations(self.model(top_k=2))
        each = (8 + 1) * 16 + (16 + 1) * 8
        assert found["gate"].numbers == {"experts": 4, "picked": 2, "width": 8, "parameters": 32}
        assert found["experts"].numbers == {
            "experts": 4, "picked": 2, "each": each, "parameters": 4 * each, "active": 2 * each,
        }  # fmt: skip
        assert found["experts.{0-3}"].kind == "feed_forward_with"

    def test_nothing_is_said_where_it_is_not_known_how_many_a_token_takes(self):
        assert not {"gate", "experts"} & explanations(self.model()).keys()


class TestSilence:
    """What only looks like something is left without a sentence."""

    def test_two_linear_layers_that_do_not_come_back(self):
        assert kinds(nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))) == {"1": "activation"}

    def test_a_bottleneck_is_no_feed_forward_network(self):
        assert kinds(nn.Sequential(nn.Linear(8, 2), nn.ReLU(), nn.Linear(2, 8))) == {"1": "activation"}

    def test_attention_whose_heads_nobody_says(self):
        model = nn.Module()
        model.q_proj, model.k_proj, model.v_proj = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8)
        assert kinds(model) == {}

    def test_attention_that_contradicts_itself(self):
        model = nn.Module()
        model.q_proj, model.k_proj, model.v_proj = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8)
        model.num_heads, model.head_dim = 4, 3
        assert kinds(model) == {}

    def test_attention_that_may_be_either(self):
        """A lone attention at the top is no block of a series: whose keys it reads cannot be told."""
        model = nn.Module()
        model.attend = nn.Module()
        model.attend.q_proj, model.attend.k_proj, model.attend.v_proj = (nn.Linear(8, 8) for _ in range(3))
        model.attend.num_heads = 2
        assert kinds(model) == {"attend": "attention"}

    def test_the_second_attention_of_a_decoder_layer_of_pytorch(self):
        found = kinds(nn.TransformerDecoderLayer(8, 2))
        assert (found["self_attn"], found["multihead_attn"]) == ("self_attention", "cross_attention")

    def test_the_cross_attention_of_sams_decoder_is_not_taken_for_self_attention(self):
        found = kinds(built("facebook/sam-vit-base"))
        assert found["mask_decoder.transformer.final_attn_token_to_image"] == "attention"
        assert found["mask_decoder.transformer.layers.1.cross_attn_token_to_image"] == "cross_attention"

    def test_a_table_of_anything(self):
        model = nn.Module()
        model.colours = nn.Embedding(5, 3)
        assert kinds(model) == {"colours": "embedding"}

    def test_a_convolution_with_stride_as_its_kernel_is_not_always_of_patches(self):
        assert kinds(nn.Sequential(nn.Conv2d(8, 8, 2, stride=2))) == {"0": "convolution"}

    def test_softmax_mixes_values(self):
        assert kinds(nn.Sequential(nn.Softmax(dim=-1))) == {}

    def test_the_inner_layers_of_convnext(self):
        found = kinds(built("facebook/convnext-tiny-224"))
        assert "convnext.encoder.stages.0.layers.{0-2}" not in found

    def test_a_module_met_twice_is_explained_once(self):
        model = nn.Module()
        model.first = nn.Embedding(5, 3)
        model.second = model.first
        assert list(kinds(model)) == ["first"]


def test_a_language_model_head_of_a_model_made_by_hand():
    model = nn.Module()
    model.embedding = nn.Embedding(100, 8)
    model.decoder = nn.Linear(8, 100)
    found = explanations(model)
    assert found["embedding"].kind == "token_embedding"
    assert found["decoder"].numbers == {"width": 8, "vocabulary": 100, "parameters": 900}
    model.decoder.weight = model.embedding.weight
    assert explanations(model)["decoder"].kind == "tied_language_model_head"
