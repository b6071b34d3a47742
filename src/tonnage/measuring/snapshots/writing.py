"""A memory snapshot from a recording, which PyTorch's own memory viewer opens.

The replayed allocator gives addresses, segments and blocks. The fields are those that torch/utils/viz/MemoryViz.js
and torch/cuda/_memory_viz.py read. There are no times in a prediction: the `time_us` of an event is its place in the
ledger.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from tonnage.allocator import Block, CachingAllocator, Settings
from tonnage.ledger import Category, Kind
from tonnage.measuring.snapshots.environment import OURS
from tonnage.measuring.snapshots.events import (
    ALLOC,
    FREE_COMPLETED,
    FREE_REQUESTED,
    SEGMENT_ALLOC,
    SEGMENT_FREE,
    SEGMENT_MAP,
    SEGMENT_UNMAP,
    SNAPSHOT,
)
from tonnage.measuring.snapshots.stacks import StackWriter
from tonnage.recording import Recording, whole_file

PROTOCOL = 4
"""What the JavaScript of the memory viewer reads (torch/utils/viz/MemoryViz.js: unpickle)."""

Stretch = tuple[int, int, int]
"""Mapped memory from one address to another, and its stream."""


def write_snapshot(recording: Recording, path: str | os.PathLike[str]) -> None:
    """Writes `recording` to the file `path` as torch.cuda.memory._dump_snapshot would, whole or not at all.

    write_snapshot(report.recording, "predicted.pickle")   # then drop it on pytorch.org/memory_viz
    """
    with whole_file(Path(path)) as file:
        pickle.dump(snapshot_from(recording), file, protocol=PROTOCOL)


def snapshot_from(recording: Recording) -> dict[str, Any]:
    """`recording` in the shape of torch.cuda.memory._snapshot(), on device 0 and memory without end.

    The stack of an allocation is its operator, the modules around it and the phase. Events carry the category of
    their allocation, by which the viewer colours. Marks are among `external_annotations`.
    """
    return _Writer(recording).written()


class _Writer:
    """Steps the allocator through a ledger and writes what it does."""

    def __init__(self, recording: Recording) -> None:
        self.recording = recording
        self.settings = Settings.parse(recording.environment.alloc_conf)
        environment = recording.environment
        without_limit = replace(self.settings, per_process_memory_fraction=1.0)
        self.allocator = CachingAllocator(without_limit, total_memory=environment.total_memory or None)
        self.stacks = StackWriter(recording.trace)
        self.events: list[dict[str, Any]] = []
        self.annotations: list[dict[str, Any]] = []
        self._blocks: dict[int, Block] = {}
        self._stretches: frozenset[Stretch] = frozenset()
        self._calls_to_driver = 0

    def written(self) -> dict[str, Any]:
        ledger = self.recording.ledger
        for time, (kind, argument) in enumerate(ledger.events()):
            match kind:
                case Kind.ALLOC:
                    self._alloc(argument, time)
                case Kind.FREE:
                    self._free(argument, time)
                case Kind.MARK:
                    self.annotations.append({"name": ledger.marks[argument], "device": 0, "time_us": time})
                case Kind.EMPTY_CACHE:
                    self.allocator.empty_cache()
                    self._segments(time, [])
                case Kind.RESET_PEAK:
                    pass
        self.events.append(_last(len(ledger)))
        return {
            "segments": self._described(),
            "device_traces": [self.events],
            "allocator_settings": self._allocator_settings(),
            "external_annotations": self.annotations,
            OURS: msgspec.to_builtins(self.recording.environment),
        }

    def _alloc(self, number: int, time: int) -> None:
        ledger = self.recording.ledger
        block = self._blocks[number] = self.allocator.malloc(ledger.sizes[number], ledger.streams[number])
        stack = self.stacks.frames(ledger.ops[number])
        self._segments(time, stack)
        self._event(ALLOC, number, block.address, time)

    def _free(self, number: int, time: int) -> None:
        block = self._blocks.pop(number)
        address = block.address
        self.allocator.free(block)
        self._event(FREE_REQUESTED, number, address, time)
        self._event(FREE_COMPLETED, number, address, time)

    def _event(self, action: str, number: int, address: int, time: int) -> None:
        ledger = self.recording.ledger
        self.events.append(
            {
                "action": action,
                "addr": address,
                "size": ledger.sizes[number],
                "stream": ledger.streams[number],
                "time_us": time,
                "frames": self.stacks.frames(ledger.ops[number]),
                "category": category_name(Category(ledger.categories[number])),
            }
        )

    def _segments(self, time: int, stack: list[dict[str, Any]]) -> None:
        """Writes which memory went back to the driver and which came from it since the last call."""
        driver = self.allocator.driver
        if self._calls_to_driver == driver.num_allocs + driver.num_frees:
            return
        self._calls_to_driver = driver.num_allocs + driver.num_frees
        now = frozenset(
            (segment["address"], segment["address"] + segment["total_size"], segment["stream"])
            for segment in self.allocator.segments()
        )
        mapping = self.settings.expandable_segments
        self._moved(SEGMENT_UNMAP if mapping else SEGMENT_FREE, self._stretches - now, now, time, stack)
        self._moved(SEGMENT_MAP if mapping else SEGMENT_ALLOC, now - self._stretches, self._stretches, time, stack)
        self._stretches = now

    def _moved(
        self,
        action: str,
        changed: frozenset[Stretch],
        known: frozenset[Stretch],
        time: int,
        stack: list[dict[str, Any]],
    ) -> None:
        for begin, end, stream in sorted(changed):
            for start, stop in _without(begin, end, known):
                self.events.append(
                    {
                        "action": action,
                        "addr": start,
                        "size": stop - start,
                        "stream": stream,
                        "time_us": time,
                        "frames": stack,
                    }
                )

    def _described(self) -> list[dict[str, Any]]:
        """The segments at the end, their blocks with the stacks of what is in them."""
        ledger = self.recording.ledger
        stacks = {block.address: self.stacks.frames(ledger.ops[number]) for number, block in self._blocks.items()}
        segments = self.allocator.segments()
        for segment in segments:
            for block in segment["blocks"]:
                block["frames"] = stacks.get(block["address"], [])
        return segments

    def _allocator_settings(self) -> dict[str, Any]:
        settings = self.settings
        return {
            "PYTORCH_CUDA_ALLOC_CONF": self.recording.environment.alloc_conf,
            "max_split_size": -1 if settings.max_split_size is None else settings.max_split_size,
            "garbage_collection_threshold": settings.garbage_collection_threshold,
            "expandable_segments": settings.expandable_segments,
        }


def category_name(category: Category) -> str:
    """The category as the viewer is told it; temporaries are what it calls unknown."""
    return "unknown" if category is Category.TEMPORARY else category.name.lower()


def _last(time: int) -> dict[str, Any]:
    """The event that taking a snapshot leaves.

    It carries the category "unknown" because the viewer stops with an error where categories are named and that one
    never is (torch/utils/viz/MemoryViz.js: annotate_snapshot adds it to a list it misspells). The viewer shows this
    event first.
    """
    stack = [{"filename": "tonnage", "line": 0, "name": "the end of the recording"}]
    return {
        "action": SNAPSHOT,
        "addr": 0,
        "size": 0,
        "stream": 0,
        "time_us": time,
        "frames": stack,
        "category": "unknown",
    }


def _without(begin: int, end: int, others: frozenset[Stretch]) -> Iterator[tuple[int, int]]:
    """The parts of the addresses from `begin` to `end` that are in none of `others`."""
    for start, stop, _ in sorted(others):
        if start < end and stop > begin:
            if start > begin:
                yield begin, start
            begin = max(begin, stop)
    if begin < end:
        yield begin, end
