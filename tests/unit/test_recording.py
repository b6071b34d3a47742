"""A recording goes to a file and back, whole or not at all, and opens without torch."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tonnage.errors import BadFile
from tonnage.ledger import Category, Ledger
from tonnage.recording import PEAK, VERSION, Assumption, CardMemory, Environment, NotCounted, Recording, whole_file
from tonnage.trace import Module, Op, Parameter, TensorSpec, Trace


@pytest.fixture
def recording() -> Recording:
    ledger = Ledger()
    ledger.mark("start")
    number = ledger.alloc(1 << 40, op=0, category=Category.OUTPUT)  # more than 32 bits
    ledger.free(number)
    trace = Trace(
        ops=[
            Op(
                "aten.add.Tensor",
                1,
                1,
                (TensorSpec((2, 3), "float32"),) * 2,
                (TensorSpec((2, 3), "float32"),),
                (1, None),
            )
        ],
        modules=[Module("", ""), Module("encoder.layer.0", "BertLayer")],
        parameters=[Parameter("weight", (3, 2), "float32", 24, True, 7, "parameter")],
    )
    environment = Environment(
        device="T4",
        compute_capability=(7, 5),
        sm_count=40,
        total_memory=1 << 34,
        context_bytes=3,
        context_bytes_low=2,
        context_bytes_high=4,
        torch_rules="2.7.1",
        torch_running="2.13.0",
        python="3.11",
        libraries={"torch": "2.13.0"},
    )
    return Recording(ledger, trace, environment, [Assumption("x", "a.py:1", 2)], [NotCounted("y", "z")])


def test_there_and_back(recording, tmp_path) -> None:
    recording.save(tmp_path / "step.recording")
    assert Recording.load(tmp_path / "step.recording") == recording


def test_what_the_card_said_goes_along(recording, tmp_path) -> None:
    recording.card += [CardMemory("start", None, 2), CardMemory(PEAK, 1 << 40, 1 << 41)]
    recording.save(tmp_path / "step.recording")
    assert Recording.load(tmp_path / "step.recording").card == recording.card


def test_a_truncated_file(recording) -> None:
    data = recording.to_bytes()
    for cut in (0, 5, len(data) // 2, len(data) - 1):
        with pytest.raises(BadFile):
            Recording.from_bytes(data[:cut])


def test_a_flipped_byte(recording) -> None:
    data = bytearray(recording.to_bytes())
    data[-3] ^= 0xFF
    with pytest.raises(BadFile, match="is damaged"):
        Recording.from_bytes(bytes(data))


def test_a_newer_version(recording) -> None:
    data = recording.to_bytes().replace(f"recording {VERSION}".encode(), f"recording {VERSION + 1}".encode(), 1)
    with pytest.raises(BadFile, match=f"recording version {VERSION + 1}") as caught:
        Recording.from_bytes(data)
    assert "upgrade" in caught.value.hint


def test_another_kind_of_file() -> None:
    with pytest.raises(BadFile, match="is not a tonnage recording"):
        Recording.from_bytes(b"PK\x03\x04 a zip\n")


def test_columns_that_do_not_fit_are_found(recording) -> None:
    recording.trace.ops.clear()
    with pytest.raises(BadFile, match="unknown operator"):
        Recording.from_bytes(recording.to_bytes())


def test_a_file_that_is_not_there(tmp_path) -> None:
    with pytest.raises(BadFile, match="cannot be read"):
        Recording.load(tmp_path / "nothing")


def test_a_file_appears_whole_or_not_at_all(tmp_path) -> None:
    path = tmp_path / "report"
    path.write_bytes(b"before")
    with pytest.raises(RuntimeError), whole_file(path) as file:
        file.write(b"half")
        raise RuntimeError
    assert path.read_bytes() == b"before"
    assert [p.name for p in tmp_path.iterdir()] == ["report"], "nothing is left lying about"


def test_a_folder_that_cannot_be_written(tmp_path) -> None:
    with pytest.raises(BadFile, match="cannot be written"), whole_file(tmp_path / "none" / "report"):
        pass


def test_opening_one_does_not_import_torch(recording, tmp_path) -> None:
    recording.save(tmp_path / "step.recording")
    code = (
        "import sys; from tonnage.recording import Recording; Recording.load(sys.argv[1]); "
        "raise SystemExit('torch' in sys.modules)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "step.recording")]
    assert subprocess.run(command, check=False).returncode == 0
