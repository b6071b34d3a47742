"""Constructors and factories by their arguments."""

from __future__ import annotations

from importlib.util import find_spec
from textwrap import dedent

import pytest
import torch
from torch import nn

from tonnage.workload import libraries, resolve
from tonnage.workload.variation import Impossible, vary

MODULES = [
    (lambda: nn.Linear(3, 5), {"in_features": 3, "out_features": 5}),
    (lambda: nn.Linear(3, 5, bias=False), {"in_features": 3, "out_features": 5}),
    (lambda: nn.Embedding(9, 4), {"num_embeddings": 9, "embedding_dim": 4}),
    (lambda: nn.LSTM(3, 5, 2, bidirectional=True), {"input_size": 3, "hidden_size": 5, "num_layers": 2}),
    (lambda: nn.LSTM(3, 5, proj_size=2), {"input_size": 3, "hidden_size": 5, "num_layers": 1, "proj_size": 2}),
    (lambda: nn.GRU(3, 5), {"input_size": 3, "hidden_size": 5, "num_layers": 1}),
    (lambda: nn.RNN(3, 5, nonlinearity="relu"), {"input_size": 3, "hidden_size": 5, "num_layers": 1}),
    (lambda: nn.MultiheadAttention(8, 2), {"embed_dim": 8, "num_heads": 2}),
    (lambda: nn.MultiheadAttention(8, 2, kdim=4, vdim=6), {"embed_dim": 8, "num_heads": 2, "kdim": 4, "vdim": 6}),
    (lambda: nn.TransformerEncoderLayer(8, 2, 12), {"d_model": 8, "nhead": 2, "dim_feedforward": 12}),
    (lambda: nn.TransformerDecoderLayer(8, 2, 12, bias=False), {"d_model": 8, "nhead": 2, "dim_feedforward": 12}),
    (lambda: nn.Bilinear(2, 3, 4), {"in1_features": 2, "in2_features": 3, "out_features": 4}),
]


def shapes(module):
    return {name: tuple(p.shape) for name, p in module.named_parameters()}


@pytest.mark.parametrize(("make", "sizes"), MODULES)
def test_what_a_module_of_torch_was_made_with(make, sizes):
    module = make()
    variation = vary(resolve(module))
    assert sizes.items() <= variation.fields.items()
    assert shapes(variation.build({})) == shapes(module), "made anew it is the same"


@pytest.mark.parametrize(("make", "sizes"), MODULES)
def test_with_twice_of_each_it_is_what_its_class_makes(make, sizes):
    doubled = {name: 2 * size for name, size in sizes.items()}
    built = vary(resolve(make())).build(doubled)
    assert all(getattr(built, name, size) == size for name, size in doubled.items())
    assert {p.device.type for p in built.parameters()} == {"meta"}


def test_a_convolution_by_the_sides_of_its_kernel():
    variation = vary(resolve(nn.Conv2d(4, 8, (3, 5), groups=2, bias=False)))
    built = variation.build({"kernel_size[1]": 7, "in_channels": 6})
    assert shapes(built) == {"weight": (8, 3, 3, 7)}


@pytest.mark.parametrize(
    "module",
    [
        nn.Sequential(nn.Linear(3, 4)),
        nn.ReLU(),
        nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, batch_first=True), 2),
    ],
)
def test_modules_that_do_not_say_what_they_were_made_with(module):
    assert vary(resolve(module)) is None


class Mine(nn.Linear):
    def __init__(self, in_features: int) -> None:
        super().__init__(in_features, 2)


def test_a_class_of_the_users_may_do_anything_with_its_arguments():
    assert vary(resolve(Mine(3))) is None


SOURCE = """
import torch
from torch import nn

def net(width=6, depth=2, rate=0.5, ratio=2.0, sides=(3, 5), bias=True, name="net"):
    layers = [nn.Linear(width, int(width * ratio), bias) for _ in range(depth)]
    return nn.Sequential(*layers, nn.Conv2d(1, 1, sides))

def with_inputs(width=6):
    return nn.Linear(width, 2), (torch.zeros(1, width),)

def nothing():
    return nn.Linear(2, 3)

def strict(width=6):
    assert width < 10, "too wide"
    return nn.Linear(width, 2)
"""


@pytest.fixture
def factory(tmp_path):
    (tmp_path / "nets.py").write_text(dedent(SOURCE))
    return lambda name: vary(resolve(f"{tmp_path / 'nets.py'}:{name}"))


def test_a_factory_by_its_keywords(factory):
    variation = factory("net")
    assert dict(variation.fields) == {"width": 6, "depth": 2, "ratio": 2, "sides[0]": 3, "sides[1]": 5}
    assert variation.settings == {"rate": 0.5, "bias": True, "name": "net"}
    built = variation.build({"width": 4, "depth": 1, "ratio": 3, "sides[1]": 2, "bias": False})
    assert shapes(built) == {"0.weight": (12, 4), "1.weight": (1, 1, 3, 2), "1.bias": (1,)}


def test_a_factory_that_gives_inputs_as_well(factory):
    assert shapes(factory("with_inputs").build({"width": 9})) == {"weight": (2, 9), "bias": (2,)}


def test_a_factory_without_sizes(factory):
    assert factory("nothing") is None


def test_a_size_that_a_factory_refuses(factory):
    assert shapes(factory("strict").build({"width": 9})) == {"weight": (2, 9), "bias": (2,)}
    with pytest.raises(Impossible, match="too wide"):
        factory("strict").build({"width": 10})


# Registered models ----------------------------------------------------------------------------------------------------


def needs(name):
    return pytest.mark.skipif(find_spec(name) is None, reason=f"{name} is not installed")


@needs("torchvision")
def test_torchvision_by_the_arguments_of_its_class():
    variation = vary(resolve("torchvision:resnet18"))
    assert variation.fields["num_classes"] == 1000
    assert [variation.fields[f"layers[{stage}]"] for stage in range(4)] == [2, 2, 2, 2]
    built = variation.build({"num_classes": 7, "layers[3]": 1})
    assert built.fc.out_features == 7 and len(built.layer4) == 1


@needs("torchvision")
def test_what_was_passed_is_left_as_it_was():
    """The class is spied on while it is built, and not afterwards."""
    torchvision = libraries.load("torchvision")
    before = torchvision.models.ResNet.__init__
    vary(resolve("torchvision:resnet18")).build({"num_classes": 7})
    assert torchvision.models.ResNet.__init__ is before


@needs("timm")
def test_timm_by_the_arguments_of_its_class():
    variation = vary(resolve("timm:vit_tiny_patch16_224"))
    assert variation.fields.items() >= {"embed_dim": 192, "depth": 12, "num_classes": 1000}.items()
    built = variation.build({"depth": 2, "embed_dim": 96})
    assert len(built.blocks) == 2 and built.embed_dim == 96


def test_a_variation_is_built_without_data():
    """Not even where the machine would have room for it."""
    built = vary(resolve(nn.Linear(3, 5))).build({"in_features": 10**6, "out_features": 10**6})
    assert built.weight.shape == (10**6, 10**6) and built.weight.device == torch.device("meta")
