"""The card catalogue: facts known by hand, names that find what they say, and a page that is current."""

from __future__ import annotations

import importlib.util
from collections import Counter
from pathlib import Path

import pytest

from tonnage.errors import BadOption, UnknownCard
from tonnage.gpus import Card, all_cards, find_card
from tonnage.units import GiB, KiB, MiB
from tonnage.virtual.gpu import LIBRARIES

DOCS = Path(__file__).parents[2] / "docs"
CARDS = pytest.mark.parametrize("card", all_cards(), ids=lambda card: card.name)


def spelling(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())


# Lines that torch printed in public logs: name, capability, whole MiB of total_memory, multiprocessors.
SEEN_BY_TORCH = [
    ("Tesla T4", (7, 5), 15102, 40),
    ("Tesla P100-PCIE-16GB", (6, 0), 16280, 56),
    ("Tesla V100-SXM2-16GB", (7, 0), 16160, 80),
    ("GeForce RTX 2080 Ti", (7, 5), 11019, 68),
    ("NVIDIA A100-PCIE-40GB", (8, 0), 40326, 108),
    ("NVIDIA A100 80GB PCIe MIG 1g.10gb", (8, 0), 9728, 14),
    ("NVIDIA A40", (8, 6), 45416, 84),
    ("NVIDIA A10G", (8, 6), 22587, 80),
    ("NVIDIA RTX A6000", (8, 6), 48676, 84),
    ("NVIDIA RTX A5000", (8, 6), 24138, 64),
    ("NVIDIA GeForce RTX 3060", (8, 6), 12011, 28),
    ("NVIDIA GeForce RTX 3090", (8, 6), 24268, 82),
    ("NVIDIA GeForce RTX 4080", (8, 9), 16049, 76),
    ("NVIDIA GeForce RTX 4090", (8, 9), 24563, 128),
    ("NVIDIA GeForce RTX 4070 Ti SUPER", (8, 9), 15934, 66),
    ("NVIDIA L40S", (8, 9), 45589, 142),
    ("NVIDIA RTX 6000 Ada Generation", (8, 9), 48622, 142),
    ("NVIDIA H100 PCIe", (9, 0), 81008, 114),
    ("NVIDIA H100 80GB HBM3", (9, 0), 81090, 132),
    ("NVIDIA H20", (9, 0), 97285, 78),
    ("NVIDIA H200", (9, 0), 143156, 132),
    ("NVIDIA B200", (10, 0), 182642, 148),
    ("NVIDIA GeForce RTX 5080", (12, 0), 16302, 84),
    ("NVIDIA RTX PRO 6000 Blackwell Server Edition", (12, 0), 97250, 188),
]


@pytest.mark.parametrize(("name", "capability", "mib", "sm_count"), SEEN_BY_TORCH, ids=lambda value: str(value))
def test_what_torch_printed_on_a_real_card_is_in_the_catalogue(
    name: str, capability: tuple[int, int], mib: int, sm_count: int
) -> None:
    card = find_card(name)
    assert card.compute_capability == capability
    assert card.sm_count == sm_count
    assert card.total_memory.low < (mib + 1) * MiB and mib * MiB <= card.total_memory.high
    assert card.facts["total_memory"].verified


def test_exact_bytes_are_kept() -> None:
    # deviceQuery on Linux (aikitoria/open-gpu-kernel-modules#1) and torch on Windows, which reports the nominal size.
    card = find_card("RTX 5090")
    assert card.total_memory.low <= 33_677_180_928 <= card.total_memory.high == 32_607 * MiB
    assert find_card("A100-SXM4-80GB").total_memory.typical == 85_097_971_712
    assert find_card("H100").nominal_memory == 85_520_809_984


@pytest.mark.parametrize(
    ("name", "threads", "shared_kib"),
    # max_threads_per_multiprocessor and max_shared_memory_per_block_optin of NVIDIA/cccl arch_traits.h.
    [
        ("P100", 2048, 48),
        ("V100", 2048, 96),
        ("T4", 1024, 64),
        ("A100", 2048, 163),
        ("RTX 3090", 1536, 99),
        ("RTX 4090", 1536, 99),
        ("H100", 2048, 227),
        ("B200", 2048, 227),
        ("RTX 5090", 1536, 99),
    ],
)
def test_limits_of_a_multiprocessor_follow_the_compute_capability(name: str, threads: int, shared_kib: int) -> None:
    card = find_card(name)
    assert (card.max_threads_per_sm, card.shared_memory_per_block_optin) == (threads, shared_kib * KiB)
    assert card.warp_size == 32


