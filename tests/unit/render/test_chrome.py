"""The trace file against the rules of its format, and its counters against the replay."""

from __future__ import annotations

import json

import pytest
import torch

import tonnage
from tonnage.allocator import replay
from tonnage.ledger import Category, Kind, Ledger
from tonnage.recording import Environment, Recording
from tonnage.render.chrome import chrome_trace
from tonnage.trace import Call, Mark, Module, Op, TensorSpec, Trace

UNIT = 1000
REQUIRED = {
    # Trace Event Format: "Complete", "Instant", "Counter" and "Metadata Events"
    "X": {"name", "ts", "dur", "pid", "tid", "args"},
    "i": {"name", "ts", "pid", "tid", "s"},
    "C": {"name", "ts", "pid", "args"},
    "M": {"name", "pid", "tid", "args"},
}
ENVIRONMENT = Environment(
    device="T4", compute_capability=(7, 5), sm_count=40, total_memory=0, context_bytes=0, context_bytes_low=0,
    context_bytes_high=0, torch_rules="2.13.0", torch_running="2.13.0", python="3.12",
)  # fmt: skip


def small():
    """Two operators in a module and one of backward; the first takes 512 bytes for its length."""
    ledger = Ledger()
    weight = ledger.alloc(1000, category=Category.PARAMETER)
    ledger.mark("start")
    out = ledger.alloc(2048, op=0, category=Category.ACTIVATION)
    scratch = ledger.alloc(512, op=0, category=Category.WORKSPACE)
    ledger.free(scratch)
    ledger.free(ledger.alloc(512, op=1))
    ledger.mark("forward done")
    gradient = ledger.alloc(1000, op=2, category=Category.GRADIENT)
    for number in (out, gradient, weight):
        ledger.free(number)
    spec = TensorSpec((2, 3), "float32")
    trace = Trace(
        ops=[
            Op("aten.mm.default", 2, 1, (spec,), (spec,)),
            Op("aten.relu.default", 1, 1, (spec,), (spec,)),
            Op("aten.mm.default", 2, 2, (spec,), (spec,)),
        ],
        modules=[Module("", ""), Module("", "Net"), Module("body", "Linear")],
        calls=[Call(2, 0, 1, (spec,)), Call(1, 0, 2, (spec,)), Call(2, 2, 2, ())],
        marks=[Mark("start", 0), Mark("forward done", 2)],
    )
    return Recording(ledger, trace, ENVIRONMENT)


def trained():
    with tonnage.virtual_gpu("T4") as gpu:
        model = torch.nn.Sequential(torch.nn.Linear(512, 512), torch.nn.ReLU(), torch.nn.Linear(512, 512)).cuda()
        gpu.watch(model)
        optimizer = torch.optim.AdamW(model.parameters())
        for _ in range(2):
            model(torch.randn(64, 512, device="cuda")).sum().backward()
            gpu.mark("backward done")
            optimizer.step()
            optimizer.zero_grad()
    return gpu.recording


@pytest.fixture(params=[small, trained], ids=["small", "trained"])
def made(request):
    recording = request.param()
    timeline = replay(recording.ledger)
    return recording, timeline, json.loads(chrome_trace(recording, timeline))


def of(data, phase, **fields):
    events = [event for event in data["traceEvents"] if event["ph"] == phase]
    return [event for event in events if all(event[name] == value for name, value in fields.items())]


def test_every_event_has_what_the_format_asks_for(made):
    _, _, data = made
    assert data["displayTimeUnit"] in ("ms", "ns")
    for event in data["traceEvents"]:
        assert REQUIRED[event["ph"]] <= event.keys()
        assert event.get("ts", 0) >= 0 and event.get("dur", 1) > 0
        if event["ph"] == "C":
            assert all(type(value) is int and value >= 0 for value in event["args"].values())
        if event["ph"] == "i":
            assert event["s"] in ("g", "p", "t")


def test_spans_of_a_track_nest(made):
    _, _, data = made
    for track in {event["tid"] for event in of(data, "X")}:
        ends = []
        spans = of(data, "X", tid=track)
        assert [span["ts"] for span in spans] == sorted(span["ts"] for span in spans)
        for span in spans:
            while ends and ends[-1] <= span["ts"]:
                ends.pop()
            ends.append(span["ts"] + span["dur"])
            assert ends == sorted(ends, reverse=True)


def test_the_counters_are_the_replay(made):
    recording, timeline, data = made
    for name, column in (("allocated", timeline.allocated), ("reserved", timeline.reserved)):
        values = [event["args"]["bytes"] for event in of(data, "C", name=name)]
        changes = [value for value, before in zip(column, [None, *column], strict=False) if value != before]
        assert values == changes
        times = [event["ts"] for event in of(data, "C", name=name)]
        assert times == sorted(set(times))
    highest = max(sum(event["args"].values()) for event in of(data, "C", name="by category"))
    assert highest == timeline.peak_allocated
    assert of(data, "C", name="by category")[-1]["args"].keys() == {
        *(category.name.lower() for category in Category), "rounding",
    }  # fmt: skip
    assert len(of(data, "i")) == sum(kind is Kind.MARK for kind, _ in recording.ledger.events())


def test_there_are_no_times_and_the_file_says_so(made):
    assert "no times" in made[2]["otherData"]["time axis"]


def test_spans_by_hand():
    recording = small()
    data = json.loads(chrome_trace(recording, replay(recording.ledger)))
    tracks = {event["tid"]: event["args"]["name"] for event in of(data, "M", name="thread_name")}
    spans = [(tracks[e["tid"]], e["name"], e["ts"] // UNIT, e["dur"] // UNIT) for e in of(data, "X")]
    assert spans == [
        ("phases", "forward", 1, 2),
        ("phases", "backward", 3, 1),
        ("modules: calls", "Net", 1, 2),
        ("modules: calls", "body", 1, 1),
        ("modules: backward and optimizer", "body", 3, 1),
        ("operators", "aten.mm.default", 1, 1),
        ("operators", "aten.relu.default", 2, 1),
        ("operators", "aten.mm.default", 3, 1),
    ]
    assert of(data, "X", name="aten.relu.default")[0]["args"]["inputs"] == ["float32[2, 3]"]
    # GIVEN the weight before any operator, then 2048 and 512 in operator 0, whose three events share its unit
    allocated = [(e["ts"], e["args"]["bytes"]) for e in of(data, "C", name="allocated")][:4]
    third = UNIT / 3
    assert allocated == [
        (0, 1024), (UNIT, 1024 + 2048), (round(UNIT + third, 3), 1024 + 2048 + 512), (round(UNIT + 2 * third, 3), 3072),
    ]  # fmt: skip
    assert of(data, "C", name="by category")[0]["args"]["rounding"] == 24
    assert of(data, "M", name="process_name")[0]["args"]["name"] == "T4 (predicted)"
