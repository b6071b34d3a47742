"""Layouts that are remembered: the same recording as when PyTorch is asked every time, and what tells calls apart."""

from __future__ import annotations

import gc

import pytest
import torch

import tonnage
from tonnage.virtual import recorder, remembered
from tonnage.virtual.remembered import Layout, Made, Remembered, follows_from_layouts, key_of
from tonnage.workload.libraries import load

aten = torch.ops.aten
transformers = load("transformers")
ADD = aten.add.Tensor

BERT = {"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 128, "vocab_size": 99}
LLAMA = {**BERT, "num_key_value_heads": 2}
T5 = {
    "d_model": 64,
    "d_kv": 16,
    "d_ff": 128,
    "num_layers": 3,
    "num_heads": 4,
    "vocab_size": 99,
    "decoder_start_token_id": 0,
}


def language(make, config, **options):
    """A model that is given ids, and what it is called with."""

    def build():
        model = make._from_config(config, **options)
        ids = torch.zeros(2, 24, dtype=torch.int64, device="cuda")
        return model, {"input_ids": ids, "labels": ids}

    return build


def vision():
    config = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[16, 32], depths=[2, 2], num_labels=5)
    images, labels = torch.zeros(2, 3, 64, 64, device="cuda"), torch.zeros(2, dtype=torch.int64, device="cuda")
    return transformers.ResNetForImageClassification(config), {"pixel_values": images, "labels": labels}


def bert(attention):
    return language(transformers.BertForMaskedLM, transformers.BertConfig(**BERT), attn_implementation=attention)


def llama(dtype):
    return language(transformers.LlamaForCausalLM, transformers.LlamaConfig(**LLAMA), dtype=dtype)


BUILDS = {
    "bert eager": bert("eager"),
    "bert sdpa": bert("sdpa"),
    "llama fp32": llama(torch.float32),
    "llama bf16": llama(torch.bfloat16),
    "t5": language(transformers.T5ForConditionalGeneration, transformers.T5Config(**T5)),
    "resnet": vision,
    "mixtral": language(
        transformers.MixtralForCausalLM, transformers.MixtralConfig(**LLAMA, num_local_experts=4, head_dim=16)
    ),
}


def infer(model, inputs):
    model.eval()
    with torch.no_grad():
        model(**inputs)


def train(model, inputs):
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), foreach=True)
    for _ in range(2):
        model(**inputs).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()


def mixed(model, inputs):
    with torch.autocast("cuda", torch.float16):
        train(model, inputs)


def recording_of(build, run):
    """The recording, with the cycles of a model freed at the end of the block and not at the collector's pleasure."""
    gc.collect()
    gc.disable()
    try:
        with tonnage.virtual_gpu("A100-SXM4-80GB") as gpu:
            model, inputs = build()
            run(model.cuda(), inputs)
        return gpu.recording
    finally:
        gc.enable()


@pytest.mark.parametrize("run", [infer, train, mixed])
@pytest.mark.parametrize("name", BUILDS)
def test_a_recording_is_the_same_without(name, run, monkeypatch):
    remade = []
    again = Made.again
    monkeypatch.setattr(Made, "again", lambda made, args: remade.append(made) or again(made, args))
    with_it = recording_of(BUILDS[name], run)
    assert len(remade) > 20
    remade.clear()
    monkeypatch.setattr(recorder, "key_of", lambda func, args, kwargs: None)
    without = recording_of(BUILDS[name], run)
    assert not remade
    assert with_it.ledger == without.ledger
    assert with_it.trace.ops == without.trace.ops
    assert with_it.trace.calls == without.trace.calls
    assert (with_it.assumptions, with_it.not_counted) == (without.assumptions, without.not_counted)


def meta(*size, dtype=torch.float32):
    return torch.empty(size, dtype=dtype, device="meta")


SAME = [
    ((meta(2, 3), meta(2, 3)), {}),
    ((meta(2, 3), 1), {"alpha": 2}),
    ((meta(2, 3), [1, None, torch.float16]), {"device": torch.device("cuda", 0)}),
]


@pytest.mark.parametrize(("args", "kwargs"), SAME)
def test_a_call_with_tensors_of_the_same_layouts_is_the_same_call(args, kwargs):
    again = tuple(torch.empty_like(a) if isinstance(a, torch.Tensor) else a for a in args)
    assert key_of(ADD, args, kwargs) == key_of(ADD, again, dict(kwargs)) is not None


APART = {
    "1, 1.0 and True": [((meta(2), value), {}) for value in (1, 1.0, True)],
    "the same in a list": [((meta(2), [value]), {}) for value in (1, 1.0, True)],
    "the same by name": [((meta(2),), {"alpha": value}) for value in (1, 1.0, True)],
    "strides": [((meta(3, 3),), {}), ((meta(3, 3).T,), {}), ((meta(3, 6)[:, ::2],), {})],
    "sizes": [((meta(2, 3),), {}), ((meta(6),), {}), ((meta(3, 2),), {})],
    "types": [((meta(2, dtype=dtype),), {}) for dtype in (torch.float16, torch.bfloat16, torch.int64)],
    "type asked for": [((meta(2),), {"dtype": dtype}) for dtype in (None, torch.float16, torch.bfloat16)],
    "device": [((meta(2),), {}), ((torch.empty(2),), {})],
    "a tensor and its shape": [((meta(2),), {}), (((2,),), {})],
    "one list and two": [((([meta(2), meta(2)]),), {}), (([meta(2)], [meta(2)]), {})],
    "which one": [((meta(2), meta(1)), {}), ((meta(1), meta(2)), {})],
    "a name and a place": [((meta(2), 2), {}), ((meta(2),), {"alpha": 2})],
}


