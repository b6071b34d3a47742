"""What the driver says, told by stand-ins for its binding and its command."""

from __future__ import annotations

import os
import stat
import sys
from types import SimpleNamespace

import pytest

from tonnage.measuring import nvml

MiB = 1 << 20
UUID = "GPU-0b6e3a5c"


@pytest.fixture
def no_binding(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)


@pytest.fixture
def command(no_binding, tmp_path, monkeypatch):
    """An nvidia-smi that prints what it is told to."""

    def say(lines, code=0):
        path = tmp_path / "nvidia-smi"
        path.write_text(f"#!/bin/sh\ncat <<'END'\n{lines}\nEND\nexit {code}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)

    return say


def binding(processes, version="550.54.15"):
    return SimpleNamespace(
        nvmlInit=lambda: None,
        nvmlSystemGetDriverVersion=lambda: version,
        nvmlDeviceGetHandleByUUID=lambda uuid: uuid,
        nvmlDeviceGetHandleByIndex=lambda index: UUID if index == 0 else None,
        nvmlDeviceGetComputeRunningProcesses=lambda handle: processes if handle == UUID else [],
    )


def process(pid, nbytes):
    return SimpleNamespace(pid=pid, usedGpuMemory=nbytes)


def test_by_the_binding(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", binding([process(1, 5), process(os.getpid(), 700 * MiB + 3)]))
    assert nvml.process_bytes(UUID) == nvml.process_bytes(None) == 700 * MiB + 3
    assert nvml.driver_version() == "550.54.15"


def test_an_old_binding_answers_bytes(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", binding([], version=b"550.54.15"))
    assert nvml.driver_version() == "550.54.15"


def test_by_the_command(command):
    command(f"1, 5, {UUID}\n{os.getpid()}, 7, GPU-other\n{os.getpid()}, 700, {UUID}")
    assert nvml.process_bytes(UUID) == 700 * MiB
    assert nvml.process_bytes(None) == 7 * MiB


def test_the_driver_by_the_command(command):
    command("550.54.15")
    assert nvml.driver_version() == "550.54.15"


@pytest.mark.parametrize(
    "lines", ["", f"1, 5, {UUID}", f"{os.getpid()}, [N/A], {UUID}", "no devices were found"],
    ids=["nothing", "others", "not-told", "words"],
)  # fmt: skip
def test_unknown_is_none(command, lines):
    command(lines)
    assert nvml.process_bytes(UUID) is None


def test_a_failing_command(command):
    command("NVIDIA-SMI has failed", code=9)
    assert nvml.process_bytes(UUID) is None and nvml.driver_version() is None


def test_no_driver_at_all(no_binding, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert nvml.process_bytes(UUID) is None and nvml.driver_version() is None
