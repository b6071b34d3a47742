"""Inputs for modules of which nothing is known but their layers."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tonnage.errors import BadOption
from tonnage.scenario import Scenario
from tonnage.workload import resolve, run


class Takes(nn.Module):
    """A module whose forward takes what it is told to."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x):
        return self.layers[0](x)


class Patches(Takes):
    def __init__(self) -> None:
        super().__init__(nn.Conv2d(3, 8, 4, 4))
        self.image_size = 32


class Two(Takes):
    def forward(self, left, right):
        return left


class Raw(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3, 3))

    def forward(self, x):
        return x @ self.weight


def shapes(module: nn.Module, **options) -> list[tuple[int, ...]]:
    ran = run(resolve(module), Scenario(batch=2, **options), device="cpu")
    return [spec.shape for spec in ran.inputs]


@pytest.mark.parametrize(
    ("module", "options", "shape"),
    [
        (nn.Linear(5, 3), {}, (2, 5)),
        (nn.Linear(5, 3), {"seq": 7}, (2, 7, 5)),
        (nn.Sequential(nn.Flatten(), nn.Linear(5, 3)), {}, (2, 5)),
        (Takes(nn.Embedding(9, 4)), {}, (2, 128)),
        (Takes(nn.Embedding(9, 4)), {"seq": 6}, (2, 6)),
        (nn.EmbeddingBag(9, 4), {"seq": 6}, (2, 6)),
        (nn.Conv1d(3, 4, 3), {"seq": 9}, (2, 3, 9)),
        (nn.Conv2d(3, 4, 3), {}, (2, 3, 224, 224)),
        (nn.Conv2d(1, 4, 3), {"image_size": 28}, (2, 1, 28, 28)),
        (nn.Conv3d(3, 4, 3), {"image_size": 8}, (2, 3, 16, 8, 8)),
        (nn.ConvTranspose2d(3, 4, 3), {"image_size": 8}, (2, 3, 8, 8)),
        (Patches(), {}, (2, 3, 32, 32)),
        (nn.Sequential(nn.LSTM(5, 3, batch_first=True)), {"seq": 4}, (2, 4, 5)),
        (nn.GRU(5, 3), {"seq": 4}, (4, 2, 5)),
        (nn.TransformerEncoderLayer(8, 2, batch_first=True), {"seq": 4}, (2, 4, 8)),
        (nn.TransformerEncoderLayer(8, 2), {"seq": 4}, (4, 2, 8)),
        (nn.BatchNorm2d(3), {"image_size": 8}, (2, 3, 8, 8)),
        (nn.BatchNorm1d(3), {}, (2, 3)),
        (nn.LayerNorm(5), {"seq": 4}, (2, 4, 5)),
    ],
    ids=str,
)
def test_the_first_layer_says_what_goes_in(module, options, shape):
    assert shapes(module, **options) == [shape]


@pytest.mark.parametrize(
    "module",
    [nn.MultiheadAttention(8, 2, batch_first=True), nn.TransformerDecoderLayer(8, 2, batch_first=True)],
    ids=["attention", "decoder layer"],
)
def test_modules_of_torch_with_several_inputs(module):
    assert set(shapes(module, seq=4)) == {(2, 4, 8)}


def test_every_guess_is_told():
    ran = run(resolve(nn.Sequential(nn.Linear(5, 3))), Scenario(batch=2), device="cpu")
    assert ran.guesses == ("input: 2 × 5 random numbers, after 0 (Linear(5, 3))",)
    assert ran.inputs[0].origin == "0 (Linear(5, 3))"


@pytest.mark.parametrize(
    ("module", "options", "said"),
    [
        (Raw(), {}, "no layer of Raw says what input it takes"),
        (Two(nn.Linear(3, 3)), {}, "Two.forward takes left, right; only a single input can be guessed"),
        (nn.Conv2d(3, 4, 3), {"seq": 5}, r"seq=5 means nothing to Conv2d: it starts with Conv2d\(3, 4\)"),
        (nn.Linear(3, 4), {"image_size": 5}, r"image_size=5 means nothing to Linear"),
    ],
    ids=["no layer", "two inputs", "seq", "image_size"],
)
def test_what_cannot_be_guessed(module, options, said):
    with pytest.raises(BadOption, match=said) as caught:
        run(resolve(module), Scenario(**options), device="cpu")
    assert "inputs=(args, kwargs)" in caught.value.hint


def test_given_inputs_need_no_guess():
    ran = run(resolve(Raw()), Scenario(), inputs=((torch.ones(4, 3),), {}), device="cpu")
    assert ran.guesses == ()
