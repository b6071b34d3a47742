"""The parameter count of each architecture, derived by hand from its config: nothing is built here.

H is the hidden size, F the width of the feed-forward, L layers, V tokens, P positions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import pytest

from tonnage.workload.catalogue import Entry, all_entries

Config = Mapping[str, Any]


def linear(wide: int, out: int) -> int:
    return wide * out + out


def block(h: int, f: int) -> int:
    """Q, K, V and O, two feed-forward layers, all with biases, and two layer norms."""
    return 4 * linear(h, h) + linear(h, f) + linear(f, h) + 4 * h


def bert(c: Config) -> int:
    h, f = c["hidden_size"], c["intermediate_size"]
    tokens = c["vocab_size"] + c["max_position_embeddings"] + c["type_vocab_size"]
    return tokens * h + 2 * h + c["num_hidden_layers"] * block(h, f) + linear(h, h)


def distilbert(c: Config) -> int:
    h = c["dim"]
    return (c["vocab_size"] + c["max_position_embeddings"]) * h + 2 * h + c["n_layers"] * block(h, c["hidden_dim"])


def albert(c: Config) -> int:
    """One block for all layers."""
    h, e = c["hidden_size"], c["embedding_size"]
    tokens = c["vocab_size"] + c["max_position_embeddings"] + c["type_vocab_size"]
    return tokens * e + 2 * e + linear(e, h) + block(h, c["intermediate_size"]) + linear(h, h)


def electra(c: Config) -> int:
    h, e = c["hidden_size"], c["embedding_size"]
    tokens = c["vocab_size"] + c["max_position_embeddings"] + c["type_vocab_size"]
    widening = linear(e, h) if e != h else 0
    return tokens * e + 2 * e + widening + c["num_hidden_layers"] * block(h, c["intermediate_size"])


def deberta(c: Config) -> int:
    """Positions are relative: 2 x buckets of them, for all layers, behind a layer norm."""
    h = c["hidden_size"]
    relative = 2 * c["position_buckets"] * h + 2 * h
    return c["vocab_size"] * h + 2 * h + relative + c["num_hidden_layers"] * block(h, c["intermediate_size"])


def mpnet(c: Config) -> int:
    h = c["hidden_size"]
    relative = c["relative_attention_num_buckets"] * c["num_attention_heads"]
    tokens = (c["vocab_size"] + c["max_position_embeddings"]) * h + 2 * h
    return tokens + relative + c["num_hidden_layers"] * block(h, c["intermediate_size"]) + linear(h, h)


def modernbert(c: Config) -> int:
    """No biases, norms without one, a gated feed-forward; the first layer has no norm before its attention."""
    h, f, layers = c["hidden_size"], c["intermediate_size"], c["num_hidden_layers"]
    return c["vocab_size"] * h + h + layers * (4 * h * h + 3 * h * f + 2 * h) - h + h


def t5(c: Config) -> int:
    """No biases; one table of relative positions on either side; the head is its own from v1.1 on."""
    d, inner = c["d_model"], c["num_heads"] * c["d_kv"]
    gated = c["feed_forward_proj"] == "gated-gelu"
    feed = (3 if gated else 2) * d * c["d_ff"]
    encoder = c["num_layers"] * (4 * d * inner + feed + 2 * d) + d
    decoder = c["num_decoder_layers"] * (8 * d * inner + feed + 3 * d) + d
    relative = 2 * c["relative_attention_num_buckets"] * c["num_heads"]
    return (2 if gated else 1) * c["vocab_size"] * d + relative + encoder + decoder


def bart(c: Config, *, skipped: int = 2, embedding_norm: bool = True, final_norm: bool = False) -> int:
    d, attention = c["d_model"], 4 * linear(c["d_model"], c["d_model"])
    sides = (embedding_norm + final_norm) * 2 * d + (c["max_position_embeddings"] + skipped) * d
    encoder = c["encoder_layers"] * block(d, c["encoder_ffn_dim"]) + sides
    decoder = c["decoder_layers"] * (block(d, c["decoder_ffn_dim"]) + attention + 2 * d) + sides
    return c["vocab_size"] * d + encoder + decoder


def mbart(c: Config) -> int:
    return bart(c, final_norm=True)


def pegasus(c: Config) -> int:
    """Its sinusoids are parameters that are not trained."""
    return bart(c, skipped=0, embedding_norm=False, final_norm=True)


def gpt2(c: Config) -> int:
    d = c["n_embd"]
    return (c["vocab_size"] + c["n_positions"]) * d + c["n_layer"] * block(d, 4 * d) + 2 * d


def gpt_neo(c: Config) -> int:
    """Q, K and V have no bias."""
    d = c["hidden_size"]
    tokens = (c["vocab_size"] + c["max_position_embeddings"]) * d
    return tokens + c["num_layers"] * (block(d, 4 * d) - 3 * d) + 2 * d


def gptj(c: Config) -> int:
    """One norm for a layer, no bias in the attention, a head of its own with one."""
    d, v = c["n_embd"], c["vocab_size"]
    return v * d + c["n_layer"] * (block(d, 4 * d) - 4 * d - 2 * d) + 2 * d + linear(d, v)


def gpt_neox(c: Config) -> int:
    h = c["hidden_size"]
    return 2 * c["vocab_size"] * h + c["num_hidden_layers"] * block(h, c["intermediate_size"]) + 2 * h


def opt(c: Config) -> int:
    """Two positions are skipped. The 350M model has narrower embeddings and no norm at the end."""
    h, e = c["hidden_size"], c["word_embed_proj_dim"]
    ends = 2 * h * c["do_layer_norm_before"] + (2 * e * h if e != h else 0)
    positions = (c["max_position_embeddings"] + 2) * h
    return c["vocab_size"] * e + positions + c["num_hidden_layers"] * block(h, c["ffn_dim"]) + ends


def bloom(c: Config) -> int:
    h = c["hidden_size"]
    return c["vocab_size"] * h + 2 * h + c["n_layer"] * block(h, 4 * h) + 2 * h


def decoder(
    c: Config, *, tied: bool | None = None, norms: int = 2, qkv_bias: bool = False, per_head_norms: int = 0
) -> int:
    """Grouped-query attention without a bias in O, a gated feed-forward or experts, norms without a bias."""
    h, layers, heads, groups = (
        c[k] for k in ("hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads")
    )
    head = c.get("head_dim", h // heads)
    qkv = (heads + 2 * groups) * head
    attention = h * qkv + qkv * qkv_bias + heads * head * h + per_head_norms
    experts = c.get("num_local_experts", c.get("num_experts", 0))
    width = c.get("moe_intermediate_size", c["intermediate_size"])
    feed = experts * (3 * h * width + h) if experts else 3 * h * width
    tokens = c["vocab_size"] * h * (1 if (c["tie_word_embeddings"] if tied is None else tied) else 2)
    return tokens + layers * (attention + feed + norms * h) + h * (norms > 0)


def qwen2(c: Config) -> int:
    return decoder(c, qkv_bias=True)


def qwen3(c: Config) -> int:
    return decoder(c, per_head_norms=2 * c["head_dim"])


def gemma(c: Config) -> int:
    return decoder(c, tied=True)


def gemma2(c: Config) -> int:
    return decoder(c, tied=True, norms=4)


def gemma3_text(c: Config) -> int:
    return decoder(c, tied=True, norms=4, per_head_norms=2 * c["head_dim"])


def olmo(c: Config) -> int:
    """Its norms have no parameters."""
    return decoder(c, norms=0)


def olmo2(c: Config) -> int:
    head = c["hidden_size"] // c["num_attention_heads"]
    return decoder(c, per_head_norms=head * (c["num_attention_heads"] + c["num_key_value_heads"]))


def phi(c: Config) -> int:
    """One norm for attention and feed-forward; a head of its own with a bias."""
    h, v = c["hidden_size"], c["vocab_size"]
    layer = block(h, c["intermediate_size"]) - 2 * h
    return v * h + c["num_hidden_layers"] * layer + 2 * h + linear(h, v)


def falcon(c: Config) -> int:
    """No biases; the 7B has one K and V and one norm for a layer, the 40B 8 and two."""
    h, heads = c["hidden_size"], c["num_attention_heads"]
    groups, norms = (c["num_kv_heads"], 2) if c["new_decoder_architecture"] else (1, 1)
    layer = h * (heads + 2 * groups) * (h // heads) + h * h + 8 * h * h + norms * 2 * h
    return c["vocab_size"] * h + c["num_hidden_layers"] * layer + 2 * h


def mamba(c: Config) -> int:
    h, state, rank = c["hidden_size"], c["state_size"], c["time_step_rank"]
    inner = c["expand"] * h
    convolution = inner * c["conv_kernel"] + inner
    scan = inner * (rank + 2 * state) + linear(rank, inner) + inner * state + inner
    return c["vocab_size"] * h + c["num_hidden_layers"] * (h * 2 * inner + convolution + scan + inner * h + h) + h


def patches(c: Config) -> int:
    return (c["image_size"] // c["patch_size"]) ** 2


def vit(c: Config, *, tokens: int = 1) -> int:
    h, pixels = c["hidden_size"], 3 * c["patch_size"] ** 2
    embedding = tokens * h + (patches(c) + tokens) * h + linear(pixels, h)
    labels = c.get("num_labels")
    head = tokens * linear(h, labels) if labels else linear(h, h)
    return embedding + c["num_hidden_layers"] * block(h, c["intermediate_size"]) + 2 * h + head


def deit(c: Config) -> int:
    """A second token that is distilled to, and a classifier for it."""
    return vit(c, tokens=2)


def dinov2(c: Config) -> int:
    """A mask token, a scale after attention and feed-forward; the giant's feed-forward is gated, 8 x 512 wide."""
    h = c["hidden_size"]
    embedding = 2 * h + (patches(c) + 1) * h + linear(3 * c["patch_size"] ** 2, h)
    layer = block(h, 4 * h) + 2 * h
    if c["use_swiglu_ffn"]:
        layer += linear(h, 2 * 4096) + linear(4096, h) - linear(h, 4 * h) - linear(4 * h, h)
    return embedding + c["num_hidden_layers"] * layer + 2 * h


