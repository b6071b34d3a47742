"""Snapshots as PyTorch writes them, by hand; and our own, through PyTorch's own functions."""

from __future__ import annotations

import copy
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tonnage.allocator import Settings, replay
from tonnage.analyses.holders import find_holders
from tonnage.errors import BadFile, BadOption, TonnageError
from tonnage.ledger import Category, Kind
from tonnage.measuring.snapshots import is_snapshot, read_snapshot, snapshot_of
from tonnage.trace import PHASES

MiB = 1 << 20
BASE = 0x7F00_0000_0000


def event(action, size, addr=BASE, *, time=0, stream=0, stack=None, **more):
    entry = {"action": action, "addr": addr, "size": size, "stream": stream, "time_us": time, **more}
    if stack is not None:
        entry["frames"] = stack
    return entry


def freed(size, addr=BASE, **more):
    return [event("free_requested", size, addr, **more), event("free_completed", size, addr, **more)]


def segment(total, blocks, address=BASE, *, device=0, stream=0, pool=(0, 0)):
    """A segment as torch.cuda.memory._snapshot lists it; blocks are (size, requested, state)."""
    listed, at = [], address
    for size, requested, state in blocks:
        listed.append({"address": at, "size": size, "requested_size": requested, "state": state, "frames": []})
        at += size
    assert at == address + total
    return {
        "device": device,
        "address": address,
        "total_size": total,
        "allocated_size": sum(b["size"] for b in listed if b["state"] == "active_allocated"),
        "active_size": sum(b["size"] for b in listed if b["state"] != "inactive"),
        "requested_size": sum(b["requested_size"] for b in listed if b["state"] != "inactive"),
        "stream": stream,
        "segment_type": "small" if total == 2 * MiB else "large",
        "segment_pool_id": pool,
        "is_expandable": False,
        "frames": [],
        "blocks": listed,
    }


def snapshot(trace, segments=(), *, settings=None, annotations=None, devices=1):
    value = {
        "segments": list(segments),
        "device_traces": [trace, *([] for _ in range(devices - 1))],
        "allocator_settings": {
            "PYTORCH_CUDA_ALLOC_CONF": "",
            "max_split_size": -1,
            "garbage_collection_threshold": 0.0,
            "expandable_segments": False,
            "roundup_power2_divisions": {"1": 0, "2": 0},
            **(settings or {}),
        },
    }
    if annotations is not None:
        value["external_annotations"] = annotations
    return value


def history(read):
    """The ledger as (kind, size) and names of marks."""
    ledger = read.recording.ledger
    ledger.check()
    return [
        (kind.name, ledger.marks[argument] if kind is Kind.MARK else ledger.sizes[argument])
        if kind in (Kind.ALLOC, Kind.FREE, Kind.MARK)
        else (kind.name,)
        for kind, argument in ledger.events()
    ]


def test_nothing_happened():
    read = snapshot_of(snapshot([]))
    assert history(read) == []
    assert (read.peak_reserved, read.allocated_at_end, read.out_of_memory) == (0, 0, ())


def test_an_allocation_and_its_free():
    trace = [event("segment_alloc", 20 * MiB), event("alloc", 4 * MiB - 3), *freed(4 * MiB - 3)]
    read = snapshot_of(snapshot(trace, [segment(20 * MiB, [(20 * MiB, 0, "inactive")])]))
    assert history(read) == [("ALLOC", 4 * MiB - 3), ("FREE", 4 * MiB - 3)]
    assert list(read.reserved) == [20 * MiB, 20 * MiB]
    assert read.recording.assumptions[0].what == "1 allocations have no stack: their place is not known"
    assert list(read.recording.ledger.categories) == [Category.TEMPORARY]


