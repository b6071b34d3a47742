"""The recorder for CUDA without a card: the virtual GPU stands in for it, with a history as a real one keeps."""

from __future__ import annotations

import pytest
import torch

import tonnage
from tests.virtual_history import HistoryOfVirtualCard
from tonnage.allocator import replay
from tonnage.errors import CannotMeasure
from tonnage.ledger import Category, Kind
from tonnage.measuring import cuda, nvml, recorder_for
from tonnage.trace import PHASES


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first = torch.nn.Linear(256, 1024)
        self.second = torch.nn.Linear(1024, 256)
        self.norm = torch.nn.BatchNorm1d(256)

    def forward(self, x):
        return self.norm(self.second(torch.relu(self.first(x))))


def train(recorder):
    model = Net()
    recorder.mark("start")
    model.cuda()
    recorder.watch(model)
    recorder.mark("model loaded")
    optimizer = torch.optim.AdamW(model.parameters())
    x = torch.randn(512, 256, device="cuda")
    for step in (1, 2):
        loss = model(x).sum()
        recorder.mark(f"step {step}: forward done")
        loss.backward()
        recorder.mark(f"step {step}: backward done")
        optimizer.step()
        recorder.mark(f"step {step}: optimizer done")
        optimizer.zero_grad()
    torch.cuda.empty_cache()
    recorder.mark("cache emptied")
    torch.empty(30 << 20, dtype=torch.uint8, device="cuda")
    return model


@pytest.fixture
def recorded(monkeypatch):
    monkeypatch.setattr(nvml, "process_bytes", lambda uuid: 500 << 20)
    monkeypatch.setattr(nvml, "driver_version", lambda: "550.54.15")
    with tonnage.virtual_gpu("T4") as gpu:
        history = HistoryOfVirtualCard(gpu, monkeypatch)
        with cuda.CudaRecorder() as recorder:
            model = train(recorder)
            gpu.modules.tag_members()
            end = len(gpu.ledger)
        del model
        predicted = gpu.recording
    return recorder, predicted, end, history


def shown(recording, end=None):
    """What the ledger says up to `end`: kind, and size or mark."""
    ledger = recording.ledger
    found = []
    for kind, argument in list(ledger.events())[:end]:
        if kind in (Kind.ALLOC, Kind.FREE):
            found.append((kind.name, ledger.sizes[argument]))
        elif kind is Kind.MARK:
            found.append((kind.name, ledger.marks[argument]))
        else:
            found.append((kind.name,))
    return found


def test_what_the_card_answered_is_in_the_recording(recorded):
    recorder, *_ = recorded
    said = {memory.mark: (memory.allocated, memory.reserved) for memory in recorder.recording.card}
    # 30 MiB are allocated after the last mark, so nobody knows the peak
    assert said == {mark: figures[:2] for mark, figures in recorder.history.figures.items()}
    assert said["start"] == (0, 0)


def test_sizes_and_order_are_those_of_the_card(recorded):
    recorder, predicted, end, _ = recorded
    measured = shown(recorder.recording)
    assert [event for event in measured if event[0] != "MARK"] == shown(predicted, end)
    recorder.recording.check()


def test_the_replay_gives_the_card_s_figures_at_every_mark(recorded):
    recorder, *_ = recorded
    timeline = replay(recorder.recording.ledger)
    positions = dict(recorder.recording.ledger.mark_positions())
    assert positions.keys() == recorder.history.figures.keys() and len(positions) == 9
    for name, figures in recorder.history.figures.items():
        at = positions[name]
        assert (timeline.allocated[at], timeline.reserved[at]) == (figures.allocated, figures.reserved), name
        assert max(timeline.allocated[: at + 1]) == figures.max_allocated
        assert recorder.history.reserved[at] == figures.reserved
    assert recorder.history.peak_reserved == timeline.peak_reserved
    emptied = recorder.history.figures["cache emptied"]
    assert emptied.reserved < emptied.max_reserved


