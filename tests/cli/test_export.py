from __future__ import annotations

import json
import pickle
import subprocess
import sys

import pytest

from tonnage.cli import main, tonnage
from tonnage.ledger import Category, Ledger
from tonnage.measuring.snapshots import read_snapshot
from tonnage.recording import Recording
from tonnage.report import save_reports
from tonnage.trace import Module, Op, Trace

MiB = 1 << 20


def recorded(report):
    """4 MiB of parameters, then 3 MiB by an operator of the forward pass."""
    ledger = Ledger()
    ledger.alloc(4 * MiB, category=Category.PARAMETER)
    ledger.mark("start")
    ledger.alloc(3 * MiB, op=0)
    trace = Trace([Op("aten.mm.default", 1, 1, (), ())], [Module("", ""), Module("body", "Linear")])
    return Recording(ledger, trace, report.environment)


@pytest.fixture
def saved(tmp_path, handmade):
    report = handmade()
    save_reports(tmp_path / "saved.tonnage", [report.with_recording(lambda: recorded(report))])
    return tmp_path / "saved.tonnage"


def run(*words):
    return tonnage.main(args=[str(word) for word in words], prog_name="tonnage", standalone_mode=False)


def test_a_snapshot_a_trace_and_a_recording(saved, tmp_path, capsys):
    for suffix in ("pickle", "json", "tonnage"):
        assert run("export", saved, tmp_path / f"out.{suffix}") == 0
    assert capsys.readouterr() == ("", "")
    assert list(read_snapshot(tmp_path / "out.pickle").recording.ledger.sizes) == [4 * MiB, 3 * MiB]
    assert json.loads((tmp_path / "out.json").read_text())["traceEvents"]
    assert list(Recording.load(tmp_path / "out.tonnage").ledger.sizes) == [4 * MiB, 3 * MiB]


def test_any_form_can_be_read_again(saved, tmp_path):
    run("export", saved, tmp_path / "a.pickle")
    run("export", tmp_path / "a.pickle", tmp_path / "b.tonnage")
    run("export", tmp_path / "b.tonnage", tmp_path / "c.pickle")
    first, last = (pickle.loads((tmp_path / name).read_bytes()) for name in ("a.pickle", "c.pickle"))
    assert [(e["action"], e["size"]) for e in first["device_traces"][0]] == [
        (e["action"], e["size"]) for e in last["device_traces"][0]
    ]


def test_one_of_several_reports(tmp_path, handmade, capsys):
    reports = [handmade(name=name) for name in ("bert", "t5")]
    save_reports(tmp_path / "s", [report.with_recording(lambda r=report: recorded(r)) for report in reports])
    assert main(["export", str(tmp_path / "s"), str(tmp_path / "out.pickle")]) == 2
    assert "1 bert, 2 t5" in capsys.readouterr().err
    assert main(["export", str(tmp_path / "s"), str(tmp_path / "out.pickle"), "--report", "2"]) == 0
    assert main(["export", str(tmp_path / "s"), str(tmp_path / "out.pickle"), "--report", "3"]) == 2
    assert "has no report 3" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["out", "out.txt", "out.pkl"])
def test_an_unknown_form(saved, tmp_path, capsys, name):
    assert main(["export", str(saved), str(tmp_path / name)]) == 2
    assert ".pickle, .json, .tonnage" in capsys.readouterr().err
    assert not (tmp_path / name).exists()


def test_a_report_without_a_recording(tmp_path, handmade, capsys):
    (tmp_path / "r.json").write_text(handmade().to_json())
    assert main(["export", str(tmp_path / "r.json"), str(tmp_path / "out.pickle")]) == 2
    assert "without its recording" in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"", b"hello", b"\x80\x04", b"\x80\x04cos\nsystem\n.", b"tonnage recording 99\n"])
def test_a_bad_file(tmp_path, capsys, content):
    (tmp_path / "in").write_bytes(content)
    assert main(["export", str(tmp_path / "in"), str(tmp_path / "out.pickle")]) == 2
    out, err = capsys.readouterr()
    assert out == "" and str(tmp_path / "in") in err and "\n\nhint: " in err
    assert not (tmp_path / "out.pickle").exists()


