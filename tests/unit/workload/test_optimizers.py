"""Optimizers by name."""

from __future__ import annotations

import importlib.util
import sys

import pytest
import torch
from torch import nn

import tonnage
from tonnage.errors import MissingLibrary
from tonnage.scenario import OPTIMIZERS
from tonnage.workload import optimizers

SIDE = 1024
EACH = SIDE * SIDE * 4
OTHERS = {"lion", "adamw-8bit"}


def without(monkeypatch, *names: str) -> None:
    """As if `names` were not installed."""
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in names else found(name))


@pytest.mark.parametrize("name", sorted(set(OPTIMIZERS) - OTHERS))
def test_pytorchs_own_take_a_step(name):
    parameter = nn.Parameter(torch.ones(4, 4))
    optimizer = optimizers.make(name, [parameter])
    parameter.grad = torch.ones(4, 4)
    optimizer.step()
    assert optimizers.origin(optimizer) == ""
    assert not torch.equal(parameter.detach(), torch.ones(4, 4))


def test_lion_keeps_one_moment(monkeypatch):
    """timm's: the moment, and for all parameters at once the update, which is their sign."""
    without(monkeypatch, "lion_pytorch")
    with tonnage.virtual_gpu("A100") as gpu:
        members = [nn.Parameter(torch.zeros(SIDE, SIDE, device="cuda")) for _ in range(2)]
        optimizer = optimizers.make("lion", members)
        for member in members:
            member.grad = torch.zeros_like(member)
        before = gpu.memory_allocated()
        optimizer.step()
        assert gpu.memory_allocated() - before == 2 * EACH
    assert optimizers.origin(optimizer).startswith("Lion of timm ")


def test_lion_is_missed_by_name(monkeypatch):
    without(monkeypatch, "lion_pytorch", "timm")
    with pytest.raises(MissingLibrary, match="lion-pytorch or timm") as missing:
        optimizers.make("lion", [nn.Parameter(torch.ones(1))])
    assert missing.value.hint == "pip install lion-pytorch"


def test_eight_bits_are_missed_by_name(monkeypatch):
    without(monkeypatch, "bitsandbytes")
    with pytest.raises(MissingLibrary, match="bitsandbytes"):
        optimizers.make("adamw-8bit", [nn.Parameter(torch.ones(1))])


@pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is None, reason="needs bitsandbytes")
def test_eight_bits_keep_a_byte_an_element_and_a_scale_for_256():
    """Two moments of 1024 x 1024 bytes, 4096 scales each, two maps of 256 numbers; 1000 elements stay in fp32."""
    with tonnage.virtual_gpu("A100") as gpu:
        members = [nn.Parameter(torch.zeros(n, device="cuda")) for n in (SIDE * SIDE, 1000)]
        optimizer = optimizers.make("adamw-8bit", members)
        for member in members:
            member.grad = torch.zeros_like(member)
        start = len(gpu.recording.ledger.sizes)
        optimizer.step()
        made = sorted(gpu.recording.ledger.sizes[start:])
    assert made == sorted([SIDE * SIDE] * 2 + [4 * 4096] * 2 + [4 * 256] * 2 + [4 * 1000] * 2)


def test_no_other_library_is_imported_for_adamw():
    before = set(sys.modules)
    optimizers.make("adamw", [nn.Parameter(torch.ones(1))])
    assert not {"timm", "lion_pytorch", "bitsandbytes"} & (set(sys.modules) - before)