def test_what_was_alive_before_comes_first_by_address():
    # GIVEN one block that is freed in the history and one that is still alive, both from before
    trace = [*freed(700), event("alloc", 512), event("snapshot", 0, 0)]
    blocks = [(512, 512, "active_allocated"), (1024, 0, "inactive"), (2048, 1999, "active_allocated")]
    rest = 2 * MiB - 512 - 1024 - 2048
    read = snapshot_of(snapshot(trace, [segment(2 * MiB, [*blocks, (rest, 0, "inactive")])]))
    # THEN the ledger begins with both
    assert history(read) == [
        ("ALLOC", 700),
        ("ALLOC", 1999),
        ("MARK", "history begins"),
        ("FREE", 700),
        ("ALLOC", 512),
    ]
    assert list(read.reserved) == [2 * MiB] * 5
    assert read.allocated_at_end == 512 + 2048
    assert "2 blocks were alive before the history began" in read.recording.assumptions[0].what


def test_a_state_without_a_history():
    # GIVEN enabled="state": blocks with their stacks and no trace
    held = segment(2 * MiB, [(512, 400, "active_allocated"), (2 * MiB - 512, 0, "inactive")])
    held["blocks"][0]["frames"] = [{"filename": "/me/train.py", "line": 7, "name": "main"}]
    read = snapshot_of(snapshot([], [held]))
    assert history(read) == [("ALLOC", 400)]
    assert read.recording.trace.ops[0].name == "train.py:7:main"


def test_segments_that_go_back_are_empty_cache():
    trace = [
        event("segment_alloc", 20 * MiB),
        event("segment_alloc", 2 * MiB, BASE + 20 * MiB),
        event("alloc", 4 * MiB),
        *freed(4 * MiB),
        event("segment_free", 2 * MiB, BASE + 20 * MiB),
        event("segment_free", 20 * MiB),
        event("segment_alloc", 12 * MiB, BASE + 40 * MiB),
        event("alloc", 11 * MiB, BASE + 40 * MiB),
    ]
    read = snapshot_of(
        snapshot(trace, [segment(12 * MiB, [(12 * MiB, 11 * MiB, "active_allocated")], BASE + 40 * MiB)])
    )
    assert history(read) == [("ALLOC", 4 * MiB), ("FREE", 4 * MiB), ("EMPTY_CACHE",), ("ALLOC", 11 * MiB)]
    assert list(read.reserved) == [22 * MiB, 22 * MiB, 0, 12 * MiB]
    assert read.peak_reserved == 22 * MiB


def test_a_block_that_waits_for_another_stream_is_freed_where_it_was_let_go():
    trace = [
        event("segment_alloc", 2 * MiB),
        event("alloc", 512),
        event("free_requested", 512),
        event("alloc", 1024, BASE + 512),
        event("free_completed", 512),
    ]
    read = snapshot_of(
        snapshot(
            trace,
            [
                segment(
                    2 * MiB, [(512, 0, "inactive"), (1024, 1024, "active_allocated"), (2 * MiB - 1536, 0, "inactive")]
                )
            ],
        )
    )
    assert history(read) == [("ALLOC", 512), ("FREE", 512), ("ALLOC", 1024)]
    assert any("1 blocks waited for other streams" in a.what for a in read.recording.assumptions)


def test_a_free_that_was_let_go_before_the_history_is_none_of_ours():
    trace = [event("free_completed", 512), event("alloc", 512), *freed(512)]
    read = snapshot_of(snapshot(trace, [segment(2 * MiB, [(2 * MiB, 0, "inactive")])]))
    assert history(read) == [("ALLOC", 512), ("FREE", 512)]


def test_requests_may_have_been_skipped():
    # GIVEN skip_actions=["free_requested"]
    trace = [event("alloc", 512), event("free_completed", 512), event("free_completed", 700, BASE + 512)]
    read = snapshot_of(snapshot(trace, [segment(2 * MiB, [(2 * MiB, 0, "inactive")])]))
    assert history(read) == [
        ("ALLOC", 700),
        ("MARK", "history begins"),
        ("ALLOC", 512),
        ("FREE", 512),
        ("FREE", 700),
    ]


