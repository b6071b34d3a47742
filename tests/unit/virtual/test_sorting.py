"""Sorting, choosing the largest and running sums: what they take beside their outputs."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

import tonnage
from tonnage.virtual.kernels.sorting import cub

A100, H100, T4 = (8, 0), (9, 0), (7, 5)


def traffic(run: Callable[[torch.Tensor], object], make: Callable[[], torch.Tensor], **options) -> list[int]:
    """Sizes taken and given back (negative) while `run` is at work, its outputs' deaths left out."""
    options = {"torch_version": "2.13.0", **options}
    card = options.pop("card", "A100")
    with tonnage.virtual_gpu(card, **options) as gpu:
        tensor = make()
        start = len(gpu.recording.ledger)
        kept = run(tensor)
        ledger = gpu.recording.ledger
        found = [(1 if kind.name == "ALLOC" else -1) * ledger.sizes[n] for kind, n in list(ledger.events())[start:]]
        del kept
    return found


def zeros(*shape: int, dtype: torch.dtype = torch.float32) -> Callable[[], torch.Tensor]:
    return lambda: torch.zeros(*shape, device="cuda", dtype=dtype)


def and_back(taken: list[int]) -> list[int]:
    return [*taken, *(-n for n in reversed(taken))]


# cub's arithmetic -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("capability", "key", "tile"),
    [
        (A100, 8, 384 * 10),  # 21 items of 4 bytes are 10 of 8
        (A100, 4, 384 * 8),  # 17 where positions have 64 bits
        (H100, 8, 384 * 12),  # 24
        (H100, 4, 384 * 14),  # 29
        (T4, 8, 256 * 11),  # 23
        (T4, 4, 256 * 11),
    ],
)
def test_a_tile_more_looks_back_on_256_counters_more(capability, key, tile):
    """Between n tiles and one item more lie 1024 bytes of look-back, and keys and values, padded to 256 bytes."""
    assert tile % 32 == 0
    items = 20 * tile
    fewer, more = (cub.radix_sort(n, key=key, value=8, capability=capability) for n in (items, items + 1))
    assert more - fewer == 1024 + 256 + 256


def test_the_whole_of_a_sort():
    """A million pairs of 8 bytes on an A100: 8 passes x 256 digits x 8 bytes, 261 tiles x 256 x 4, the two buffers,
    8 counters in 256 bytes, and 255 to align them."""
    expected = 8 * 256 * 8 + 261 * 1024 + 2 * 8_000_000 + 256 + 255
    assert cub.radix_sort(1_000_000, key=8, value=8, capability=A100) == expected


def test_one_pass_needs_no_second_buffers():
    assert cub.radix_sort(10_000, key=8, value=8, bits=8, capability=A100) == 2048 + 3 * 1024 + 256 + 255


@pytest.mark.parametrize(("key", "most"), [(8, 256 * 9), (4, 256 * 19)])
def test_few_items_are_sorted_in_one_tile(key, most):
    assert cub.radix_sort(most, key=key, capability=A100) == 1
    assert cub.radix_sort(most + 1, key=key, capability=A100) > most * key


@pytest.mark.parametrize(("greatest", "bits"), [(0, 1), (1, 1), (2, 2), (255, 8), (256, 9)])
def test_bits(greatest, bits):
    assert cub.bits_of(greatest) == bits


# Sorts ----------------------------------------------------------------------------------------------------------------


def test_short_slices_are_sorted_in_the_outputs():
    """The places of one slice, 4096 int64, are laid out once."""
    outputs = [8 * 4096 * 4, 8 * 4096 * 8]
    assert traffic(lambda x: x.sort(-1), zeros(8, 4096)) == [*outputs, 8 * 4096, -8 * 4096]


def test_one_long_slice_is_sorted_by_cub():
    n = 100_000
    scratch = cub.radix_sort(n, key=4, value=8, capability=A100)
    assert traffic(lambda x: x.sort(), zeros(n)) == [4 * n, 8 * n, *and_back([8 * n, scratch])]


