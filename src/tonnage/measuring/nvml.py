"""What the driver says of this process: the card's memory that it holds, and the driver's version.

By NVML's Python binding where it is installed (the packages nvidia-ml-py and pynvml both bring it), else by
nvidia-smi. Unknown is None: in a container the driver may name other process numbers than we see, and under Windows
it does not say at all.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable
from typing import Any

from tonnage.units import MiB

_TIMEOUT = 20
_COMMAND = "nvidia-smi"


def process_bytes(uuid: str | None) -> int | None:
    """Bytes of the card `uuid` ("GPU-...") that this process holds; None where the driver does not say."""
    found = _by_binding(uuid)
    return found if found is not None else _by_command(uuid)


def driver_version() -> str | None:
    """The driver's version, such as "550.54.15"."""
    try:
        binding = _binding()
        return _text(binding.nvmlSystemGetDriverVersion())
    except Exception:  # whatever a missing or broken driver raises
        lines = _ask("--query-gpu=driver_version")
        return lines[0] if lines else None


def _binding() -> Any:
    import pynvml  # type: ignore[import-not-found, import-untyped, unused-ignore]

    pynvml.nvmlInit()
    return pynvml


def _by_binding(uuid: str | None) -> int | None:
    try:
        binding = _binding()
        handle = _handle(binding, uuid)
        processes = binding.nvmlDeviceGetComputeRunningProcesses(handle)
    except Exception:  # as above
        return None
    return _ours((process.pid, process.usedGpuMemory) for process in processes)


def _handle(binding: Any, uuid: str | None) -> Any:
    return binding.nvmlDeviceGetHandleByIndex(0) if uuid is None else binding.nvmlDeviceGetHandleByUUID(uuid)


def _by_command(uuid: str | None) -> int | None:
    """nvidia-smi tells whole MiB."""
    rows = [line.split(", ") for line in _ask("--query-compute-apps=pid,used_memory,gpu_uuid")]
    held = [
        (int(row[0]), int(row[1]) * MiB)
        for row in rows
        if len(row) == 3 and row[0].isdigit() and row[1].isdigit() and (uuid is None or row[2] == uuid)
    ]
    return _ours(held)


def _ours(held: Iterable[tuple[int, int | None]]) -> int | None:
    return next((nbytes for pid, nbytes in held if pid == os.getpid()), None)


def _ask(query: str) -> list[str]:
    try:
        done = subprocess.run(
            [_COMMAND, query, "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            timeout=_TIMEOUT,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in done.stdout.splitlines() if line.strip()]


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
