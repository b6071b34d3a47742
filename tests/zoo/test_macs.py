"""Multiply-accumulates derived by hand, each through `tonnage.weigh`; the derivation stands beside the model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torch.utils.checkpoint
from torch import nn

import tonnage
from tonnage.analyses.compute import Compute, account_compute
from tonnage.workload import libraries

pytest.importorskip("transformers")
T = libraries.load("transformers")

ZOO = {
    model["name"]: model["forward_macs"]
    for model in json.loads((Path(__file__).parents[1] / "truth" / "zoo.json").read_text(encoding="utf-8"))["models"]
}
CARDS = [("A100-SXM4-80GB", "fp32"), ("T4", "fp32"), ("T4", "fp16"), ("H100", "bf16"), ("H100", "amp-fp16")]


def compute(subject: Any, inputs: Any = None, **options: Any) -> Compute:
    return account_compute(tonnage.weigh(subject, inputs=inputs, **options).recording)


def given(*shapes: tuple[int, ...]) -> Any:
    return tuple(torch.zeros(shape) for shape in shapes), {}


@pytest.mark.parametrize("name", ZOO)
def test_the_zoo(name: str, subjects: Any) -> None:
    make, inputs = subjects[name]
    found = compute(make(), inputs)
    assert (found.macs, found.flops, found.unsupported) == (ZOO[name], 2 * ZOO[name], [])


# Recurrent layers -----------------------------------------------------------------------------------------------------

STEPS = 3 * 7  # 3 sequences of 7 steps

RECURRENT = {
    # each direction: 4 gates of 20, of an input of 10 and a projected state of 5; the projection; layer 2 reads 2 * 5
    "lstm": (nn.LSTM(10, 20, 2, bidirectional=True, proj_size=5), 4 * (4 * 20 * (10 + 5) + 20 * 5)),
    # 3 gates of 16, of an input of 10, then of both directions of layer 1, and of the state
    "gru": (nn.GRU(10, 16, 2, bidirectional=True), 2 * 3 * 16 * (10 + 16) + 2 * 3 * 16 * (2 * 16 + 16)),
    "rnn": (nn.RNN(10, 6, nonlinearity="relu"), 6 * (10 + 6)),
}


@pytest.mark.parametrize("options", [{}, {"mode": "training"}, {"gpu": "T4"}], ids=str)
@pytest.mark.parametrize("name", RECURRENT)
def test_recurrent_layers(name: str, options: Any) -> None:
    layer, macs_per_step = RECURRENT[name]
    assert compute(layer, given((7, 3, 10)), **options).macs == STEPS * macs_per_step


def test_a_recurrent_cell() -> None:
    assert compute(nn.LSTMCell(10, 20), given((3, 10))).macs == 3 * 4 * 20 * (10 + 20)


class Packed(nn.Module):
    """A recurrent layer over sequences of 5 and 3 steps, padded to 5."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.LSTM(10, 20, batch_first=True)

    def forward(self, x: torch.Tensor) -> Any:
        return self.layer(nn.utils.rnn.pack_padded_sequence(x, torch.tensor([5, 3]), batch_first=True))[1]


def test_packed_sequences_run_no_steps_of_padding() -> None:
    assert compute(Packed(), given((2, 5, 10))).macs == (5 + 3) * 4 * 20 * (10 + 20)


# Convolutions ---------------------------------------------------------------------------------------------------------


