"""Bytes and counts to and from text."""

from __future__ import annotations

import pytest

from tonnage.errors import BadOption
from tonnage.units import GiB, KiB, MiB, TiB, format_bandwidth, format_bytes, format_count, parse_bytes, short_count


@pytest.mark.parametrize(
    ("nbytes", "text"),
    [
        (0, "0 B"),
        (1, "1 B"),
        (1023, "1023 B"),
        (KiB, "1.00 KiB"),
        (8_519_680, "8.13 MiB"),  # 8.125: a half is rounded up
        (MiB - 1, "1,024.00 KiB"),
        (1536 * MiB, "1.50 GiB"),
        (3 * TiB, "3.00 TiB"),
        (-MiB, "-1.00 MiB"),
    ],
)
def test_bytes_as_text(nbytes: int, text: str) -> None:
    assert format_bytes(nbytes) == text


@pytest.mark.parametrize(
    ("text", "nbytes"),
    [
        ("512", 512),
        ("6GiB", 6 * GiB),
        (" 5806 MiB ", 5806 * MiB),
        ("24GB", 24 * 10**9),
        ("1.5 gib", 3 * GiB // 2),
        ("0", 0),
    ],
)
def test_text_as_bytes(text: str, nbytes: int) -> None:
    assert parse_bytes(text) == nbytes


@pytest.mark.parametrize("text", ["", "GiB", "six GiB", "6 GiBs", "-6GiB", "6 XB", "6 GiB 3", "1e9"])
def test_what_is_no_amount(text: str) -> None:
    with pytest.raises(BadOption, match="is no amount of memory") as caught:
        parse_bytes(text)
    assert "6GiB" in caught.value.hint


def test_counts() -> None:
    assert format_count(138_357_544) == "138,357,544"
    assert short_count(138_357_544) == "138.4 M"
    assert short_count(999) == "999"
    assert short_count(70_553_706_496) == "70.55 B"


def test_bandwidth_is_decimal_as_on_data_sheets() -> None:
    assert format_bandwidth(3_350_000_000_000) == "3,350 GB/s"
