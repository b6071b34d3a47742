"""What acts on lists of tensors: fused and foreach optimizers, clipping, averaging, the gradient scaler."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

import tonnage
from tonnage.virtual.kernels import foreach

BLOCK = 512
"""The allocator's smallest block, which is what a tensor of one element takes."""
SIDE = 1024
EACH = SIDE * SIDE * 4
COUNT = 4


@pytest.fixture
def gpu():
    with tonnage.virtual_gpu("A100", torch_version="2.13.0") as card:
        yield card


def parameters(count: int = COUNT, dtype: torch.dtype = torch.float32, side: int = SIDE) -> list[nn.Parameter]:
    made = [nn.Parameter(torch.zeros(side, side, device="cuda", dtype=dtype)) for _ in range(count)]
    for parameter in made:
        parameter.grad = torch.zeros_like(parameter)
    return made


def over(run) -> tuple[int, int]:
    """Bytes that stay after `run`, and the most it had above what was there."""
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    run()
    return torch.cuda.memory_allocated() - before, torch.cuda.max_memory_allocated() - before


def operators(gpu) -> list[str]:
    return [op.name for op in gpu.recording.trace.ops]


# Optimizers ----------------------------------------------------------------------------------------------------------
# Tensors of the parameters' size: what stays after the first step, and the most that a later step holds above it. Read
# in torch/optim: every _multi_tensor_* function acts on all parameters at once, so its temporaries count for each.

STEPS = {
    "SGD": ({"lr": 0.1}, 0, 0),
    "SGD weight_decay": ({"lr": 0.1, "weight_decay": 0.1}, 0, 1),  # gradients with the decay added
    "SGD momentum": ({"lr": 0.1, "momentum": 0.9}, 1, 0),
    "SGD nesterov": ({"lr": 0.1, "momentum": 0.9, "nesterov": True}, 1, 0),
    "SGD maximize": ({"lr": 0.1, "maximize": True}, 0, 1),
    "Adam": ({}, 2, 1),  # the square roots
    "Adam weight_decay": ({"weight_decay": 0.1}, 2, 1),  # decayed gradients are gone before the square roots
    "Adam amsgrad": ({"amsgrad": True}, 3, 1),
    "AdamW": ({}, 2, 1),
    "Adagrad": ({}, 0, 2),  # its sums are made with the optimizer; square roots and numerators
    "RMSprop": ({}, 1, 1),
    "RMSprop centered": ({"centered": True}, 2, 1),
    "RMSprop centered momentum": ({"centered": True, "momentum": 0.9}, 3, 1),
    "RAdam": ({}, 2, 1),
    "NAdam": ({}, 2, 1),
    "Adamax": ({}, 2, 1),  # absolute gradients
    "Adadelta": ({}, 2, 2),  # std and deltas
    "ASGD": ({}, 1, 1),  # gradients with lambda added, then ax's distance
}


@pytest.mark.parametrize("case", STEPS)
def test_state_and_temporaries_of_a_foreach_step(gpu, case):
    options, state, temporary = STEPS[case]
    members = parameters()
    optimizer = getattr(torch.optim, case.split()[0])(members, **options)
    first_kept, first_peak = over(optimizer.step)
    kept, peak = over(optimizer.step)
    scalars = 3 * COUNT * BLOCK if case == "ASGD" else 0  # step, eta and mu are on the card whatever the options
    assert first_kept == state * COUNT * EACH + scalars
    assert first_peak == (state + temporary) * COUNT * EACH + scalars
    assert (kept, peak) == (0, temporary * COUNT * EACH)


@pytest.mark.parametrize("name", ["Adam", "AdamW"])
def test_a_fused_step_keeps_its_count_on_the_card_and_takes_nothing(gpu, name):
    members = parameters()
    optimizer = getattr(torch.optim, name)(members, fused=True)
    assert over(optimizer.step) == (COUNT * (2 * EACH + BLOCK),) * 2
    assert over(optimizer.step) == (0, 0)
    assert optimizer.state[members[0]]["step"].device.type == "cuda"


def test_fused_sgd_and_adagrad_run(gpu):
    """`_fused_sgd_` and `_fused_adagrad_` have no meta kernel; momentum is made at the first step, Adagrad's sums
    and counts with the optimizer."""
    members = parameters()
    sgd = torch.optim.SGD(members, lr=0.1, momentum=0.9, fused=True)
    assert over(sgd.step) == (COUNT * EACH,) * 2
    assert over(sgd.step) == (0, 0)
    before = torch.cuda.memory_allocated()
    adagrad = torch.optim.Adagrad(members, fused=True)
    assert torch.cuda.memory_allocated() - before == COUNT * (EACH + BLOCK)
    assert over(adagrad.step) == (0, 0)


