"""What a subject is made of, with and without running it."""

from __future__ import annotations

import torch
from torch import nn

import tonnage


def net():
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))


def walked(node):
    yield node
    for child in node.children:
        yield from walked(child)


def test_without_running_it():
    found = tonnage.structure(net(), run=False)
    assert found.parameters == 8 * 16 + 16 + 16 * 4 + 4
    assert all(node.macs is None for node in walked(found.root))


def test_with_a_run():
    found = tonnage.structure(net(), inputs=((torch.zeros(3, 8),), {}))
    macs = {node.path: node.macs for node in walked(found.root)}
    assert macs["0"] == 3 * 8 * 16 and macs["2"] == 3 * 16 * 4
    assert macs[""] == 3 * (8 * 16 + 16 * 4)
    outputs = {node.path: [spec.shape for spec in node.outputs] for node in walked(found.root)}
    assert outputs["0"] == [(3, 16)] and outputs["2"] == [(3, 4)]


def test_stages_are_told():
    stages = []
    tonnage.structure(net(), run=False, progress=stages.append)
    assert stages == ["looking for the model", "building the model"]
