"""Work and its forms, in the sizes of the inputs and of the model."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import tonnage
from tonnage.errors import BadOption
from tonnage.pipeline.forwards import forwards
from tonnage.scenario import Scenario
from tonnage.workload import libraries, resolve


def linear_inputs(batch=2, seq=5, width=8):
    return ((torch.zeros(batch, seq, width),), {})


def test_the_work_of_a_linear_layer_in_all_its_sizes():
    report = tonnage.flops(nn.Linear(8, 16), inputs=linear_inputs())
    assert report.compute.macs == 2 * 5 * 8 * 16
    assert report.compute.formula == "128*B*S"
    assert report.compute.evaluate(B=3, S=7) == 3 * 7 * 128


def test_the_work_of_an_encoder_in_config_symbols():
    """4 projections, 2 products and a network of 2 layers for each of the L layers, and a pooler for each sample."""
    pytest.importorskip("transformers")
    transformers = libraries.load("transformers")
    config = transformers.BertConfig(
        architectures=["BertModel"],
        hidden_size=16,
        num_attention_heads=2,
        intermediate_size=24,
        num_hidden_layers=2,
        vocab_size=30,
        max_position_embeddings=64,
    )
    form = tonnage.flops(config, batch=2, seq=12).config_form
    assert form is not None and form.proved
    for B, S, L, H, F in [(1, 1, 1, 16, 1), (3, 20, 4, 32, 9), (5, 7, 2, 48, 100), (2, 64, 12, 16, 24)]:
        layer = 4 * S * H * H + 2 * S * S * H + 2 * S * H * F
        sizes = {"B": B, "S": S, "num_hidden_layers": L, "hidden_size": H, "intermediate_size": F}
        assert form.evaluate(**sizes) == B * (L * layer + H * H)


def test_a_live_module_has_no_form_in_config_symbols():
    net = nn.Sequential(nn.Linear(8, 4))
    assert tonnage.flops(net, inputs=linear_inputs()).config_form is None


def macs(passes, batch, seq):
    products = passes.products({"B": batch, "S": seq})
    return products and sum(product.macs for product in products)


@pytest.fixture
def passes():
    with forwards(resolve(nn.Linear(8, 16)), Scenario(), linear_inputs(), card="A100-SXM4-80GB") as found:
        yield found


def test_the_sizes_of_what_was_given(passes):
    assert [(s.symbol, s.name, s.value) for s in passes.sizes] == [("B", "batch", 2), ("S", "seq", 5)]


def test_a_pass_at_other_sizes(passes):
    assert [macs(passes, b, s) for b, s in ((1, 1), (2, 5), (9, 3))] == [128, 1280, 27 * 128]


class Picky(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 16)

    def forward(self, x):
        if x.shape[1] > 6:
            raise ValueError("too long")
        return self.linear(x)


def test_a_pass_that_the_model_refuses_is_none_and_the_next_one_counts():
    with forwards(resolve(Picky()), Scenario(), linear_inputs(), card="A100-SXM4-80GB") as passes:
        assert [macs(passes, 1, s) for s in (6, 7, 5)] == [6 * 128, None, 5 * 128]


def test_a_model_that_is_given_stays_on_its_device_and_in_its_mode():
    net = Picky().train()
    compute = tonnage.weigh(net, inputs=linear_inputs()).compute
    assert compute.evaluate(S=3) == 2 * 3 * 128
    assert net.training and net.linear.weight.device.type == "cpu"


def test_what_makes_no_sense():
    with pytest.raises(BadOption):
        tonnage.flops(nn.Linear(8, 16), inputs=linear_inputs(), batch=0)
