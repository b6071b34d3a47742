from __future__ import annotations

import pytest
import torch
from torch import nn

import tonnage
from tonnage.analyses.findings import KindShare, LayerKind, find_where_the_work_is, percent, where_the_work_is
from tonnage.trace import Trace


def test_vgg16_as_everybody_learns_it() -> None:
    found = find_where_the_work_is(tonnage.weigh("torchvision:vgg16").recording.trace)
    assert found.sentence == (
        "The linear layers hold 89 % of the parameters, the convolutions do 99 % of the multiply-accumulates."
    )
    linear, convolution = found.shares
    assert linear.parameters == (25088 + 1) * 4096 + (4096 + 1) * 4096 + (4096 + 1) * 1000
    assert linear.macs == 25088 * 4096 + 4096 * 4096 + 4096 * 1000
    # 3x3 throughout: channels in and out, and the side of the image.
    layers = [(3, 64, 224), (64, 64, 224), (64, 128, 112), (128, 128, 112), (128, 256, 56), *[(256, 256, 56)] * 2]
    layers += [(256, 512, 28), *[(512, 512, 28)] * 2, *[(512, 512, 14)] * 3]
    assert convolution.parameters == sum((9 * c_in + 1) * c_out for c_in, c_out, _ in layers)
    assert convolution.macs == sum(9 * c_in * c_out * side**2 for c_in, c_out, side in layers)


def test_attention_norms_and_embeddings_are_kinds_of_their_own() -> None:
    trace = tonnage.weigh("bert-base-uncased", seq=128).recording.trace
    found = {share.kind: share for share in find_where_the_work_is(trace).shares}
    hidden, inner, layers, seq = 768, 3072, 12, 128
    matrices = 4 * hidden * hidden + 2 * hidden * inner
    assert found["embedding"].parameters == (30522 + 512 + 2) * hidden
    assert found["norm"].parameters == (2 * layers + 1) * 2 * hidden
    biases = 5 * hidden + inner
    assert found["linear"].parameters == layers * (matrices + biases) + hidden * hidden + hidden
    assert found["linear"].macs == layers * seq * matrices + hidden * hidden
    assert found["batched"].macs == layers * 2 * seq * seq * hidden
    assert (found["batched"].parameters, found["embedding"].macs) == (0, 0)


def test_the_weights_that_multihead_attention_holds_itself_are_linear() -> None:
    module = nn.MultiheadAttention(8, 2, batch_first=True)
    x = torch.zeros(1, 3, 8)
    trace = tonnage.weigh(module, inputs=((x, x, x), {})).recording.trace
    shares = {share.kind: share for share in find_where_the_work_is(trace).shares}
    assert (shares["linear"].parameters, shares["linear"].macs) == (4 * (8 * 8 + 8), 3 * 4 * 8 * 8)
    assert shares["batched"].macs == 2 * 3 * 3 * 8


def test_recurrent_layers() -> None:
    x = torch.zeros(5, 2, 3)
    trace = tonnage.weigh(nn.GRU(3, 4), inputs=((x,), {})).recording.trace
    assert find_where_the_work_is(trace).shares == [
        KindShare(kind="recurrent", parameters=3 * (4 * 3 + 4 * 4 + 4 + 4), macs=5 * 2 * 3 * (4 * 3 + 4 * 4))
    ]


def shares(*rows: tuple[LayerKind, int, int]) -> list[KindShare]:
    return [KindShare(kind=kind, parameters=parameters, macs=macs) for kind, parameters, macs in rows]


def test_the_sentence() -> None:
    both = where_the_work_is(shares(("linear", 78, 97), ("embedding", 22, 0), ("batched", 0, 3)))
    assert both == "The linear layers hold 78 % of the parameters and do 97 % of the multiply-accumulates."


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [("norm", 5, 0)],
        [("batched", 0, 5)],
        [("linear", 40, 90), ("embedding", 30, 0), ("convolution", 30, 10)],
        [("linear", 90, 40), ("batched", 0, 30), ("convolution", 10, 30)],
    ],
)
def test_no_sentence_where_no_kind_has_the_half(rows: list[tuple[LayerKind, int, int]]) -> None:
    assert where_the_work_is(shares(*rows)) == ""


def test_nothing_ran() -> None:
    assert find_where_the_work_is(Trace()).shares == []


def test_percent_rounds_halves_up_and_never_to_all_or_nothing() -> None:
    assert [percent(part, 200) for part in (0, 1, 2, 199, 200)] == ["0 %", "1 %", "1 %", "over 99 %", "100 %"]
    assert percent(1, 201) == "under 1 %"