def test_some_long_slices_are_sorted_as_one():
    """Top-p sampling of 4 x 50,257 scores: pairs of slice and place twice, sorted values, then by slice in 2 bits."""
    n = 4 * 50257
    pairs = cub.radix_sort(n, key=4, value=8, capability=A100)
    slices = 1 * 2048 + -(-n // 3840) * 1024 + 256 + 255
    found = traffic(lambda x: x.sort(-1, descending=True), zeros(4, 50257))
    assert found[:2] == [4 * n, 8 * n]
    assert found[2:] == [8 * n, 8 * n, 4 * n, pairs, -pairs, -4 * n, slices, -slices, -8 * n, -8 * n]


def test_many_long_slices_are_sorted_each_for_itself():
    n = 128 * 5000
    scratch = 4 * n + 8 * n + 255  # multiples of 256 both
    assert traffic(lambda x: x.sort(-1), zeros(128, 5000)) == [4 * n, 8 * n, *and_back([8 * n, scratch])]


def test_another_dimension_is_brought_to_the_end_and_back():
    """The input, the values and the places once more, with the sorted dimension innermost."""
    n = 5000 * 128
    found = traffic(lambda x: x.sort(0), zeros(5000, 128))
    assert found[:5] == [4 * n, 8 * n, 4 * n, 4 * n, 8 * n]


def test_half_precision_before_hopper_is_listed():
    with tonnage.virtual_gpu("A100") as gpu:
        torch.zeros(10_000, device="cuda", dtype=torch.float16).sort()
        assert [entry.what for entry in gpu.recording.not_counted] == [
            "cub's histograms in a sort of 8- or 16-bit values"
        ]
    with tonnage.virtual_gpu("H100 SXM") as gpu:
        torch.zeros(10_000, device="cuda", dtype=torch.float16).sort()
        assert not gpu.recording.not_counted


# The largest ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("version", "sums"), [("2.9.0", []), ("2.10.0", [4 * 256 * 4])])
def test_topk_of_a_vocabulary_counts_digits_in_blocks(version, sums):
    """4 x 100,000 on 108 SMs x 6 blocks of 256 threads: 3 items a thread, at least 4; 98 blocks a slice."""
    blocks = 4 * 98
    taken = [4 * 4, 2 * 4 * 4, 2 * 4 * 4, blocks * 256 * 2, *sums, blocks * 4, blocks * 4]
    found = traffic(lambda x: x.topk(5), zeros(4, 100_000), torch_version=version)
    assert found == [4 * 5 * 4, 4 * 5 * 8, *and_back(taken)]


@pytest.mark.parametrize("shape", [(4, 19_999), (4096, 64), (100, 4999)], ids=["few", "router", "some"])
def test_topk_of_short_slices_takes_nothing(shape):
    k = 2
    assert traffic(lambda x: x.topk(k), zeros(*shape)) == [shape[0] * k * 4, shape[0] * k * 8]


def test_topk_of_what_is_not_in_order_is_of_a_copy():
    found = traffic(lambda x: x.t().topk(2), zeros(64, 100))
    assert found == [100 * 2 * 4, 100 * 2 * 8, 64 * 100 * 4, -64 * 100 * 4]


# Running sums ---------------------------------------------------------------------------------------------------------


def test_a_running_sum_of_a_mask_is_of_a_copy_in_int64():
    n = 8 * 512
    assert traffic(lambda x: x.cumsum(-1), zeros(8, 512, dtype=torch.bool)) == [8 * n, 8 * n, -8 * n]
    assert traffic(lambda x: x.cumsum(-1), zeros(8, 512, dtype=torch.int64)) == [8 * n]


def test_a_running_sum_of_what_is_not_in_order_is_of_a_copy():
    assert traffic(lambda x: x.t().cumsum(-1), zeros(64, 32)) == [8192, 8192, -8192]


# Draws ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("samples", "replaced", "taken"),
    [(1, False, [4 * 8 * 1000]), (5, False, [4 * 8 * 1000, 4 * 8 * 5]), (5, True, [4 * 8 * 1000] * 2)],
    ids=["one", "some", "replaced"],
)
def test_a_draw_divides_by_exponential_draws(samples, replaced, taken):
    """Probabilities over draws, and for several the largest of them; with replacement two copies of the weights."""
    found = traffic(lambda x: x.multinomial(samples, replaced), lambda: torch.rand(8, 1000, device="cuda"))
    assert found == [8 * 8 * samples, *and_back(taken)]


def test_up_to_1_11_a_single_slice_was_sorted_twice():
    """Pairs of slice and place, twice, and the keys, before cub's own; then the result is sorted by slice."""
    n = 1_000_000
    with tonnage.virtual_gpu("A100", torch_version="1.11.0") as gpu:
        x = torch.empty(n, device="cuda")
        start = len(gpu.recording.ledger.sizes)
        torch.sort(x)
        assert list(gpu.recording.ledger.sizes)[start:][:5] == [4 * n, 8 * n, 8 * n, 8 * n, 4 * n]


def test_the_published_peak_of_1_11():
    """pytorch #77049: 18380 MB (of 2**20 bytes) at the peak of sorting 400 million floats."""
    with tonnage.virtual_gpu("A100", torch_version="1.11.0"):
        torch.sort(torch.rand(400_000_000, device="cuda"))
        assert torch.cuda.max_memory_allocated() // 2**20 == 18380
