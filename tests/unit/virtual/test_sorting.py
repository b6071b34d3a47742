"""Sorting: what long and short slices take for themselves, by hand from Sort.cpp, SortStable.cu and cub."""

from __future__ import annotations

import pytest
import torch

import tonnage
from tonnage.virtual.kernels.sorting import radix_storage


def taken(
    shape: tuple[int, ...], *, card: str = "A100", version: str = "2.7.1", turned: bool = False, **options
) -> list[int]:
    """The bytes a sort asks for, in order, after its input."""
    dtype = options.pop("dtype", torch.float32)
    with tonnage.virtual_gpu(card, torch_version=version) as gpu:
        x = torch.empty(*shape, dtype=dtype, device="cuda")
        x = x.t() if turned else x
        before = len(gpu.recording.ledger.sizes)
        torch.sort(x, **options)
        return list(gpu.recording.ledger.sizes)[before:]


def test_a_short_slice_takes_a_range():
    assert taken((100, 4096)) == [4096 * 100 * 4, 4096 * 100 * 8, 4096 * 8]


def test_one_long_slice_takes_indices_and_cub_s_copies():
    n = 1_000_000
    values, indices, order, storage = taken((n,))
    assert (values, indices, order) == (4 * n, 8 * n, 8 * n)
    # 21 nominal items of 4 bytes are 10 of 8, by 384 threads: 261 blocks of 3840; 4 passes of 256 counts
    assert storage == 12 * n + 261 * 1024 + 4 * 1024 + 256 + 255


def test_few_slices_are_sorted_by_value_and_then_by_slice():
    n = 100 * 5120
    values, indices, *buffers, storage, by_slice = taken((100, 5120))
    assert (values, indices) == (4 * n, 8 * n)
    assert buffers == [8 * n, 8 * n, 4 * n]
    assert storage == 12 * n + 134 * 1024 + 4 * 1024 + 256 + 255
    assert by_slice == 134 * 1024 + 1024 + 256 + 255  # one pass over the 7 bits of a slice needs no copies


def test_many_slices_are_sorted_by_segments():
    n = 128 * 5000
    assert taken((128, 5000)) == [4 * n, 8 * n, 8 * n, 12 * n]


def test_up_to_1_11_a_single_slice_was_sorted_twice():
    n = 1_000_000
    assert taken((n,), version="1.11.0")[2:5] == [8 * n, 8 * n, 4 * n]


def test_the_published_peak_of_1_11():
    """pytorch #77049: 18380 MB (of 2**20 bytes) at the peak of sorting 400 million floats."""
    with tonnage.virtual_gpu("A100", torch_version="1.11.0"):
        torch.sort(torch.rand(400_000_000, device="cuda"))
        assert torch.cuda.max_memory_allocated() // 2**20 == 18380


def test_slices_that_do_not_lie_in_one_piece_are_copied_there_and_back():
    n = 5000 * 200
    copies = taken((5000, 200), dim=0)[2:5]
    assert copies == [4 * n, 4 * n, 8 * n]
    assert taken((200, 5000), turned=True, dim=0)[2] == 8 * n  # a transposed tensor's columns do lie in one piece


@pytest.mark.parametrize(
    ("card", "tile"),
    [("V100", 11 * 256), ("A100", 10 * 384), ("H100", 15 * 384)],
    ids=["v100", "a100", "h100"],
)
def test_the_look_back_follows_the_block_of_the_card(card: str, tile: int):
    n = tile * 400
    assert taken((n,), card=card)[-1] == 12 * n + 400 * 1024 + 4 * 1024 + 256 + 255


def test_half_keys_take_two_passes_and_bytes_one():
    n = 384 * 11 * 100
    assert radix_storage(n, 2, 8, (9, 0), bits=16) == 10 * n + 100 * 1024 + 2 * 1024 + 256 + 255
    assert radix_storage(n, 1, 8, (9, 0), bits=8) == 100 * 1024 + 1024 + 256 + 255


def test_half_keys_before_hopper_are_counted_but_for_their_histograms():
    n = 5000 * 200
    with tonnage.virtual_gpu("A100") as gpu:
        torch.sort(torch.empty(n, dtype=torch.bfloat16, device="cuda"))
    assert list(gpu.recording.ledger.sizes)[-1] == 10 * n
    assert any("histograms" in missing.what for missing in gpu.recording.not_counted)


def test_nothing_to_sort_takes_nothing():
    assert taken((0,)) == []
