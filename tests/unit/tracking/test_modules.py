"""Which module is a root, and which has become a part of another."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

import tonnage
from tonnage.workload import libraries


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = parametrizations.weight_norm(nn.Conv1d(4, 4, 3), dim=2)
        self.out = nn.Linear(4, 4)

    def forward(self, x):
        return self.out(self.conv(x).mean(-1))


def recorded(make, *called, watch=True):
    with tonnage.virtual_gpu("A100-SXM4-80GB") as gpu:
        model = make()
        model.to("cuda")
        if watch:
            gpu.watch(model)
        for shape in called:
            model(torch.zeros(shape, device="cuda"))
        return gpu.recording


def names(recording):
    return [p.name for p in recording.trace.parameters if p.kind == "parameter"]


def test_parametrizations_that_were_called_while_the_model_was_made_are_no_models():
    """weight_norm calls its own module at once; each parameter has one name, and nothing is tied."""
    recording = recorded(Net, (1, 4, 5))
    assert sorted(names(recording)) == sorted(dict(Net().named_parameters()))
    paths = [m.path for m in recording.trace.modules]
    assert "conv.parametrizations.weight" in paths
    assert len(set(paths[1:])) == len(paths[1:])


def test_without_watching_too():
    assert sorted(names(recorded(Net, (1, 4, 5), watch=False))) == sorted(dict(Net().named_parameters()))


def test_a_part_that_was_called_by_itself_first():
    with tonnage.virtual_gpu("A100-SXM4-80GB") as gpu:
        part = nn.Linear(4, 4).to("cuda")
        part(torch.zeros(1, 4, device="cuda"))
        whole = nn.Sequential(part, nn.Linear(4, 2).to("cuda"))
        whole(torch.zeros(1, 4, device="cuda"))
        recording = gpu.recording
    assert names(recording) == ["0.weight", "0.bias", "1.weight", "1.bias"]
    assert [m.path for m in recording.trace.modules[1:]] == ["0", "", "1"]


def test_two_models_stay_two():
    with tonnage.virtual_gpu("A100-SXM4-80GB") as gpu:
        first, second = nn.Linear(4, 4).to("cuda"), nn.Linear(4, 2).to("cuda")
        second(first(torch.zeros(1, 4, device="cuda")))
        recording = gpu.recording
    assert names(recording) == ["weight", "bias", "weight", "bias"]


def test_a_model_that_is_watched_twice_is_one():
    with tonnage.virtual_gpu("A100-SXM4-80GB") as gpu:
        model = nn.Linear(4, 4).to("cuda")
        gpu.watch(model)
        gpu.watch(model)
        recording = gpu.recording
    assert names(recording) == ["weight", "bias"]


def test_wav2vec2_ties_nothing():
    """Its convolution for positions is weight-normed, by a parametrization that runs while the model is made."""
    pytest.importorskip("transformers")
    transformers = libraries.load("transformers")
    config = transformers.Wav2Vec2Config(
        architectures=["Wav2Vec2Model"],
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        conv_dim=(8, 8),
        conv_kernel=(3, 3),
        conv_stride=(2, 2),
        num_conv_pos_embeddings=4,
        num_conv_pos_embedding_groups=2,
    )
    counted = tonnage.weigh(config, inputs=((torch.zeros(1, 100),), {})).parameters
    with torch.device("meta"):
        model = transformers.Wav2Vec2Model(config)
    assert (counted.total, counted.tied) == (sum(p.numel() for p in model.parameters()), 0)


def test_operators_since_a_number():
    """The later ones alone, the same as at the end of all of them; equal operators are one object."""
    with tonnage.virtual_gpu("A100-SXM4-80GB") as gpu:
        model = nn.Linear(4, 4).to("cuda")
        x = torch.zeros(1, 4, device="cuda")
        model(x)
        begin = len(gpu.recorder.raw)
        model(x)
        model(x)
        later, every = gpu.recorder.ops(begin), gpu.recorder.ops()
        assert gpu.recorder.ops(len(gpu.recorder.raw)) == []
    assert 0 < len(later) < len(every)
    assert later == every[begin:] and every == every[:begin] + later
    assert [op.name for op in later].count("aten.addmm.default") == 2
    products = [op for op in later if op.name == "aten.addmm.default"]
    assert products[0] is products[1]
