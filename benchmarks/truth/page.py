"""docs/accuracy.md, from the outcomes of the rows."""

from __future__ import annotations

from pathlib import Path

from benchmarks.truth.run import Outcome


def write(path: Path, outcomes: list[Outcome]) -> None:
    raise NotImplementedError
