"""The fused inference path of transformer layers, and linear layers that add their bias in place."""

from __future__ import annotations

from contextlib import closing

import pytest
import torch
from torch import nn

import tonnage

EACH = 8_519_680
INFERENCE = [torch.no_grad, torch.inference_mode]


def made_by(run, *, card="A100"):
    """The sizes that `run` asked for, without workspaces, and the operators."""
    # Closed inside: an inference_mode that ended after the block would put the block's dispatch keys back.
    with tonnage.virtual_gpu(card) as gpu, closing(run()) as steps:
        next(steps)
        start, first = len(gpu.recording.ledger.sizes), len(gpu.recording.trace.ops)
        next(steps)
        recording = gpu.recording
        sizes = [n for n in list(recording.ledger.sizes)[start:] if n != EACH]
        return sizes, [op.name for op in recording.trace.ops[first:]]


@pytest.mark.parametrize("context", INFERENCE)
def test_an_encoder_layer_runs_as_one_chain(context):
    """2 x 16 tokens of 64: the projection of 192, the attention, its projection (to which the input is added in
    place), a norm with two statistics, 128 hidden (activated in the product), 64 again, and the other norm."""

    def run():
        layer = nn.TransformerEncoderLayer(64, 4, 128, batch_first=True).cuda().eval()
        x = torch.zeros(2, 16, 64, device="cuda")
        yield
        with context():
            yield layer(x)

    sizes, names = made_by(run)

    token = 32 * 4
    assert sizes == [192 * token, 64 * token, 64 * token, *(64 * token, token, token), 128 * token, 64 * token,
                     *(64 * token, token, token)]  # fmt: skip
    assert "aten.relu.default" not in names
    assert "aten._addmm_activation.default" in names


@pytest.mark.parametrize("context", INFERENCE)
def test_attention_with_weights_reuses_its_own_memory(context):
    """The product of 192, queries, keys and values in one piece, the scores (softmax in place, output into the
    queries), the moved output, its projection, and the mean of the weights."""

    def run():
        attention = nn.MultiheadAttention(64, 4, batch_first=True).cuda().eval()
        x = torch.zeros(2, 16, 64, device="cuda")
        yield
        with context():
            yield attention(x, x, x)

    sizes, _ = made_by(run)

    token, scores = 32 * 4, 2 * 4 * 16 * 16 * 4
    assert sizes == [192 * token, 192 * token, scores, 64 * token, 64 * token, scores // 4]


def test_training_takes_the_ordinary_path():
    def run():
        layer = nn.TransformerEncoderLayer(64, 4, 128, batch_first=True).cuda()
        x = torch.zeros(2, 16, 64, device="cuda")
        yield
        yield layer(x).sum().backward()

    assert "aten._addmm_activation.default" not in made_by(run)[1]


def test_padding_is_weighed_and_said_to_be():
    with tonnage.virtual_gpu("A100") as gpu:
        layer = nn.TransformerEncoderLayer(64, 4, 128, batch_first=True)
        encoder = nn.TransformerEncoder(layer, 2).cuda().eval()
        with torch.no_grad():
            encoder(torch.zeros(2, 16, 64, device="cuda"), src_key_padding_mask=torch.zeros(2, 16).bool().cuda())
    assert "nested tensors" in [entry.what for entry in gpu.recording.not_counted]


def linear(make):
    def run():
        layer = nn.Linear(8, 16, device="cuda")
        x = make().cuda() if not make().is_contiguous() else make().to("cuda")
        yield
        yield layer(x)

    return run


@pytest.mark.parametrize("shape", [(4, 8), (2, 4, 8), (2, 3, 4, 8)])
def test_a_contiguous_input_is_one_product(shape):
    sizes, names = made_by(linear(lambda: torch.zeros(shape)))

    assert "aten.addmm.default" in names
    assert sizes == [torch.Size(shape[:-1]).numel() * 16 * 4]


def test_a_moved_input_is_copied_multiplied_and_added_to_in_place():
    def run():
        layer = nn.Linear(8, 16, device="cuda")
        x = torch.zeros(4, 2, 8, device="cuda").transpose(0, 1)
        yield
        yield layer(x)

    sizes, names = made_by(run)

    assert sizes == [8 * 8 * 4, 8 * 16 * 4]
    assert "aten.add_.Tensor" in names
    assert "aten.add.Tensor" not in names


def test_tensor_subclasses_are_still_told():
    class Other(torch.Tensor):
        pass

    with tonnage.virtual_gpu("A100"):
        plain = torch.zeros(2)
        assert not torch.overrides.has_torch_function((plain, nn.Parameter(plain), None))
        assert torch.overrides.has_torch_function((plain, plain.as_subclass(Other)))