def test_a_lost_free_is_put_before_the_next_use_of_the_address():
    trace = [event("alloc", 512), event("alloc", 300)]
    block = [(512, 300, "active_allocated"), (2 * MiB - 512, 0, "inactive")]
    read = snapshot_of(snapshot(trace, [segment(2 * MiB, block)]))
    assert history(read) == [("ALLOC", 512), ("FREE", 512), ("ALLOC", 300)]
    assert any("1 frees are not in the history" in a.what for a in read.recording.assumptions)


def test_out_of_memory_is_kept():
    oom = {"action": "oom", "device_free": 5 * MiB, "size": 64 * MiB, "stream": 0, "time_us": 3}
    trace = [event("segment_alloc", 2 * MiB), event("alloc", 512), oom]
    block = [(512, 512, "active_allocated"), (2 * MiB - 512, 0, "inactive")]
    read = snapshot_of(snapshot(trace, [segment(2 * MiB, block)]))
    (found,) = read.out_of_memory
    assert (found.at, found.tried_bytes, found.free_bytes) == (0, 64 * MiB, 5 * MiB)


def test_streams_and_private_pools_are_apart():
    trace = [
        event("alloc", 512, BASE),
        event("alloc", 512, BASE + 2 * MiB, stream=0x55D0_0000),
        event("alloc", 512, BASE + 4 * MiB, stream=0x55D0_0000, pool_id=(0, 1)),
        event("alloc", 512, BASE + 512),
    ]
    read = snapshot_of(snapshot(trace))
    assert list(read.recording.ledger.streams) == [0, 1, 2, 0]
    assert any("private pools" in a.what for a in read.recording.assumptions)


def test_missing_segment_events_make_reserved_unknown():
    trace = [event("segment_free", 2 * MiB), event("segment_alloc", 20 * MiB), event("segment_alloc", 20 * MiB)]
    read = snapshot_of(snapshot(trace, [segment(2 * MiB, [(2 * MiB, 0, "inactive")])]))
    assert read.peak_reserved is None and list(read.reserved) == []
    assert any(n.what == "memory reserved over time" for n in read.recording.not_counted)


def test_annotations_are_marks():
    trace = [event("alloc", 512, time=10), event("alloc", 512, BASE + 512, time=20)]
    annotations = [
        {"name": "Optimizer.step#AdamW.step", "stage": "START", "device": 0, "time_us": 15},
        {"name": "Optimizer.step#AdamW.step", "stage": "END", "device": 0, "time_us": 25},
        {"name": "elsewhere", "stage": "START", "device": 1, "time_us": 15},
    ]
    read = snapshot_of(snapshot(trace, annotations=annotations, devices=2))
    name = "Optimizer.step#AdamW.step"
    assert history(read) == [("ALLOC", 512), ("MARK", name), ("ALLOC", 512), ("MARK", f"{name} done")]


TORCH = "/usr/lib/python3/dist-packages/torch"
STACKS = {
    "setup": [(f"{TORCH}/nn/modules/module.py", 1, "_apply"), ("/me/train.py", 3, "<module>")],
    "forward": [
        (f"{TORCH}/nn/modules/linear.py", 125, "forward"),
        (f"{TORCH}/nn/modules/module.py", 1750, "_call_impl"),
        ("/me/net.py", 9, "forward"),
        ("/me/train.py", 4, "<module>"),
    ],
    "backward": [
        ("/me/net.py", 9, "forward"),
        (f"{TORCH}/nn/modules/module.py", 1750, "_call_impl"),
        (f"{TORCH}/utils/checkpoint.py", 1000, "recompute_fn"),
        (f"{TORCH}/autograd/graph.py", 823, "_engine_run_backward"),
        ("/me/train.py", 5, "<module>"),
    ],
    "optimizer": [
        (f"{TORCH}/optim/adamw.py", 220, "_init_group"),
        (f"{TORCH}/optim/adamw.py", 240, "step"),
        ("/me/train.py", 6, "<module>"),
    ],
}