def clip(c: Config) -> int:
    """The patches have no bias; a norm before and after the blocks of pixels; one temperature."""
    text, image, shared = c["text_config"], c["vision_config"], c["projection_dim"]
    t, v = text["hidden_size"], image["hidden_size"]
    tokens = (text["vocab_size"] + text["max_position_embeddings"]) * t
    pixels = v + (patches(image) + 1) * v + 3 * image["patch_size"] ** 2 * v
    reading = text["num_hidden_layers"] * block(t, text["intermediate_size"]) + 2 * t
    seeing = image["num_hidden_layers"] * block(v, image["intermediate_size"]) + 4 * v
    return tokens + reading + pixels + seeing + (t + v) * shared + 1


def siglip_pixels(c: Config) -> int:
    h = c["hidden_size"]
    embedding = linear(3 * c["patch_size"] ** 2, h) + patches(c) * h
    return embedding + c["num_hidden_layers"] * block(h, c["intermediate_size"]) + 2 * h


def siglip(c: Config) -> int:
    """The image is pooled by a block in which one learned query attends; a temperature and a bias."""
    text, image = c["text_config"], c["vision_config"]
    t, v, f = text["hidden_size"], image["hidden_size"], image["intermediate_size"]
    tokens = (text["vocab_size"] + text["max_position_embeddings"]) * t
    reading = text["num_hidden_layers"] * block(t, text["intermediate_size"]) + 2 * t + linear(t, t)
    pooling = v + block(v, f) - 2 * v
    return tokens + reading + siglip_pixels(image) + pooling + 2