def test_modules_and_phases_are_those_of_the_model(recorded):
    recorder, predicted, *_ = recorded

    def places(recording):
        trace, found = recording.trace, []
        for op in recording.ledger.ops:
            operator = trace.ops[op]
            phase = PHASES[operator.phase]
            path = trace.modules[operator.module].path if phase != "backward" else ""
            found.append((path, phase) if op >= 0 else ("", "setup"))
        return found

    measured, expected = places(recorder.recording), places(predicted)
    assert measured == expected[: len(measured)]
    assert {"first", "second", "norm"} <= {path for path, _ in measured}
    assert {phase for _, phase in measured} == set(PHASES)


def test_categories_are_what_was_said(recorded):
    recorder, predicted, *_ = recorded
    measured, expected = recorder.recording.ledger, predicted.ledger
    for number, category in enumerate(measured.categories):
        if category != expected.categories[number]:
            # what a kernel takes for the length of its call is not told apart by a card
            assert (Category(category), Category(expected.categories[number])) == (
                Category.TEMPORARY,
                Category.WORKSPACE,
            )
    assert set(Category) - {Category(category) for category in measured.categories} <= {Category.OUTPUT}


def test_workspaces_of_libraries_are_told_apart_at_the_end(recorded):
    recorder, *_ = recorded
    ledger = recorder.recording.ledger
    kept = [ledger.sizes[number] for number in ledger.live() if ledger.categories[number] == Category.WORKSPACE]
    # ATen/cuda/CublasHandlePool.cpp, parseChosenWorkspaceSize: 4096 KiB x 2 + 16 KiB x 8, for forward and backward
    assert kept == [8_519_680, 8_519_680]


def test_calls_marks_and_parameters_are_in_the_trace(recorded):
    recorder, *_ = recorded
    trace = recorder.recording.trace
    trained = {parameter.name for parameter in trace.parameters}
    assert {"first.weight", "norm.running_mean"} <= trained
    assert [trace.modules[call.module].path for call in trace.calls] == ["first", "second", "norm", ""] * 2
    assert all(0 <= call.begin <= call.end <= len(trace.ops) for call in trace.calls)
    assert [mark.name for mark in trace.marks] == list(recorder.history.figures)
    assert [mark.op for mark in trace.marks] == sorted(mark.op for mark in trace.marks)


def test_the_environment_and_the_process_are_what_the_driver_says(recorded):
    recorder, *_ = recorded
    environment = recorder.recording.environment
    assert environment.measured and environment.device == "Tesla T4"
    assert environment.compute_capability == (7, 5) and environment.sm_count == 40
    assert environment.context_bytes == environment.context_bytes_low == environment.context_bytes_high == 500 << 20
    assert environment.libraries["driver"] == "550.54.15"
    held = {said.mark: said.nbytes for said in recorder.recording.process}
    assert held == dict.fromkeys(recorder.history.figures, 500 << 20)


def test_the_history_is_asked_for_and_given_up(recorded):
    _, _, _, history = recorded
    assert [enabled for enabled, _ in history.asked] == [None, "all", None]
    assert history.asked[1][1] == {"context": "alloc", "stacks": "python", "max_entries": cuda.MOST_EVENTS}


def test_everything_is_put_back(recorded, monkeypatch):
    call, run = torch.nn.Module.__call__, torch.autograd._engine_run_backward
    with tonnage.virtual_gpu("T4") as gpu:
        inside = torch.nn.Module.__call__
        HistoryOfVirtualCard(gpu, monkeypatch)
        with pytest.raises(ZeroDivisionError), cuda.CudaRecorder():
            assert torch.nn.Module.__call__ is not inside
            raise ZeroDivisionError
        assert torch.nn.Module.__call__ is inside
    assert (torch.nn.Module.__call__, torch.autograd._engine_run_backward) == (call, run)