def frames(stack):
    return [{"filename": filename, "line": line, "name": name} for filename, line, name in stack]


@pytest.mark.parametrize("phase", ["forward", "backward", "optimizer"])
def test_the_phase_is_read_off_pytorch_s_own_functions(phase):
    read = snapshot_of(snapshot([event("alloc", 512, stack=frames(STACKS[phase]))]))
    assert PHASES[read.recording.trace.ops[0].phase] == phase


@pytest.mark.parametrize(
    ("stack", "name"),
    [("forward", "net.py:9:forward"), ("backward", "net.py:9:forward"), ("optimizer", "train.py:6:<module>")],
)
def test_the_operator_is_the_innermost_line_outside_of_pytorch(stack, name):
    read = snapshot_of(snapshot([event("alloc", 512, stack=frames(STACKS[stack]))]))
    assert read.recording.trace.ops[0].name == name


def test_cpp_frames_tell_backward():
    stack = frames([("??", 0, "at::cuda::empty"), ("??", 0, "torch::autograd::Engine::thread_main")])
    read = snapshot_of(snapshot([event("alloc", 512, stack=stack)]))
    assert PHASES[read.recording.trace.ops[0].phase] == "backward"


@pytest.mark.parametrize(
    ("given", "conf"),
    [
        ({"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"}, "expandable_segments:True"),
        ({"expandable_segments": True, "max_split_size": 128 * MiB}, "expandable_segments:True,max_split_size_mb:128"),
        ({"garbage_collection_threshold": 0.8}, "garbage_collection_threshold:0.8"),
        ({"max_split_size": 2**64 - 1}, ""),
    ],
    ids=["text", "set-by-program", "collection", "no-limit"],
)
def test_the_settings_are_kept(given, conf):
    environment = snapshot_of(snapshot([], settings=given)).recording.environment
    assert environment.alloc_conf == conf
    assert environment.measured


def test_settings_that_are_not_modelled_are_named():
    read = snapshot_of(snapshot([], settings={"PYTORCH_CUDA_ALLOC_CONF": "backend:cudaMallocAsync"}))
    assert read.recording.environment.alloc_conf == ""
    assert "cudaMallocAsync" in read.recording.assumptions[0].what


def test_one_of_several_devices():
    both = snapshot([event("alloc", 512)], devices=2)
    both["device_traces"][1] = [event("alloc", 1024)]
    with pytest.raises(BadOption, match="devices 0, 1"):
        snapshot_of(both)
    assert history(snapshot_of(both, device=1)) == [("ALLOC", 1024)]
    with pytest.raises(BadOption, match="no device 2"):
        snapshot_of(both, device=2)


def test_an_idle_device_needs_no_choice():
    value = snapshot([], devices=3)
    value["device_traces"][2] = [event("alloc", 512)]
    assert snapshot_of(value).device == 2


GOOD = snapshot([event("alloc", 512, stack=frames(STACKS["forward"]))], [segment(2 * MiB, [(2 * MiB, 0, "inactive")])])


def broken(*path, value):
    made = copy.deepcopy(GOOD)
    target = made
    for key in path[:-1]:
        target = target[key]
    target[path[-1]] = value
    return made


@pytest.mark.parametrize(
    "value",
    [
        [],
        {},
        {"device_traces": 3, "segments": []},
        broken("segments", value=None),
        broken("device_traces", value=[3]),
        broken("device_traces", 0, value=[{"action": "alloc"}]),
        broken("device_traces", 0, 0, "size", value=-1),
        broken("device_traces", 0, 0, "size", value=2**80),
        broken("device_traces", 0, 0, "size", value="512"),
        broken("device_traces", 0, 0, "size", value=0),
        broken("device_traces", 0, 0, "frames", value=[{"name": "f"}]),
        broken("device_traces", 0, 0, "frames", value=7),
        broken("segments", 0, "blocks", value={}),
        broken("segments", 0, "address", value=None),
        broken("external_annotations", value=[{"time_us": "now"}]),
        broken("tonnage", value={"device": 3}),
        snapshot([*freed(512), *freed(512)]),
    ],
    ids=[
        "list", "empty", "no-traces", "no-segments", "trace-of-numbers", "no-size", "negative", "huge", "text", "zero",
        "half-a-frame", "no-frames", "no-blocks", "no-address", "annotation", "environment",
        "freed-twice",
    ],
)  # fmt: skip
def test_what_is_no_snapshot_is_a_bad_file(value):
    snapshot_of(GOOD)
    with pytest.raises(BadFile) as raised:
        snapshot_of(value, name="odd.pickle")
    assert "odd.pickle" in raised.value.message and raised.value.hint