@pytest.mark.parametrize(
    ("name", "cores", "boost_hz"),
    # CUDA cores and boost clock as NVIDIA publishes them; one fused multiply-add is two operations.
    [
        ("T4", 2560, 1590e6),
        ("V100", 5120, 1530e6),
        ("A100", 6912, 1410e6),
        ("RTX 3060 Ti", 4864, 1665e6),
        ("RTX 3090", 10496, 1695e6),
        ("RTX 4090", 16384, 2520e6),
        ("RTX 5090", 21760, 2407e6),
    ],
)
def test_peak_fp32_is_two_operations_per_core_and_clock(name: str, cores: int, boost_hz: float) -> None:
    assert find_card(name).peak_flops["fp32"] == pytest.approx(2 * cores * boost_hz, rel=0.01)


@pytest.mark.parametrize(
    ("name", "bus_bits", "gigabits_per_pin"),
    # Width of the memory bus and data rate as NVIDIA publishes them.
    [
        ("T4", 256, 10),
        ("RTX 3060 Laptop", 192, 14),
        ("RTX 3090", 384, 19.5),
        ("RTX 4060 Ti", 128, 18),
        ("RTX 4090", 384, 21),
        ("RTX 5070 Ti", 256, 28),
        ("RTX 5090", 512, 28),
        ("L4", 192, 12.5),
    ],
)
def test_bandwidth_is_bus_width_times_data_rate(name: str, bus_bits: int, gigabits_per_pin: float) -> None:
    assert find_card(name).bandwidth == pytest.approx(bus_bits / 8 * gigabits_per_pin * 1e9, rel=0.005)


def test_there_are_at_least_fifty_cards() -> None:
    assert len(all_cards()) >= 50


def test_no_two_names_or_aliases_are_spelt_alike() -> None:
    counts = Counter(spelling(name) for card in all_cards() for name in (card.name, *card.aliases))
    assert [name for name, count in counts.items() if count > 1] == []


@CARDS
def test_every_spelling_finds_its_card(card: Card) -> None:
    for name in (card.name, *card.aliases):
        for spelt in (name, name.lower(), name.upper(), spelling(name), name.replace(" ", "-"), f"NVIDIA {name} GPU"):
            assert find_card(spelt) is card


@CARDS
def test_what_torch_prints_finds_a_card_of_that_name(card: Card) -> None:
    found = find_card(card.torch_name)
    assert found.torch_name == card.torch_name
    assert found.nominal_memory <= card.nominal_memory


@CARDS
def test_every_fact_says_how_it_is_known(card: Card) -> None:
    always = {"torch_name", "compute_capability", "sm_count", "max_threads_per_sm", "shared_memory_per_block_optin"}
    always |= {"total_memory", "nominal_memory"}
    known = {"bandwidth"} if card.bandwidth is not None else set()
    known |= {"peak_flops"} if card.peak_flops else set()
    known |= {"measured_context"} if card.measured_context is not None else set()
    assert set(card.facts) == always | known
    assert all(fact.source for fact in card.facts.values())


@CARDS
def test_memory_is_in_order_and_plausible(card: Card) -> None:
    memory = card.total_memory
    assert memory.low <= memory.typical <= memory.high
    # An A40 with error correction off reports more than nvidia-smi's total with it on.
    assert memory.high <= 1.07 * card.nominal_memory
    assert memory.low >= 0.9 * card.nominal_memory


@pytest.mark.parametrize(
    ("short", "torch_name"),
    [
        ("H100", "NVIDIA H100 80GB HBM3"),
        ("A100", "NVIDIA A100-SXM4-80GB"),
        ("V100", "Tesla V100-SXM2-16GB"),
        ("RTX 2060", "NVIDIA GeForce RTX 2060"),
        ("rtx3060laptop", "NVIDIA GeForce RTX 3060 Laptop GPU"),
        ("Tesla T4", "Tesla T4"),
    ],
)
def test_a_short_name_means_the_documented_card(short: str, torch_name: str) -> None:
    assert find_card(short).torch_name == torch_name


