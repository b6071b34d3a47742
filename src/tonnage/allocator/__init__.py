"""The caching allocator of PyTorch, simulated: step it by hand, or replay a whole ledger through it.

>>> from tonnage.allocator import CachingAllocator
>>> CachingAllocator().malloc(1).size
512
"""

from __future__ import annotations

from tonnage.allocator.blocks import Block
from tonnage.allocator.caching import CachingAllocator
from tonnage.allocator.core import OutOfMemory
from tonnage.allocator.settings import Settings
from tonnage.allocator.timeline import Timeline, replay, replay_unrounded

__all__ = ["Block", "CachingAllocator", "OutOfMemory", "Settings", "Timeline", "replay", "replay_unrounded"]