def test_running_out_is_recorded_to_the_end(monkeypatch):
    with tonnage.virtual_gpu("T4") as gpu:
        HistoryOfVirtualCard(gpu, monkeypatch)
        with pytest.raises(torch.OutOfMemoryError), cuda.CudaRecorder() as recorder:
            kept = torch.empty(1 << 30, dtype=torch.uint8, device="cuda")
            recorder.mark("one")
            torch.empty(1 << 40, dtype=torch.uint8, device="cuda")
        del kept
    assert shown(recorder.recording) == [("ALLOC", 1 << 30), ("MARK", "one")]


def test_what_was_on_the_card_before_is_at_the_begin(monkeypatch):
    with tonnage.virtual_gpu("T4") as gpu:
        before = torch.empty(3 << 20, dtype=torch.uint8, device="cuda")
        HistoryOfVirtualCard(gpu, monkeypatch)
        with cuda.CudaRecorder() as recorder:
            after = torch.empty(5 << 20, dtype=torch.uint8, device="cuda")
            recorder.mark("made")
        del before, after
    assert shown(recorder.recording) == [
        ("ALLOC", 3 << 20), ("MARK", "history begins"), ("ALLOC", 5 << 20), ("MARK", "made"),
    ]  # fmt: skip


def test_a_history_without_room_says_what_it_lost(monkeypatch):
    with tonnage.virtual_gpu("T4") as gpu:
        history = HistoryOfVirtualCard(gpu, monkeypatch)
        with cuda.CudaRecorder() as recorder:
            for size in (1 << 20, 2 << 20, 3 << 20):
                torch.empty(size, dtype=torch.uint8, device="cuda")
            recorder.mark("made")
            kept = torch.empty(512, dtype=torch.uint8, device="cuda")
            history.keeps = 7  # two events for each free; the first allocation and the events of segments are lost
        del kept
    assert shown(recorder.recording)[-2:] == [("MARK", "made"), ("ALLOC", 512)]
    assert any("events" in found.what and "max_entries" in found.reason for found in recorder.recording.not_counted)


def test_a_run_that_takes_nothing(monkeypatch):
    with tonnage.virtual_gpu("T4") as gpu:
        HistoryOfVirtualCard(gpu, monkeypatch)
        with cuda.CudaRecorder() as recorder:
            recorder.mark("nothing")
    assert shown(recorder.recording) == [("MARK", "nothing")]
    assert recorder.history.figures["nothing"] == (0, 0, 0, 0)


def gone(*args):
    raise RuntimeError("CUDA error: unspecified launch failure")


def test_a_card_that_disappears(monkeypatch):
    with tonnage.virtual_gpu("T4") as gpu:
        HistoryOfVirtualCard(gpu, monkeypatch)
        before = torch.nn.Module.__call__
        with pytest.raises(CannotMeasure, match="stopped answering") as raised, cuda.CudaRecorder() as recorder:
            recorder.mark("made")
            monkeypatch.setattr(torch.cuda.memory, "_snapshot", gone)
        assert "unspecified launch failure" in raised.value.hint
        assert torch.nn.Module.__call__ is before
    assert [said.mark for said in recorder.kept[1] if said.mark] == ["made"]
    with pytest.raises(CannotMeasure, match="stopped answering"):
        _ = recorder.recording


def test_what_went_wrong_inside_is_told_and_not_that_the_card_is_gone(monkeypatch):
    with tonnage.virtual_gpu("T4") as gpu:
        HistoryOfVirtualCard(gpu, monkeypatch)
        with pytest.raises(ZeroDivisionError), cuda.CudaRecorder():
            monkeypatch.setattr(torch.cuda.memory, "_snapshot", gone)
            raise ZeroDivisionError


def test_without_a_card():
    if torch.cuda.is_available():
        pytest.skip("there is a card")
    with pytest.raises(CannotMeasure, match="no CUDA device"), recorder_for("cuda"):
        pass
