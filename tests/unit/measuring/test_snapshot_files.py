"""Predictions as snapshot files: what is read back, and what PyTorch's own functions make of them."""

from __future__ import annotations

import base64
import pickle
import pickletools
import re
from dataclasses import replace

import pytest
import torch
from torch.cuda import _memory_viz as viewer

import tonnage
from tonnage.allocator import Settings, replay
from tonnage.ledger import Kind
from tonnage.measuring.snapshots import read_snapshot, snapshot_from, write_snapshot

SETTINGS = ["", "expandable_segments:True", "max_split_size_mb:32"]


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.body = torch.nn.Sequential(torch.nn.Linear(1024, 4096), torch.nn.ReLU(), torch.nn.Linear(4096, 1024))

    def forward(self, x):
        return self.body(x)


def train(alloc_conf=""):
    """Two training steps with everything that a ledger can have in it; the card and its recording."""
    with tonnage.virtual_gpu("T4", alloc_conf=alloc_conf) as gpu:
        model = Net().cuda()
        gpu.watch(model)
        optimizer = torch.optim.AdamW(model.parameters())
        for step in range(2):
            loss = model(torch.randn(512, 1024, device="cuda")).sum()
            gpu.mark(f"step {step}: forward done")
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        del loss
        side = torch.cuda.Stream()
        with torch.cuda.stream(side):
            kept = torch.empty(3 << 20, dtype=torch.uint8, device="cuda")
        answers = gpu.max_memory_allocated(), gpu.max_memory_reserved(), gpu.memory_allocated(), gpu.memory_reserved()
        segments = torch.cuda.memory_snapshot()
        recording = gpu.recording
        del kept
    return answers, segments, recording


def until_the_end(alloc_conf=""):
    """As `train`, with the recording as it stands before the end of the block, which frees the tensors."""
    answers, segments, recording = train(alloc_conf)
    ledger = recording.ledger
    while ledger.kinds[-1] == Kind.FREE:
        ledger.kinds.pop()
        ledger.arguments.pop()
    return answers, segments, recording


@pytest.fixture(scope="module", params=SETTINGS, ids=["plain", "expandable", "max-split"])
def trained(request):
    return until_the_end(request.param)


def test_sizes_order_marks_and_peaks_come_back(trained, tmp_path):
    _, _, recording = trained
    write_snapshot(recording, tmp_path / "p.pickle")
    read = read_snapshot(tmp_path / "p.pickle")
    before, after = recording.ledger, read.recording.ledger
    read.recording.check()
    for column in ("sizes", "categories", "streams"):
        assert list(getattr(after, column)) == list(getattr(before, column)), column
    assert after.marks == before.marks
    seen = (Kind.ALLOC, Kind.FREE, Kind.MARK, Kind.EMPTY_CACHE)
    assert [e for e in after.events() if e[0] in seen] == [e for e in before.events() if e[0] in seen]
    settings = Settings.parse(recording.environment.alloc_conf)
    assert read.recording.environment == recording.environment
    first, second = replay(before, settings), replay(after, settings)
    assert (second.peak_allocated, second.peak_reserved) == (first.peak_allocated, first.peak_reserved)
    assert read.peak_reserved == first.peak_reserved
    assert list(read.reserved) == list(second.reserved)


def test_the_segments_are_those_of_the_card_at_the_end(trained):
    (_, _, allocated, reserved), segments, recording = trained
    written = snapshot_from(recording)["segments"]
    assert sum(segment["total_size"] for segment in written) == reserved
    assert sum(segment["allocated_size"] for segment in written) == allocated
    bare = [
        {**segment, "frames": [], "blocks": [{**block, "frames": []} for block in segment["blocks"]]}
        for segment in written
    ]
    assert bare == [
        {**segment, "frames": [], "blocks": [{**block, "frames": []} for block in segment["blocks"]]}
        for segment in segments
    ]


def test_places_come_back(tmp_path):
    _, _, recording = train()
    write_snapshot(recording, tmp_path / "p.pickle")
    after = read_snapshot(tmp_path / "p.pickle").recording

    def places(recording):
        trace, found = recording.trace, []
        for op in recording.ledger.ops:
            operator = trace.ops[op]
            module = trace.modules[operator.module]
            found.append((operator.name, module.path, module.type, operator.phase) if op >= 0 else None)
        return found

    assert places(after) == places(recording)
    assert ("aten.addmm.default", "body.2", "Linear", 1) in places(after)


