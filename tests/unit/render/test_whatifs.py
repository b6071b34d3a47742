from __future__ import annotations

import io

from rich.cells import cell_len

import tonnage
from tonnage.analyses.findings import Finding, KindShare, find_where_the_work_is
from tonnage.analyses.whatifs import Attention, Convolution, Linear, model_what_ifs, what_ifs
from tonnage.render.whatifs import model_what_ifs_page, what_ifs_page


class Ascii(io.TextIOWrapper):
    def __init__(self) -> None:
        super().__init__(io.BytesIO(), encoding="ascii")


def test_formulas_numbers_and_values_stand_side_by_side() -> None:
    layer = Convolution(in_channels=64, out_channels=64, kernel=(5, 5), height=8, width=8)
    text = what_ifs_page(what_ifs(layer), Ascii(), width=80)
    assert text.startswith(
        "2 of 3x3 for 5x5\n"
        "  parameters x 0.72, MACs x 0.72, receptive field 5 as before\n"
        "  5x5:\n"
        "    parameters C_in*C_out*k^2 = 64*64*5^2 = 102,400\n"
        "    MACs C_in*C_out*k^2*H*W = 64*64*5^2*8*8 = 6,553,600\n"
    )
    assert max(cell_len(line) for line in text.splitlines()) <= 80


def test_a_receptive_field_that_shrinks_is_said() -> None:
    layer = Convolution(in_channels=64, out_channels=64, kernel=(3, 3), height=8, width=8)
    assert "receptive field 5 becomes 3" in what_ifs_page(what_ifs(layer), Ascii(), width=80)


def test_what_only_some_exchanges_have() -> None:
    attention = what_ifs_page(what_ifs(Attention(width=64, heads=8, tokens=4)), Ascii(), width=80)
    assert "cache for each token 2*g*d_h = 2*2*8 = 32" in attention and "receptive" not in attention
    linear = what_ifs_page(what_ifs(Linear(in_features=8, out_features=8, tokens=1, rank=2)), Ascii(), width=80)
    assert "trainable r*(d_in + d_out) = 2*(8 + 8) = 32" in linear


def test_nothing_to_exchange() -> None:
    layer = Convolution(in_channels=8, out_channels=8, kernel=(1, 1), height=4, width=4)
    assert "nothing that is known" in what_ifs_page(what_ifs(layer), Ascii(), width=80)
    assert "no convolution" in model_what_ifs_page([], Ascii(), width=80)


def test_a_model() -> None:
    trace = tonnage.weigh("torchvision:vgg16").recording.trace
    finding = find_where_the_work_is(trace)
    text = model_what_ifs_page(model_what_ifs(trace), Ascii(), finding=finding, width=80)
    assert " ".join(text.split()).startswith(finding.sentence)
    assert "12 of 13 convolutions" in text, "the first has 3 channels, which 32 groups do not divide"
    assert max(cell_len(line) for line in text.splitlines()) <= 80


def test_no_finding_is_said() -> None:
    finding = Finding(sentence="", shares=[KindShare(kind="norm", parameters=4, macs=0)])
    assert "No kind of layer has half" in model_what_ifs_page([], Ascii(), finding=finding, width=80)
