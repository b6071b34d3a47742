"""`tensor[index] = value`: a number stays on the host, and a mask with a number is a fill."""

from __future__ import annotations

import pytest
import torch

import tonnage

MiB = 2**20


@pytest.fixture
def gpu():
    with tonnage.virtual_gpu("A100") as card:
        yield card


def ran(gpu, run) -> tuple[list[str], int]:
    """The operators of `run`, and the bytes it had at most above what was there."""
    start = len(gpu.recording.trace.ops)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    run()
    names = [op.name.removeprefix("aten.") for op in gpu.recording.trace.ops[start:]]
    return names, torch.cuda.max_memory_allocated() - before


def assign(target, index, value):
    def run():
        target[index] = value

    return run


@pytest.fixture
def x(gpu):
    return torch.randn(1024, 1024, device="cuda")


@pytest.mark.parametrize("value", [0, 0.5, True, float("-inf")])
def test_a_mask_and_a_number_are_a_fill_and_take_nothing(gpu, x, value):
    mask = torch.rand(1024, 1024, device="cuda") > 0.5
    assert ran(gpu, assign(x, mask, value)) == (["masked_fill_.Scalar"], 0)


def test_a_mask_of_rows_and_of_columns(gpu, x):
    rows = torch.rand(1024, device="cuda") > 0.5
    for index in (rows, (slice(None), rows)):
        names, peak = ran(gpu, assign(x, index, 0.0))
        assert names[-1] == "masked_fill_.Scalar"
        assert peak == 0


def test_a_number_of_the_host_in_a_tensor_is_the_same(gpu, x):
    assert ran(gpu, assign(x, x > 0, torch.tensor(1.0)))[0][-1] == "masked_fill_.Scalar"


def test_a_tensor_of_the_card_is_not(gpu, x):
    """Its positions are found first: two int64 for each element, all of them if the mask is unknown."""
    mask = x > 0
    names, peak = ran(gpu, assign(x, mask, torch.zeros((), device="cuda")))
    assert names[-2:] == ["nonzero.default", "index_put_.default"]
    assert peak >= 16 * MiB


def test_a_slice_and_a_number_are_a_fill(gpu, x):
    assert ran(gpu, assign(x, slice(0, 8), 1.0)) == (["slice.Tensor", "fill_.Tensor"], 0)


def test_the_fill_has_a_gradient(gpu):
    x = torch.randn(64, 64, device="cuda", requires_grad=True)
    y = x * 2
    y[y > 0] = 0.0
    y.sum().backward()
    assert x.grad.shape == (64, 64)


def test_known_values_stay_known(gpu):
    labels = torch.arange(6, device="cuda")
    labels[labels > 3] = -100
    labels[0] = 7
    assert labels.tolist() == [7, 1, 2, 3, -100, -100]


def test_a_column_mask_fills_the_right_places(gpu):
    table = torch.zeros(2, 3, dtype=torch.int64, device="cuda")
    table[:, torch.tensor([True, False, True], device="cuda")] = 5
    table[torch.tensor([False, True], device="cuda")] = 1
    assert table.tolist() == [[5, 0, 5], [1, 1, 1]]


def test_on_the_host_nothing_changes(gpu):
    x = torch.zeros(2, 2)
    x[x == 0] = 3.0
    assert x.tolist() == [[3.0, 3.0], [3.0, 3.0]]
