"""What is known of the values of tensors on the card, and what stands in where nothing is."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy
import pytest
import torch
from torch.nn import functional

import tonnage
from tonnage.errors import CannotRecord

LARGE = 100_000
"""More floats than are followed."""


@pytest.fixture
def gpu():
    with tonnage.virtual_gpu("T4") as card:
        yield card


def assumptions(gpu):
    return [(a.what, a.where, a.times) for a in gpu.recording.assumptions]


def here(offset=0):
    """The line that called this, as a recording names it."""
    return f"{Path(__file__).name}:{sys._getframe(1).f_lineno + offset}"


def test_a_mask_of_ones_is_known_although_its_type_is_that_of_activations(gpu):
    """BERT and OPT make such masks for themselves, and leave the mask out of sdpa where nothing is hidden."""
    made = torch.ones(8, 128, device="cuda")
    assert bool(torch.all(made == 1)) is True
    assert bool(torch.all(torch.full((8, 128), 2.0, device="cuda") == 1)) is False
    assert assumptions(gpu) == []


def test_values_are_followed_from_fp16_to_fp32_and_back_through_a_softmax(gpu):
    """Softmax of four equal numbers is a quarter each; where gradients are equal, they cancel."""
    x = torch.zeros(2, 4, device="cuda", dtype=torch.float16, requires_grad=True)
    y = x.softmax(-1, dtype=torch.float32)
    z = x.log_softmax(-1, dtype=torch.float32)
    assert y.tolist() == [[0.25] * 4] * 2
    (y.sum() + z.sum()).backward()
    assert x.grad.dtype is torch.float16
    assert x.grad.tolist() == [[0.0] * 4] * 2
    assert assumptions(gpu) == []


# Known values ---------------------------------------------------------------------------------------------------------

COMPUTED = {
    "arange": lambda device: torch.arange(5, device=device) * 3,
    "mask": lambda device: torch.tensor([1, 0, 2], device=device) > 0,
    "masked": lambda device: torch.tensor([1, 0, 2], device=device)[torch.tensor([1, 0, 2], device=device) > 0],
    "masked store": lambda device: torch.arange(4, device=device).masked_fill_(torch.eye(4, device=device)[1] > 0, 9),
    "nonzero": lambda device: torch.tensor([1, 0, 2], device=device).nonzero(),
    "where": lambda device: torch.where(torch.tensor([1, 0, 2], device=device))[0],
    "unique": lambda device: torch.tensor([3, 1, 3], device=device).unique(),
    "unique, counted": lambda device: torch.unique(torch.tensor([3, 1, 3], device=device), return_counts=True)[1],
    "bincount": lambda device: torch.bincount(torch.tensor([3, 1, 3], device=device)),
    "repeat_interleave": lambda device: torch.repeat_interleave(torch.tensor([1, 0, 2], device=device)),
    "argwhere": lambda device: torch.argwhere(torch.tensor([1, 0, 2], device=device)),
    "one_hot": lambda device: functional.one_hot(torch.tensor([0, 2], device=device)),
    "cumsum": lambda device: torch.ones(2, 3, dtype=torch.int64, device=device).cumsum(1) - 1,
    "a view written to": lambda device: torch.zeros(2, 2, device=device).T.index_fill_(
        0, torch.tensor([1], device=device), 1.0
    ),
    "triu": lambda device: torch.full((3, 3), float("-inf"), device=device).triu(1),
    "topk": lambda device: torch.linspace(0, 1, 5, device=device).topk(2).indices,
    "inverse": lambda device: torch.linalg.inv(torch.eye(2, device=device) * 2),
}


@pytest.mark.parametrize("name", COMPUTED)
def test_what_follows_from_known_data_is_known(gpu, name):
    """The same call on the CPU is the second method."""
    assert torch.equal(COMPUTED[name]("cuda").cpu(), COMPUTED[name]("cpu"))
    assert assumptions(gpu) == []


def test_every_way_to_read_a_value(gpu):
    x = torch.arange(3, device="cuda")
    assert (x[1].item(), x.tolist(), len(x), [int(i) for i in x]) == (1, [0, 1, 2], 3, [0, 1, 2])
    assert (bool(x[0]), int(x[2]), float(x[2]), f"{x[1]:.3f}", 2 in x) == (False, 2, 2.0, "1.000", True)
    assert x.cpu().numpy().tolist() == [0, 1, 2]
    assert [10, 11, 12][x[2]] == 12
    assert torch.equal(x, torch.arange(3, device="cuda"))
    assert torch.allclose(x.float(), x.float() + 1e-9)
    assert not x.all()
    first, *_ = x
    assert first.is_cuda
    assert assumptions(gpu) == []


def test_numpy_refuses_as_for_cuda(gpu):
    x = torch.ones(3, device="cuda")
    message = "can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu()"
    with pytest.raises(TypeError, match=message):
        x.numpy()
    with pytest.raises(TypeError, match=message):
        numpy.asarray(x)
    assert x.numpy(force=True).tolist() == [1.0, 1.0, 1.0]


def test_printing(gpu):
    """The texts of the same tensors on a card."""
    assert repr(torch.ones(2, device="cuda")) == "tensor([1., 1.], device='cuda:0')"
    assert repr(torch.ones(2, device="cuda").half()) == "tensor([1., 1.], device='cuda:0', dtype=torch.float16)"
    assert repr(torch.ones(2, device="cuda", requires_grad=True)) == (
        "tensor([1., 1.], device='cuda:0', requires_grad=True)"
    )
    assert repr(torch.ones(1, device="cuda", requires_grad=True) * 2) == (
        "tensor([2.], device='cuda:0', grad_fn=<MulBackward0>)"
    )
    assert repr(torch.arange(2, device="cuda", dtype=torch.int32)) == (
        "tensor([0, 1], device='cuda:0', dtype=torch.int32)"
    )
    assert repr(torch.ones(0, device="cuda")) == "tensor([], device='cuda:0')"
    assert repr(torch.nn.Parameter(torch.ones(1, device="cuda"))) == (
        "Parameter containing:\ntensor([1.], device='cuda:0', requires_grad=True)"
    )
    assert f"{torch.ones(1, device='cuda').sum()}" == "1.0"
    assert assumptions(gpu) == []


def test_an_unknown_tensor_prints_its_size_and_assumes_nothing(gpu):
    assert repr(torch.empty(LARGE, device="cuda")) == f"tensor(..., device='cuda:0', size=({LARGE},))"
    assert assumptions(gpu) == []


# Unknown values -------------------------------------------------------------------------------------------------------


def test_stand_ins_and_the_line_that_asked(gpu):
    x = torch.randn(LARGE, device="cuda")
    asked = [
        (x.sum().item(), here()),
        (x.argmax().item(), here()),
        (bool((x > 5).any()), here()),
        (x.topk(2).indices.tolist(), here()),
        (x[:600].cpu().sum().item(), here()),
        (torch.equal(x, x), here()),
        (f"{x.mean():.2f}", here()),
    ]
    answers = [answer for answer, _ in asked]
    assert answers == [1.0, 1, False, [0, 0], 0.0, False, "1.00"]
    assert [where for _, where, _ in assumptions(gpu)] == [line for _, line in asked]
    assert [what for what, _, _ in assumptions(gpu)] == [
        "an unknown float32 was asked for: 1.0 stands in",
        "an unknown int64 was asked for: 1 stands in",
        "an unknown bool was asked for: False stands in",
        "the values of a int64 tensor of 2 are unknown: zeros stand in",
        "a tensor of unknown values was copied to the host: zeros stand in",
        "two tensors of unknown values were compared: taken to differ",
        "an unknown float32 was asked for: 1.0 stands in",
    ]


def test_a_line_that_asks_again_is_counted(gpu):
    x = torch.randn(LARGE, device="cuda")
    for _ in range(3):
        line = (x.sum().item(), here())[1]
    assert assumptions(gpu) == [("an unknown float32 was asked for: 1.0 stands in", line, 3)]


def test_an_if_inside_a_called_function_names_its_own_line(gpu):
    def clip(x):
        if x.abs().max() > 3:
            return x, here(-1)
        return x, here(-2)

    _, line = clip(torch.randn(LARGE, device="cuda"))
    assert [where for _, where, _ in assumptions(gpu)] == [line]


def test_unknown_floats_are_finite(gpu):
    loss = torch.randn(LARGE, device="cuda").sum()
    assert torch.isfinite(loss)
    assert loss.isfinite().all()
    assert not torch.isnan(loss).any()
    assert not loss.isinf()
    assert assumptions(gpu) == []


def test_one_known_input_may_decide(gpu):
    """Generation stops so: every sequence is done by its length, whatever its last token was."""
    unknown = torch.randn(2, LARGE, device="cuda").argmax(1) == 7
    yes = torch.tensor([True, True], device="cuda")
    assert (unknown | yes).tolist() == torch.logical_or(yes, unknown).tolist() == [True, True]
    assert (unknown & ~yes).tolist() == torch.logical_and(~yes, unknown).tolist() == [False, False]
    assert (torch.ones(2, dtype=torch.int64, device="cuda") & ~(yes | unknown)).max().item() == 0
    assert assumptions(gpu) == []
    (unknown & yes).any().item()
    assert [what for what, _, _ in assumptions(gpu)] == ["an unknown bool was asked for: False stands in"]


def test_a_known_tensor_that_is_written_with_unknown_values_is_forgotten(gpu):
    x = torch.zeros(3, device="cuda")
    x += torch.randn(3, LARGE, device="cuda").sum(1)
    assert x.sum().item() == 1.0
    assert [what for what, _, _ in assumptions(gpu)] == ["an unknown float32 was asked for: 1.0 stands in"]


def test_sizes_that_depend_on_unknown_values(gpu):
    x = torch.randn(10, LARGE, device="cuda")
    assert x.nonzero().shape == (10 * LARGE, 2)
    assert x[x > 0].shape == torch.masked_select(x, x > 0).shape == (10 * LARGE,)
    x[x > 0] = 0
    assert all(("every element" in what) and where.startswith("test_values.py:") for what, where, _ in assumptions(gpu))
    with pytest.raises(CannotRecord, match=r"_unique2.* at test_values.py:\d+ makes a tensor whose size depends"):
        x.unique()


def test_a_branch_on_random_numbers_is_an_assumption(gpu):
    x = torch.randn(4, device="cuda")
    assert gpu.recording.assumptions == []
    if (x * 2).sum() > 0:
        pass
    (found,) = gpu.recording.assumptions
    assert "random numbers" in found.what and found.where.startswith("test_values.py:")


def test_numbers_that_do_not_depend_on_random_ones_are_no_assumption(gpu):
    torch.randn(4, device="cuda")
    assert torch.arange(4, device="cuda").sum().item() == 6
    assert gpu.recording.assumptions == []


def test_a_loop_that_waits_for_an_unknown_bool_ends_with_a_message(gpu):
    x = torch.randn(100_000, device="cuda")
    with pytest.raises(CannotRecord, match="a loop that waits for it never ends"):
        while not (x > 0).any():
            pass


def test_initial_weights_are_no_assumption(gpu):
    with gpu.host():
        weight = torch.empty(300, 300)
        torch.nn.init.trunc_normal_(weight)
    assert weight.is_cpu
    assert gpu.recording.assumptions == []


def test_a_list_as_index_is_on_the_card(gpu):
    rows = torch.zeros(4, 8, device="cuda")[[0, 2]]
    assert rows.shape == (2, 8) and rows.is_cuda


def test_weights_built_without_data_have_no_values_to_branch_on(gpu):
    with gpu.host():
        layer = torch.nn.Linear(4, 4)
    layer.cuda()
    if layer(torch.ones(1, 4, device="cuda")).sum() > 0:
        pass
    (found,) = gpu.recording.assumptions
    assert "random numbers" in found.what
    assert bool(torch.tensor([True, True]).cuda().all()), "a mask of the host is known"
    assert len(gpu.recording.assumptions) == 1


@pytest.mark.parametrize("dtype", [torch.bool, torch.int64, torch.float16])
@pytest.mark.parametrize("diagonal", [-2, 0, 1])
@pytest.mark.parametrize("shape", [(3, 4), (4, 3), (2, 3, 3), (0, 3)])
def test_triangles_are_known(shape, diagonal, dtype):
    real = torch.arange(1, 1 + torch.Size(shape).numel()).view(shape).to(dtype)
    with tonnage.virtual_gpu("T4"):
        for of in (torch.tril, torch.triu):
            assert of(real.cuda(), diagonal).tolist() == of(real, diagonal).tolist()
