"""What each PyTorch version does on each card."""

from __future__ import annotations

import pytest

from tonnage.errors import BadOption
from tonnage.gpus import find_card
from tonnage.virtual.rules import Rules, parse_version

SMALL, LARGE = 4096 * 2 * 1024 + 16 * 8 * 1024, 4096 * 8 * 1024
VERSIONS = ("2.6.0", "2.7.1", "2.8.0", "2.9.1", "2.10.0", "2.11.0", "2.12.0", "2.13.0")


def rules(card: str, version: str) -> Rules:
    return Rules(find_card(card), version)


@pytest.mark.parametrize(("text", "parsed"), [("2.7.1", (2, 7)), ("2.13.0+cu130", (2, 13)), ("2.10.0a0", (2, 10))])
def test_a_version_is_its_first_two_numbers(text, parsed):
    assert parse_version(text) == parsed


def test_no_version_is_refused():
    with pytest.raises(BadOption):
        parse_version("latest")


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("card", ["T4", "A100", "RTX 3060", "RTX 4090", "V100"])
def test_before_hopper_the_workspace_is_8_mebibytes_and_128_kibibytes(card, version):
    assert rules(card, version).cublas_workspace == SMALL


@pytest.mark.parametrize("version", VERSIONS)
def test_hopper_takes_32_mebibytes(version):
    assert rules("H100", version).cublas_workspace == LARGE


@pytest.mark.parametrize("card", ["B200", "RTX 5090"])
def test_blackwell_does_since_2_12(card):
    found = [rules(card, version).cublas_workspace for version in VERSIONS]

    assert found == [SMALL] * 6 + [LARGE] * 2


def test_version_1_took_it_from_elsewhere():
    """pytorch#95668: 1.13 prints 0."""
    assert rules("A100", "1.13.1").cublas_workspace == 0


@pytest.mark.parametrize(
    ("text", "nbytes"),
    [
        (":4096:8", 4096 * 8 * 1024),
        (":16:8", 16 * 8 * 1024),
        (":4096:2:16:8", SMALL),
        (":0:0", 0),
        ("nonsense", SMALL),
        ("", SMALL),
    ],
)
def test_the_environment_sets_the_workspace_in_pairs(monkeypatch, text, nbytes):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", text)

    assert rules("A100", "2.13.0").cublas_workspace == nbytes


@pytest.mark.parametrize(("text", "kib"), [("2048", 2048), ("0", 0), ("many", 1024), ("", 1024)])
def test_the_environment_sets_cublaslt_in_kibibytes(monkeypatch, text, kib):
    monkeypatch.setenv("CUBLASLT_WORKSPACE_SIZE", text)

    assert rules("A100", "2.9.1").cublaslt_workspace == kib * 1024


@pytest.mark.parametrize(
    ("version", "asked", "nbytes"),
    [
        ("2.7.1", "1", 2**20),
        ("2.8.0", "1", 0),
        ("2.8.0", "0", 2**20),
        ("2.13.0", None, 0),
        ("2.13.0", "0", 2**20),
    ],
)
def test_cublaslt_can_be_told_to_share(monkeypatch, version, asked, nbytes):
    if asked is not None:
        monkeypatch.setenv("TORCH_CUBLASLT_UNIFIED_WORKSPACE", asked)

    assert rules("A100", version).cublaslt_workspace == nbytes


@pytest.mark.parametrize(
    ("version", "preferring"),
    [
        ("2.6.0", set()),
        ("2.8.0", set()),
        ("2.9.1", {"H100", "B200"}),
        ("2.10.0", set()),
        ("2.11.0", {"H100", "B200", "B300"}),
        ("2.13.0", {"H100", "B200", "B300"}),
    ],
)
def test_cudnn_attention_comes_first_on_hopper_and_blackwell(version, preferring):
    """The default wheels: 2.9 asks for device x.0; 2.10 ships cuDNN 9.10, and asks for more than 9.15."""
    cards = {"T4", "A100", "RTX 4090", "H100", "B200", "B300", "RTX 5090"}

    assert {card for card in cards if rules(card, version).prefers_cudnn_attention} == preferring


def test_versions_outside_the_sources_are_told():
    assert [rules("A100", v).read_in_source for v in ("2.5.1", "2.6.0", "2.13.0", "2.14.0")] == [
        False,
        True,
        True,
        False,
    ]
