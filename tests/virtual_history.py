"""A virtual card that keeps the history of its allocator as PyTorch does of a real one, to test what reads such."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from tonnage.measuring.snapshots import snapshot_from
from tonnage.virtual import VirtualGpu


class HistoryOfVirtualCard:
    """torch.cuda.memory's history of `gpu`, told as a real card tells it: no categories, no marks, no operators.

    `asked` is what the history was asked to do; `keeps` is how many events there is room for (None: any number).
    """

    def __init__(self, gpu: VirtualGpu, monkeypatch: pytest.MonkeyPatch) -> None:
        self.gpu = gpu
        self.asked: list[tuple[str | None, dict[str, Any]]] = []
        self.keeps: int | None = None
        self._begin = 0
        monkeypatch.setattr(torch.cuda.memory, "_record_memory_history", self.record)
        monkeypatch.setattr(torch.cuda.memory, "_snapshot", self.snapshot)

    def record(self, enabled: str | None = "all", **options: Any) -> None:
        self.asked.append((enabled, options))
        if enabled:
            self._begin = len(self._whole()["device_traces"][0]) - 1  # without the event that taking a snapshot leaves

    def snapshot(self) -> dict[str, Any]:
        told = self._whole()
        trace = told["device_traces"][0][self._begin :]
        for event in trace:
            event.pop("category", None)
            event["frames"] = []
        told["device_traces"][0] = trace if self.keeps is None else trace[-self.keeps :]
        del told["external_annotations"]
        return told

    def _whole(self) -> dict[str, Any]:
        return copy.deepcopy(snapshot_from(self.gpu.recording))
