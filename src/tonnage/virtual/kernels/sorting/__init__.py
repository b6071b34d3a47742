"""Sorting, and what is made by it or in its stead: choosing the largest, running sums, draws."""

from __future__ import annotations

from tonnage.virtual.kernels.sorting import draws, scan, selecting, sort

EARLY = selecting.EARLY
SCRATCH = {**draws.SCRATCH, **scan.SCRATCH, **selecting.SCRATCH, **sort.SCRATCH}