def gemma3(c: Config) -> int:
    """Gemma over SigLIP's patches, which come in through one matrix and one norm."""
    text, image = c["text_config"], c["vision_config"]
    v = image["hidden_size"]
    return gemma3_text(text) + siglip_pixels(image) + v * text["hidden_size"] + v


def whisper(c: Config) -> int:
    """K has no bias; the encoder's sinusoids are parameters that are not trained."""
    d = c["d_model"]
    attention = 4 * linear(d, d) - d
    hearing, saying = (block(d, c[f"{side}_ffn_dim"]) - d for side in ("encoder", "decoder"))
    convolutions = linear(3 * c["num_mel_bins"], d) + linear(3 * d, d)
    encoder = convolutions + c["max_source_positions"] * d + c["encoder_layers"] * hearing + 2 * d
    tokens = (c["vocab_size"] + c["max_target_positions"]) * d
    return encoder + tokens + c["decoder_layers"] * (saying + attention + 2 * d) + 2 * d


def wav2vec2(c: Config) -> int:
    """Convolutions without biases, a group norm after the first, a grouped weight-normed one for positions."""
    h, widths, kernels = c["hidden_size"], c["conv_dim"], c["conv_kernel"]
    convolutions = sum(a * b * k for a, b, k in zip([1, *widths], widths, kernels, strict=False)) + 2 * widths[0]
    projection = 2 * widths[-1] + linear(widths[-1], h)
    span, groups = c["num_conv_pos_embeddings"], c["num_conv_pos_embedding_groups"]
    positions = h * (h // groups) * span + span + h
    blocks = c["num_hidden_layers"] * block(h, c["intermediate_size"]) + 2 * h
    letters = linear(h, c["vocab_size"]) if "vocab_size" in c else 0
    return convolutions + projection + h + positions + blocks + letters


def convnext(c: Config) -> int:
    """Stem, halvings between the stages, blocks of a 7 x 7 depthwise convolution, a norm and two layers; a head."""
    widths, depths = c["hidden_sizes"], c["depths"]
    stem = linear(3 * c["patch_size"] ** 2, widths[0]) + 2 * widths[0]
    halvings = sum(2 * a + linear(4 * a, b) for a, b in pairwise(widths))
    blocks = sum(
        n * (linear(49, w) + 2 * w + linear(w, 4 * w) + linear(4 * w, w) + w)
        for w, n in zip(widths, depths, strict=True)
    )
    return stem + halvings + blocks + 2 * widths[-1] + linear(widths[-1], c["num_labels"])


FORMULAS: dict[str, Callable[[Config], int]] = {
    "albert": albert,
    "bart": bart,
    "bert": bert,
    "bloom": bloom,
    "clip": clip,
    "convnext": convnext,
    "deberta-v2": deberta,
    "deit": deit,
    "dinov2": dinov2,
    "distilbert": distilbert,
    "electra": electra,
    "falcon": falcon,
    "gemma": gemma,
    "gemma2": gemma2,
    "gemma3": gemma3,
    "gemma3_text": gemma3_text,
    "gpt2": gpt2,
    "gpt_neo": gpt_neo,
    "gpt_neox": gpt_neox,
    "gptj": gptj,
    "granite": decoder,
    "hubert": wav2vec2,
    "llama": decoder,
    "mamba": mamba,
    "mbart": mbart,
    "mistral": decoder,
    "mixtral": decoder,
    "modernbert": modernbert,
    "mpnet": mpnet,
    "mt5": t5,
    "olmo": olmo,
    "olmo2": olmo2,
    "opt": opt,
    "pegasus": pegasus,
    "phi": phi,
    "phi3": decoder,
    "qwen2": qwen2,
    "qwen3": qwen3,
    "qwen3_moe": qwen3,
    "roberta": bert,
    "siglip": siglip,
    "smollm3": decoder,
    "t5": t5,
    "vit": vit,
    "wav2vec2": wav2vec2,
    "whisper": whisper,
    "xlm-roberta": bert,
}
DERIVED = [entry for entry in all_entries() if entry.config["model_type"] in FORMULAS]


@pytest.mark.parametrize("entry", DERIVED, ids=lambda entry: entry.name)
def test_the_parameters_follow_from_the_config(entry: Entry) -> None:
    assert FORMULAS[entry.config["model_type"]](entry.config) == entry.parameters


def test_only_families_with_a_published_figure_of_their_own_go_underived() -> None:
    rest = {entry.config["model_type"] for entry in all_entries()} - set(FORMULAS)
    assert rest == {"detr", "resnet", "sam", "segformer", "swin"}


def test_the_frozen_part_that_detr_leaves_out_of_its_figure() -> None:
    # conv1 and layer1 of ResNet-50, convolutions only: FrozenBatchNorm has no parameters.
    conv1 = 3 * 7 * 7 * 64
    bottleneck = 64 * 64 * 9 + 64 * 256
    layer1 = 3 * bottleneck + 64 * 64 + 2 * 256 * 64 + 64 * 256
    assert conv1 + layer1 == 222_400