def test_one_torch_name_for_two_sizes_means_the_smaller() -> None:
    assert find_card("NVIDIA GeForce RTX 3080").name == "RTX 3080 10GB"
    assert find_card("NVIDIA GeForce RTX 4060 Ti").name == "RTX 4060 Ti 8GB"


def test_an_unknown_card_names_the_nearest() -> None:
    with pytest.raises(UnknownCard) as caught:
        find_card("RTX 3065 Laptop")
    assert "`RTX 3065 Laptop`" in caught.value.message
    assert "RTX 3060 Laptop" in caught.value.hint
    assert "tonnage gpus" in caught.value.hint


@pytest.mark.parametrize("name", ["", "banana", "NVIDIA", "GPU"])
def test_a_name_like_no_card_is_unknown(name: str) -> None:
    with pytest.raises(UnknownCard, match="tonnage gpus"):
        find_card(name)


def test_told_memory_replaces_the_range_and_says_so() -> None:
    card = find_card("RTX 3060 Laptop").with_total_memory(6 * GiB)
    assert card.total_memory.low == card.total_memory.typical == card.total_memory.high == 6 * GiB
    assert card.facts["total_memory"].source == "given by the caller"
    assert card.facts["sm_count"] == find_card("RTX 3060 Laptop").facts["sm_count"]
    assert find_card("RTX 3060 Laptop").total_memory.low < 6 * GiB


@pytest.mark.parametrize("nbytes", [0, -1])
def test_a_card_without_memory_is_refused(nbytes: int) -> None:
    with pytest.raises(BadOption):
        find_card("T4").with_total_memory(nbytes)


def test_context_is_the_measured_one_where_there_is_one() -> None:
    # torch-preflight, tests/calibration/measured_peaks.json (T4, with libraries) and unsloth-zoo#1053 (RTX 6000 Ada).
    for name, measured in (("T4", 141_426_688 - sum(LIBRARIES.values())), ("RTX 6000 Ada", 426 * MiB)):
        context = find_card(name).context_bytes("2.10.0+cu130")
        assert context.typical == measured
        assert context.low <= measured < context.high


def test_context_grows_with_the_threads_that_can_be_resident() -> None:
    # By hand: 30 SMs x 1536 threads, of at least 1 KiB each. The line through the two measured contexts above: 426 less
    # 90.875 MiB over (142 x 1536 - 40 x 1024) threads are 1983.6 B each, and leave a base of 13.4 MiB.
    context = find_card("RTX 3060 Laptop").context_bytes("2.7.1")
    line = 90.875 * MiB + (30 * 1536 - 40 * 1024) * (426 - 90.875) * MiB / (142 * 1536 - 40 * 1024)
    assert context.low == (10 + 45) * MiB
    assert context.typical == pytest.approx(line, rel=0.001)
    assert context.low < context.typical < context.high


@pytest.mark.parametrize(
    ("name", "torch_version", "process", "allocated"),
    [  # nvidia-smi of a process and the segments of its one tensor, in MiB, as pytorch #55277, #49877 and #28394 say
        ("GTX 1080", "1.8.2", 721, 2),
        ("RTX 3090", "1.8.2", 1687, 2),
        ("RTX 2080 Ti", "1.6.0", 1035, 158),
        ("RTX 3090", "1.7.1", 1644, 158),
    ],
    ids=["gtx1080", "rtx3090-1.8", "rtx2080ti", "rtx3090-1.7"],
)
def test_context_before_lazy_loading_is_in_the_range(
    name: str, torch_version: str, process: int, allocated: int
) -> None:
    context = find_card(name).context_bytes(torch_version)
    assert context.low < (process - allocated) * MiB < context.high
    assert find_card(name).context_bytes("1.13.0").high < context.typical


@pytest.mark.parametrize("torch_version", ["latest", ""])
def test_context_of_no_version_is_refused(torch_version: str) -> None:
    with pytest.raises(BadOption):
        find_card("T4").context_bytes(torch_version)


def test_the_page_shows_the_present_catalogue() -> None:
    spec = importlib.util.spec_from_file_location("gpus_table", DOCS / "gpus_table.py")
    assert spec is not None and spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    text = (DOCS / "gpus.md").read_text(encoding="utf-8")
    assert script.page(text) == text, "run `python docs/gpus_table.py`"