odd = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=3,
)


def branches(value, path=()):
    """The path of every part of a plain value."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in items:
        yield from branches(part, (*path, key))


RICH = snapshot(
    [
        event("segment_alloc", 2 * MiB),
        *freed(700, BASE + 512, time=1),
        event("alloc", 512, time=2, stack=frames(STACKS["forward"]), pool_id=(0, 0), category="gradient"),
        {"action": "oom", "device_free": 5 * MiB, "size": 64 * MiB, "stream": 0, "time_us": 3},
    ],
    [segment(2 * MiB, [(512, 512, "active_allocated"), (2 * MiB - 512, 0, "inactive")])],
    annotations=[{"name": "a", "stage": "START", "device": 0, "time_us": 1}],
)


@settings(max_examples=400)
@given(path=st.sampled_from(list(branches(RICH))), value=odd)
def test_whatever_a_file_holds_is_read_or_is_a_bad_file(path, value):
    made = value if not path else copy.deepcopy(RICH)
    target = made
    for key in path[:-1]:
        target = target[key]
    if path:
        target[path[-1]] = value
    try:
        read = snapshot_of(made)
    except TonnageError as error:
        assert error.hint
    else:
        read.recording.check()
        find_holders(read.recording)


def test_sizes_that_add_up_to_more_than_there_can_be():
    again_and_again = [event("alloc", 2**44 - 1)] * (2**19 + 1)
    with pytest.raises(BadFile, match="8 EiB"):
        snapshot_of(snapshot(again_and_again))


def test_a_file_is_read(tmp_path):
    path = tmp_path / "s.pickle"
    path.write_bytes(pickle.dumps(GOOD))
    assert is_snapshot(path)
    assert history(read_snapshot(path)) == [("ALLOC", 512)]


def test_a_file_that_is_not_there(tmp_path):
    assert not is_snapshot(tmp_path / "none.pickle")
    with pytest.raises(BadFile, match="cannot be read"):
        read_snapshot(tmp_path / "none.pickle")


def test_a_file_too_large_to_read(tmp_path):
    path = tmp_path / "s.pickle"
    with path.open("wb") as file:
        file.truncate(5 << 30)  # takes no room on disk
    with pytest.raises(BadFile, match=r"5\.00 GiB"):
        read_snapshot(path)


def test_the_replay_of_what_was_read_gives_the_card_s_numbers():
    # GIVEN allocations whose blocks follow from the allocator's rules: 4 MiB and 3 MiB in a segment of 20 MiB
    trace = [
        event("segment_alloc", 20 * MiB),
        event("alloc", 4 * MiB),
        event("alloc", 3 * MiB - 100, BASE + 4 * MiB),
        *freed(4 * MiB),
    ]
    blocks = [(4 * MiB, 0, "inactive"), (3 * MiB, 3 * MiB - 100, "active_allocated"), (13 * MiB, 0, "inactive")]
    read = snapshot_of(snapshot(trace, [segment(20 * MiB, blocks)]))
    timeline = replay(read.recording.ledger, Settings())
    assert list(timeline.allocated) == [4 * MiB, 7 * MiB, 3 * MiB]
    assert timeline.allocated[-1] == read.allocated_at_end
    assert list(timeline.reserved) == list(read.reserved)
