"""Each exchange against the layers themselves: built on `meta`, their parameters counted and their MACs by torch."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import tonnage
from tonnage.analyses.whatifs import (
    Attention,
    Convolution,
    FeedForward,
    Linear,
    Side,
    WhatIf,
    model_what_ifs,
    receptive_field,
    what_ifs,
)


def counted(model: nn.Module, *inputs: torch.Tensor) -> tuple[int, int]:
    """Parameters, and MACs of the forward pass, by torch."""
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        model.to("meta")(*(x.to("meta") for x in inputs))
    return sum(p.numel() for p in model.parameters()), counter.get_total_flops() // 2


def said(side: Side) -> tuple[int, int]:
    return side.parameters.value, side.macs.value


def only(layer: Convolution | Attention | FeedForward | Linear, kind: str, **options: int) -> WhatIf:
    (found,) = (w for w in what_ifs(layer, **options) if w.kind == kind)
    return found


def convolutions(layer: Convolution, kind: str) -> nn.Module:
    """The layers that stand in the place of `layer`."""
    c_in, c_out, (k, k_w), s, bias = layer.in_channels, layer.out_channels, layer.kernel, layer.stride, layer.bias
    half = (k // 2, k_w // 2)
    match kind:
        case "before":
            return nn.Conv2d(c_in, c_out, layer.kernel, s, half, bias=bias)
        case "stack":
            widths = [c_in, *[c_out] * ((k - 1) // 2)]
            pairs = list(pairwise(widths))
            strides = [*[1] * (len(pairs) - 1), s]
            return nn.Sequential(
                *(nn.Conv2d(a, b, 3, t, 1, bias=bias) for (a, b), t in zip(pairs, strides, strict=True))
            )
        case "crossed":
            return nn.Sequential(
                nn.Conv2d(c_in, c_out, (k, 1), (s, 1), (k // 2, 0), bias=bias),
                nn.Conv2d(c_out, c_out, (1, k), (1, s), (0, k // 2), bias=bias),
            )
        case "separable":
            return nn.Sequential(
                nn.Conv2d(c_in, c_in, layer.kernel, s, half, groups=c_in, bias=bias),
                nn.Conv2d(c_in, c_out, 1, bias=bias),
            )
        case "grouped":
            return nn.Conv2d(c_in, c_out, layer.kernel, s, half, groups=8, bias=bias)
    raise AssertionError(kind)


LAYERS = {
    "5x5": Convolution(in_channels=16, out_channels=24, kernel=(5, 5), height=14, width=10),
    "7x7, stride 2, odd sizes, bias": Convolution(
        in_channels=8, out_channels=16, kernel=(7, 7), height=15, width=11, stride=2, bias=True
    ),
    "5x5, stride 2": Convolution(in_channels=8, out_channels=16, kernel=(5, 5), height=12, width=12, stride=2),
    "3x3, batch 4, bias": Convolution(
        in_channels=16, out_channels=32, kernel=(3, 3), height=9, width=7, batch=4, bias=True
    ),
    "3x5": Convolution(in_channels=16, out_channels=8, kernel=(3, 5), height=6, width=6),
}
KINDS = {
    "5x5": ["stack", "crossed", "separable", "grouped"],
    "7x7, stride 2, odd sizes, bias": ["stack", "crossed", "separable", "grouped"],
    "5x5, stride 2": ["stack", "crossed", "separable", "grouped"],
    "3x3, batch 4, bias": ["crossed", "separable", "grouped"],
    "3x5": ["separable", "grouped"],
}


@pytest.mark.parametrize("name", LAYERS)
def test_convolutions_as_torch_counts_them(name: str) -> None:
    layer = LAYERS[name]
    found = what_ifs(layer, groups=8)
    assert [w.kind for w in found] == KINDS[name]
    x = torch.empty(layer.batch, layer.in_channels, layer.height, layer.width, device="meta")
    for what_if in found:
        assert said(what_if.before) == counted(convolutions(layer, "before"), x)
        assert said(what_if.after) == counted(convolutions(layer, what_if.kind), x), what_if.name


@pytest.mark.parametrize("bias", [False, True])
def test_a_bottleneck_for_two_3x3(bias: bool) -> None:
    layer = Convolution(in_channels=64, out_channels=64, kernel=(3, 3), height=7, width=5, bias=bias)
    found = only(layer, "bottleneck", groups=1)
    x = torch.empty(1, 64, 7, 5)
    pair = nn.Sequential(*(nn.Conv2d(64, 64, 3, padding=1, bias=bias) for _ in range(2)))
    narrow = nn.Sequential(
        nn.Conv2d(64, 16, 1, bias=bias), nn.Conv2d(16, 16, 3, padding=1, bias=bias), nn.Conv2d(16, 64, 1, bias=bias)
    )
    assert (said(found.before), said(found.after)) == (counted(pair, x), counted(narrow, x))
    assert (found.before.receptive_field, found.after.receptive_field) == (5, 3)


def seen(model: nn.Module, size: int) -> int:
    """The points of a row of the input on which the middle point of the output depends."""
    for p in model.parameters():
        nn.init.ones_(p)
    x = torch.zeros(1, model[0].in_channels, size, size, requires_grad=True)
    y = model(x)[0, 0]
    y[y.shape[0] // 2, y.shape[1] // 2].backward()
    return int((x.grad[0, 0].abs().sum(0) > 0).sum())


@pytest.mark.parametrize("kernel", [5, 7])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kind", ["stack", "crossed", "separable"])
def test_the_receptive_field_is_what_gradients_reach(kind: str, kernel: int, stride: int) -> None:
    layer = Convolution(in_channels=2, out_channels=2, kernel=(kernel, kernel), height=33, width=33, stride=stride)
    found = only(layer, kind)
    assert seen(convolutions(layer, kind), 33) == found.after.receptive_field == found.before.receptive_field == kernel


def test_a_receptive_field_grows_by_the_strides_before() -> None:
    # AlexNet: 11 (stride 4), pool 3 (2), conv 5, pool 3 (2), three conv 3, pool 3: 195, as distill.pub/2019 computes
    alexnet = [(11, 4), (3, 2), (5, 1), (3, 2), (3, 1), (3, 1), (3, 1), (3, 2)]
    assert receptive_field(*alexnet) == 195


def test_the_textbook_ratios() -> None:
    def ratio(kernel: int, kind: str) -> Fraction:
        found = only(Convolution(in_channels=64, out_channels=64, kernel=(kernel, kernel), height=8, width=8), kind)
        return Fraction(found.after.macs.value, found.before.macs.value)

    assert ratio(5, "stack") == Fraction(18, 25)
    assert ratio(7, "stack") == Fraction(27, 49)
    assert ratio(3, "crossed") == Fraction(2, 3)
    assert ratio(3, "separable") == Fraction(1, 64) + Fraction(1, 9)
    assert ratio(3, "grouped") == Fraction(1, 32)
    assert ratio(3, "bottleneck") == Fraction(17, 16) / 18


def test_formulas_with_their_numbers() -> None:
    found = only(Convolution(in_channels=3, out_channels=64, kernel=(7, 7), height=224, width=224, stride=2), "stack")
    before = found.before.parameters
    assert (before.formula, before.substituted, before.value) == ("C_in*C_out*k^2", "3*64*7^2", 9408)
    assert found.after.macs.substituted == "(3^2*3*64 + (3 - 2)*3^2*64^2)*224*224 + 3^2*64^2*112*112"
    assert found.mac_ratio > 20, "three wide layers at the full resolution are no bargain"


def test_what_does_not_fit_is_left_out() -> None:
    assert not what_ifs(Convolution(in_channels=8, out_channels=8, kernel=(1, 1), height=4, width=4))
    even = Convolution(in_channels=3, out_channels=8, kernel=(4, 4), height=8, width=8, output=(2, 2), stride=4)
    assert [w.kind for w in what_ifs(even)] == ["crossed", "separable"]
    unpadded = Convolution(in_channels=64, out_channels=64, kernel=(5, 5), height=8, width=8, output=(4, 4))
    assert "stack" not in {w.kind for w in what_ifs(unpadded)}


def test_crossed_without_padding() -> None:
    layer = Convolution(in_channels=4, out_channels=6, kernel=(5, 5), height=9, width=12, output=(5, 8))
    model = nn.Sequential(nn.Conv2d(4, 6, (5, 1), bias=False), nn.Conv2d(6, 6, (1, 5), bias=False))
    assert said(only(layer, "crossed").after) == counted(model, torch.empty(1, 4, 9, 12))


class Heads(nn.Module):
    def __init__(self, width: int, heads: int, kv_heads: int, size: int) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.size = heads, kv_heads, size
        self.q, self.o = nn.Linear(width, heads * size, bias=False), nn.Linear(heads * size, width, bias=False)
        self.k, self.v = (nn.Linear(width, kv_heads * size, bias=False) for _ in range(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = (
            projection(x).unflatten(-1, (-1, self.size)).transpose(1, 2) for projection in (self.q, self.k, self.v)
        )
        k, v = (t.repeat_interleave(self.heads // self.kv_heads, dim=1) for t in (k, v))
        return self.o((((q @ k.transpose(-2, -1)).softmax(-1)) @ v).transpose(1, 2).flatten(-2))


def test_grouped_queries() -> None:
    layer = Attention(width=96, heads=8, head_size=16, tokens=20)
    quarter, single = what_ifs(layer)
    x = torch.empty(1, 20, 96)
    assert said(quarter.before) == counted(Heads(96, 8, 8, 16), x)
    assert said(quarter.after) == counted(Heads(96, 8, 2, 16), x)
    assert said(single.after) == counted(Heads(96, 8, 1, 16), x)
    assert [w.after.cache.value for w in (quarter, single) if w.after.cache] == [2 * 2 * 16, 2 * 16]
    assert [w.kind for w in what_ifs(layer, kv_heads=3)] == [], "3 does not divide 8 heads"


class Gated(nn.Module):
    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.gate, self.up = (nn.Linear(width, inner, bias=False) for _ in range(2))
        self.down = nn.Linear(inner, width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down(F.silu(self.gate(x)) * self.up(x))


@pytest.mark.parametrize(("inner", "narrow"), [(96, 64), (128, 85)])
def test_a_gated_feed_forward(inner: int, narrow: int) -> None:
    found = only(FeedForward(width=32, inner=inner, tokens=5), "gated")
    x = torch.empty(5, 32)
    plain = nn.Sequential(nn.Linear(32, inner, bias=False), nn.ReLU(), nn.Linear(inner, 32, bias=False))
    assert (said(found.before), said(found.after)) == (counted(plain, x), counted(Gated(32, narrow), x))
    assert (found.remark == "") is (inner == 96), "rounding is said"


def test_low_rank() -> None:
    layer = Linear(in_features=48, out_features=80, tokens=6, rank=4)
    x = torch.empty(6, 48)
    thin = nn.Sequential(nn.Linear(48, 4, bias=False), nn.Linear(4, 80, bias=False))
    factors, adapter = what_ifs(layer)
    assert said(factors.before) == counted(nn.Linear(48, 80, bias=False), x)
    assert said(factors.after) == counted(thin, x)
    full, low = counted(nn.Linear(48, 80, bias=False), x), counted(thin, x)
    assert said(adapter.after) == (full[0] + low[0], full[1] + low[1])
    assert adapter.after.trainable is not None and adapter.after.trainable.value == low[0]
    assert "30" in factors.remark, "48 * 80 / 128"


class Small(nn.Module):
    """5x5 (half padded), the same 3x3 twice, a grouped and a dilated one that stay as they are."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 5, padding=2)
        self.again = nn.Conv2d(8, 8, 3, padding=1, bias=False)
        self.grouped = nn.Conv2d(8, 8, 3, padding=1, groups=4)
        self.dilated = nn.Conv2d(8, 8, 3, padding=2, dilation=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.dilated(self.grouped(self.again(self.again(self.first(x)))))


def test_every_convolution_of_a_model() -> None:
    recording = tonnage.weigh(Small(), inputs=((torch.zeros(2, 3, 10, 10),), {})).recording
    found = {w.kind: w for w in model_what_ifs(recording.trace, groups=8)}
    assert set(found) == {"stack", "crossed", "separable", "grouped"}
    assert {w.convolutions for w in found.values()} == {5}
    separable = found["separable"]
    assert [(layer.path, layer.repeated) for layer in separable.layers] == [
        ("first", False),
        ("again", False),
        ("again", True),
    ]
    # By hand, 2 * 100 points: 5x5 of 3 to 8 with bias, and the 3x3 of 8 to 8 held once and applied twice.
    assert separable.parameters_before == (5 * 5 * 3 + 1) * 8 + 9 * 64
    assert separable.parameters_after == (25 + 1) * 3 + (3 + 1) * 8 + 9 * 8 + 64
    assert separable.macs_before == 200 * (25 * 24 + 2 * 9 * 64)
    assert separable.macs_after == 200 * (25 * 3 + 24 + 2 * (72 + 64))
    assert [layer.path for layer in found["grouped"].layers] == ["again", "again"], "3 channels are not 8 groups"
    assert [layer.path for layer in found["stack"].layers] == ["first"]
