"""What the process holds of the machine's memory, as the system says."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from tonnage.units import KiB

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_RESET_PEAK = "5"
"""Sets the peak back to what is resident now; man 5 proc, /proc/pid/clear_refs."""


def resident_bytes() -> int | None:
    """Bytes of this process that are in memory now; None where the system does not say (it is Linux that does)."""
    return _status("VmRSS")


def peak_resident_bytes() -> int:
    """The most that was resident at any time, since `reset_peak` where that works (Linux) or since the start."""
    found = _status("VmHWM")
    if found is not None:
        return found
    import resource  # not on Windows

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * KiB  # man 2 getrusage: bytes on macOS, KiB elsewhere


def reset_peak() -> None:
    try:
        _CLEAR.write_text(_RESET_PEAK)
    except OSError:
        return  # not Linux, or not allowed: the peak is then that of the whole process


def total_memory() -> int:
    """Bytes of memory that the machine has."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _status(name: str) -> int | None:
    try:
        text = _STATUS.read_text()
    except OSError:
        return None
    found = re.search(rf"^{name}:\s*(\d+) kB", text, re.MULTILINE)
    return int(found[1]) * KiB if found else None
