"""Measuring: a real run on a real device, written down as the same Recording that the virtual GPU makes."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from tonnage.measuring.device import DEVICES, DeviceRecorder

if TYPE_CHECKING:
    from tonnage.recording import Environment

__all__ = ["DEVICES", "DeviceRecorder", "environment", "recorder_for"]


def recorder_for(device: str) -> DeviceRecorder:
    """A recorder for "cpu" or "cuda", to be entered once; CannotMeasure if this machine or PyTorch has no such device.

    with recorder_for("cpu") as recorder:
        run(workload, scenario, device=recorder.device, mark=recorder.mark, watch=recorder.watch)
    recorder.recording
    """
    found: DeviceRecorder = import_module(f"tonnage.measuring.{device}").recorder()
    return found


def environment(device: str) -> Environment:
    """What that device is and what runs on it: card, capability, memory, SMs, driver, and versions of libraries."""
    found: Environment = import_module(f"tonnage.measuring.{device}").environment()
    return found
