from __future__ import annotations

import subprocess
import sys

import pytest

from tonnage.cli import main
from tonnage.report import Report, save_reports


@pytest.fixture
def saved(tmp_path, handmade, handmade_recording):
    report = handmade()
    recording = handmade_recording(report)
    save_reports(tmp_path / "saved", [report.with_recording(lambda: recording)])
    return tmp_path / "saved"


def test_it_prints_what_weigh_printed(pipeline, tmp_path, capsys):
    main(["weigh", "bert", "--save", str(tmp_path / "s")])
    weighed = capsys.readouterr().out
    assert main(["show", str(tmp_path / "s")]) == 0
    assert capsys.readouterr().out == weighed


def test_as_json(saved, handmade, capsys):
    assert main(["show", str(saved), "--json"]) == 0
    assert Report.from_json(capsys.readouterr().out) == handmade()


def test_what_did_not_fit_is_no_failure_to_show(tmp_path, handmade, capsys):
    save_reports(tmp_path / "s", [handmade(total=1)])
    assert main(["show", str(tmp_path / "s")]) == 0
    assert "DOES NOT FIT" in capsys.readouterr().out


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04", b'{"tonnage_report": 99}'])
def test_a_bad_file(tmp_path, capsys, content):
    (tmp_path / "s").write_bytes(content)
    assert main(["show", str(tmp_path / "s")]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert str(tmp_path / "s") in err and "\n\nhint: " in err


def test_no_file(tmp_path, capsys):
    assert main(["show", str(tmp_path / "nothing")]) == 2
    assert "cannot be read" in capsys.readouterr().err


def modules_after(code: str) -> set[str]:
    """The modules that a fresh Python has loaded after `code`."""
    probe = f"import sys\n{code}\nprint(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    return set(done.stderr.split())


def test_it_leaves_torch_and_numpy_alone(saved):
    loaded = modules_after(f"from tonnage.cli import main\nassert main(['show', {str(saved)!r}]) == 0")
    assert "tonnage.render.terminal" in loaded
    assert not loaded & {"torch", "numpy", "tonnage.virtual", "tonnage.workload"}


def test_that_check_can_fail():
    assert modules_after("import torch") & {"torch", "numpy"}


def test_a_reader_that_has_seen_enough_is_no_error(saved):
    # GIVEN a pipe that nobody reads any more, WHEN the page is written to it, THEN it ends in silence
    command = f"{sys.executable} -m tonnage show {saved}"
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; (sleep 0.5; {command}) | true"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