def test_the_file_is_one_that_the_viewer_s_javascript_reads(tmp_path):
    # torch/utils/viz/MemoryViz.js, unpickle: protocol 4 and these opcodes, nothing else
    known = {
        *("PROTO", "FRAME", "EMPTY_LIST", "EMPTY_DICT", "EMPTY_TUPLE", "MEMOIZE", "MARK", "BINPUT", "LONG_BINPUT"),
        *("BINGET", "LONG_BINGET", "BINUNICODE", "SHORT_BINUNICODE", "BININT", "BININT1", "BININT2", "LONG1"),
        *("TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "NONE", "NEWTRUE", "NEWFALSE", "BINFLOAT"),
        *("APPEND", "APPENDS", "SETITEM", "SETITEMS", "STOP"),
    }
    _, _, recording = train()
    write_snapshot(recording, tmp_path / "p.pickle")
    opcodes = list(pickletools.genops((tmp_path / "p.pickle").read_bytes()))
    assert opcodes[0][1] == 4
    assert {opcode.name for opcode, _, _ in opcodes} <= known


def test_pytorch_counts_what_we_count(trained):
    (_, _, allocated, reserved), _, recording = trained
    text = viewer.segsum(snapshot_from(recording))  # asserts that blocks sum to segments
    requested = sum(recording.ledger.sizes[number] for number in recording.ledger.live())
    assert f"total_reserved: {viewer.Bytes(reserved)}" in text
    assert f"total_allocated: {viewer.Bytes(requested)}" in text
    assert requested <= allocated


def test_pytorch_lists_the_events(trained):
    _, _, recording = trained
    data = snapshot_from(recording)
    text = viewer.trace(data)
    events = data["device_traces"][0]
    freed = sum(event["action"] == "free_requested" for event in events)
    assert text.count("\ndel ") == freed == sum(kind is Kind.FREE for kind, _ in recording.ledger.events())
    if "expandable" not in recording.environment.alloc_conf:
        assert text.count("cudaMalloc(") == sum(event["action"] == "segment_alloc" for event in events)


def test_pytorch_s_flame_graph_shows_phase_modules_and_operator():
    _, _, recording = until_the_end()
    lines = viewer.memory(snapshot_from(recording), format_flamegraph=lambda text: text).splitlines()
    weight = 1024 * 4096 * 4
    assert f"stream_0;active_allocated;phase:0:setup;operator:0:aten._to_copy.default {weight}" in lines
    forward = (
        r"phase:1:forward;\(model\):1:Net;body:2:Sequential;body\.0:3:Linear;operator:\d+:aten\.addmm\.default \d+"
    )
    assert re.search(forward, "\n".join(lines))
    assert len(viewer.segments(snapshot_from(recording), format_flamegraph=str.splitlines)) == len(lines)


@pytest.mark.parametrize("plot", [viewer.trace_plot, viewer.segment_plot], ids=["trace", "segments"])
def test_pytorch_s_plots_hold_the_snapshot(plot):
    _, _, recording = train()
    data = snapshot_from(recording)
    (encoded,) = re.findall(r'"base64": "([^"]+)"', plot(data))
    assert pickle.loads(base64.b64decode(encoded)) == data


def test_where_categories_are_named_unknown_is_one_of_them():
    # torch/utils/viz/MemoryViz.js, annotate_snapshot, stops with an error otherwise
    _, _, recording = train()
    categories = {event.get("category") for event in snapshot_from(recording)["device_traces"][0]}
    assert {"parameter", "optimizer", "gradient", "unknown"} <= categories


def test_nothing_is_left_where_writing_fails(tmp_path):
    _, _, recording = train()
    with pytest.raises(tonnage.TonnageError, match="cannot be written"):
        write_snapshot(recording, tmp_path / "none" / "p.pickle")
    recording.environment = replace(recording.environment, alloc_conf="nonsense")
    with pytest.raises(tonnage.TonnageError, match="cannot read"):
        write_snapshot(recording, tmp_path / "p.pickle")
    assert list(tmp_path.iterdir()) == []
