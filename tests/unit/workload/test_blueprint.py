"""A built model as plain data."""

from __future__ import annotations

import torch
from torch import nn

from tonnage.workload.blueprint import members_of, module_of, modules_of


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.depth, self.rate, self.name, self.on = 3, 0.5, "net", True
        self.sides, self.table, self.mixed = [3, 5], list(range(9)), [1, "a"]
        self._hidden, self.module_like = 7, object()
        self.embed = nn.Embedding(10, 4)
        self.head = nn.Linear(4, 10, bias=False)
        self.head.weight = self.embed.weight
        self.twice = nn.ModuleList([self.embed])
        self.register_buffer("mask", torch.zeros(2, 2, dtype=torch.bool))
        self.scale = nn.Parameter(torch.ones(4, dtype=torch.float16), requires_grad=False)


def test_a_module_by_its_class_and_its_plain_attributes():
    found = module_of("encoder", Net())
    assert (found.path, found.type, found.origin) == ("encoder", "Net", __name__)
    assert found.facts == {"depth": 3, "rate": 0.5, "name": "net", "on": True, "sides": (3, 5)}


def test_each_module_once_in_the_order_of_named_modules():
    assert [(m.path, m.type) for m in modules_of(Net())] == [
        ("", "Net"),
        ("embed", "Embedding"),
        ("head", "Linear"),
        ("twice", "ModuleList"),
    ]


def test_every_name_of_every_tensor():
    members = list(members_of(Net()))
    names = [(m.name, m.kind, m.shape) for m in members]
    assert names == [
        ("scale", "parameter", (4,)),
        ("embed.weight", "parameter", (10, 4)),
        ("head.weight", "parameter", (10, 4)),
        ("twice.0.weight", "parameter", (10, 4)),
        ("mask", "buffer", (2, 2)),
    ]
    by_name = {m.name: m for m in members}
    assert by_name["embed.weight"].identity == by_name["head.weight"].identity == by_name["twice.0.weight"].identity
    assert by_name["scale"].identity != by_name["embed.weight"].identity
    assert (by_name["scale"].dtype, by_name["scale"].nbytes, by_name["scale"].trainable) == ("float16", 8, False)
    assert (by_name["mask"].dtype, by_name["mask"].nbytes) == ("bool", 4)
    assert (by_name["embed.weight"].nbytes, by_name["embed.weight"].trainable) == (160, True)


def test_a_model_without_data():
    with torch.device("meta"):
        members = list(members_of(nn.Linear(1000, 1000)))
    assert [m.nbytes for m in members] == [4_000_000, 4_000]
