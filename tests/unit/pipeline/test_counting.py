"""Subjects to forms, with real models."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import tonnage
from tonnage.errors import BadOption, UnknownModel
from tonnage.pipeline.counting import form_of, form_of_workload
from tonnage.workload import libraries, resolve
from tonnage.workload.variation import vary


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(10, 4)
        self.head = nn.Linear(4, 10, bias=False)
        self.head.weight = self.embed.weight
        self.scale = nn.Parameter(torch.ones(3))
        self.norm = nn.BatchNorm1d(4)


def test_a_live_module_is_counted_and_left_as_it_is():
    """40 shared, 3 by themselves, 4 and 4 of the norm, which has buffers of 4, 4 and 1."""
    net = Net().train()
    before = {name: (id(p), p.device, p.requires_grad) for name, p in net.named_parameters()}
    count = tonnage.params(net).parameters
    assert (count.total, count.tied, count.embedding, count.buffers) == (51, 40, 40, 9)
    assert (count.form.formula, count.form.proved) == ("", False)
    assert count.formula == "3 + 10*4 + 2*4"
    assert [(c.path, c.total) for c in count.form.components] == [("", 3), ("embed", 40), ("norm", 8)]
    assert {name: (id(p), p.device, p.requires_grad) for name, p in net.named_parameters()} == before
    assert net.training


def test_a_module_of_torch_that_was_changed_since_is_no_longer_what_its_arguments_make():
    """The form would be that of another layer."""
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    layer.linear1 = nn.Linear(8, 20)
    layer.linear2 = nn.Linear(20, 8)
    layer.register_parameter("extra", nn.Parameter(torch.zeros(5)))
    count = tonnage.params(layer).parameters
    assert count.form.formula == ""
    assert count.form.evaluate() == count.total == sum(p.numel() for p in layer.parameters())


def test_frozen_parameters_count():
    layer = nn.Linear(3, 4)
    layer.bias.requires_grad_(False)
    count = tonnage.params(layer).parameters
    assert (count.trainable, count.frozen, count.formula) == (12, 4, "in*out + out")


def test_weigh_gives_the_same_form_when_it_is_asked():
    layer = nn.Linear(3, 4)
    weighed = tonnage.weigh(layer, inputs=((torch.zeros(1, 3),), {})).parameters
    assert weighed.formula == tonnage.params(layer).parameters.formula == "in*out + out"
    assert weighed.evaluate(in_features=7, out=2) == 16


def test_a_live_config_follows_itself():
    """Heads of 16 when the width doubles: head_dim was not given."""
    pytest.importorskip("transformers")
    transformers = libraries.load("transformers")
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}

    def config(**changes):
        return transformers.LlamaConfig(
            architectures=["LlamaForCausalLM"], vocab_size=50, num_key_value_heads=2, **{**sizes, **changes}
        )

    count = tonnage.params(config()).parameters
    assert count.form.proved
    for changes in ({"hidden_size": 64}, {"num_attention_heads": 2}, {"hidden_size": 128, "head_dim": 8}):
        with torch.device("meta"):
            model = transformers.LlamaForCausalLM(config(**changes))
        assert count.evaluate(**changes) == sum(p.numel() for p in model.parameters())


def test_stages_are_told_in_order():
    stages = []
    tonnage.params(nn.Linear(3, 4), progress=stages.append)
    assert stages == ["looking for the model", "building the model", "building it at other sizes"]


def test_neither_numbers_drawn_nor_warnings(recwarn):
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    before = torch.get_rng_state()
    tonnage.params(layer)
    assert torch.equal(torch.get_rng_state(), before)
    assert not recwarn.list


def test_from_a_workload_and_from_a_built_model():
    workload = resolve(nn.Bilinear(2, 3, 4))
    assert form_of_workload(workload) == form_of(nn.Bilinear(2, 3, 4), vary(workload))
    assert form_of(nn.Bilinear(2, 3, 4), None).formula == ""


def test_what_cannot_be_found_or_asked():
    with pytest.raises(UnknownModel):
        tonnage.params("no-such-model-anywhere")
    with pytest.raises(BadOption, match="no field"):
        tonnage.params(nn.Linear(3, 4)).parameters.evaluate(width=3)