class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(3, 8, 3, padding=1)
        self.bottom = nn.Conv2d(8, 16, 3, padding=1)
        self.up = nn.ConvTranspose2d(16, 8, 2, stride=2)
        self.merge = nn.Conv2d(16, 8, 3, padding=1)
        self.head = nn.Conv2d(8, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        skip = self.down(x).relu()
        x = self.bottom(F.max_pool2d(skip, 2)).relu()
        x = torch.cat((skip, self.up(x)), 1)
        return self.head(self.merge(x).relu())


UNET = {
    "down": 32 * 32 * 8 * 3 * 9,
    "bottom": 16 * 16 * 16 * 8 * 9,
    "up": 16 * 16 * 16 * 8 * 4,  # every point of its input by the whole kernel
    "merge": 32 * 32 * 8 * 16 * 9,
    "head": 32 * 32 * 2 * 8,
}


def test_a_u_net_by_module() -> None:
    found = compute(UNet(), given((1, 3, 32, 32)))
    assert {module.path: module.macs for module in found.by_module} == {"": sum(UNET.values()), **UNET}


def test_gradients_of_a_u_net() -> None:
    """Each layer again for the gradient of its weight and of its input, which the first has none of."""
    found = compute(UNet(), given((1, 3, 32, 32)), mode="training")
    assert found.backward.macs == 2 * sum(UNET.values()) - UNET["down"]
    assert found.step_macs == found.macs + found.backward.macs


CONVOLUTIONS = {
    "grouped": (nn.Conv2d(8, 12, 3, groups=4), (1, 8, 10, 10), 8 * 8 * 12 * 2 * 9),
    "depthwise": (nn.Conv2d(8, 8, 5, padding=2, groups=8), (2, 8, 10, 10), 2 * 100 * 8 * 25),
    "dilated, strided": (nn.Conv1d(4, 6, 3, stride=2, dilation=2), (2, 4, 21), 2 * 9 * 6 * 4 * 3),
    "of three dimensions": (nn.Conv3d(2, 3, 2), (1, 2, 5, 5, 5), 64 * 3 * 2 * 8),
    "transposed": (nn.ConvTranspose1d(4, 6, 5, stride=3, padding=1, groups=2), (2, 4, 7), 2 * 7 * 4 * 3 * 5),
    "without a batch": (nn.Conv2d(3, 4, 3), (3, 6, 6), 16 * 4 * 3 * 9),
    "padded to the same size": (nn.Conv2d(3, 4, 5, padding="same"), (1, 3, 6, 6), 36 * 4 * 3 * 25),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions(name: str) -> None:
    layer, shape, macs = CONVOLUTIONS[name]
    assert compute(layer, given(shape)).macs == macs


# Products outside of modules ------------------------------------------------------------------------------------------


class Function(nn.Module):
    """A function as a model."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, *tensors: torch.Tensor) -> Any:
        return self.function(*tensors)


FUNCTIONS = {
    "linear": (F.linear, [(2, 5, 8), (16, 8)], 2 * 5 * 16 * 8),
    "linear of a vector": (F.linear, [(8,), (16, 8)], 16 * 8),
    "broadcast": (torch.matmul, [(3, 1, 4, 5), (2, 5, 6)], 3 * 2 * 4 * 5 * 6),
    "matrix by vector": (torch.matmul, [(4, 5), (5,)], 4 * 5),
    "dot": (torch.dot, [(7,), (7,)], 7),
    "einsum": (lambda q, k: torch.einsum("bihd,bjhd->bhij", q, k), [(2, 5, 3, 4), (2, 6, 3, 4)], 2 * 3 * 5 * 6 * 4),
    "einsum of three": (lambda a, b, c: torch.einsum("ij,jk,kl->il", a, b, c), [(2, 3), (3, 4), (4, 5)], 24 + 40),
    "baddbmm": (torch.baddbmm, [(2, 3, 5), (2, 3, 4), (2, 4, 5)], 2 * 3 * 4 * 5),
    "addbmm": (torch.addbmm, [(3, 5), (2, 3, 4), (2, 4, 5)], 2 * 3 * 4 * 5),
    "outer": (torch.addr, [(3, 5), (3,), (5,)], 3 * 5),
    "convolution": (F.conv2d, [(1, 3, 5, 5), (4, 3, 2, 2)], 16 * 4 * 3 * 4),
    "affine grid": (lambda theta: F.affine_grid(theta, (2, 1, 4, 5), align_corners=False), [(2, 2, 3)], 2 * 20 * 2 * 3),
    "attention": (F.scaled_dot_product_attention, [(2, 4, 6, 8), (2, 4, 7, 8), (2, 4, 7, 8)], 2 * 2 * 4 * 6 * 7 * 8),
    "elementwise": (torch.mul, [(4, 5), (4, 5)], 0),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functional_calls(name: str) -> None:
    function, shapes, macs = FUNCTIONS[name]
    found = compute(Function(function), given(*shapes))
    assert (found.macs, found.unsupported) == (macs, [])


def test_a_bilinear_layer() -> None:
    """x W for each of 3 outputs, 5 by 7, and then its product with y."""
    assert compute(nn.Bilinear(5, 7, 3), given((4, 5), (4, 7))).macs == 4 * 3 * (5 * 7 + 7)
    assert compute(nn.Bilinear(5, 1, 3), given((4, 5), (4, 1))).macs == 4 * 3 * (5 * 1 + 1)


# Attention ------------------------------------------------------------------------------------------------------------


class Heads(nn.Module):
    """Attention of 4 query heads in 2 sequences of 30, causal or not; the parameter makes it have gradients."""

    def __init__(self, key_heads: int, size: int, causal: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.key_heads, self.size, self.causal = key_heads, size, causal

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        query = x.new_zeros(2, 4, 30, self.size) * self.weight
        key = x.new_zeros(2, self.key_heads, 30, self.size) * self.weight
        return F.scaled_dot_product_attention(query, key, key, is_causal=self.causal, enable_gqa=self.key_heads < 4)


KERNELS = {
    ("A100-SXM4-80GB", "fp32"): "efficient",
    ("A100-SXM4-80GB", "bf16"): "flash",
    ("H100", "bf16"): "cudnn",
    ("T4", "bf16"): "bmm",
}


@pytest.mark.parametrize(("card", "kernel"), KERNELS.items(), ids=str)
@pytest.mark.parametrize("causal", [False, True])
def test_every_attention_kernel_counts_the_same(card: Any, kernel: str, causal: bool) -> None:
    """Two products forward, four backward; the scores that a fused kernel computes again are listed apart."""
    gpu, precision = card
    product = 2 * 4 * 30 * 30 * 32
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    inputs = ((torch.zeros(1, dtype=dtype),), {})
    found = compute(Heads(4, 32, causal), inputs, gpu=gpu, precision=precision, mode="training")
    assert any(kernel in work.operator for work in found.by_operator if work.macs)
    assert (found.macs, found.backward.macs) == (2 * product, 4 * product)
    assert found.recomputation.macs == (0 if kernel == "bmm" else product)


@pytest.mark.parametrize("size", [20, 33, 100])
def test_heads_that_a_kernel_pads_count_as_the_model_has_them(size: int) -> None:
    inputs = ((torch.zeros(1, dtype=torch.bfloat16),), {})
    recording = tonnage.weigh(Heads(4, size, True), inputs=inputs, precision="bf16", mode="training").recording
    padded = [op for op in recording.trace.ops if op.name == "aten._scaled_dot_product_flash_attention.default"]
    assert padded[0].inputs[0].shape[-1] == -(-size // 8) * 8 > size
    found = account_compute(recording)
    assert (found.macs, found.backward.macs) == (2 * 2 * 4 * 30 * 30 * size, 4 * 2 * 4 * 30 * 30 * size)


@pytest.mark.parametrize("card", KERNELS, ids=str)
def test_grouped_queries_count_their_query_heads(card: Any) -> None:
    gpu, precision = card
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    inputs = ((torch.zeros(1, dtype=dtype),), {})
    found = compute(Heads(2, 32, False), inputs, gpu=gpu, precision=precision)
    assert found.macs == 2 * 2 * 4 * 30 * 30 * 32


MULTI_HEAD = [
    # 4 projections of 64 by 64 for 10 tokens, and 2 products; a layer has two more, to 256 and back
    (nn.MultiheadAttention(64, 4, batch_first=True), given(*[(2, 10, 64)] * 3), 1, 0),
    (nn.TransformerEncoderLayer(64, 4, 256, batch_first=True), given((2, 10, 64)), 1, 1),
    (nn.TransformerEncoder(nn.TransformerEncoderLayer(64, 4, 256, batch_first=True), 3), given((2, 10, 64)), 3, 3),
]


@pytest.mark.parametrize("mode", ["inference", "training"])
@pytest.mark.parametrize(("layer", "inputs", "attentions", "networks"), MULTI_HEAD)
def test_fused_layers_count_as_those_they_replace(
    layer: Any, inputs: Any, attentions: int, networks: int, mode: Any
) -> None:
    attention = 2 * (4 * 10 * 64 * 64 + 2 * 10 * 10 * 64)
    network = 2 * 2 * 10 * 64 * 256
    assert compute(layer, inputs, mode=mode).macs == attentions * attention + networks * network


# Architectures --------------------------------------------------------------------------------------------------------

TOKENS = 64
MOE: dict[str, Any] = {
    "vocab_size": 1000,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_local_experts": 8,
    "num_experts_per_tok": 2,
}


def mixtral(experts: str) -> Any:
    config = T.MixtralConfig(architectures=["MixtralForCausalLM"], use_cache=False, **MOE)
    config._experts_implementation = experts
    return config


MIXTRAL = 2 * (
    TOKENS * (2 * 64 * 64 + 2 * 64 * 32)  # queries and output; keys and values of half the heads
    + 2 * TOKENS * TOKENS * 64
    + TOKENS * 64 * 8  # router
    + TOKENS * 2 * 3 * 64 * 128  # two experts per token, each gate, up and down
)
MIXTRAL_HEAD = TOKENS * 64 * 1000


@pytest.mark.parametrize(("gpu", "precision"), [("A100-SXM4-80GB", "fp32"), ("T4", "fp32"), ("H100", "bf16")])
@pytest.mark.parametrize("experts", ["eager", "batched_mm", "grouped_mm"])
def test_a_mixture_of_experts_counts_routed_tokens(experts: str, gpu: str, precision: Any) -> None:
    found = compute(mixtral(experts), seq=TOKENS, gpu=gpu, precision=precision)
    assert (found.macs, found.unsupported) == (MIXTRAL + MIXTRAL_HEAD, [])


@pytest.mark.parametrize(("experts", "gpu"), [("eager", "T4"), ("grouped_mm", "A100-SXM4-80GB"), ("grouped_mm", "T4")])
def test_gradients_of_experts(experts: str, gpu: str) -> None:
    found = compute(mixtral(experts), seq=TOKENS, gpu=gpu, mode="training", attention="eager")
    assert found.macs == MIXTRAL + MIXTRAL_HEAD
    assert found.backward.macs == 2 * found.macs


class Experts(nn.Module):
    """A mixture as people write one: the largest scores, and a loop over the experts that were chosen."""

    def __init__(self) -> None:
        super().__init__()
        self.router = nn.Linear(16, 4)
        self.experts = nn.ModuleList(nn.Linear(16, 16) for _ in range(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weights, chosen = self.router(x).softmax(-1).topk(2)
        out = torch.zeros_like(x)
        for number, expert in enumerate(self.experts):
            token, place = torch.where(chosen == number)
            out[token] += weights[token, place, None] * expert(x[token])
        return out


def test_a_mixture_of_experts_written_by_hand() -> None:
    assert compute(Experts(), given((10, 16))).macs == 10 * 16 * 4 + 10 * 2 * 16 * 16


def swin_block(tokens: int, width: int, window: int) -> int:
    """Queries, keys, values, output; each token with those of its window; a network of 4 times the width."""
    return 4 * tokens * width**2 + 2 * tokens * window**2 * width + 8 * tokens * width**2


def test_swin() -> None:
    """Patches of 4 x 4 of an image of 32 x 32 give 8 x 8; merging four neighbours halves that and doubles the width."""
    config = T.SwinConfig(
        architectures=["SwinModel"], image_size=32, embed_dim=16, depths=[2, 2], num_heads=[2, 4], window_size=4
    )
    embedding, merging = 64 * 16 * 3 * 16, 16 * (4 * 16) * (2 * 16)
    macs = embedding + 2 * swin_block(64, 16, 4) + merging + 2 * swin_block(16, 32, 4)
    for options in ({}, {"attention": "eager"}, {"mode": "training"}):
        assert compute(config, image_size=32, **options).macs == macs


def transformer(tokens: int, width: int, inner: int) -> int:
    return 4 * tokens * width**2 + 2 * tokens**2 * width + 2 * tokens * width * inner


def test_clip() -> None:
    config = T.CLIPConfig(
        architectures=["CLIPModel"],
        projection_dim=24,
        text_config={"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4},
        vision_config={
            "hidden_size": 48,
            "intermediate_size": 96,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "image_size": 32,
            "patch_size": 8,
        },
    )
    inputs = (), {"input_ids": torch.zeros(1, 7, dtype=torch.int64), "pixel_values": torch.zeros(1, 3, 32, 32)}
    text = 2 * transformer(7, 32, 64) + 32 * 24
    vision = 16 * 48 * 3 * 64 + 3 * transformer(16 + 1, 48, 96) + 48 * 24
    for attention in ("eager", "sdpa"):
        assert compute(config, inputs, attention=attention).macs == text + vision + 24


def test_whisper() -> None:
    """20 positions of sound, from 40 frames of 80 bands; 7 tokens."""
    config = T.WhisperConfig(
        architectures=["WhisperForConditionalGeneration"],
        vocab_size=500,
        d_model=32,
        encoder_layers=2,
        decoder_layers=3,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=64,
        decoder_ffn_dim=96,
        max_source_positions=20,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=1,
        use_cache=False,
    )
    inputs = (
        (),
        {"input_features": torch.zeros(1, 80, 40), "decoder_input_ids": torch.zeros(1, 7, dtype=torch.int64)},
    )
    convolutions = 40 * 32 * 80 * 3 + 20 * 32 * 32 * 3
    cross = 2 * 7 * 32**2 + 2 * 20 * 32**2 + 2 * 7 * 20 * 32
    macs = convolutions + 2 * transformer(20, 32, 64) + 3 * (transformer(7, 32, 96) + cross) + 7 * 32 * 500
    for attention in ("eager", "sdpa"):
        assert compute(config, inputs, attention=attention).macs == macs


# The same work everywhere ---------------------------------------------------------------------------------------------

BERT = {"hidden_size": 60, "num_attention_heads": 3, "intermediate_size": 128, "num_hidden_layers": 2}
BERT_LAYERS = 2 * 2 * transformer(16, 60, 128)
BERT_MACS = BERT_LAYERS + 2 * 60 * 60  # the pooler, of one token


@pytest.mark.parametrize(("gpu", "precision"), CARDS, ids=str)
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("mode", ["inference", "training"])
def test_neither_card_nor_kernel_nor_mode_changes_the_work(gpu: str, precision: Any, attention: Any, mode: Any) -> None:
    """Heads of 20, which no kernel for halves takes as they are."""
    config = T.BertConfig(architectures=["BertModel"], **BERT)
    found = compute(config, batch=2, seq=16, gpu=gpu, precision=precision, attention=attention, mode=mode)
    assert (found.macs, found.unsupported) == (BERT_MACS, [])


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_checkpointing_runs_the_layers_again(attention: Any) -> None:
    config = T.BertConfig(architectures=["BertModel"], **BERT)
    plain = compute(config, batch=2, seq=16, mode="training", attention=attention)
    found = compute(config, batch=2, seq=16, mode="training", attention=attention, checkpointing=True)
    assert (found.macs, found.backward.macs) == (BERT_MACS, plain.backward.macs)
    assert found.recomputation.macs - plain.recomputation.macs == BERT_LAYERS


@pytest.mark.parametrize("batch", [1, 2])
def test_a_training_step_of_an_mlp(batch: int) -> None:
    """Backward is twice forward, but for the gradient of the images."""
    layers = nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10))
    found = compute(layers, given((batch, 784)), mode="training")
    assert found.macs == batch * (784 * 128 + 128 * 10)
    assert found.backward.macs == 2 * found.macs - batch * 784 * 128
    assert (found.recomputation.macs, found.optimizer.macs) == (0, 0)


class Raw(nn.Module):
    """A product outside of any other module, and a function whose input is what checkpointing is after."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(16, 16))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.gelu(x @ self.weight)


class Checkpointed(nn.Module):
    def __init__(self, reentrant: bool) -> None:
        super().__init__()
        self.first = nn.Linear(8, 16)
        self.raw = Raw()
        self.reentrant = reentrant

    def forward(self, x: torch.Tensor) -> Any:
        return torch.utils.checkpoint.checkpoint(self.raw, self.first(x), use_reentrant=self.reentrant)


@pytest.mark.parametrize("reentrant", [False, True])
def test_recomputation_that_stops_early_is_no_gradient(reentrant: bool) -> None:
    """Without reentrance the second forward ends with an exception, once gelu has its input."""
    found = compute(Checkpointed(reentrant), given((4, 8)), mode="training")
    first, raw = 4 * 8 * 16, 4 * 16 * 16
    assert (found.macs, found.recomputation.macs, found.backward.macs) == (first + raw, raw, first + 2 * raw)
