"""The page is read back: what it prints is what the analysis says, and it fits."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import pytest
from rich.cells import cell_len

import tonnage
from tonnage.analyses.roofline import UsefulBatch, account_roofline
from tonnage.gpus import Card, find_card
from tonnage.recording import Recording
from tonnage.render.roofline import format_seconds, roofline_page


@pytest.fixture(scope="module")
def training() -> Recording:
    return tonnage.weigh("bert-base-uncased", mode="training", seq=16, precision="amp-bf16").recording


@pytest.fixture
def card() -> Card:
    return find_card("A100")


class Ascii(io.TextIOWrapper):
    def __init__(self) -> None:
        super().__init__(io.BytesIO(), encoding="ascii")


def test_every_line_fits_and_the_shares_add_up(training: Recording, card: Card) -> None:
    roofline = account_roofline(training, card)
    text = roofline_page(roofline, Ascii(), most=5, width=80)
    assert max(cell_len(line) for line in text.splitlines()) <= 80
    assert not re.search(r" +$", text, flags=re.MULTILINE)
    shares = [float(share) for share in re.findall(r"([\d.]+)%", text)]
    assert len(shares) == 6 and sum(shares) == pytest.approx(100, abs=0.5)
    assert f"{len(roofline.layers) - 5} more" in text
    assert f"{roofline.step.flops:,}" in text
    assert "lower bound, no prediction" in text.splitlines()[0]


def test_what_is_not_known_is_said(training: Recording) -> None:
    text = " ".join(roofline_page(account_roofline(training, find_card("T4")), Ascii(), width=80).split())
    assert "Not in the bound: the time of matrix products in bfloat16" in text
    assert "unknown" in text and "not known" in text


def test_a_card_without_a_bandwidth(training: Recording, card: Card) -> None:
    text = roofline_page(account_roofline(training, replace(card, bandwidth=None)), Ascii(), width=80)
    assert "memory: not known" in text


def test_figures_that_were_not_verified_say_so(training: Recording) -> None:
    laptop = find_card("RTX 3060 Laptop")
    assert not laptop.facts["bandwidth"].verified
    assert "memory: 336 GB/s, not verified" in roofline_page(account_roofline(training, laptop), Ascii(), width=80)


@pytest.mark.parametrize(
    ("useful", "said"),
    [
        (
            UsefulBatch(
                batch=1361,
                seconds_per_sample=374e-6,
                seconds_per_sample_alone=5.51e-3,
                least_seconds_per_sample=370e-6,
            ),
            "From batch 1,361 on a bigger batch only takes longer: "
            "374 us a sample there, 370 us at any, 5.51 ms alone.",
        ),
        (
            UsefulBatch(batch=None, reason="nothing grows with the batch"),
            "No batch can be named from which on a bigger one only takes longer: nothing grows with the batch.",
        ),
    ],
)
def test_the_useful_batch(training: Recording, card: Card, useful: UsefulBatch, said: str) -> None:
    text = roofline_page(account_roofline(training, card), Ascii(), useful=useful, width=80)
    assert said in " ".join(text.split())


def test_inference_has_one_column_of_times(card: Card) -> None:
    recording = tonnage.weigh("torchvision:vgg16").recording
    text = roofline_page(account_roofline(recording, card), Ascii(), width=80)
    (head,) = (line for line in text.splitlines() if line.startswith("layer"))
    assert head.split() == ["layer", "forward", "share", "FLOP/B", "limit"]
    assert "Winograd" in text


def test_seconds() -> None:
    assert [format_seconds(s) for s in (0, 1.5e-9, 999e-9, 1e-6, 0.0123, 1, 3600)] == [
        "0",
        "1.50 ns",
        "999 ns",
        "1.00 us",
        "12.3 ms",
        "1.00 s",
        "3,600 s",
    ]
