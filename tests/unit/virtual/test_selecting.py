"""Permutations, medians, modes and what is unique: what they take beside their outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch

import tonnage
from tonnage.virtual.gpu import VirtualGpu
from tonnage.virtual.kernels.sorting import cub


@pytest.fixture
def gpu() -> Iterator[VirtualGpu]:
    with tonnage.virtual_gpu("A100", torch_version="2.13.0") as gpu:
        yield gpu


def taken(gpu: VirtualGpu, run: Callable[[], object]) -> list[int]:
    """Sizes that `run` takes, in their order."""
    start = len(gpu.recording.ledger)
    kept = run()
    ledger = gpu.recording.ledger
    found = [ledger.sizes[n] for kind, n in list(ledger.events())[start:] if kind.name == "ALLOC"]
    del kept
    return found


def test_a_short_permutation_sorts_by_four_bytes(gpu):
    """1000 keys fit one tile of cub's, with a byte of scratch."""
    assert taken(gpu, lambda: torch.randperm(1000, device="cuda")) == [8000, 8000, 4000, 4000, 1]


def test_a_long_permutation_sorts_by_eight(gpu):
    """36 bits are five passes: 5 x 256 bins of 8 bytes, 27 tiles of 3840 that look back, keys, values, 5 counters."""
    n = 100_000
    padded = 8 * n  # a multiple of 256
    scratch = 5 * 256 * 8 + 27 * 256 * 4 + 2 * padded + 256 + 255
    assert taken(gpu, lambda: torch.randperm(n, device="cuda")) == [8 * n] * 4 + [scratch]


def test_a_permutation_of_the_host_takes_nothing(gpu):
    assert taken(gpu, lambda: torch.randperm(1000)) == []


def test_the_median_of_all_sorts_all(gpu):
    n = 4096
    x = torch.zeros(64, 64, device="cuda")
    assert taken(gpu, x.median)[:3] == [4 * n, 8 * n, 8 * n]
    assert taken(gpu, x.t().median)[:4] == [4 * n, 4 * n, 8 * n, 8 * n]


def test_the_median_of_many_is_sorted_by_cub(gpu):
    n = 1 << 20
    x = torch.zeros(n, device="cuda")
    scratch = cub.radix_sort(n, key=4, value=8, capability=(8, 0))
    assert taken(gpu, x.nanmedian)[:4] == [4 * n, 8 * n, 8 * n, scratch]


@pytest.mark.parametrize("run", [lambda x: x.median(1), lambda x: x.kthvalue(2, 1), lambda x: x.nanmedian(1)])
def test_of_slices_only_what_is_not_in_order_is_copied(gpu, run):
    x = torch.zeros(64, 64, device="cuda")
    assert sorted(taken(gpu, lambda: run(x))) == [256, 512]
    assert sorted(taken(gpu, lambda: run(x.t()))) == [256, 512, 64 * 64 * 4]


def test_modes_are_of_rows(gpu):
    x = torch.zeros(64, 64, device="cuda")
    assert sorted(taken(gpu, lambda: x.mode(1))) == [256, 512]
    assert sorted(taken(gpu, lambda: x.mode(0))) == [256, 512, 64 * 64 * 4]
    assert not gpu.recording.not_counted


def test_what_does_not_follow_from_shapes_is_listed(gpu):
    torch.zeros(2, 2049, device="cuda").mode()
    torch.zeros(16, device="cuda").unique()
    assert [entry.what for entry in gpu.recording.not_counted] == ["what mode takes", "what unique takes"]
