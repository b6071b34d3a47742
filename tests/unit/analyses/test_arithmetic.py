"""The arithmetic of one module, against what PyTorch makes of the same arguments."""

from __future__ import annotations

from math import prod

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

from tonnage.analyses.arithmetic import textbook  # noqa: E402
from tonnage.analyses.expressions import parse  # noqa: E402
from tonnage.trace import Module  # noqa: E402
from tonnage.workload.blueprint import module_of  # noqa: E402

CASES = [
    (lambda: nn.Linear(784, 128), "(in + 1)*out", "(784 + 1)*128"),
    (lambda: nn.Linear(784, 128, bias=False), "in*out", "784*128"),
    (lambda: nn.Conv2d(64, 128, 3), "(k*k*C_in + 1)*C_out", "(3*3*64 + 1)*128"),
    (lambda: nn.Conv2d(64, 128, 3, bias=False), "k*k*C_in*C_out", "3*3*64*128"),
    (lambda: nn.Conv2d(64, 128, (3, 5)), "(k_0*k_1*C_in + 1)*C_out", "(3*5*64 + 1)*128"),
    (lambda: nn.Conv2d(64, 128, 3, groups=4), "(k*k*C_in/g + 1)*C_out", "(3*3*64/4 + 1)*128"),
    (lambda: nn.Conv2d(64, 64, 3, groups=64), "(k*k + 1)*C", "(3*3 + 1)*64"),
    (lambda: nn.Conv1d(4, 8, 7), "(k*C_in + 1)*C_out", "(7*4 + 1)*8"),
    (lambda: nn.Conv3d(2, 3, 2), "(k*k*k*C_in + 1)*C_out", "(2*2*2*2 + 1)*3"),
    (lambda: nn.ConvTranspose2d(16, 8, 2), "(k*k*C_in + 1)*C_out", "(2*2*16 + 1)*8"),
    (lambda: nn.ConvTranspose2d(16, 8, 2, groups=4), "(k*k*C_in/g + 1)*C_out", "(2*2*16/4 + 1)*8"),
    (lambda: nn.BatchNorm2d(64), "2*C", "2*64"),
    (lambda: nn.LayerNorm(768), "2*C", "2*768"),
    (lambda: nn.LayerNorm((4, 8)), "2*C", "2*4*8"),
    (lambda: nn.LayerNorm(768, bias=False), "C", "768"),
    (lambda: nn.GroupNorm(2, 64), "2*C", "2*64"),
    (lambda: nn.Embedding(30522, 768), "V*d", "30522*768"),
    (lambda: nn.MultiheadAttention(512, 8), "3*(d*d + d)", "3*(512*512 + 512)"),
    (lambda: nn.MultiheadAttention(512, 8, bias=False), "3*d*d", "3*512*512"),
    (lambda: nn.LSTM(24, 16), "4*(h*(h + in) + 2*h)", "4*(16*(16 + 24) + 2*16)"),
    (lambda: nn.LSTM(24, 16, bias=False), "4*(h*(h + in))", "4*(16*(16 + 24))"),
    (
        lambda: nn.LSTM(24, 16, 3),
        "4*(h*(h + in) + 2*h) + (layers - 1)*4*(h*(h + h) + 2*h)",
        "4*(16*(16 + 24) + 2*16) + 2*4*(16*(16 + 16) + 2*16)",
    ),
    (
        lambda: nn.GRU(24, 16, 2, bidirectional=True),
        "2*3*(h*(h + in) + 2*h) + 2*(layers - 1)*3*(h*(h + 2*h) + 2*h)",
        "2*3*(16*(16 + 24) + 2*16) + 2*3*(16*(16 + 32) + 2*16)",
    ),
    (lambda: nn.RNN(24, 16), "1*(h*(h + in) + 2*h)", "1*(16*(16 + 24) + 2*16)"),
]