@pytest.mark.parametrize("what", APART)
def test_calls_are_told_apart_by(what):
    keys = [key_of(ADD, args, kwargs) for args, kwargs in APART[what]]
    assert None not in keys
    assert len(set(keys)) == len(keys)


def test_calls_are_told_apart_by_the_operator():
    assert key_of(ADD, (meta(2), 1), {}) != key_of(aten.mul.Tensor, (meta(2), 1), {})


def test_the_default_type_is_part_of_a_call():
    args = (meta(2, dtype=torch.int64), 2)
    before = key_of(aten.div.Tensor, args, {})
    torch.set_default_dtype(torch.float64)
    try:
        assert key_of(aten.div.Tensor, args, {}) != before
    finally:
        torch.set_default_dtype(torch.float32)


class Odd(torch.Tensor):
    pass


@pytest.mark.parametrize("value", [torch.Generator(), object(), meta(2).as_subclass(Odd), torch.eye(2).to_sparse()])
def test_an_argument_that_more_may_follow_from_has_no_key(value):
    assert key_of(ADD, (meta(2), value), {}) is None
    assert key_of(ADD, (meta(2),), {"alpha": [value]}) is None


@pytest.mark.parametrize("factor", [1, 1.0, True])
def test_numbers_that_are_equal_give_results_of_their_own_types(factor):
    expected = torch.result_type(torch.empty(2, dtype=torch.bool), factor)
    with tonnage.virtual_gpu("T4"):
        flags = torch.empty(2, dtype=torch.bool, device="cuda")
        for other in (1, 1.0, True):
            flags * other
        assert (flags * factor).dtype is expected


PURE = [
    *(ADD, aten.mm.default, aten.cat.default, aten.native_dropout.default, aten.native_layer_norm_backward.default),
    *(aten.normal_.default, aten.relu_.default, aten.zero_.default),
]
IMPURE = [
    *(aten.resize_.default, aten.t_.default, aten.set_.source_Storage, aten.requires_grad_.default),
    *(aten.add_.Tensor, aten.add.out, aten.view.default, aten.split.Tensor, aten._foreach_add_.Scalar),
    *(aten.nonzero.default, aten.masked_select.default, aten._local_scalar_dense.default),
]


def test_what_an_operator_makes_follows_from_layouts():
    assert [follows_from_layouts(func) for func in PURE] == [True] * len(PURE)
    assert [follows_from_layouts(func) for func in IMPURE] == [False] * len(IMPURE)


def kept(out, inputs=()):
    memory = Remembered()
    memory.keep("call", inputs, inputs, out)
    return memory.get("call")


def layouts(out):
    return [(t.shape, t.stride(), t.dtype, t.device) if isinstance(t, torch.Tensor) else t for t in out]


@pytest.mark.parametrize("sequence", [list, tuple])
def test_a_sequence_comes_again_with_its_gaps_and_numbers(sequence):
    out = sequence([meta(2, 3), None, meta(4, dtype=torch.int64), 7, meta(3, 2).mT.contiguous().clone()])
    again = kept(out).again(())
    assert type(again) is sequence
    assert layouts(again) == layouts(out)


def test_a_tensor_comes_again_as_one_of_its_own():
    out = torch.empty_strided((2, 3), (1, 2), device="meta")
    made = kept(out)
    first, second = made.again(()), made.again(())
    assert layouts([first]) == layouts([second]) == layouts([out])
    assert len({t.untyped_storage()._cdata for t in (out, first, second)}) == 3


def test_what_was_written_to_comes_again_as_itself():
    written, other = meta(2, 3), meta(2, 3)
    assert kept(written, [written]).again((other, 0.0)) is other


def test_real_data_is_written_every_time():
    real = torch.ones(3)
    assert kept(real, [real]) is None
    with tonnage.virtual_gpu("T4") as gpu, gpu.host():
        for _ in range(2):
            assert torch.ones(3).zero_().tolist() == [0, 0, 0]


BASE = meta(4, 4)
TWIN = meta(4)


@pytest.mark.parametrize(
    "out",
    [
        BASE[:],
        (meta(2), BASE),
        (TWIN, TWIN),
        (TWIN, TWIN[:]),
        meta(4)[1:],
        meta(4)[:2],
        torch.empty(2),
        meta(2, dtype=torch.complex64).conj(),
        torch._efficientzerotensor(2, device="meta"),
        torch.nn.Parameter(meta(2)),
        (meta(2), [meta(2)]),
        None,
        (meta(2), object()),
    ],
    ids=lambda out: type(out).__name__,
)
def test_what_is_not_born_of_its_layout_alone_is_not_kept(out):
    assert kept(out, [BASE]) is None


def test_no_more_is_kept_than_was_said(monkeypatch):
    monkeypatch.setattr(remembered, "MOST", 6)
    memory = Remembered()
    for key in range(3):
        memory.keep(key, [], [BASE], meta(2))
    assert all(memory.get(key) == Made(None, [Layout((2,), (1,), torch.float32)]) for key in range(3))
    memory.keep(3, [], [BASE], meta(2))
    assert [memory.get(key) is None for key in range(4)] == [True, True, True, False]