def test_a_capturable_step_corrects_on_the_card(gpu):
    """Two corrections of one element for each parameter are held beside the square roots."""
    optimizer = torch.optim.AdamW(parameters(), capturable=True)
    optimizer.step()
    assert over(optimizer.step) == (0, COUNT * (EACH + 2 * BLOCK))


def test_a_for_loop_holds_the_last_parameters_temporary_while_it_makes_the_next(gpu):
    """_single_tensor_adam: `denom` of the parameter before, this one's square root, and that divided."""
    optimizer = torch.optim.Adam(parameters(), foreach=False)
    optimizer.step()
    assert over(optimizer.step) == (0, 3 * EACH)


# Clipping ------------------------------------------------------------------------------------------------------------


def test_the_chunk_is_the_headers():
    header = Path(torch.__file__).parent / "include/ATen/native/cuda/MultiTensorApply.cuh"
    found = re.search(r"kChunkSize = (\d+)", header.read_text())
    assert found is not None
    assert int(found[1]) == foreach.CHUNK


@pytest.mark.parametrize(("dtype", "accumulator"), [(torch.float32, 4), (torch.bfloat16, 4), (torch.float64, 8)])
def test_clipping_takes_partial_sums_of_chunks(gpu, dtype, accumulator):
    """1024 x 1024 elements are 16 chunks of 65,536, for each of 40 tensors: made before 40 norms of one element."""
    count = 40
    members = parameters(count, dtype)
    start = len(gpu.recording.ledger.sizes)
    kept, peak = over(lambda: nn.utils.clip_grad_norm_(members, 1.0))
    made = gpu.recording.ledger.sizes[start:]
    size = dtype.itemsize
    partial = count * 16 * accumulator
    assert list(made[: count + 2]) == [partial, *[size] * count, count * size]  # ..., the norms stacked
    assert kept == 0
    assert peak == -(-partial // BLOCK) * BLOCK + count * BLOCK
    assert "aten._foreach_mul_.Tensor" in operators(gpu)


def test_clipping_of_two_types_takes_each_for_itself(gpu):
    members = [*parameters(2), *parameters(3, torch.bfloat16)]
    nn.utils.clip_grad_norm_(members, 1.0)
    assert operators(gpu).count("aten._foreach_norm.Scalar") == 2


def test_clipping_in_a_loop_is_a_norm_and_a_product_each(gpu):
    nn.utils.clip_grad_norm_(parameters(), 1.0, foreach=False)
    assert operators(gpu).count("aten.mul_.Tensor") == COUNT
    assert "aten._foreach_norm.Scalar" not in operators(gpu)


def test_foreach_may_be_asked_for(gpu):
    """Groups are by the device that the tensors say they are on, and not by `meta`."""
    nn.utils.clip_grad_norm_(parameters(), 1.0, foreach=True)
    nn.utils.clip_grad_value_(parameters(), 1.0, foreach=True)
    assert "aten._foreach_norm.Scalar" in operators(gpu)
    assert "aten._foreach_clamp_max_.Scalar" in operators(gpu)


def test_an_order_without_a_kernel_is_a_norm_of_each(gpu):
    members = parameters()
    start = len(gpu.recording.ledger.sizes)
    torch._foreach_norm([p.grad for p in members], 3)
    assert 4 * 16 * COUNT not in gpu.recording.ledger.sizes[start:]


# Averages ------------------------------------------------------------------------------------------------------------


def test_an_average_is_updated_in_place(gpu):
    """AveragedModel: a copy of the parameters; foreach lerp, so no tensor of their size is made."""
    model = nn.Linear(SIDE, SIDE, bias=False, device="cuda")
    before = torch.cuda.memory_allocated()
    average = AveragedModel(model)
    assert torch.cuda.memory_allocated() - before == EACH
    average.update_parameters(model)
    kept, peak = over(lambda: average.update_parameters(model))
    assert kept == 0
    assert peak <= 8 * BLOCK
    assert "aten._foreach_lerp_.Scalar" in operators(gpu)


# The gradient scaler -------------------------------------------------------------------------------------------------


def test_a_scaler_keeps_two_blocks_and_a_flag_between_step_and_update(gpu):
    """torch/amp/grad_scaler.py: _scale and _growth_tracker; found_inf, a copy of it, lives until `update`."""
    loss = torch.zeros((), device="cuda", requires_grad=True) * 1
    scaler = torch.amp.GradScaler("cuda")
    optimizer = torch.optim.SGD(parameters(), lr=0.1)
    kept, _ = over(lambda: scaler.scale(loss))
    assert kept == 2 * BLOCK
    # THEN 1/scale is taken in double, and both it and the flag are copied for the device before the gradients are read
    assert over(lambda: scaler.unscale_(optimizer)) == (BLOCK, 4 * BLOCK)
    assert over(lambda: scaler.step(optimizer)) == (0, 0)
    kept, _ = over(scaler.update)
    assert kept == -BLOCK