def test_show_says_what_a_snapshot_s_peak_is_made_of(saved, tmp_path, capsys):
    run("export", saved, tmp_path / "s.pickle")
    assert run("show", tmp_path / "s.pickle") == 0
    out = capsys.readouterr().out
    assert "7.00 MiB (7,340,032 B) allocated, forward, body, aten.mm.default" in out
    # 4 MiB and 3 MiB fit into one segment of 20 MiB
    assert "20.00 MiB (20,971,520 B) in the snapshot; 20.00 MiB (20,971,520 B) by the replayed" in " ".join(out.split())
    assert "3.00 MiB  42.9%       1 forward, body, aten.mm.default" in out
    assert "parameter 4.00 MiB, temporary 3.00 MiB" in out
    assert " predicted\n" in out.replace("\n\n", "\n").split("peak ")[0]


def test_show_a_snapshot_as_json(saved, tmp_path, capsys):
    run("export", saved, tmp_path / "s.pickle")
    assert run("show", tmp_path / "s.pickle", "--json") == 0
    data = json.loads(capsys.readouterr().out)
    assert data["peak"]["allocated_bytes"] == sum(holder["nbytes"] for holder in data["peak"]["holders"]) == 7 * MiB
    assert sum(data["peak"]["by_category"].values()) == 7 * MiB


def test_show_a_real_snapshot_with_an_oom(tmp_path, capsys):
    frames = [{"filename": "/me/train.py", "line": 7, "name": "main"}]
    trace = [
        {"action": "segment_alloc", "addr": 0, "size": 20 * MiB, "stream": 0, "time_us": 1},
        *({"action": "alloc", "addr": n * MiB, "size": 2 * MiB, "stream": 0, "frames": frames} for n in (0, 2)),
        {"action": "oom", "device_free": 5 * MiB, "size": 64 * MiB, "stream": 0},
    ]
    blocks = [{"size": 2 * MiB, "requested_size": 2 * MiB, "state": "active_allocated"}] * 2
    blocks.append({"size": 16 * MiB, "requested_size": 0, "state": "inactive"})
    segment = {"device": 0, "address": 0, "total_size": 20 * MiB, "stream": 0, "blocks": blocks}
    (tmp_path / "real.pickle").write_bytes(pickle.dumps({"segments": [segment], "device_traces": [trace]}))
    assert run("show", tmp_path / "real.pickle") == 0
    out = capsys.readouterr().out
    assert "4.00 MiB 100.0%       2 setup, train.py:7:main" in out
    assert "tried to allocate 64.00 MiB with 5.00 MiB free" in out
    assert " measured\n" in out.replace("\n\n", "\n").split("peak ")[0]
    assert "of that" not in out  # nothing is known of what the allocations are


def test_a_snapshot_of_a_process_that_may_have_half_the_card(tmp_path, capsys):
    alloc = {"action": "alloc", "addr": 0, "size": 512, "stream": 0}
    settings = {"PYTORCH_CUDA_ALLOC_CONF": "per_process_memory_fraction:0.5"}
    value = {"segments": [], "device_traces": [[alloc]], "allocator_settings": settings}
    (tmp_path / "half.pickle").write_bytes(pickle.dumps(value))
    assert run("show", tmp_path / "half.pickle") == 0
    assert " 512 B allocated" in capsys.readouterr().out
    for suffix in ("pickle", "json"):
        assert run("export", tmp_path / "half.pickle", tmp_path / f"out.{suffix}") == 0


def test_show_a_snapshot_of_nothing(tmp_path, capsys):
    (tmp_path / "empty.pickle").write_bytes(pickle.dumps({"segments": [], "device_traces": [[]]}))
    assert run("show", tmp_path / "empty.pickle") == 0
    assert "nothing was allocated" in capsys.readouterr().out


def test_one_of_several_devices(tmp_path, capsys):
    alloc = {"action": "alloc", "addr": 0, "size": 512, "stream": 0}
    (tmp_path / "two.pickle").write_bytes(pickle.dumps({"segments": [], "device_traces": [[alloc], [alloc]]}))
    assert main(["show", str(tmp_path / "two.pickle")]) == 2
    assert "devices 0, 1" in capsys.readouterr().err
    assert main(["show", str(tmp_path / "two.pickle"), "--device", "1"]) == 0
    assert "CUDA device 1" in capsys.readouterr().out


def test_it_leaves_torch_alone(saved, tmp_path):
    words = [["export", str(saved), str(tmp_path / "s.pickle")], ["export", str(saved), str(tmp_path / "s.json")]]
    code = "import sys; from tonnage.cli import main\n"
    code += "".join(f"assert main({w!r}) == 0\n" for w in [*words, ["show", str(tmp_path / "s.pickle")]])
    code += "assert 'tonnage.measuring.snapshots' in sys.modules and not {'torch', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
