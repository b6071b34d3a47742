from __future__ import annotations

import json
from dataclasses import replace

import pytest

from tonnage.cli import main
from tonnage.ledger import Ledger
from tonnage.recording import Recording
from tonnage.trace import Trace

MiB = 2**20


@pytest.fixture
def files(tmp_path, handmade):
    """A prediction of 100 MiB, and measurements of 98 and 100 MiB."""
    environment = handmade().environment
    for name, size, measured in (("p", 100, False), ("m98", 98, True), ("m100", 100, True)):
        ledger = Ledger()
        ledger.mark("start")
        ledger.alloc(size * MiB)
        Recording(ledger, Trace(), replace(environment, measured=measured)).save(tmp_path / name)
    return tmp_path


def run(files, *words):
    return main(["compare", *(str(files / word) if word in ("p", "m98", "m100") else word for word in words)])


def test_the_page(files, capsys):
    assert run(files, "p", "m100") == 0
    out, err = capsys.readouterr()
    assert "WITHIN 2 %; nothing differs" in out and err == ""


def test_off_by_more_than_the_tolerance(files, capsys):
    assert run(files, "p", "m98") == 1
    out = capsys.readouterr().out
    assert "NOT WITHIN 2 %; furthest off: " in out and "+2.0%, +2.00 MiB" in out


@pytest.mark.parametrize("tolerance", ["2.1%", "0.021", "2.1 %"])
def test_another_tolerance(files, tolerance):
    assert run(files, "p", "m98", "--tolerance", tolerance) == 0


def test_two_predictions_have_no_verdict(files, capsys):
    assert run(files, "m98", "m100") == 0
    assert "verdict" not in capsys.readouterr().out


def test_json(files, capsys):
    assert run(files, "p", "m98", "--json", "-") == 1
    found = json.loads(capsys.readouterr().out)
    reserved = next(tier for tier in found["peak"] if tier["name"] == "reserved")
    assert reserved["figure"] == {
        "predicted": 100 * MiB,
        "measured": 98 * MiB,
        "difference": 2 * MiB,
        "ratio": 100 / 98,
    }
    assert found["by_category"] == []


def test_json_beside_the_page(files, capsys):
    assert run(files, "p", "m100", "--json", str(files / "out.json")) == 0
    assert "at the peak" in capsys.readouterr().out
    assert json.loads((files / "out.json").read_text())["verdict"]["within"] is True


@pytest.mark.parametrize(
    "words", [("p", "nothing"), ("p", "m98", "--tolerance", "much"), ("p", "m98", "--tolerance", "150%"), ("p",)]
)
def test_what_cannot_be_done(files, capsys, words):
    assert run(files, *words) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: ") and "\n\nhint: " in err


def test_it_leaves_torch_alone(files):
    import subprocess
    import sys

    code = (
        "import sys; from tonnage.cli import main; assert main(['compare', *sys.argv[1:]]) == 0; "
        "raise SystemExit('torch' in sys.modules)"
    )
    command = [sys.executable, "-c", code, str(files / "p"), str(files / "m100")]
    assert subprocess.run(command, check=False, capture_output=True).returncode == 0
