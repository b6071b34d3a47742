"""PyTorch's memory snapshots (torch.cuda.memory._dump_snapshot), read into a recording and written from one.

Nothing here imports torch.
"""

from __future__ import annotations

from tonnage.measuring.snapshots.events import OutOfMemoryEvent
from tonnage.measuring.snapshots.reading import Snapshot, is_snapshot, read_snapshot, snapshot_of
from tonnage.measuring.snapshots.writing import snapshot_from, write_snapshot

__all__ = [
    "OutOfMemoryEvent",
    "Snapshot",
    "is_snapshot",
    "read_snapshot",
    "snapshot_from",
    "snapshot_of",
    "write_snapshot",
]
