"""Closed forms of forward work, at sizes drawn here, against formulas made by hand and against weighing them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from random import Random
from typing import Any

import pytest
import torch
from torch import nn

import tonnage
from tonnage.analyses.compute import Compute
from tonnage.analyses.expressions import parse
from tonnage.analyses.forms import ComputeForm
from tonnage.errors import BadOption
from tonnage.workload import libraries

POINTS = 10
WEIGHED = 3
"""Of the points, those that are weighed anew as well."""

Sizes = Mapping[str, int]


@pytest.fixture(scope="module")
def T() -> Any:
    pytest.importorskip("transformers")
    return libraries.load("transformers")


def layer(tokens: int, width: int, inner: int) -> int:
    """Queries, keys, values and output; scores and their use; two layers of a network."""
    return 4 * tokens * width**2 + 2 * tokens**2 * width + 2 * tokens * width * inner


def cross(asking: int, asked: int, width: int) -> int:
    """Queries and output of one side, keys and values of the other."""
    return 2 * asking * width**2 + 2 * asked * width**2 + 2 * asking * asked * width


def form_of(compute: Compute) -> ComputeForm:
    form = compute.form
    assert form is not None and form.proved and form.held == {} and len(form.proofs) >= POINTS
    assert form.evaluate() == compute.macs
    return form


def check(
    subject: Any, by_hand: Callable[..., int] | None, ranges: Mapping[str, range], *, own: Sizes, weighed: int = WEIGHED
) -> ComputeForm:
    """The form of `subject` at POINTS sizes; `ranges` are those of each letter, by its name in `weigh`."""
    compute = tonnage.weigh(subject(), **own).compute
    form = form_of(compute)
    letters = {symbol.field: symbol.symbol for symbol in form.symbols}
    assert set(letters) == set(ranges)
    random = Random(sum(own.values()))
    for point in range(POINTS):
        sizes = {name: random.choice(values) for name, values in ranges.items()}
        found = compute.evaluate(**sizes)
        values = {letters[name]: size for name, size in sizes.items()}
        assert found == form.evaluate(**values) == parse(form.formula).evaluate(values)
        if by_hand is not None:
            assert found == by_hand(**sizes), sizes
        if point < weighed:
            assert found == tonnage.weigh(subject(), **sizes).compute.macs, sizes
    return form


BATCH, SEQ = range(1, 17), range(1, 400)


def test_bert_base(T: Any) -> None:
    """The figure of the literature, pooler included: one row of 768 by 768 for each sample."""
    form = check(
        lambda: T.BertConfig(architectures=["BertModel"]),
        lambda batch, seq: batch * (84934656 * seq + 18432 * seq**2 + 589824),
        {"batch": BATCH, "seq": SEQ},
        own={"batch": 1, "seq": 128},
        weighed=1,
    )
    assert form.formula == "B*(84934656*S + 18432*S^2 + 589824)"
    assert form.latex == r"B \left(84934656 S + 18432 S^{2} + 589824\right)"


def test_gpt2(T: Any) -> None:
    def by_hand(batch: int, seq: int) -> int:
        return batch * (3 * layer(seq, 64, 256) + seq * 64 * 500)

    config = {"n_embd": 64, "n_head": 4, "n_layer": 3, "vocab_size": 500, "use_cache": False, "n_positions": 1024}
    check(
        lambda: T.GPT2Config(architectures=["GPT2LMHeadModel"], **config),
        by_hand,
        {"batch": BATCH, "seq": SEQ},
        own={"batch": 2, "seq": 96},
    )


def decoder(seq: int, width: int, heads: int, groups: int, size: int) -> int:
    """Queries and output of all heads, keys and values of the groups; scores of each head."""
    return seq * width * size * (2 * heads + 2 * groups) + 2 * seq**2 * heads * size


def test_llama_with_grouped_queries(T: Any) -> None:
    def by_hand(batch: int, seq: int) -> int:
        return batch * (2 * (decoder(seq, 64, 8, 2, 8) + 3 * seq * 64 * 96) + seq * 64 * 300)

    config = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 8}
    check(
        lambda: T.LlamaConfig(
            architectures=["LlamaForCausalLM"], num_key_value_heads=2, vocab_size=300, use_cache=False, **config
        ),
        by_hand,
        {"batch": BATCH, "seq": SEQ},
        own={"batch": 1, "seq": 64},
    )


def test_mixtral(T: Any) -> None:
    """Each token goes to 2 of 8 experts."""

    def by_hand(batch: int, seq: int) -> int:
        experts = seq * 64 * 8 + 2 * 3 * seq * 64 * 96
        return batch * (2 * (decoder(seq, 64, 4, 2, 16) + experts) + seq * 64 * 300)

    config = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}
    check(
        lambda: T.MixtralConfig(
            architectures=["MixtralForCausalLM"],
            num_key_value_heads=2,
            num_local_experts=8,
            num_experts_per_tok=2,
            vocab_size=300,
            use_cache=False,
            **config,
        ),
        by_hand,
        {"batch": BATCH, "seq": SEQ},
        own={"batch": 1, "seq": 48},
        weighed=2,
    )


def test_t5(T: Any) -> None:
    """The encoder reads S tokens, the decoder writes T: each of its layers looks at itself and at the encoder."""

    def by_hand(batch: int, seq: int, decoder_seq: int) -> int:
        encoder = 2 * layer(seq, 64, 128)
        decoder = 3 * (layer(decoder_seq, 64, 128) + cross(decoder_seq, seq, 64))
        return batch * (encoder + decoder + decoder_seq * 64 * 300)

    def config() -> Any:
        return T.T5Config(
            architectures=["T5ForConditionalGeneration"],
            d_model=64,
            d_kv=16,
            num_heads=4,
            d_ff=128,
            num_layers=2,
            num_decoder_layers=3,
            vocab_size=300,
            use_cache=False,
        )

    def at(batch: int, seq: int, decoder_seq: int) -> Any:
        ids, decoder_ids = (torch.zeros(batch, length, dtype=torch.int64) for length in (seq, decoder_seq))
        return (), {"input_ids": ids, "decoder_input_ids": decoder_ids}

    compute = tonnage.weigh(config(), inputs=at(2, 40, 24)).compute
    form = form_of(compute)
    assert [(s.symbol, s.field, s.value) for s in form.symbols] == [
        ("B", "batch", 2),
        ("S", "seq", 40),
        ("T", "decoder_seq", 24),
    ]
    random = Random(0)
    for point in range(POINTS):
        sizes = {"batch": random.choice(BATCH), "seq": random.choice(SEQ), "decoder_seq": random.choice(SEQ)}
        assert compute.evaluate(**sizes) == by_hand(**sizes)
        if point < WEIGHED:
            assert tonnage.weigh(config(), inputs=at(**sizes)).compute.macs == by_hand(**sizes)


def test_t5_as_it_is_weighed_without_inputs(T: Any) -> None:
    """Both lengths have a letter, whatever lengths were chosen for them."""
    config = {"d_model": 64, "d_kv": 16, "num_heads": 4, "d_ff": 128, "num_layers": 1, "vocab_size": 300}
    compute = tonnage.weigh(T.T5Config(architectures=["T5ForConditionalGeneration"], use_cache=False, **config)).compute

    def by_hand(batch: int, seq: int, decoder_seq: int) -> int:
        decoder = layer(decoder_seq, 64, 128) + cross(decoder_seq, seq, 64) + decoder_seq * 64 * 300
        return batch * (layer(seq, 64, 128) + decoder)

    form_of(compute)
    for sizes in ((1, 1, 1), (3, 100, 7), (2, 5, 64)):
        named = dict(zip(("batch", "seq", "decoder_seq"), sizes, strict=True))
        assert compute.evaluate(**named) == by_hand(**named)


def test_whisper(T: Any) -> None:
    """The sound has 30 frames always: 15 positions behind the second convolution; T tokens are written."""

    def by_hand(batch: int, decoder_seq: int) -> int:
        convolutions = 30 * 32 * 80 * 3 + 15 * 32 * 32 * 3
        decoder = 2 * (layer(decoder_seq, 32, 96) + cross(decoder_seq, 15, 32))
        return batch * (convolutions + layer(15, 32, 64) + decoder + decoder_seq * 32 * 300)

    config = T.WhisperConfig(
        architectures=["WhisperForConditionalGeneration"],
        vocab_size=300,
        d_model=32,
        encoder_layers=1,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=64,
        decoder_ffn_dim=96,
        max_source_positions=15,
        use_cache=False,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=1,
    )
    compute = tonnage.weigh(config).compute
    form = form_of(compute)
    assert [s.field for s in form.symbols] == ["batch", "decoder_seq"]
    random = Random(0)
    for _ in range(POINTS):
        sizes = {"batch": random.choice(BATCH), "decoder_seq": random.choice(SEQ)}
        assert compute.evaluate(**sizes) == by_hand(**sizes), sizes


def test_mamba(T: Any) -> None:
    """An inner width of 64, a step of rank 2 and 4 states; the convolution makes 3 outputs more than tokens."""

    def by_hand(batch: int, seq: int) -> int:
        convolution = (seq + 3) * 64 * 4
        projections = 32 * 128 + 64 * (2 + 2 * 4) + 2 * 64 + 64 * 32
        reading = 64 * 4  # of the states; the rest of the scan is elementwise
        return batch * (2 * (convolution + seq * (projections + reading)) + seq * 32 * 300)

    check(
        lambda: T.MambaConfig(
            architectures=["MambaForCausalLM"],
            vocab_size=300,
            hidden_size=32,
            num_hidden_layers=2,
            state_size=4,
            use_cache=False,
        ),
        by_hand,
        {"batch": range(1, 9), "seq": range(1, 50)},
        own={"batch": 1, "seq": 24},
        weighed=2,
    )


# Images ---------------------------------------------------------------------------------------------------------------


def test_vit(T: Any) -> None:
    """n/16 patches to a side and one token more; only that one is classified."""

    def by_hand(batch: int, image_size: int) -> int:
        patches = (image_size // 16) ** 2
        return batch * (patches * 3 * 16 * 16 * 64 + 2 * layer(patches + 1, 64, 128) + 64 * 2)

    config = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    form = check(
        lambda: T.ViTConfig(architectures=["ViTForImageClassification"], image_size=96, patch_size=16, **config),
        by_hand,
        {"batch": BATCH, "image_size": range(32, 300, 32)},
        own={"batch": 1, "image_size": 96},
    )
    with pytest.raises(BadOption, match="whole number"):
        form.evaluate(image_size=100)


def bottlenecks(inward: int, width: int, side: int, blocks: int, stride: int) -> int:
    """The first block of a stage halves the image in its second convolution, and projects what it is added to."""
    out = -(-side // stride)
    first = side**2 * inward * width + out**2 * (9 * width**2 + 4 * width**2 + inward * 4 * width)
    return first + (blocks - 1) * out**2 * (4 * width**2 + 9 * width**2 + 4 * width**2)


def resnet50(batch: int, image_size: int) -> int:
    """Every stride leaves the larger half of an odd side."""
    half, quarter, eighth, sixteenth = (-(-image_size // stride) for stride in (2, 4, 8, 16))
    stem = half**2 * 49 * 3 * 64
    stages = bottlenecks(64, 64, quarter, 3, 1) + bottlenecks(256, 128, quarter, 4, 2)
    stages += bottlenecks(512, 256, eighth, 6, 2) + bottlenecks(1024, 512, sixteenth, 3, 2)
    return batch * (stem + stages + 2048 * 1000)


@pytest.mark.parametrize("name", ["torchvision:resnet50", "microsoft/resnet-50"])
def test_resnet50(name: str) -> None:
    if find_spec("torchvision" if ":" in name else "transformers") is None:
        pytest.skip("the library is not installed")
    form = check(
        lambda: name,
        resnet50,
        {"batch": BATCH, "image_size": range(32, 400)},
        own={"batch": 1, "image_size": 224},
        weighed=1,
    )
    assert form.evaluate(batch=1, image_size=224) == 4_089_184_256


# Modules that are given their inputs ----------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_first", [True, False])
def test_an_lstm(batch_first: bool) -> None:
    """Four gates; the second of two layers reads both ways of the first."""
    shape = (2, 10, 24) if batch_first else (10, 2, 24)
    lstm = nn.LSTM(24, 16, 2, batch_first=batch_first, bidirectional=True)
    compute = tonnage.weigh(lstm, inputs=((torch.zeros(shape),), {})).compute
    form = form_of(compute)
    assert [(s.symbol, s.value) for s in form.symbols] == [("B", 2), ("S", 10)]
    random = Random(0)
    for _ in range(POINTS):
        B, S = random.choice(BATCH), random.choice(SEQ)
        assert compute.evaluate(B=B, S=S) == B * S * 2 * 4 * (16 * (24 + 16) + 16 * (32 + 16))


class Rounding(nn.Module):
    """Pads its rows to a multiple of 8, as kernels for halves do: there is no polynomial in S."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(16, 16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(nn.functional.pad(x, (0, 0, 0, -x.shape[1] % 8)))


def test_a_length_that_is_rounded_is_held() -> None:
    compute = tonnage.weigh(Rounding(), inputs=((torch.zeros(2, 20, 16),), {})).compute
    form = compute.form
    assert form is not None and form.proved
    assert form.held.keys() == {"S"}
    assert [form.evaluate(B=batch) for batch in (1, 2, 7)] == [batch * 24 * 256 for batch in (1, 2, 7)]
    with pytest.raises(BadOption, match="'S'"):
        form.evaluate(S=24)
