"""A run on this machine's CPU, recorded: sizes by hand, from shapes alone."""

from __future__ import annotations

import sys
from importlib import import_module

import pytest
import torch
from torch import nn

from tonnage.errors import CannotMeasure
from tonnage.ledger import Category, Kind
from tonnage.measuring import recorder_for
from tonnage.recording import PEAK
from tonnage.tracking.modules import BACKWARD, FORWARD, OPTIMIZER

WEIGHTS = 4 * (64 * 128 + 128 + 128 * 10 + 10)
INPUT = 4 * 32 * 64
HIDDEN = 4 * 32 * 128
OUTPUT = 4 * 32 * 10


def mlp():
    return nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Dropout(0.1), nn.Linear(128, 10))


def trained(recorder, model):
    """Two steps of AdamW; what a step made is gone at its end."""
    recorder.watch(model)
    optimizer = torch.optim.AdamW(model.parameters())
    x = torch.randn(32, 64)
    recorder.mark("made")
    for step in (1, 2):
        out = model(x)
        loss = out.sum()
        recorder.mark(f"forward {step}")
        loss.backward()
        recorder.mark(f"backward {step}")
        optimizer.step()
        optimizer.zero_grad()
        del out, loss
        recorder.mark(f"end {step}")


@pytest.fixture(scope="module")
def recording():
    with recorder_for("cpu") as recorder:
        trained(recorder, mlp())
    return recorder.recording


def live(ledger, at):
    """Bytes after event `at`, by category."""
    totals = dict.fromkeys(Category, 0)
    for number in ledger.live(at):
        totals[Category(ledger.categories[number])] += ledger.sizes[number]
    return {category: size for category, size in totals.items() if size}


def at(recording, name):
    return live(recording.ledger, dict(recording.ledger.mark_positions())[name])


def test_it_is_a_recording(recording):
    recording.check()
    assert recording.environment.measured and recording.environment.device_type == "cpu"
    assert recording.environment.total_memory > WEIGHTS


def test_weights_are_seen_to_be_born(recording):
    assert at(recording, "made") == {Category.PARAMETER: WEIGHTS, Category.INPUT: INPUT}


@pytest.mark.parametrize("step", [1, 2])
def test_what_forward_keeps(recording, step):
    """What relu made, the numbers that dropout drew, and what dropout made: the CPU's mask is as large as its input."""
    state = {Category.OPTIMIZER: 2 * WEIGHTS + 4 * 4} if step == 2 else {}  # two averages; a step of each parameter
    assert at(recording, f"forward {step}") == {
        Category.PARAMETER: WEIGHTS,
        Category.INPUT: INPUT,
        Category.ACTIVATION: 3 * HIDDEN + 4,  # and the loss
        Category.OUTPUT: OUTPUT,
        **state,
    }


def test_what_backward_leaves(recording):
    found = at(recording, "backward 1")
    assert found[Category.GRADIENT] == WEIGHTS
    assert sum(found.values()) == 2 * WEIGHTS + INPUT + OUTPUT + 4


def test_what_a_step_leaves(recording):
    steps = 4 * 4  # one float for each of the four parameters
    left = {Category.PARAMETER: WEIGHTS, Category.INPUT: INPUT, Category.OPTIMIZER: 2 * WEIGHTS + steps}
    assert at(recording, "end 1") == at(recording, "end 2") == left


def test_operators_know_module_and_phase(recording):
    trace = recording.trace
    found = [(op.name, trace.modules[op.module].path, op.phase) for op in trace.ops]
    assert ("aten.addmm.default", "3", FORWARD) in found
    assert ("aten.threshold_backward.default", "1", BACKWARD) in found
    assert ("aten.addcdiv_.default", "", OPTIMIZER) in found
    assert not any(name.startswith(("aten.linear", "aten.dropout")) for name, _, _ in found)  # made of others


def test_calls_span_their_operators(recording):
    trace = recording.trace
    call = next(call for call in trace.calls if trace.modules[call.module].path == "2")
    assert [op.name.split(".")[1] for op in trace.ops[call.begin : call.end]] == [
        "empty_like",
        "bernoulli_",
        "div_",
        "mul",
    ]


def test_what_a_kernel_takes_for_itself():
    """The gradient of a sum is one number, expanded: the CPU's product writes it out for the length of the call."""
    weight = torch.ones(300, 200, requires_grad=True)
    x = torch.ones(100, 300)
    with recorder_for("cpu") as recorder:
        (x @ weight).sum().backward()
    ledger = recorder.recording.ledger
    sizes = zip(ledger.sizes, ledger.categories, strict=True)
    assert [size for size, category in sizes if category == Category.WORKSPACE] == [4 * 100 * 200]
    assert sum(live(ledger, len(ledger) - 1).values()) == weight.grad.nbytes


def test_gradients_that_meet_are_added_in_place():
    """Under a dispatch mode autograd makes a third tensor of the two; here none is in the way."""
    x = torch.ones(1000, requires_grad=True)
    with recorder_for("cpu") as recorder:
        y = x * 2
        (y * y.detach() + y * 3).backward(torch.ones(1000))
    names = [op.name for op in recorder.recording.trace.ops if op.phase == BACKWARD]
    assert "aten.add_.Tensor" in names and "aten.add.Tensor" not in names


def test_what_happened_before_an_error_is_kept():
    with pytest.raises(RuntimeError, match="can't allocate memory"), recorder_for("cpu") as recorder:
        kept = torch.empty(1000)
        recorder.mark("made")
        torch.empty(1 << 60, dtype=torch.int8)
    assert at(recorder.recording, "made") == {Category.TEMPORARY: kept.nbytes}


def test_what_was_there_before_is_not_counted():
    before = torch.empty(1000)
    with recorder_for("cpu") as recorder:
        del before
    assert Kind.ALLOC not in recorder.recording.ledger.kinds
    recorder.recording.check()


def test_another_profiler_is_running():
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]):
        with pytest.raises(CannotMeasure, match="a profiler is running already"), recorder_for("cpu"):
            pass
    with recorder_for("cpu"):
        torch.zeros(1)


def test_everything_is_put_back():
    hooked = import_module("torch.optim.optimizer")._global_optimizer_pre_hooks
    call, hooks = nn.Module.__call__, len(hooked)
    with recorder_for("cpu") as recorder:
        trained(recorder, mlp())
    assert nn.Module.__call__ is call
    assert len(hooked) == hooks
    assert not torch.autograd.profiler._is_profiler_enabled


@pytest.mark.skipif(sys.platform != "linux", reason="the system does not say what is resident")
def test_the_resident_set_grows_with_what_is_held():
    with recorder_for("cpu") as recorder:
        recorder.mark("before")
        held = torch.ones(1 << 24)
        recorder.mark("held")
        del held
        recorder.mark("after")
    process = {said.mark: said.nbytes for said in recorder.recording.process}
    assert process["held"] - process["before"] >= 0.9 * 4 * (1 << 24)
    assert process[PEAK] >= process["held"] > process["after"]