def own_shapes(module):
    return {name: tuple(p.shape) for name, p in module.named_parameters(recurse=False)}


@pytest.mark.parametrize(("make", "formula", "worked"), CASES)
def test_what_a_textbook_writes(make, formula, worked):
    module = make()
    found = textbook(module_of("", module), own_shapes(module))
    assert (found.formula, found.worked) == (formula, worked)
    assert parse(worked).evaluate({}) == sum(p.numel() for p in module.parameters(recurse=False))


sizes = st.integers(1, 12)


@settings(max_examples=60, deadline=None)
@given(sizes, sizes, st.integers(1, 3), st.booleans(), st.booleans(), st.sampled_from([nn.LSTM, nn.GRU, nn.RNN]))
def test_every_recurrent_layer(wide, hidden, layers, bias, both, kind):
    with torch.device("meta"):
        module = kind(wide, hidden, layers, bias=bias, bidirectional=both)
    found = textbook(module_of("", module), own_shapes(module))
    count = sum(p.numel() for p in module.parameters())
    assert parse(found.worked).evaluate({}) == count
    assert parse(found.formula).evaluate({"h": hidden, "in": wide, "layers": layers}) == count


@settings(max_examples=60, deadline=None)
@given(sizes, sizes, sizes, st.integers(1, 5), st.booleans(), st.booleans())
def test_every_convolution(groups, inward, outward, kernel, bias, transposed):
    kind = nn.ConvTranspose1d if transposed else nn.Conv1d
    with torch.device("meta"):
        module = kind(groups * inward, groups * outward, kernel, groups=groups, bias=bias)
    found = textbook(module_of("", module), own_shapes(module))
    assert parse(found.worked).evaluate({}) == sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.LSTM(24, 16, proj_size=4),
        lambda: nn.MultiheadAttention(16, 2, kdim=8, vdim=8),
        lambda: nn.MultiheadAttention(16, 2, add_bias_kv=True),
        lambda: nn.Bilinear(2, 3, 4),
        lambda: nn.PReLU(),
    ],
)
def test_sizes_alone_where_nothing_is_usual_or_it_would_be_wrong(make):
    module = make()
    found = textbook(module_of("", module), own_shapes(module))
    assert found.formula == ""
    assert parse(found.worked).evaluate({}) == sum(p.numel() for p in module.parameters(recurse=False))


def test_a_linear_layer_with_something_more_is_no_linear_layer():
    shapes = {"weight": (4, 3), "bias": (4,), "lora": (2, 3)}
    assert textbook(Module("", "Linear"), shapes) == ("", "4*3 + 4 + 2*3")


@pytest.mark.parametrize(
    ("kind", "facts", "shapes"),
    [
        ("Linear", {}, {"weight": (4, 3, 2)}),
        ("Linear", {}, {"kernel": (4, 3)}),
        ("Embedding", {}, {"weight": (4,)}),
        ("Embedding", {}, {"table": (4, 3)}),
        ("Conv1D", {}, {"weight": (4, 3, 5), "bias": (5,)}),
        ("Conv1D", {}, {"bias": (4,)}),
        ("Conv2d", {"kernel_size": (3, 3)}, {"weight": (4,)}),
        ("Conv2d", {}, {"weight": (4, 3, 3, 3)}),
        ("MultiheadAttention", {}, {"in_proj_weight": (4,)}),
        ("LSTM", {}, {"weight": (4, 3)}),
        ("LSTM", {"input_size": (3, 3), "hidden_size": "wide", "num_layers": None}, {"weight": (4, 3)}),
        ("LayerNorm", {}, {"weight": (4,), "bias": (3,)}),
    ],
)
def test_a_class_of_the_users_that_is_called_like_one_of_pytorch(kind, facts, shapes):
    found = textbook(Module("", kind, "mine", facts), shapes)
    assert (found.formula, parse(found.worked).evaluate({})) == ("", sum(map(prod, shapes.values())))
